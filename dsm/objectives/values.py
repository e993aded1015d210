"""The critic's objective (PPO): its values are to meet the returns."""

from __future__ import annotations

import torch
from torch import Tensor


def value_objective(values: Tensor, old: Tensor, returns: Tensor, clip: float | None) -> Tensor:
    """-1/2 (V - return)^2, or the worse of it and the same with V held within `clip` of what it was.

    Args:
        values: (T,) the critic's, now.
        old: (T,) what they were when the samples were drawn.
        returns: (T,) advantages + old values.
        clip: how far a value may gain by moving; None = freely.

    Returns:
        (T,), what is to rise.
    """
    objective = -(values - returns).square() / 2
    if clip is None:
        return objective
    held = old + (values - old).clamp(-clip, clip)
    return torch.minimum(objective, -(held - returns).square() / 2)
