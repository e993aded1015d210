"""What comes of scoring: a reward for each sample or the reason why there is none, and what a log wants to know."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from dsm.errors import UserError
from dsm.rollout.record import Rollout

_SHOWN = 3  # reasons in a message


class FaultyRewardsError(UserError):
    """More samples went without a reward than `reward.max_fault_share` allows."""


@dataclass(frozen=True)
class Fault:
    """A part that could not score a sample.

    Attributes:
        part: its name; "reward": no part that counts applies to the sample.
        sample: its place among the samples that were scored together.
        prompt: id of the prompt.
        reason: what happened.
    """

    part: str
    sample: int
    prompt: str
    reason: str


@dataclass(frozen=True)
class Scored:
    """Rewards of n samples.

    Attributes:
        reward: (n,) NaN: there is none, and the sample is no use for training.
        parts: each part's own value by name (n,), before shaping, gate and weight; NaN: none, or it does not apply.
        correct: (n,) what the rule says; False where it could not say; None: no part is a rule.
        steps: under process supervision, the rewards of the steps of each sample (K_i,), weighted, gated and summed
            over the parts; a part that rewards the whole solution is paid at its last step. NaN where `reward` is.
        faults: every reason why a part did not score a sample it should have.
        seconds: by part, the time of all its calls together.
        metrics: "part/name" -> the mean of what a function of the user's has logged with `log_metric`.
        notes: "part/column" -> (n,) texts that it has logged with `log_extra`.
    """

    reward: NDArray[np.float64]
    parts: Mapping[str, NDArray[np.float64]]
    correct: NDArray[np.bool_] | None
    steps: list[NDArray[np.float64]] | None
    faults: list[Fault]
    seconds: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """(n,) samples that have a reward."""
        return np.isfinite(self.reward)

    @property
    def fault_share(self) -> float:
        """Share of the samples that some part failed to score."""
        return len({fault.sample for fault in self.faults}) / max(len(self.reward), 1)

    def summary(self) -> dict[str, float]:
        """Numbers for a log: mean and spread of the reward, mean of each part, accuracy, shares without a reward."""
        found = {
            "reward": _mean(self.reward),
            "reward_std": float(np.nanstd(self.reward)) if self.usable.any() else 0.0,
        }
        found |= {f"reward/{name}": _mean(values) for name, values in self.parts.items()}
        if self.correct is not None:
            found["accuracy"] = _mean(self.correct.astype(np.float64))
        found |= {"reward_unusable": float((~self.usable).mean()) if len(self.reward) else 0.0}
        found |= {f"reward_faults/{part}": float(n) for part, n in Counter(f.part for f in self.faults).items()}
        found |= {f"reward_seconds/{part}": seconds for part, seconds in self.seconds.items()}
        found |= {f"reward/{name}": value for name, value in self.metrics.items()}
        return {name: value for name, value in found.items() if np.isfinite(value)}

    def attached(self, rollouts: Sequence[Rollout]) -> list[Rollout]:
        """The rollouts with their rewards, as records that can be stored."""
        return [
            replace(
                rollout,
                rewards={name: _or_none(values[i]) for name, values in self.parts.items()},
                reward=_or_none(self.reward[i]),
                step_rewards=self.steps[i] if self.steps is not None and self.usable[i] else None,
                correct=bool(self.correct[i]) if self.correct is not None else None,
            )
            for i, rollout in enumerate(rollouts)
        ]

    def complaint(self) -> str:
        """The faults in one line, the most frequent reasons first; empty if there are none."""
        counts = Counter((fault.part, _kind(fault.reason)) for fault in self.faults)
        examples = {(fault.part, _kind(fault.reason)): fault.reason for fault in reversed(self.faults)}
        shown = [f"{n} x {kind[0]}: {examples[kind]}" for kind, n in counts.most_common(_SHOWN)]
        if (more := len(counts) - _SHOWN) > 0:
            shown.append(f"{more} more reasons")
        samples = len({fault.sample for fault in self.faults})
        return f"{samples:,} of {len(self.reward):,} samples could not be scored ({'; '.join(shown)})" if shown else ""

    def refuse_beyond(self, limit: float) -> None:
        """Raise FaultyRewardsError where more than a share of `limit` of the samples has a fault."""
        if self.fault_share > limit:
            raise FaultyRewardsError(
                f"reward.max_fault_share={limit:g}: {self.complaint()}; correct what fails, or allow a larger share"
            )


def _kind(reason: str) -> str:
    """A reason without what differs from sample to sample."""
    return re.sub(r"'[^']*'", "'...'", reason) if len(reason) > 60 else reason


def _mean(values: NDArray[np.float64]) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
