"""Token weights and the one divisor, by hand: Eq. 3 and Eq. 6, token means, Dr. GRPO's constant."""

from __future__ import annotations

import pytest
import torch

from dsm.objectives.normalise import Normalisation, normaliser, token_weights
from dsm.ops.varlen import Varlen

# Four documents: two of four tokens trained, none, all three, one.
VARLEN = Varlen.from_lengths((4, 2, 3, 1))
TRAINED = torch.tensor([0, 1, 1, 0, 0, 0, 1, 1, 1, 1], dtype=torch.bool)
OBJECTIVE = torch.tensor([9.0, 1.0, 3.0, 9.0, 9.0, 9.0, 2.0, 4.0, 9.0, 7.0])
THIRD = 1 / 3


@pytest.mark.parametrize(
    ("normalisation", "weights", "count", "value"),
    [
        # (mean(1, 3) + mean(2, 4, 9) + mean(7)) / 3
        ("sequence", [0, 0.5, 0.5, 0, 0, 0, THIRD, THIRD, THIRD, 1], 3, (2 + 5 + 7) / 3),
        # mean(1, 3, 2, 4, 9, 7)
        ("token", [0, 1, 1, 0, 0, 0, 1, 1, 1, 1], 6, 26 / 6),
        # the sum over 3 sequences of 8 tokens
        ("constant", [0, 1, 1, 0, 0, 0, 1, 1, 1, 1], 24, 26 / 24),
    ],
)
def test_by_hand(normalisation: Normalisation, weights: list[float], count: int, value: float) -> None:
    found = token_weights(TRAINED, VARLEN, normalisation)
    assert found.dtype == torch.float32
    assert found.tolist() == pytest.approx(weights)
    n = normaliser(normalisation, sequences=3, tokens=6, constant_length=8 if normalisation == "constant" else None)
    assert n == count
    assert float((found * OBJECTIVE).sum()) / n == pytest.approx(value)


def test_equation_6_is_the_mean_over_examples_of_the_mean_over_tokens() -> None:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(2, 9, (20,), generator=generator).tolist()
    parts = [torch.randn(length, generator=generator) for length in lengths]
    masks = [torch.rand(length, generator=generator) < 0.6 for length in lengths]
    means = [part[mask].mean() for part, mask in zip(parts, masks, strict=True) if mask.any()]
    weights = token_weights(torch.cat(masks), Varlen.from_lengths(lengths), "sequence")
    packed = (weights * torch.cat(parts)).sum() / normaliser("sequence", len(means), int(torch.cat(masks).sum()))
    torch.testing.assert_close(packed, torch.stack(means).mean())


def test_constant_needs_its_length() -> None:
    with pytest.raises(ValueError, match="constant_length"):
        normaliser("constant", 3, 6)
