"""linear_logprobs against full logits in float64, against hand-computed values, and against its promise on memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dsm.ops.logprobs import IGNORE, linear_logprobs, weighted_logprobs

TOKENS, FEATURES, VOCAB = 13, 6, 37
Results = tuple[Tensor, Tensor]


def full_logits(hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float | Tensor = 1.0) -> Results:
    """The independent implementation: everything at once, in float64."""
    if isinstance(temperature, Tensor):
        temperature = temperature.double().unsqueeze(1)
    logp = torch.log_softmax(hidden.double() @ weight.double().T / temperature, dim=-1)
    kept = targets != IGNORE
    logprobs = logp.gather(1, targets.clamp_min(0).unsqueeze(1)).squeeze(1)
    return logprobs * kept, -(logp.exp() * logp).sum(-1) * kept


def make_inputs(dtype: torch.dtype = torch.float32, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = (scale * torch.randn(TOKENS, FEATURES, generator=generator)).to(dtype).requires_grad_()
    weight = torch.randn(VOCAB, FEATURES, generator=generator).to(dtype).requires_grad_()
    return hidden, weight, torch.randint(VOCAB, (TOKENS,), generator=generator)


def gradients(results: Results, *leaves: Tensor) -> tuple[Tensor, ...]:
    """Of a sum in which every log-probability and every entropy has a coefficient of its own."""
    generator = torch.Generator().manual_seed(1)
    coefficients = [torch.randn(len(r), generator=generator).to(r.dtype) for r in results]
    return torch.autograd.grad(results, leaves, coefficients)


def exact_gradients(hidden: Tensor, weight: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
    h, w = hidden.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
    return gradients(full_logits(h, w, targets), h, w)


def compare(ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...], tolerance: float) -> None:
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a.double(), b.double(), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("tile", [1, 5, 36, 37, 1000, None])
@pytest.mark.parametrize("temperature", [1.0, 0.7, torch.linspace(0.4, 3.0, TOKENS)], ids=["1", "0.7", "per token"])
def test_equals_full_logits(tile: int | None, temperature: float | Tensor) -> None:
    hidden, weight, targets = make_inputs()
    ours = linear_logprobs(hidden, weight, targets, temperature, tile=tile)
    theirs = full_logits(hidden, weight, targets, temperature)
    assert ours[0].dtype == ours[1].dtype == torch.float32
    compare(ours, theirs, 1e-5)
    compare(gradients(ours, hidden, weight), gradients(theirs, hidden, weight), 1e-5)


def test_tied_weight_gets_both_gradients() -> None:
    _, weight, targets = make_inputs()
    ids = targets.roll(1)

    def through_both_uses(function: Callable[..., Results]) -> tuple[Tensor, ...]:
        return gradients(function(torch.tanh(weight[ids]).cumsum(0), weight, targets), weight)

    compare(through_both_uses(linear_logprobs), through_both_uses(full_logits), 1e-5)


def test_gradcheck_of_both_outputs_in_float64() -> None:
    inputs = make_inputs(torch.float64)
    hidden, weight, targets = inputs[0][:4, :3].clone(), inputs[1][:7, :3].clone(), torch.tensor([6, IGNORE, 0, 3])
    temperature = torch.tensor([0.5, 1.0, 1.5, 2.0])
    assert linear_logprobs(hidden, weight, targets)[1].dtype == torch.float64
    for part in ([0], [1], [0, 1]):  # each alone has its own path through backward
        assert torch.autograd.gradcheck(
            lambda h, w, part=part: [linear_logprobs(h, w, targets, temperature, tile=3)[i] for i in part],
            (hidden, weight),
        )


def test_closed_form_by_hand() -> None:
    """Eq. 7 at the logits: grad of 1/|o| sum_t log pi(o_t) is 1/|o| sum_t (onehot - p_t), carried to both factors."""
    hidden = torch.tensor([[0.0], [math.log(3)]], requires_grad=True)
    weight = torch.tensor([[0.0], [1.0]], requires_grad=True)  # p = (1/2, 1/2), then (1/4, 3/4)
    logprobs, entropy = linear_logprobs(hidden, weight, torch.tensor([1, 0]), tile=1)
    logprobs.mean().backward()
    assert logprobs.tolist() == pytest.approx([math.log(1 / 2), math.log(1 / 4)])
    assert entropy.tolist() == pytest.approx([math.log(2), 2 * math.log(2) - 0.75 * math.log(3)])
    assert hidden.grad is not None
    assert weight.grad is not None
    assert hidden.grad.flatten().tolist() == pytest.approx([(1 - 1 / 2) / 2, (0 - 3 / 4) / 2])
    assert weight.grad.flatten().tolist() == pytest.approx([3 / 8 * math.log(3), -3 / 8 * math.log(3)])


def test_ignored_tokens_are_exact_zeros_and_never_computed() -> None:
    hidden, weight, targets = make_inputs()
    ignored = torch.tensor([0, 3, 4, TOKENS - 1])
    kept = torch.tensor([t for t in range(TOKENS) if t not in ignored])
    targets[ignored] = IGNORE
    with torch.no_grad():
        hidden[ignored] = torch.nan  # would reach every weight gradient if it were projected
    temperature = torch.linspace(0.5, 2.0, TOKENS).index_fill(0, ignored, 0.0)
    ours = linear_logprobs(hidden, weight, targets, temperature, tile=8)
    alone = linear_logprobs(hidden[kept], weight, targets[kept], temperature[kept], tile=8)
    for a, b in zip(ours, alone, strict=True):
        assert a[ignored].tolist() == [0.0] * len(ignored)
        assert torch.equal(a[kept], b)
    grad_hidden, grad_weight = torch.autograd.grad(ours[0].sum() + ours[1].sum(), (hidden, weight))
    assert not grad_hidden[ignored].any()
    compare((grad_weight,), torch.autograd.grad(alone[0].sum() + alone[1].sum(), weight), 1e-6)


@pytest.mark.parametrize("tokens", [0, TOKENS])
def test_nothing_to_predict_stays_in_the_graph(tokens: int) -> None:
    hidden, weight, targets = make_inputs()
    results = linear_logprobs(hidden[:tokens], weight, torch.full_like(targets, IGNORE)[:tokens])
    assert [r.tolist() for r in results] == [[0.0] * tokens] * 2
    grad_hidden, grad_weight = torch.autograd.grad(results[0].sum() + results[1].sum(), (hidden, weight))
    assert not grad_hidden.any()
    assert not grad_weight.any()


def test_bf16_inputs_do_not_round_the_logits() -> None:
    hidden, weight, targets = make_inputs(torch.bfloat16, scale=6.0)
    ours, exact = linear_logprobs(hidden, weight, targets, tile=8), full_logits(hidden, weight, targets)
    rounded = full_logits((hidden @ weight.T).double(), torch.eye(VOCAB), targets)  # what a bf16 product would give
    compare(ours, exact, 1e-5)
    assert (rounded[0] - exact[0]).abs().max() > 1e-2
    results = gradients(ours, hidden, weight)
    assert [g.dtype for g in results] == [torch.bfloat16] * 2
    compare(results, exact_gradients(hidden, weight, targets), 2**-8)


def test_autocast_changes_no_bit() -> None:
    hidden, weight, targets = make_inputs()
    for dtype in (torch.float32, torch.bfloat16):
        x = hidden.detach().to(dtype).requires_grad_()
        expected = linear_logprobs(x, weight.to(dtype), targets, tile=8)
        expected_grads = gradients(expected, x)
        with torch.autocast("cpu", torch.bfloat16):
            ours = linear_logprobs(x, weight, targets, tile=8)
            grads = gradients(ours, x, weight)
        for a, b in zip((*ours, grads[0]), (*expected, *expected_grads), strict=True):
            assert a.dtype == b.dtype
            assert torch.equal(a, b)
        exact = exact_gradients(x, weight.to(dtype), targets)
        assert grads[1].dtype == torch.float32
        compare(grads[1:], exact[1:], 1e-5)  # the fp32 weight's gradient is not rounded to bf16 on the way


def test_extreme_logits_stay_finite_and_exact() -> None:
    hidden, weight, targets = make_inputs(scale=1e3)
    ours, exact = linear_logprobs(hidden, weight, targets, tile=8), full_logits(hidden, weight, targets)
    compare(ours, exact, 1e-3)  # logits reach 5,000, where fp32 steps are 5e-4
    assert (ours[1] >= 0).all()
    assert all(g.isfinite().all() for g in gradients(ours, hidden, weight))


def test_rows_do_not_touch_each_other() -> None:
    hidden, weight, targets = make_inputs()
    before = linear_logprobs(hidden, weight, targets, tile=8)
    with torch.no_grad():
        hidden[: TOKENS // 2] *= -3.0
    after = linear_logprobs(hidden, weight, targets, tile=8)
    for a, b in zip(before, after, strict=True):
        assert torch.equal(a[TOKENS // 2 :], b[TOKENS // 2 :])


class Recorder(TorchDispatchMode):
    """Notes the largest tensor any operation returns and counts matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.largest, self.products = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for item in result if isinstance(result, tuple | list) else (result,):
            if isinstance(item, Tensor):
                self.largest = max(self.largest, item.numel())
        self.products += func._schema.name in ("aten::mm", "aten::addmm", "aten::addmm_")
        return result


@pytest.mark.parametrize("entropy_too", [False, True])
def test_no_tensor_of_tokens_times_vocabulary(entropy_too: bool) -> None:
    hidden, weight, targets = torch.randn(128, 4), torch.randn(1024, 4), torch.randint(1024, (128,))
    with Recorder() as recorder:
        logprobs, entropy = linear_logprobs(hidden.requires_grad_(), weight.requires_grad_(), targets, tile=64)
        (logprobs.sum() + entropy.sum() if entropy_too else logprobs.sum()).backward()
    assert recorder.largest == 128 * 64  # one tile: a sixteenth of the logits
    assert recorder.products == (1024 // 64) * 4


@pytest.mark.parametrize(("tile", "products"), [(VOCAB, 2), (VOCAB - 1, 6)])
def test_gradients_nobody_asks_for_are_not_computed(tile: int, products: int) -> None:
    """Forward and one gradient; of several tiles each is computed again, a single one is kept."""
    hidden, weight, targets = make_inputs()
    for h, w in ((hidden, weight.detach()), (hidden.detach(), weight)):
        leaf = h if h.requires_grad else w
        with Recorder() as recorder:
            logprobs, _ = linear_logprobs(h, w, targets, tile=tile)
            (grad,) = torch.autograd.grad(logprobs.sum(), leaf)
        assert recorder.products == products
        compare((grad,), torch.autograd.grad(full_logits(hidden, weight, targets)[0].sum(), leaf), 3e-6)
    with torch.no_grad():
        assert not linear_logprobs(hidden, weight, targets)[0].requires_grad


@pytest.mark.parametrize("bad", [VOCAB, -1, -101])
def test_targets_out_of_range_are_refused(bad: int) -> None:
    hidden, weight, targets = make_inputs()
    targets[4] = bad
    with pytest.raises(ValueError, match=rf"\[0, {VOCAB}\).*{bad}"):
        linear_logprobs(hidden, weight, targets)


def test_shapes_that_do_not_fit_are_refused() -> None:
    hidden, weight, targets = make_inputs()
    with pytest.raises(ValueError, match="hidden, weight, targets must be"):
        linear_logprobs(hidden, weight[:, 1:], targets)
    with pytest.raises(ValueError, match="hidden, weight, targets must be"):
        linear_logprobs(hidden, weight, targets[1:])
    with pytest.raises(ValueError, match="temperature"):
        linear_logprobs(hidden, weight, targets, torch.ones(TOKENS, 1))
    with pytest.raises(ValueError, match="temperature"):
        linear_logprobs(hidden, weight, targets, 0.0)


WEIGHTS = torch.linspace(-0.5, 2.0, TOKENS)


@pytest.mark.parametrize("chunk", [1, 5, TOKENS, 1000, None])
@pytest.mark.parametrize(("dtype", "scale"), [(torch.float32, 1.0), (torch.bfloat16, 6.0)], ids=["fp32", "bf16"])
def test_weighted_sum_equals_full_logits(chunk: int | None, dtype: torch.dtype, scale: float) -> None:
    hidden, weight, targets = make_inputs(dtype, scale)
    targets[::4] = IGNORE
    total, logprobs, entropy = weighted_logprobs(hidden, weight, targets, WEIGHTS, chunk=chunk)
    h, w = (x.detach().double().requires_grad_() for x in (hidden, weight))
    exact = full_logits(h, w, targets)
    expected = (WEIGHTS * exact[0]).sum()
    assert [r.dtype for r in (total, logprobs, entropy)] == [torch.float32] * 3
    assert not logprobs.requires_grad
    assert not entropy.requires_grad
    assert not torch.cat([logprobs[::4], entropy[::4]]).any()
    compare((total, logprobs, entropy), (expected, *exact), 2e-5)
    results = torch.autograd.grad(-0.3 * total, (hidden, weight))
    assert [g.dtype for g in results] == [dtype] * 2
    compare(results, torch.autograd.grad(-0.3 * expected, (h, w)), 1e-5 if dtype == torch.float32 else 2**-6)


def test_weighted_sum_of_a_tied_weight_under_autocast() -> None:
    """The embedding's gradient and the head's meet in one fp32 parameter, as with `linear_logprobs`."""
    _, weight, targets = make_inputs()
    ids = targets.roll(1)

    def gradient(weighted: bool) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            hidden = torch.tanh(weight[ids]).cumsum(0).bfloat16()
            if weighted:
                total = weighted_logprobs(hidden, weight, targets, WEIGHTS)[0]
            else:
                total = (linear_logprobs(hidden, weight, targets)[0] * WEIGHTS).sum()
        (found,) = torch.autograd.grad(total, weight)
        return found

    compare((gradient(True),), (gradient(False),), 1e-5)


def test_weighted_sum_without_gradient_and_of_nothing() -> None:
    hidden, weight, targets = make_inputs()
    with torch.no_grad():
        plain = weighted_logprobs(hidden, weight, targets, WEIGHTS)
    compare(plain, weighted_logprobs(hidden, weight, targets, WEIGHTS), 1e-5)
    total, *_ = weighted_logprobs(hidden, weight, torch.full_like(targets, IGNORE), WEIGHTS)
    assert total == 0.0
    assert not any(gradient.any() for gradient in torch.autograd.grad(total, (hidden, weight)))


def test_weighted_sum_has_three_products_and_one_chunk_of_logits() -> None:
    hidden, weight, targets = torch.randn(128, 4), torch.randn(1024, 4), torch.randint(1024, (128,))
    with Recorder() as recorder:
        weighted_logprobs(hidden.requires_grad_(), weight.requires_grad_(), targets, torch.ones(128), chunk=16)[
            0
        ].backward()
    assert recorder.largest == 16 * 1024
    assert recorder.products == (128 // 16) * 3


def test_weighted_sum_with_extreme_logits() -> None:
    hidden, weight, targets = make_inputs(scale=1e3)
    total, logprobs, entropy = weighted_logprobs(hidden, weight, targets, WEIGHTS)
    exact = full_logits(hidden, weight, targets)
    compare((logprobs,), exact[:1], 1e-3)
    assert (entropy >= 0).all()
    assert all(g.isfinite().all() for g in torch.autograd.grad(total, (hidden, weight)))
