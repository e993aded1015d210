"""Small networks of several families, made the same way everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

SMALL = {
    "vocab_size": 96, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "initializer_range": 0.2,
}  # fmt: skip
DROPOUTS = ("attn_pdrop", "resid_pdrop", "embd_pdrop")
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": SMALL | {"tie_word_embeddings": True},
    "qwen2": SMALL,
    "qwen3": SMALL,
    "mistral": SMALL | {"sliding_window": 5},
    "gpt2": {"vocab_size": 96, "n_embd": 64, "n_layer": 2, "n_head": 4} | dict.fromkeys(DROPOUTS, 0.0),
}


def _make_network(family: str, **changes: Any) -> PreTrainedModel:
    """New weights, the same on every call, in training mode and with transformers' own attention."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **(FAMILIES[family] | changes))).train()


@pytest.fixture(params=sorted(FAMILIES))
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def make_network() -> Callable[..., PreTrainedModel]:
    """`make_network(family, **changes to its configuration)`."""
    return _make_network
