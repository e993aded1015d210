"""AdamW with decay on matrices only."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from dsm.config.training import OptimConfig


def build_adamw(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over a model's trainable parameters.

    Weight decay pulls on matrices (embeddings among them); norms and biases, all of one dimension, are left alone. The
    fused kernel is one pass over the parameters on the CPU and on CUDA alike.
    """
    first, second = config.betas
    return torch.optim.AdamW(
        _groups(model, config),
        lr=config.lr,
        betas=(first, second),
        eps=config.eps,
        fused=True,
    )


def add_parameters(optimizer: torch.optim.Optimizer, model: nn.Module, config: OptimConfig, *, rate: float) -> None:
    """Have it train another model's weights too, at `rate` times the learning rate of the first."""
    for group in _groups(model, config):
        optimizer.add_param_group(group | {"rate": rate})


def _groups(model: nn.Module, config: OptimConfig) -> list[dict[str, Any]]:
    """Matrices first, then what is not decayed."""
    groups: dict[tuple[bool, Any], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:  # one kernel takes the shards of one mesh
            groups.setdefault((parameter.ndim >= 2, getattr(parameter, "device_mesh", None)), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": config.weight_decay if matrices else 0.0}
        for (matrices, _), parameters in sorted(groups.items(), key=lambda item: not item[0][0])
    ]
