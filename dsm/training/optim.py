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
    groups: dict[tuple[bool, Any], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:  # one kernel takes the shards of one mesh
            groups.setdefault((parameter.ndim >= 2, getattr(parameter, "device_mesh", None)), []).append(parameter)
    first, second = config.betas
    return torch.optim.AdamW(
        [
            {"params": parameters, "weight_decay": config.weight_decay if matrices else 0.0}
            for (matrices, _), parameters in sorted(groups.items(), key=lambda item: not item[0][0])
        ],
        lr=config.lr,
        betas=(first, second),
        eps=config.eps,
        fused=True,
    )
