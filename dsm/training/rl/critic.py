"""PPO's critic: a reward model's network that learns to foretell the return from each token on.

It begins as the policy's trunk under a new head, or from a reward model's folder, and is updated in the same step, with
a learning rate and a clipped gradient of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dsm.data.batch import MicroBatch
from dsm.objectives.normalise import Normalisation, token_weights
from dsm.objectives.values import value_objective
from dsm.ops.logprobs import IGNORE

RETURNS, VALUES = "returns", "values"
"""Streams: what a value is to become, and what it was before the update."""


def critic_objective(
    values: Tensor, batch: MicroBatch, normalisation: Normalisation, clip: float | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """What is to rise, weighted and summed over tokens.

    Args:
        values: (T,) the critic's at the positions that predict: of the states before the targets are chosen.
        batch: with the streams `returns` and `values`.
        clip: how far a value may gain by moving.

    Returns:
        a number, and sums over tokens to observe.
    """
    trained = batch.targets != IGNORE
    nothing = torch.zeros_like(values)
    returns, old = (batch.streams.get(name, nothing) for name in (RETURNS, VALUES))
    objective = torch.where(trained, value_objective(values, old, returns, clip), nothing)
    weights = token_weights(trained, batch.varlen, normalisation)
    error, told = ((torch.where(trained, x, nothing)).detach().double() for x in (values - returns, returns))
    sums = {
        "critic/squared_error": error.square().sum(),
        "critic/value": (error + told).sum(),
        "critic/return": told.sum(),
        "critic/return_square": told.square().sum(),
    }
    return (objective * weights).sum(), sums


def critic_metrics(sums: Mapping[str, float], tokens: int) -> dict[str, float]:
    """Means over the trained tokens, and the share of the returns' variance that the values explain."""
    found = {name: value / max(tokens, 1) for name, value in sums.items() if name.startswith("critic/")}
    if found:
        variance = found.pop("critic/return_square") - found["critic/return"] ** 2
        found["critic/explained_variance"] = 1 - found["critic/squared_error"] / max(variance, 1e-12)
    return found
