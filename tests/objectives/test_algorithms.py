"""Table 10 and its relatives: gradients against coefficient x grad log pi and against differences of the formulas.

Everything is in float64 on a policy of 25 parameters. The formulas are written here once more, in plain loops over
samples and tokens, from the papers; the algorithms see packed micro-batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from dsm.data.batch import Document
from dsm.objectives.algorithm import Algorithm, Samples
from dsm.objectives.normalise import token_weights
from dsm.objectives.observe import coefficients
from dsm.ops.logprobs import IGNORE
from tests.objectives.policy_lab import (
    COMMON_LENGTH,
    NAMES,
    answer_logprobs,
    batch_logprobs,
    configured,
    counts,
    exploration,
    finite_differences,
    microbatch,
    parameters,
    step_gradient,
)

THETA = parameters(100)
BETA = 0.04
Loop = Callable[[Tensor], float]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


class Formulas:
    """The papers' objectives of one exploration as functions of the parameters; `old` is a constant."""

    def __init__(self, algorithm: Algorithm, samples: Samples, documents: Sequence[Document]) -> None:
        assigned = algorithm.assign(samples)
        self.kept = [i for together in assigned.kept for i in together]
        self.pairs = assigned.kept
        self.advantage = [own.get("advantage") for own in assigned.streams]
        self.documents = documents
        self.old = [own.get("old") for own in assigned.streams]
        self.reference = [own.get("reference") for own in assigned.streams]

    def tokens(self, theta: Tensor, i: int) -> list[tuple[float, float, float, float]]:
        """log pi, old, reference, advantage of each token of sample i."""
        now = answer_logprobs(theta, self.documents[i]).tolist()
        return list(zip(now, self.old[i].tolist(), self.reference[i].tolist(), self.advantage[i].tolist(), strict=True))

    @staticmethod
    def clipped(lp: float, old: float, a: float, low: float, high: float) -> float:
        rho = math.exp(lp - old)
        return min(rho * a, min(max(rho, low), high) * a)

    @staticmethod
    def k3(lp: float, ref: float) -> float:
        r = math.exp(ref - lp)
        return r - math.log(r) - 1

    def likelihood(self, theta: Tensor) -> float:  # Eq. 6, Eq. 8
        return float(np.mean([np.mean([a * lp for lp, _, _, a in self.tokens(theta, i)]) for i in self.kept]))

    def eq_3(self, theta: Tensor) -> float:
        return float(
            np.mean(
                [
                    np.mean(
                        [
                            self.clipped(lp, old, a, 0.8, 1.2) - BETA * self.k3(lp, ref)
                            for lp, old, ref, a in self.tokens(theta, i)
                        ]
                    )
                    for i in self.kept
                ]
            )
        )

    def eq_1(self, theta: Tensor) -> float:  # Eq. 16 where old = pi
        return float(
            np.mean(
                [
                    np.mean([self.clipped(lp, old, a, 0.8, 1.2) for lp, old, _, a in self.tokens(theta, i)])
                    for i in self.kept
                ]
            )
        )

    def seed(self, theta: Tensor) -> float:
        total = 0.0
        for i in self.kept:
            own = self.tokens(theta, i)
            total += sum(self.clipped(lp, old, a, 0.8, 1.2) for lp, old, _, a in own) / COMMON_LENGTH
            total -= BETA * sum(self.k3(lp, ref) for lp, _, ref, _ in own) / len(own)
        return total / len(self.kept)

    def dr_grpo(self, theta: Tensor) -> float:
        every = [token for i in self.kept for token in self.tokens(theta, i)]
        total = sum(self.clipped(lp, old, a, 0.8, 1.2) for lp, old, _, a in every)
        return total / (len(self.kept) * COMMON_LENGTH)

    def dapo(self, theta: Tensor) -> float:
        every = [token for i in self.kept for token in self.tokens(theta, i)]
        return sum(self.clipped(lp, old, a, 0.8, 1.28) for lp, old, _, a in every) / len(every)

    def gspo(self, theta: Tensor) -> float:
        total = 0.0
        for i in self.kept:
            own = self.tokens(theta, i)
            s = math.exp(sum(lp - old for lp, old, _, _ in own) / len(own))
            total += min(s * own[0][3], min(max(s, 1 - 3e-4), 1 + 4e-4) * own[0][3])
        return total / len(self.kept)

    def cispo(self, theta: Tensor) -> float:  # the weight is that of THETA: not differentiated
        total, tokens = 0.0, 0
        for i in self.kept:
            for now, (lp, old, _, a) in zip(self.tokens(THETA, i), self.tokens(theta, i), strict=True):
                total += min(math.exp(now[0] - old), 5.0) * a * lp
                tokens += 1
        return total / tokens

    def margins(self, theta: Tensor, mean: bool) -> list[tuple[float, float]]:
        def margin(i: int) -> float:
            now = answer_logprobs(theta, self.documents[i]).tolist()
            ratios = [lp - ref for lp, ref in zip(now, self.reference[i].tolist(), strict=True)]
            return sum(ratios) / (len(ratios) if mean else 1)

        return [(margin(better), margin(worse)) for better, worse in self.pairs]

    def dpo(self, theta: Tensor) -> float:  # Eq. 12
        return float(np.mean([math.log(sigmoid(2.0 * (a - b))) for a, b in self.margins(theta, True)]))

    def dpo_sum(self, theta: Tensor) -> float:
        return float(np.mean([math.log(sigmoid(0.1 * (a - b))) for a, b in self.margins(theta, False)]))


FORMULA = {
    "sft": "likelihood",
    "rft": "likelihood",
    "online_rft": "likelihood",
    "dpo": "dpo",
    "dpo_sum": "dpo_sum",
    "ppo": "eq_1",
    "grpo": "eq_3",
    "grpo_process": "eq_3",
    "grpo_seed": "seed",
    "dr_grpo": "dr_grpo",
    "dapo": "dapo",
    "gspo": "gspo",
    "cispo": "cispo",
}


def with_old(samples: Samples, documents: Sequence[Document], theta: Tensor) -> Samples:
    """The same samples, drawn from this policy."""
    old = [answer_logprobs(theta, document).numpy() for document in documents]
    return replace(samples, old=old)


def near(theta: Tensor, seed: int) -> Tensor:
    """A policy whose ratios to this one lie on both sides of the clips."""
    return theta + 0.3 * parameters(seed)


def test_every_file_of_conf_is_tested() -> None:
    assert set(FORMULA) == set(NAMES)


@pytest.mark.parametrize("moved", [False, True], ids=["old=pi", "old!=pi"])
@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_that_of_the_formula(name: str, moved: bool) -> None:
    algorithm, loss = configured(name)
    samples, documents = exploration(3)
    samples = with_old(samples, documents, near(THETA, 50) if moved else THETA)
    formulas = Formulas(algorithm, samples, documents)
    formula = getattr(formulas, FORMULA[name])
    value, gradient = step_gradient(algorithm, loss, THETA, samples, documents)
    assert value == pytest.approx(formula(THETA), abs=1e-6)
    torch.testing.assert_close(gradient, finite_differences(formula, THETA), atol=2e-8, rtol=1e-6)
    assert gradient.abs().max() > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_coefficient_times_score(name: str) -> None:
    """Eq. 5, for every row and at any lengths; the coefficients are those that are logged."""
    algorithm, loss = configured(name)
    samples, documents = exploration(4, lengths=(1, 3, 5, 7))
    samples = with_old(samples, documents, near(THETA, 51))
    assigned = algorithm.assign(samples)
    batch = microbatch(assigned, documents, assigned.kept)
    logprobs = batch_logprobs(THETA, batch)
    weights = token_weights(batch.targets != IGNORE, batch.varlen, loss)
    c = coefficients(algorithm.objective, logprobs, torch.zeros_like(logprobs), weights, batch)
    expected = torch.zeros_like(THETA)
    probabilities = THETA.softmax(1)
    for t in torch.nonzero(batch.targets != IGNORE).flatten().tolist():
        before, token = int(batch.input_ids[t]), int(batch.targets[t])
        expected[before] -= weights[t] * c[t] * probabilities[before]
        expected[before, token] += weights[t] * c[t]
    expected /= counts(documents, assigned.kept, loss)
    _, gradient = step_gradient(algorithm, loss, THETA, samples, documents)
    torch.testing.assert_close(gradient, expected, atol=1e-9, rtol=1e-7)


def logged_coefficients(name: str, samples: Samples, documents: Sequence[Document]) -> list[tuple[int, list[float]]]:
    """(sample, coefficients of its tokens) in the order of the micro-batch."""
    algorithm, loss = configured(name)
    assigned = algorithm.assign(samples)
    batch = microbatch(assigned, documents, assigned.kept)
    logprobs = batch_logprobs(THETA, batch)
    trained = batch.targets != IGNORE
    weights = token_weights(trained, batch.varlen, loss)
    c = coefficients(algorithm.objective, logprobs, torch.zeros_like(logprobs), weights, batch)[trained]
    numbers = [i for together in assigned.kept for i in together]
    split = c.split([int(samples.lengths[i]) for i in numbers])
    return [(i, own.tolist()) for i, own in zip(numbers, split, strict=True)]


def test_table_10() -> None:
    """The coefficients themselves, at old = pi: Eqs. 7, 10, 14 (exact form), 18, 21."""
    samples, documents = exploration(5, lengths=(2, 3, 5))
    samples = with_old(samples, documents, THETA)
    ratio = [np.exp(reference - own) for reference, own in zip(samples.reference or [], samples.old or [], strict=True)]
    for _, own in logged_coefficients("sft", samples, documents):
        assert own == pytest.approx([1.0] * len(own), abs=1e-6)
    for name in ("rft", "online_rft"):
        for i, own in logged_coefficients(name, samples, documents):
            assert own == pytest.approx([float(samples.correct[i])] * len(own), abs=1e-6)
    for name in ("grpo", "grpo_process"):
        advantages = configured(name)[0].assign(samples).streams
        for i, own in logged_coefficients(name, samples, documents):
            assert own == pytest.approx((advantages[i]["advantage"] + BETA * (ratio[i] - 1)).tolist(), abs=1e-5)
    advantages = configured("ppo")[0].assign(samples).streams
    for i, own in logged_coefficients("ppo", samples, documents):
        assert own == pytest.approx(advantages[i]["advantage"].tolist(), abs=1e-5)
    formulas = Formulas(configured("dpo")[0], samples, documents)
    found = logged_coefficients("dpo", samples, documents)
    for pair, (better, worse) in enumerate(formulas.margins(THETA, True)):
        # N counts sequences, two a pair, so a token's coefficient is twice that of an expectation over pairs.
        expected = 2 * 2.0 * sigmoid(-2.0 * (better - worse))
        (_, up), (_, down) = found[2 * pair : 2 * pair + 2]
        assert up == pytest.approx([expected] * len(up), rel=1e-5)
        assert down == pytest.approx([-expected] * len(down), rel=1e-5)


def test_ppo_rewards_are_eq_2() -> None:
    """r_t = -beta log(pi / reference), and the outcome's reward at the last token; gamma 1, lambda .95."""
    samples, documents = exploration(6)
    samples = with_old(samples, documents, THETA)
    streams = configured("ppo")[0].assign(samples).streams
    assert samples.old is not None
    assert samples.reference is not None
    assert samples.values is not None
    for i, own in enumerate(streams):
        reward = [-BETA * (a - b) for a, b in zip(samples.old[i], samples.reference[i], strict=True)]
        reward[-1] += samples.reward[i]
        value = [*samples.values[i], 0.0]
        for t in range(len(reward)):
            deltas = [reward[s] + value[s + 1] - value[s] for s in range(t, len(reward))]
            expected = sum(0.95**k * delta for k, delta in enumerate(deltas))
            assert own["advantage"][t] == pytest.approx(expected, abs=1e-5)
            assert own["returns"][t] == pytest.approx(expected + samples.values[i][t], abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_order_of_groups_and_split_change_nothing(name: str) -> None:
    algorithm, loss = configured(name)
    samples, documents = exploration(7, lengths=(1, 3, 5))
    samples = with_old(samples, documents, near(THETA, 52))
    value, gradient = step_gradient(algorithm, loss, THETA, samples, documents)
    order = np.random.default_rng(0).permutation(len(samples))
    if name.startswith("dpo"):  # which right answer meets which wrong one goes by their order
        order = np.argsort(-samples.group, kind="stable")
    fields = ("group", "reward", "correct", "lengths", "truncated")
    lists = ("step_rewards", "step_ends", "old", "reference", "values", "engine")
    moved = replace(
        samples,
        **{field: getattr(samples, field)[order] for field in fields},
        **{field: [getattr(samples, field)[i] for i in order] for field in lists},
    )
    for per_microbatch in (1, 3, 1000):
        split = step_gradient(algorithm, loss, THETA, moved, [documents[i] for i in order], per_microbatch)
        assert split[0] == pytest.approx(value, abs=1e-7)
        torch.testing.assert_close(split[1], gradient, atol=1e-7, rtol=1e-6)


def test_engine_weights_act_on_the_policy_term_alone() -> None:
    samples, documents = exploration(8)
    samples = with_old(samples, documents, near(THETA, 53))
    algorithm, loss = configured("grpo", max_engine_weight=1.5)
    assert "engine" in algorithm.needs
    formulas = Formulas(algorithm, samples, documents)
    engine = [own["engine"].tolist() for own in algorithm.assign(samples).streams]

    def formula(theta: Tensor) -> float:
        return float(
            np.mean(
                [
                    np.mean(
                        [
                            min(math.exp(old - drawn), 1.5) * formulas.clipped(lp, old, a, 0.8, 1.2)
                            - BETA * formulas.k3(lp, ref)
                            for (lp, old, ref, a), drawn in zip(formulas.tokens(theta, i), engine[i], strict=True)
                        ]
                    )
                    for i in formulas.kept
                ]
            )
        )

    value, gradient = step_gradient(algorithm, loss, THETA, samples, documents)
    assert value == pytest.approx(formula(THETA), abs=1e-6)
    torch.testing.assert_close(gradient, finite_differences(formula, THETA), atol=2e-8, rtol=1e-6)


def test_no_old_means_today() -> None:
    """Without a scoring pass, the first update on an exploration is the one with it."""
    samples, documents = exploration(9)
    samples = with_old(samples, documents, THETA)
    for name in ("grpo", "dapo", "gspo", "cispo"):
        algorithm, loss = configured(name)
        scored = step_gradient(algorithm, loss, THETA, samples, documents)
        unscored = step_gradient(algorithm, loss, THETA, replace(samples, old=None), documents)
        assert unscored[0] == pytest.approx(scored[0], abs=1e-6)
        torch.testing.assert_close(unscored[1], scored[1], atol=1e-6, rtol=1e-5)
