"""Drawing tokens: noise that depends on nothing but what names a token's place, and exact draws from it.

The noise of a token is one uniform number, a hash of (prompt, seed, index of the sample, position); no generator has a
state. The token is where that number falls among the cumulated probabilities, found in two levels (blocks of the
vocabulary, then words of one block, in float64) so that the vocabulary is summed once and never sorted.

Top-p draws from the whole distribution and keeps a token if the words more probable than it hold less than `top_p`
together; the others are drawn again, with new noise. That is a draw from the smallest set that reaches `top_p`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

BLOCK = 64
TRIES = 8
"""Draws under top-p before the set itself is worked out, which takes a sort of the vocabulary."""

Keys = NDArray[np.uint64]


def noise_key(input_ids: Sequence[int], seed: int, index: int) -> int:
    """64 bits that name one sample of one prompt."""
    text = np.asarray([seed % 2**64, index, *input_ids], dtype=np.uint64).tobytes()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def uniform(keys: Keys, positions: NDArray[np.int64], attempt: int = 0) -> NDArray[np.float64]:
    """(R,) numbers in [0, 1) with 53 random bits: SplitMix64 of the key, at a counter of position and attempt."""
    counter = positions.astype(np.uint64) * np.uint64(2 * TRIES) + np.uint64(attempt + 1)
    with np.errstate(over="ignore"):
        z = _mix(keys + counter * np.uint64(0x9E3779B97F4A7C15))
    return (z >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(z: Keys) -> Keys:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014), a bijection."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@dataclass(frozen=True)
class Draws:
    """How each of R rows is sampled: on the host for the noise, on the device for the rest."""

    keys: Keys
    temperature: NDArray[np.float64]
    top_p: NDArray[np.float64]
    inverse_temperature: Tensor | None
    """(R, 1) fp32, 1 for greedy rows; None where all are 1."""
    greedy: Tensor | None
    """(R,) bool, None where no row is."""

    @classmethod
    def of(
        cls, keys: Sequence[int], temperature: Sequence[float], top_p: Sequence[float], device: torch.device
    ) -> Draws:
        heat = np.asarray(temperature, dtype=np.float64)
        inverse = 1.0 / np.where(heat > 0, heat, 1.0)
        return cls(
            np.asarray(keys, dtype=np.uint64),
            heat,
            np.asarray(top_p, dtype=np.float64),
            None if (inverse == 1).all() else torch.tensor(inverse[:, None], dtype=torch.float32, device=device),
            torch.tensor(heat == 0, device=device) if (heat == 0).any() else None,
        )


def draw(logits: Tensor, draws: Draws, positions: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """(R, V) fp32 logits -> (R,) tokens and their probabilities, fp32; `logits` may be overwritten.

    The probability is that under softmax(logits / temperature), before top-p; under softmax(logits) where greedy.
    """
    greedy = largest(logits) if draws.greedy is not None else None
    if draws.inverse_temperature is not None:
        logits = logits.mul_(draws.inverse_temperature)
    probs = logits.softmax(-1)
    if (draws.temperature > 0).any():
        tokens = _draw_top_p(probs, draws, positions) if (draws.top_p < 1).any() else _draw(probs, draws, positions)
        if draws.greedy is not None and greedy is not None:
            tokens = torch.where(draws.greedy, greedy, tokens)
    else:
        assert greedy is not None
        tokens = greedy
    return tokens, probs.gather(1, tokens[:, None]).squeeze(1)


def _draw(probs: Tensor, draws: Draws, positions: NDArray[np.int64], attempt: int = 0) -> Tensor:
    noise = torch.from_numpy(uniform(draws.keys, positions, attempt)).to(probs.device)
    return invert(probs, noise)


def _draw_top_p(probs: Tensor, draws: Draws, positions: NDArray[np.int64]) -> Tensor:
    tokens = _draw(probs, draws, positions)
    top_p = torch.from_numpy(draws.top_p).to(probs.device, probs.dtype)
    pending = np.flatnonzero((draws.top_p < 1) & (draws.temperature > 0))
    for attempt in range(1, TRIES + 1):
        rows = torch.from_numpy(pending).to(probs.device)
        p = probs[rows]
        own = p.gather(1, tokens[rows, None])
        above = torch.where(p > own, p, 0.0).sum(-1)
        pending = pending[(above >= top_p[rows]).cpu().numpy()]
        if not len(pending):
            return tokens
        rows, p = torch.from_numpy(pending).to(probs.device), probs[torch.from_numpy(pending).to(probs.device)]
        noise = torch.from_numpy(uniform(draws.keys[pending], positions[pending], attempt)).to(probs.device)
        tokens[rows] = invert(nucleus(p, top_p[rows]) if attempt == TRIES else p, noise)
    return tokens


def nucleus(probs: Tensor, top_p: Tensor) -> Tensor:
    """Zero all outside the smallest set of most probable words that reaches `top_p` (R,); equals stay together."""
    ordered = probs.sort(-1, descending=True).values
    above = ordered.cumsum(-1) - ordered
    inside = (above < top_p[:, None]).sum(-1, keepdim=True)  # at least the first
    return torch.where(probs >= ordered.gather(1, inside - 1), probs, 0.0)


def invert(probs: Tensor, noise: Tensor) -> Tensor:
    """The word of each row at share `noise` (R,) float64 in [0, 1) of its cumulated weights (R, V): (R,) int64."""
    blocks = _blocks(probs, 0.0)
    level = blocks.sum(-1).double()
    block, rest = _find(level, noise * level.sum(-1))
    words = blocks.gather(1, block[:, None, None].expand(-1, 1, BLOCK)).squeeze(1).double()
    return block * BLOCK + _find(words, rest)[0]


def largest(logits: Tensor) -> Tensor:
    """The first of the largest logits of each row, as `argmax`, some ten times as fast on a CPU."""
    blocks = _blocks(logits, -torch.inf)
    block = blocks.amax(-1).argmax(-1)
    words = blocks.gather(1, block[:, None, None].expand(-1, 1, BLOCK)).squeeze(1)
    return block * BLOCK + words.argmax(-1)


def _blocks(values: Tensor, filler: float) -> Tensor:
    """(R, V) -> (R, ceil(V / BLOCK), BLOCK)."""
    if short := -values.shape[1] % BLOCK:
        values = F.pad(values, (0, short), value=filler)
    return values.view(len(values), -1, BLOCK)


def _find(weights: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The first column at which the cumulated weights pass `target`, and what is left of the target before it.

    A column of weight zero is never found, whatever rounding does: a target that reaches the total is pulled below it.
    """
    cumulated = weights.cumsum(-1)
    total = cumulated[:, -1]
    target = torch.minimum(target, torch.nextafter(total, torch.zeros_like(total)))
    column = (cumulated <= target[:, None]).sum(-1)
    before = cumulated.gather(1, column[:, None]).squeeze(1) - weights.gather(1, column[:, None]).squeeze(1)
    return column, (target - before).clamp_(min=0)
