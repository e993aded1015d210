"""What a policy was asked and what it wrote: the one record that rewards, algorithms and stores share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Steps = NDArray[np.int64]
"""Ends of the steps of a solution, as numbers of tokens of its rollout, rising."""


@dataclass(frozen=True)
class Prompt:
    """A question ready to be answered.

    Attributes:
        number: its place in the set of prompts.
        id: a name that outlives a change of order.
        question: the question alone.
        input_ids: (P,) the whole prompt as the policy reads it.
        source: name of the data source.
        columns: all columns of its row; rewards take them as keyword arguments.
    """

    number: int
    id: str
    question: str
    input_ids: tuple[int, ...]
    source: str
    columns: Mapping[str, Any]


@dataclass(frozen=True)
class Rollout:
    """One sample of a policy: prompt and answer as one sequence of L tokens.

    Attributes:
        prompt: number of its prompt.
        group: samples of one group answer one prompt, drawn together; distinct for each drawn prompt of a run.
        sample: its number in the group.
        token_ids: (L,) int64, prompt and answer.
        action_mask: (L,) bool, the tokens that the policy chose: not the prompt, not what a tool has put in.
        logprobs: (L,) fp32, the engine's log-probability of each chosen token at `temperature`, in nats; 0 elsewhere.
        temperature: that it was drawn at (0: greedy).
        text: the answer, without special tokens, cut before a stop string.
        finish_reason: as in `Completion` and `Trajectory`; "length" is an answer that was cut off.
        policy_version: of the engine.
        step_ends: (K,) place in `token_ids` of the last token of each step of the solution.
        rewards: each part by name; None where it could not be scored.
        reward: all parts together; None: no use for training.
        step_rewards: (K,) rewards of the steps under process supervision.
        correct: what the rule says of the answer, where there is one.
    """

    prompt: int
    group: int
    sample: int
    token_ids: NDArray[np.int64]
    action_mask: NDArray[np.bool_]
    logprobs: NDArray[np.float32]
    temperature: float
    text: str
    finish_reason: str
    policy_version: int
    step_ends: Steps = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    rewards: Mapping[str, float | None] = field(default_factory=dict)
    reward: float | None = None
    step_rewards: NDArray[np.float64] | None = None
    correct: bool | None = None

    @property
    def prompt_tokens(self) -> int:
        """Tokens before the first that the policy chose."""
        return int(self.action_mask.argmax())

    @property
    def actions(self) -> int:
        """Tokens that the policy chose: |o| of Eq. 3."""
        return int(np.count_nonzero(self.action_mask))
