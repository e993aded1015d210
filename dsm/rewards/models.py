"""A reward model's scores as a part of a reward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from dsm.config.reward import ModelPart
from dsm.errors import UserError
from dsm.rewards.functions import step_marks
from dsm.rewards.parts import Marks, Steps
from dsm.rollout.record import Rollout


class Scorer(Protocol):
    """What `dsm.rewards.reward_model.RewardScorer` does."""

    def score(self, rollouts: Sequence[Rollout]) -> tuple[NDArray[np.float64], list[NDArray[np.float64]] | None]:
        """(n,) scores of the whole answers, and of each one's steps (K_i,) under process supervision."""
        ...


def open_scorer(config: ModelPart, tokenizer: PreTrainedTokenizerBase, device: str, key: str) -> Scorer:
    """The reward model that the part at `key` names.

    Raises:
        UserError: there is none.
    """
    from dsm.rewards.reward_model import RewardScorer  # no other part needs it

    try:
        return RewardScorer(config.path, config.supervision, tokenizer=tokenizer, device=device)
    except UserError as error:
        raise UserError(str(error).replace("reward_model.path", f"{key}.path", 1)) from None


def model_marks(scorer: Scorer, config: ModelPart, rollouts: Sequence[Rollout]) -> Marks:
    """One mark a rollout; what is too long for the model, or not finite, is a fault."""
    outcome, steps = scorer.score(rollouts)
    faults = {}
    if config.supervision == "outcome":
        faults = {i: f"its score is {value}" for i, value in enumerate(outcome) if not np.isfinite(value)}
        return Marks([None if i in faults else float(value) for i, value in enumerate(outcome)], faults)
    assert steps is not None
    for i, (row, rollout) in enumerate(zip(steps, rollouts, strict=True)):
        if len(row) != len(rollout.step_ends):
            faults[i] = f"{len(row)} of its {len(rollout.step_ends)} steps have a score"
        elif not np.isfinite(row).all():
            faults[i] = "the score of a step is not finite"
    rows: list[Steps | None] = [None if i in faults else row for i, row in enumerate(steps)]
    return step_marks(rows, faults, config.solution)
