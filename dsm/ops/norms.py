"""The norm of all gradients, whole or sharded."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def clip_grad_norm(parameters: Iterable[Tensor], limit: float) -> Tensor:
    """Scale the gradients to a global norm of at most `limit`; returns the norm before."""
    return torch.nn.utils.clip_grad_norm_(parameters, limit)
