"""AdamW against the formula written out, and decay on matrices only."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig

from dsm.config.training import OptimConfig
from dsm.training.optim import build_adamw

CONFIG = OptimConfig(lr=0.01, betas=[0.9, 0.95], eps=1e-8, weight_decay=0.1, clip_norm=None)


def test_three_steps_by_hand() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(5, 4), nn.LayerNorm(4), nn.Linear(4, 3))
    optimizer = build_adamw(model, CONFIG)
    expected = [parameter.detach().double() for parameter in model.parameters()]
    first = [torch.zeros_like(x) for x in expected]
    second = [torch.zeros_like(x) for x in expected]
    for step in range(1, 4):
        for i, parameter in enumerate(model.parameters()):
            parameter.grad = torch.randn_like(parameter)
            gradient = parameter.grad.double()
            first[i] = 0.9 * first[i] + 0.1 * gradient
            second[i] = 0.95 * second[i] + 0.05 * gradient**2
            decayed = expected[i] * (1 - 0.01 * 0.1) if parameter.ndim == 2 else expected[i]
            direction = first[i] / (1 - 0.9**step) / ((second[i] / (1 - 0.95**step)).sqrt() + 1e-8)
            expected[i] = decayed - 0.01 * direction
        optimizer.step()
    for parameter, value in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.detach().double(), value, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("tied", [True, False])
def test_every_weight_of_a_model_is_in_one_group(tied: bool) -> None:
    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        attention_bias=True, tie_word_embeddings=tied,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    model.model.layers[0].mlp.up_proj.weight.requires_grad = False
    groups = build_adamw(model, CONFIG).param_groups
    decay = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    expected = {
        id(parameter): 0.0 if "norm" in name or "bias" in name else 0.1
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    assert decay == expected
    assert sum(len(group["params"]) for group in groups) == len(expected)


def test_a_model_without_vectors_has_one_group() -> None:
    assert len(build_adamw(nn.Linear(3, 2, bias=False), CONFIG).param_groups) == 1
