"""Policy terms: what a token contributes to the objective, given its advantage.

Each is a pure function of log-probabilities now, log-probabilities before the update (`old`, no gradient) and
advantages, (T,) each; its derivative at log pi is the gradient coefficient without the KL's part.
The classes bind a term to its settings and say which ratio it clips where, for the logs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, ClassVar

import torch
from torch import Tensor

from dsm.data.batch import MicroBatch
from dsm.objectives.sequences import sequence_sums, spread, trained_lengths


def clipped(ratio: Tensor, advantages: Tensor, low: float, high: float) -> Tensor:
    """min(rho A, clip(rho, low, high) A): nothing is gained by moving further than the clip allows (Eq. 1, Eq. 3)."""
    return torch.minimum(ratio * advantages, ratio.clamp(low, high) * advantages)


def sequence_ratio(logprobs: Tensor, old: Tensor, batch: MicroBatch) -> Tensor:
    """The geometric mean of an answer's token ratios, at each of its tokens (GSPO, Eq. 7).

    Its derivative at a token's own log pi is the ratio itself, as in GSPO-token (Eq. 14): with the weights 1 / |o_i|
    of the normalisation 'sequence' and one advantage an answer, value and gradient are GSPO's own.
    """
    mean = sequence_sums((logprobs - old).detach(), batch) / trained_lengths(batch)
    return torch.exp(spread(mean, batch) + logprobs - logprobs.detach())


def cispo(logprobs: Tensor, old: Tensor, advantages: Tensor, lowest: float, highest: float) -> Tensor:
    """A log pi times the ratio, limited to [lowest, highest] and held fixed (MiniMax-M1, Eq. 4).

    A token beyond the limits keeps a gradient; under `clipped` it has none.
    """
    weight = torch.exp((logprobs - old).detach()).clamp(lowest, highest)
    return weight * advantages * logprobs


def engine_weights(old: Tensor, engine: Tensor, highest: float) -> Tensor:
    """min(pi_old / pi_engine, highest), held fixed: samples come from the engine's numerics, not from the trainer's.

    Returns:
        (T,); it weights the policy term before the KL penalty is subtracted, which needs no correction.
    """
    return torch.exp((old - engine).detach()).clamp(max=highest)


@dataclass(frozen=True)
class PolicyTerm:
    """A term with its settings: the ratio that it clips, and where."""

    low: float = 0.0
    high: float = inf
    two_sided: ClassVar[bool] = False
    """The clip acts on either sign of the advantage; else above on positive and below on negative ones only."""

    def ratio(self, logprobs: Tensor, old: Tensor, batch: MicroBatch) -> Tensor:
        """What `low` and `high` are limits of, (T,): pi / pi_old of each token."""
        return torch.exp(logprobs - old)

    def __call__(self, logprobs: Tensor, old: Tensor, advantages: Tensor, batch: MicroBatch) -> Tensor:
        """What is to rise, (T,)."""
        raise NotImplementedError


class Likelihood(PolicyTerm):
    """A log pi: SFT, RFT and online RFT; its gradient coefficient is A, wherever the sample came from."""

    def __call__(self, logprobs: Tensor, old: Tensor, advantages: Tensor, batch: MicroBatch) -> Tensor:
        """The log-probability, weighted."""
        return advantages * logprobs


class Clipped(PolicyTerm):
    """PPO's and GRPO's."""

    def __call__(self, logprobs: Tensor, old: Tensor, advantages: Tensor, batch: MicroBatch) -> Tensor:
        """`clipped` of the ratio."""
        return clipped(self.ratio(logprobs, old, batch), advantages, self.low, self.high)


class SequenceClipped(Clipped):
    """GSPO's."""

    def ratio(self, logprobs: Tensor, old: Tensor, batch: MicroBatch) -> Tensor:
        """One ratio an answer."""
        return sequence_ratio(logprobs, old, batch)


class CISPO(PolicyTerm):
    """CISPO's."""

    two_sided = True

    def __call__(self, logprobs: Tensor, old: Tensor, advantages: Tensor, batch: MicroBatch) -> Tensor:
        """`cispo` within the limits."""
        return cispo(logprobs, old, advantages, self.low, self.high)


@dataclass(frozen=True)
class Custom(PolicyTerm):
    """A function of the user's own: (logprobs, old, advantages, batch, **options) -> (T,), what is to rise."""

    function: Callable[..., Tensor] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, logprobs: Tensor, old: Tensor, advantages: Tensor, batch: MicroBatch) -> Tensor:
        """What the function says."""
        assert self.function is not None
        return self.function(logprobs, old, advantages, batch, **self.options)
