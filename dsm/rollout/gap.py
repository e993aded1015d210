"""How far an engine's log-probabilities are from the trainer's: is the policy that samples the one that is trained?

It ought to be, and three mistakes keep it from being so without anything else to show: weights that were not taken over
(stale weights, or a cache of keys and values that outlived them), another precision, another temperature. Each leaves
its mark. With d = log p_trainer - log p_engine for each sampled token: rounding is small and lies on both sides of 0;
a temperature stretches all log-probabilities, so that a straight line through them explains d; other weights do
neither.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from dsm.errors import UserError
from dsm.models.wrapper import CausalLM
from dsm.ops.logprobs import IGNORE
from dsm.ops.varlen import Varlen
from dsm.rollout.record import Rollout

Cause = Literal["stale weights", "precision", "temperature"]
_ROUNDING = 0.1
"""Nats: what bf16 makes of a token's log-probability on average stays below it."""
_BENT = 0.05
"""How far from 1 the slope of a line through the log-probabilities must be to speak of a temperature."""


class EngineGapError(UserError):
    """The engine does not sample from the policy that is trained."""


@dataclass(frozen=True)
class Gap:
    """The gap over the tokens that a policy chose.

    Attributes:
        tokens: how many.
        mean_abs: mean |d|, in nats.
        max_abs: the largest |d|.
        mean_ratio: mean exp(d), which is 1 for samples of the trainer's own policy.
        k1: mean -d: KL(engine || trainer), as estimated from the engine's samples.
        slope: of the least-squares line trainer = slope * engine + constant.
        explained: share of the squared d that this line explains.
        correlation: of the two, by Pearson.
    """

    tokens: int
    mean_abs: float
    max_abs: float
    mean_ratio: float
    k1: float
    slope: float
    explained: float
    correlation: float

    @property
    def cause(self) -> Cause:
        """What is most likely behind it, if it is too large."""
        bent = abs(math.log(max(self.slope, 1e-9))) > _BENT
        if bent and self.explained > 0.5 and self.correlation > 0.9:
            return "temperature"
        return "precision" if self.mean_abs < _ROUNDING and abs(self.k1) < self.mean_abs / 2 else "stale weights"

    def metrics(self) -> dict[str, float]:
        """For a log."""
        names = ("mean_abs", "max_abs", "mean_ratio", "k1")
        return {f"engine_gap/{name}": getattr(self, name) for name in names}


def engine_gap(engine: ArrayLike, trainer: ArrayLike, mask: ArrayLike | None = None) -> Gap:
    """Compare log-probabilities (nats) of the same tokens at the same temperature.

    Args:
        engine, trainer: of one shape.
        mask: which tokens count, those that the policy chose; None = all.

    Raises:
        ValueError: no token counts, or one that does has no finite log-probability.
    """
    ours, theirs = np.asarray(engine, dtype=np.float64), np.asarray(trainer, dtype=np.float64)
    if mask is not None:
        ours, theirs = ours[np.asarray(mask, dtype=bool)], theirs[np.asarray(mask, dtype=bool)]
    ours, theirs = ours.ravel(), theirs.ravel()
    if ours.shape != theirs.shape or not len(ours):
        raise ValueError(f"{len(ours)} and {len(theirs)} log-probabilities: must be of the same tokens, one at least")
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        raise ValueError("log-probabilities of sampled tokens must be finite")
    d = theirs - ours
    slope, constant = _line(ours, theirs)
    rest = theirs - slope * ours - constant
    squared, spread = float(np.square(d).sum()), float(ours.std() * theirs.std())
    return Gap(
        tokens=len(d),
        mean_abs=float(np.abs(d).mean()),
        max_abs=float(np.abs(d).max()),
        mean_ratio=float(np.exp(np.clip(d, -50, 50)).mean()),
        k1=float(-d.mean()),
        slope=slope,
        explained=1 - float(np.square(rest).sum()) / squared if squared else 0.0,
        correlation=float(((ours - ours.mean()) * (theirs - theirs.mean())).mean()) / spread if spread else 1.0,
    )


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    spread = float(np.square(x - x.mean()).sum())
    slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread if spread else 1.0
    return slope, float(y.mean() - slope * x.mean())


def trainer_logprobs(model: CausalLM, rollouts: Sequence[Rollout]) -> list[NDArray[np.float32]]:
    """What the trainer's own forward says of each token (L,), at the temperature that it was drawn at; 0 for the first.

    One packed forward: give a few rollouts, not thousands.
    """
    device = model.head_weight.device
    lengths = [len(rollout.token_ids) for rollout in rollouts]
    ids = torch.from_numpy(np.concatenate([rollout.token_ids for rollout in rollouts])).to(device)
    starts = torch.tensor(np.cumsum(lengths) - lengths, device=device)
    targets = ids.roll(-1)
    targets[starts - 1] = IGNORE  # the last token of each rollout, at -1 for the one before the first, predicts nothing
    heat = torch.tensor([rollout.temperature or 1.0 for rollout in rollouts], device=device)
    temperature = heat.repeat_interleave(torch.tensor(lengths, device=device))
    with torch.no_grad():
        logprobs, _ = model.logprobs(ids, Varlen.from_lengths(lengths, device), targets, temperature)
    shifted = logprobs.roll(1)
    shifted[starts] = 0.0
    return [part.cpu().numpy() for part in shifted.split(lengths)]


def measure_gap(model: CausalLM, rollouts: Sequence[Rollout]) -> Gap:
    """The gap over the action tokens of these rollouts."""
    trainer = np.concatenate(trainer_logprobs(model, rollouts))
    engine = np.concatenate([rollout.logprobs for rollout in rollouts])
    return engine_gap(engine, trainer, np.concatenate([rollout.action_mask for rollout in rollouts]))


@dataclass(frozen=True)
class GapMonitor:
    """Stops a run whose engine samples from another policy.

    Attributes:
        limit: nats, for the mean |d|; None = never.
    """

    limit: float | None

    def check(self, gap: Gap, policy_version: int) -> dict[str, float]:
        """The gap's metrics.

        Raises:
            EngineGapError: it is beyond the limit.
        """
        if self.limit is not None and not gap.mean_abs <= self.limit:
            advice = {
                "stale weights": "the engine has not taken over the newest weights, or kept a prefix cache of old ones",
                "precision": "engine.dtype=float32 with trainer.precision=fp32 is exact; a higher limit lets it pass",
                "temperature": f"the engine's log-probabilities are {gap.slope:.3g} times as steep: rollout.temperature"
                " or top_p is not applied alike",
            }
            raise EngineGapError(
                f"rollout.gap_limit={self.limit:g}: the log-probabilities of the engine (policy version"
                f" {policy_version}) are {gap.mean_abs:.3g} nats from the trainer's on average, {gap.max_abs:.3g} at"
                f" most, over {gap.tokens:,} tokens (mean ratio {gap.mean_ratio:.3g}); likely cause: {gap.cause}"
                f" ({advice[gap.cause]})"
            )
        return gap.metrics()
