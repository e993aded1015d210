"""KL estimators, policy terms, preferences, values: each against its formula where it is written down."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dsm.data.batch import NOTHING, Document, collate
from dsm.objectives.kl import k1, k2, k3
from dsm.objectives.policy import cispo, clipped, engine_weights, sequence_ratio
from dsm.objectives.preference import preference
from dsm.objectives.values import value_objective

LOG = st.floats(-20, 0, allow_nan=False)


def test_golden_k3() -> None:
    logprob = torch.tensor(math.log(0.5), requires_grad=True)
    value = k3(logprob, torch.tensor(math.log(0.25)))
    (-0.04 * value).backward()
    assert float(value.detach()) == pytest.approx(0.193147, abs=1e-6)
    assert logprob.grad is not None
    assert float(logprob.grad) == pytest.approx(-0.02, abs=1e-8)  # beta (r - 1), Eq. 21


@given(LOG, LOG)
@settings(max_examples=80, deadline=None)
def test_k3_is_never_negative(a: float, b: float) -> None:
    assert float(k3(torch.tensor(a), torch.tensor(b))) >= 0
    assert float(k3(torch.tensor(a), torch.tensor(a))) == 0


def test_k3_near_zero_in_fp32() -> None:
    """Where a policy starts the value is d^2 / 2; exp(d) - d - 1 gives rounding there, of either sign."""
    reference = torch.tensor(-2.0)
    for d in (1e-3, 1e-4):
        logprob = torch.tensor(-2.0 - d)
        exact = math.exp(float(reference) - float(logprob)) - (float(reference) - float(logprob)) - 1
        assert float(k3(logprob, reference)) == pytest.approx(exact, rel=2e-3)
        naive = torch.exp(reference - logprob) - (reference - logprob) - 1
        assert abs(float(naive) - exact) > 5 * abs(float(k3(logprob, reference)) - exact)


def test_expectations_of_estimators() -> None:
    """The table in dsm.objectives.kl, by summing over the vocabulary."""
    torch.manual_seed(0)
    logits = torch.randn(6, dtype=torch.float64, requires_grad=True)
    reference = torch.randn(6, dtype=torch.float64).log_softmax(0)

    def gradient(value: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(value, logits, retain_graph=True)[0]

    logprobs = logits.log_softmax(0)
    pi = logprobs.detach().exp()
    forward = (logprobs.exp() * (logprobs - reference)).sum()
    backward = (reference.exp() * (reference - logprobs)).sum()
    for estimate in (k1, k3):
        torch.testing.assert_close((pi * estimate(logprobs, reference)).sum(), forward)
    torch.testing.assert_close(gradient((pi * k1(logprobs, reference)).sum()), torch.zeros(6, dtype=torch.float64))
    torch.testing.assert_close(gradient((pi * k2(logprobs, reference)).sum()), gradient(forward))
    torch.testing.assert_close(gradient((pi * k3(logprobs, reference)).sum()), gradient(backward))


@pytest.mark.parametrize(
    ("ratio", "advantage", "value", "slope"),
    [
        (1.0, 2.0, 2.0, 2.0),
        (1.5, 2.0, 2.56, 0.0),  # risen beyond the clip: nothing more to gain
        (1.5, -2.0, -3.0, -2.0),  # risen against its advantage: brought back
        (0.5, -2.0, -1.6, 0.0),
        (0.5, 2.0, 1.0, 2.0),
    ],
)
def test_clip_by_cases(ratio: float, advantage: float, value: float, slope: float) -> None:
    rho = torch.tensor(ratio, requires_grad=True)
    got = clipped(rho, torch.tensor(advantage), 0.8, 1.28)
    got.backward()
    assert float(got.detach()) == pytest.approx(value)
    assert float(rho.grad or 0) == pytest.approx(slope)


def test_cispo_keeps_the_gradient_beyond_its_cap() -> None:
    logprobs = torch.tensor([-1.0, -1.0, -1.0], requires_grad=True)
    old = torch.tensor([-1.0, -4.0, 0.0])
    cispo(logprobs, old, torch.tensor([1.0, 2.0, -3.0]), 0.5, 5.0).sum().backward()
    assert logprobs.grad is not None
    torch.testing.assert_close(logprobs.grad, torch.tensor([1.0, 10.0, -1.5]))


def test_engine_weights() -> None:
    old = torch.tensor([-1.0, -1.0], requires_grad=True)
    got = engine_weights(old, torch.tensor([-0.5, -3.0]), 2.0)
    torch.testing.assert_close(got, torch.tensor([math.exp(-0.5), 2.0]))
    assert not got.requires_grad


def laid(*answers: int) -> list[Document]:
    return [Document(np.arange(count + 2), np.array([False] * 2 + [True] * count)) for count in answers]


def test_sequence_ratio_is_a_geometric_mean_of_the_answer_alone() -> None:
    batch = collate(laid(2, 3))
    logprobs, old = torch.randn(2, 9).double()
    got = sequence_ratio(logprobs, old, batch)
    for first, targets in ((0, [1, 2]), (4, [5, 6, 7])):
        expected = math.exp(sum(float(logprobs[t] - old[t]) for t in targets) / len(targets))
        for t in range(first, first + len(targets) + 2):
            assert float(got[t]) == pytest.approx(expected)


@pytest.mark.parametrize("over", ["mean", "sum"])
def test_dpo_gradient_is_beta_sigma_of_minus_delta(over: str) -> None:
    batch = collate(laid(2, 4))
    torch.manual_seed(1)
    logprobs = torch.randn(10, dtype=torch.float64, requires_grad=True)
    reference = torch.randn(10, dtype=torch.float64)
    better, worse = [1, 2], [5, 6, 7, 8]
    preferred = torch.zeros(10, dtype=torch.float64)
    preferred[better], preferred[worse] = 1.0, -1.0
    value = preference(logprobs, reference, preferred, batch, 0.3, over)
    weights = torch.zeros(10, dtype=torch.float64)
    weights[better], weights[worse] = 1 / 2, 1 / 4
    ((value * weights).sum() / 2).backward()  # two sequences, one pair
    ratio = (logprobs - reference).detach()
    parts = [float(ratio[own].mean() if over == "mean" else ratio[own].sum()) for own in (better, worse)]
    coefficient = 0.3 / (1 + math.exp(0.3 * (parts[0] - parts[1])))
    expected = torch.zeros(10, dtype=torch.float64)
    expected[better] = coefficient / (2 if over == "mean" else 1)
    expected[worse] = -coefficient / (4 if over == "mean" else 1)
    torch.testing.assert_close(logprobs.grad, expected)


def test_pairs_need_both_and_a_rank_without_work_needs_none() -> None:
    three = collate(laid(1, 1, 1))
    with pytest.raises(ValueError, match="3 documents in a micro-batch of pairs"):
        preference(*torch.zeros(3, 9), three, 0.1, "mean")
    logprobs = torch.zeros(1, requires_grad=True)
    nothing = preference(logprobs, torch.zeros(1), torch.zeros(1), collate([NOTHING]), 0.1, "mean")
    nothing.sum().backward()
    assert logprobs.grad is not None


def test_value_objective() -> None:
    values = torch.tensor([1.0, 2.0, 0.0], requires_grad=True)
    old, returns = torch.tensor([1.0, 1.0, 1.0]), torch.tensor([2.0, 3.0, 3.0])
    torch.testing.assert_close(value_objective(values, old, returns, None), torch.tensor([-0.5, -0.5, -4.5]))
    got = value_objective(values, old, returns, 0.2)
    torch.testing.assert_close(got, torch.tensor([-0.5, -1.62, -4.5]))  # 2.0 is held at 1.2, gaining nothing more
    got.sum().backward()
    torch.testing.assert_close(values.grad, torch.tensor([1.0, 0.0, 3.0]))
