"""AdamW with decay on matrices only."""

from __future__ import annotations

import torch
from torch import nn

from dsm.config.training import OptimConfig


def build_adamw(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over a model's trainable parameters.

    Weight decay pulls on matrices (embeddings among them); norms and biases, all of one dimension, are left alone. The
    fused kernel is one pass over the parameters on the CPU and on CUDA alike.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trainable if parameter.ndim >= 2]
    vectors = [parameter for parameter in trainable if parameter.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    first, second = config.betas
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=config.lr, betas=(first, second), eps=config.eps, fused=True
    )
