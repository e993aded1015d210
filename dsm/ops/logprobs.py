"""Token log-probabilities and entropies straight from hidden states, without ever holding the logits.

A head of 102,400 words over 4,096 tokens makes 1.7 GB of fp32 logits, and autograd keeps several copies. Here the
vocabulary is walked in tiles: each tile of logits is merged into a running log-sum-exp and a running entropy and then
forgotten; backward walks the tiles again, recomputes each and turns it into gradients in place. The price is one more
matrix product (four for three). In fp32 on a CPU the memory traffic saved pays for it at 512 features, not at 2,048
(about 1.2 times the time of full logits): `scripts/bench/logprobs.py`. Where a single tile has room for all words it is
kept for backward, which comes at once and would need the room anyway; nothing is computed twice then.

Tiles of the vocabulary, not chunks of tokens, because each row of the weight's gradient then belongs to one tile: it is
summed over all tokens inside one product and written once, so a bf16 weight needs neither an fp32 accumulator of its
size nor a cast copy, and a tile small enough for the processor's cache still makes large products.

Where the coefficient of each log-probability is known beforehand, as in all maximum-likelihood training, nothing has to
be computed twice: `weighted_logprobs` walks chunks of tokens over the whole vocabulary and makes the gradients along
with the logits, three products for three. Forward and backward take 0.63 to 0.67 of the time of `linear_logprobs` (fp32
on a CPU, 4,096 words, 128 and 256 features).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

IGNORE = -100
"""The target of a position that predicts nothing (padding, prompt, end of a document)."""

TILE_BYTES = {"cpu": 16 << 20, "cuda": 256 << 20}
"""Size of one fp32 tile of logits. CPU: a few tiles fit the last-level cache; 8 to 32 MiB measure alike. CUDA (not yet
measured): large enough to fill the device, so that launches cost little."""
MIN_TILE = 1024
"""Columns below which products lose speed; with very many tokens a tile outgrows TILE_BYTES instead."""
MIN_CHUNK = 512
"""Tokens below which `weighted_logprobs` reads and writes the weight's gradient too often for what it computes."""


def linear_logprobs(
    hidden: Tensor, weight: Tensor, targets: Tensor, temperature: float | Tensor = 1.0, *, tile: int | None = None
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target, and entropy in nats, under softmax(hidden @ weight.T / temperature).

    hidden (T, H) and weight (V, H): floating; products take both in hidden's dtype and sum in fp32, and all that
    follows is fp32, under autocast too (float64 stays float64). targets (T,): int64 in [0, V) or IGNORE; ignored
    positions cost nothing, yield exact zeros and get no gradient. temperature: positive, one number or (T,) of them.
    tile: vocabulary columns alive at a time (default: what TILE_BYTES allows).

    Returns logprobs (T,) and entropy (T,), fp32, part of the graph even if every target is ignored; gradients flow from
    both to hidden and weight, once. Raises ValueError for shapes that do not fit and for targets out of range.
    """
    if not (temperature.shape == targets.shape if isinstance(temperature, Tensor) else temperature > 0):
        raise ValueError(f"temperature must be one positive number or ({len(targets)},) of them, got {temperature}")
    tokens, rows = len(targets), _rows(hidden, weight, targets)
    partial = len(rows) < tokens
    if partial:
        hidden, targets = hidden.index_select(0, rows), targets.index_select(0, rows)
    inverse: Tensor | None = None
    if isinstance(temperature, Tensor):
        inverse = temperature.to(_accumulator(hidden))[rows].reciprocal().unsqueeze(1)
    elif temperature != 1.0:
        inverse = hidden.new_full((1, 1), 1.0 / temperature, dtype=_accumulator(hidden))
    if tile is None:
        tile = max(MIN_TILE, TILE_BYTES.get(hidden.device.type, TILE_BYTES["cuda"]) // (4 * max(len(rows), 1)))
    logprobs, entropy = _LinearLogprobs.apply(hidden, weight, targets, inverse, tile)
    if partial:
        logprobs, entropy = (x.new_zeros(tokens).index_copy(0, rows, x) for x in (logprobs, entropy))
    return logprobs, entropy


def weighted_logprobs(
    hidden: Tensor, weight: Tensor, targets: Tensor, weights: Tensor, *, chunk: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The sum over tokens of weights * log p(target), the same as through `linear_logprobs` but cheaper.

    hidden (T, H), weight (V, H) and targets (T,) as there; weights (T,): fp32, without gradient. chunk: tokens whose
    logits are alive at a time (default: what TILE_BYTES allows, twice, and MIN_CHUNK at least).

    Returns the sum, a number in the graph whose gradient may be taken once; and to look at, outside the graph, logprobs
    (T,) and entropy (T,), fp32, zeros at ignored positions. The entropy comes from the gradient, see below: its error
    is that of a logit, so that a certain token may have 1e-6 where 0 is right.
    """
    if weights.shape != targets.shape or weights.requires_grad:
        raise ValueError(f"weights must be ({len(targets)},) without gradient, got {tuple(weights.shape)}")
    if not torch.is_grad_enabled() or not (hidden.requires_grad or weight.requires_grad):
        logprobs, entropy = linear_logprobs(hidden, weight, targets)
        return (weights * logprobs).sum(), logprobs, entropy
    tokens, rows = len(targets), _rows(hidden, weight, targets)
    partial = len(rows) < tokens
    if partial:
        hidden, targets, weights = (x.index_select(0, rows) for x in (hidden, targets, weights))
    if chunk is None:
        chunk = max(MIN_CHUNK, TILE_BYTES.get(hidden.device.type, TILE_BYTES["cuda"]) // (4 * len(weight)))
    total, logprobs, entropy = _WeightedLogprobs.apply(hidden, weight, targets, weights, chunk)
    if partial:
        logprobs, entropy = (x.new_zeros(tokens).index_copy(0, rows, x) for x in (logprobs, entropy))
    return total, logprobs, entropy


def _rows(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """The positions that have a target, after a look at the shapes.

    Ignored ones leave before the projection: in fine-tuning they are often half of all tokens.
    """
    vocab = len(weight)
    if hidden.ndim != 2 or weight.ndim != 2 or hidden.shape[1] != weight.shape[1] or targets.shape != (len(hidden),):
        shapes = f"{tuple(hidden.shape)}, {tuple(weight.shape)}, {tuple(targets.shape)}"
        raise ValueError(f"hidden, weight, targets must be (T, H), (V, H), (T,); got {shapes}")
    kept = targets != IGNORE
    if bool((kept & ((targets < 0) | (targets >= vocab))).any()):
        raise ValueError(f"targets must lie in [0, {vocab}) or be {IGNORE}; got {targets.min()} to {targets.max()}")
    return kept.nonzero().squeeze(1)


class _LinearLogprobs(torch.autograd.Function):
    """linear_logprobs over rows that all have a target; inverse is 1 / temperature, (T, 1) or (1, 1), or None for 1."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, inverse: Tensor | None, tile: int
    ) -> tuple[Tensor, Tensor]:
        with torch.autocast(hidden.device.type, enabled=False):
            target_logprob, entropy, lse, log_p = (_whole if tile >= len(weight) else _merged)(
                hidden, weight, targets, inverse, tile
            )
        kept = log_p if any(ctx.needs_input_grad) else None
        ctx.save_for_backward(hidden, weight, targets, inverse, lse, entropy, kept)
        ctx.tile = tile
        ctx.set_materialize_grads(False)  # mostly the entropy is only logged; its part of backward is then skipped
        return target_logprob, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_logprobs: Tensor | None, grad_entropy: Tensor | None) -> tuple[Tensor | None, ...]:
        """d logp / dz = onehot - p and dH / dz = -p (log p + H) for z = logits / temperature, so each row's gradient
        is p * (constant + slope * log p), and onehot at its target."""
        hidden, weight, targets, inverse, lse, entropy, kept = ctx.saved_tensors
        onehot = torch.zeros_like(lse) if grad_logprobs is None else grad_logprobs
        constant = -onehot if grad_entropy is None else -onehot - grad_entropy * entropy
        scale = lse.new_ones(1, 1) if inverse is None else inverse
        onehot, constant = onehot.unsqueeze(1) * scale, constant.unsqueeze(1) * scale
        slope = None if grad_entropy is None else -grad_entropy.unsqueeze(1) * scale

        with torch.autocast(hidden.device.type, enabled=False):
            x = hidden.to(_operand(hidden))
            grad_hidden = torch.zeros_like(x, dtype=lse.dtype) if ctx.needs_input_grad[0] else None
            grad_weight = torch.empty_like(weight) if ctx.needs_input_grad[1] else None
            tiles = _tiles(hidden, weight, inverse, ctx.tile) if kept is None else [(0, _cast(weight, hidden), None)]
            for first, w, logits in tiles:
                log_p = kept if logits is None else logits.sub_(lse.unsqueeze(1))
                factor = constant if slope is None else torch.addcmul(constant, slope, log_p)
                grad = torch.exp(log_p, out=logits).mul_(factor)  # what is kept stays as it is
                column, inside = _columns(targets, first, grad)
                grad.scatter_add_(1, column, onehot * inside)  # before rounding: 1 - p of a sure token vanishes in bf16
                grad = grad.to(x.dtype)
                if grad_hidden is not None:
                    _product(grad, w, grad_hidden, add=True)
                if grad_weight is not None:
                    _product(grad.t(), x, grad_weight[first : first + len(w)])
        return None if grad_hidden is None else grad_hidden.to(hidden.dtype), grad_weight, None, None, None


class _WeightedLogprobs(torch.autograd.Function):
    """weighted_logprobs over rows that all have a target; weights are the coefficients of the gradient."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, weights: Tensor, chunk: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """With d = p - onehot, a row's gradient is -coefficient * d @ weight.

        The same product has the entropy in it: h . (d @ weight) = sum p z - z_target, so that
        H = log sum exp z - sum p z = -log p_target - h . (d @ weight).
        """
        with torch.autocast(hidden.device.type, enabled=False):
            x, w = hidden.to(_operand(hidden)), _cast(weight, hidden)
            coefficient = weights.to(_accumulator(hidden)).unsqueeze(1)
            grad_hidden = torch.empty_like(x, dtype=coefficient.dtype)
            grad_weight = torch.zeros_like(weight, dtype=coefficient.dtype)
            logprobs, entropy = coefficient.new_empty(2, len(x)).unbind()
            logits = x.new_empty(min(chunk, len(x)), len(w), dtype=coefficient.dtype)
            buffer = torch.empty_like(logits)
            minus_one = coefficient.new_full((1, 1), -1.0)
            for first in range(0, len(x), chunk):
                here = slice(first, min(first + chunk, len(x)))
                rows, target, z, d = x[here], targets[here, None], *(t[: here.stop - first] for t in (logits, buffer))
                _product(rows, w.t(), z)
                torch.log_softmax(z, 1, out=d)
                logprobs[here] = d.gather(1, target).squeeze(1)
                d.exp_().scatter_add_(1, target, minus_one.expand(len(rows), 1))  # before rounding: see backward above
                operand = d.to(x.dtype)
                _product(operand, w, grad_hidden[here])
                entropy[here] = -logprobs[here] - (grad_hidden[here] * rows).sum(1)
                scaled = rows * -coefficient[here]
                _product(operand.t(), scaled.to(x.dtype), grad_weight, add=True)
            grad_hidden *= -coefficient
        ctx.save_for_backward(grad_hidden.to(hidden.dtype), grad_weight.to(weight.dtype))
        ctx.mark_non_differentiable(logprobs, entropy)
        ctx.set_materialize_grads(False)
        return (weights * logprobs).sum(), logprobs, entropy.clamp_min_(0.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        """What forward has made, times the gradient of the sum; in place, for they are large."""
        if grad is None:
            return None, None, None, None, None
        grad_hidden, grad_weight = (made.mul_(grad) for made in ctx.saved_tensors)
        return grad_hidden, grad_weight, None, None, None


def _whole(
    hidden: Tensor, weight: Tensor, targets: Tensor, inverse: Tensor | None, tile: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log-probabilities of the targets, entropies, log-sum-exp, and log p of all words, where one tile holds them."""
    ((_, _, logits),) = _tiles(hidden, weight, inverse, tile)
    column = targets.unsqueeze(1)
    target_logit = logits.gather(1, column)
    log_p = logits.log_softmax(1)
    target = log_p.gather(1, column)
    entropy = torch.exp(log_p, out=logits).mul_(log_p).sum(1).neg_()
    return target.squeeze(1), entropy, (target_logit - target).squeeze(1), log_p


def _merged(
    hidden: Tensor, weight: Tensor, targets: Tensor, inverse: Tensor | None, tile: int
) -> tuple[Tensor, Tensor, Tensor, None]:
    """The same, tile after tile; of them nothing is left."""
    # The running lse starts at a huge negative number, not at -inf, so that its share is 0 and not NaN.
    lse = torch.full_like(targets, -1e30, dtype=_accumulator(hidden))
    entropy, target_logit = torch.zeros_like(lse), torch.zeros_like(lse)
    for first, _, logits in _tiles(hidden, weight, inverse, tile):
        column, inside = _columns(targets, first, logits)
        target_logit += logits.gather(1, column).mul_(inside).squeeze(1)
        tile_lse, tile_entropy = _reduce(logits)
        # Chain rule over the parts seen before and this tile: H = sum of share * (H of the part - log share).
        merged = torch.logaddexp(lse, tile_lse)
        old, new = lse - merged, tile_lse - merged
        entropy = old.exp() * (entropy - old) + new.exp() * (tile_entropy - new)
        lse = merged
    return target_logit - lse, entropy, lse, None


def _tiles(hidden: Tensor, weight: Tensor, inverse: Tensor | None, tile: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield (first column, the tile's weight as an operand, its logits over the temperature).

    Forward and backward both come through here, so they see the same bits. The logits live in one buffer, which the
    caller may overwrite; the next tile does.
    """
    x = hidden.to(_operand(hidden))
    buffer = x.new_empty(len(x) * min(tile, len(weight)), dtype=_accumulator(hidden))
    for first in range(0, len(weight), tile):
        w = _cast(weight[first : first + tile], hidden)
        logits = buffer[: len(x) * len(w)].view(len(x), len(w))
        _product(x, w.t(), logits)
        yield first, w, logits if inverse is None else logits.mul_(inverse)


def _reduce(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Log-sum-exp and entropy of each row; overwrites logits."""
    top = logits.amax(1, keepdim=True)
    p = logits.sub_(top).exp()
    total = p.sum(1)
    log_total = total.log()
    return top.squeeze(1) + log_total, log_total - p.mul_(logits).sum(1).div_(total)


def _columns(targets: Tensor, first: int, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Each row's target column within this tile (any, if it lies elsewhere) and 1 or 0 for whether it lies here."""
    column = (targets - first).unsqueeze(1)
    inside = (column >= 0) & (column < logits.shape[1])
    return column.clamp(0, logits.shape[1] - 1), inside.to(logits.dtype)


def _accumulator(hidden: Tensor) -> torch.dtype:
    return torch.promote_types(hidden.dtype, torch.float32)


def _cast(weight: Tensor, hidden: Tensor) -> Tensor:
    """As an operand: rounded to hidden's dtype, as its products are."""
    return weight.to(hidden.dtype).to(_operand(hidden))


def _operand(hidden: Tensor) -> torch.dtype:
    """The dtype that products are given.

    A bf16 product rounds its result to bf16, up to 0.03 nats at a logit of 10, unless asked for fp32, which only CUDA's
    can be. Elsewhere operands are cast up: no value changes, and without bf16 units it is the faster way too
    (32 against 164 ms for 2048 x 512 x 2048 on one AVX-512 thread).
    """
    return hidden.dtype if hidden.is_cuda else _accumulator(hidden)


def _product(a: Tensor, b: Tensor, out: Tensor, *, add: bool = False) -> None:
    """Write a @ b to out, or add it; summed in fp32 and rounded once, to out's dtype."""
    if a.dtype == out.dtype:
        torch.addmm(out, a, b, beta=int(add), out=out)
    elif add:
        out.add_(torch.mm(a, b, out_dtype=out.dtype))
    elif a.dtype.itemsize < out.dtype.itemsize:
        torch.mm(a, b, out_dtype=out.dtype, out=out)
    else:
        out.copy_(torch.mm(a, b))
