"""An exploration as an algorithm sees it, and what the algorithm makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

PerToken = Sequence[NDArray[np.floating[Any]]]
"""An array for each sample, over its action tokens: (|o_i|,)."""


@dataclass(frozen=True)
class Samples:
    """n samples of some prompts; what could not be scored is not among them, so groups may have unequal sizes.

    Attributes:
        group: (n,) int64; samples of one prompt, drawn together.
        reward: (n,) float64, finite.
        correct: (n,) bool; what the rule says.
        lengths: (n,) int64; |o_i|, the tokens that the policy chose.
        truncated: (n,) bool; cut off at the length limit.
        step_rewards: (K_i,) for each sample.
        step_ends: (K_i,) for each sample; numbers of its action tokens, never falling.
        old: the trainer's log-probabilities before the update.
        reference: the reference's.
        values: the critic's value before each token.
        engine: the engine's log-probabilities when it drew the tokens.
    """

    group: NDArray[np.int64]
    reward: NDArray[np.float64]
    correct: NDArray[np.bool_]
    lengths: NDArray[np.int64]
    truncated: NDArray[np.bool_]
    step_rewards: Sequence[NDArray[np.floating[Any]]] | None = None
    step_ends: Sequence[NDArray[np.integer[Any]]] | None = None
    old: PerToken | None = None
    reference: PerToken | None = None
    values: PerToken | None = None
    engine: PerToken | None = None

    def __post_init__(self) -> None:
        if not np.isfinite(self.reward).all():
            raise ValueError("a sample without a finite reward is left out before its advantage is taken")

    def __len__(self) -> int:
        return len(self.reward)


@dataclass(frozen=True)
class Assigned:
    """What is trained on.

    Attributes:
        kept: numbers of the samples that are; those of an inner list stay together in one micro-batch, in this order.
        streams: for every sample, kept or not: (|o_i|,) fp32 by name.
        facts: counts, to be summed over ranks.
        saturated: groups in which no sample is better than another, by `saturated_by` of the algorithm.
    """

    kept: list[list[int]]
    streams: list[dict[str, NDArray[np.float32]]]
    facts: dict[str, float]
    saturated: list[int] = field(default_factory=list)
