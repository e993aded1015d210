"""Small networks with sharp distributions, and a tokenizer whose words are mostly single bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from dsm.config.engine import EngineConfig
from dsm.data.tokenizer import train_tokenizer
from dsm.models.wrapper import CausalLM
from dsm.rollout.embedded import EmbeddedEngine

VOCAB = 300
SMALL = {
    "vocab_size": VOCAB, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "initializer_range": 0.2, "max_position_embeddings": 128,
}  # fmt: skip
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama, grouped heads, tied": ("llama", SMALL | {"tie_word_embeddings": True}),
    "llama, all heads, untied": ("llama", SMALL | {"num_key_value_heads": 4, "tie_word_embeddings": False}),
    "llama, one key head, biased": ("llama", SMALL | {"num_key_value_heads": 1, "attention_bias": True}),
    "llama, scaled rope": ("llama", SMALL | {"rope_parameters": {"rope_type": "linear", "factor": 2.0}}),
    "qwen2, biased": ("qwen2", SMALL),
    "qwen3, normed heads": ("qwen3", SMALL),
    "mistral, sliding window": ("mistral", SMALL | {"sliding_window": 7}),
    "qwen2, one layer slides": (
        "qwen2",
        SMALL | {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1},
    ),
    "olmo2, by transformers": ("olmo2", SMALL),
    "gpt2, by transformers": (
        "gpt2",
        {"vocab_size": VOCAB, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128, "initializer_range": 0.3}
        | dict.fromkeys(("attn_pdrop", "resid_pdrop", "embd_pdrop"), 0.0)
        | dict.fromkeys(("bos_token_id", "eos_token_id"), 1),
    ),
}


def _make_model(family: str = "llama, grouped heads, tied", *, seed: int = 0, **changes: Any) -> CausalLM:
    name, settings = FAMILIES[family]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **(settings | changes)))
        for parameter in model.parameters():  # biases and norms too
            if parameter.ndim == 1:
                parameter.data.add_(torch.randn_like(parameter) * 0.1)
    return CausalLM(model)


@pytest.fixture(scope="session")
def make_model() -> Callable[..., CausalLM]:
    """`make_model(family, seed=0, **changes to its configuration)`: the same weights on every call."""
    return _make_model


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(["the quick brown fox", "the end of the quick end"] * 3, 290)


@pytest.fixture(scope="session")
def make_engine(tokenizer: PreTrainedTokenizerFast) -> Callable[..., EmbeddedEngine]:
    """`make_engine(model, ends=(), **settings)`: an engine with these end-of-sequence ids and no others."""

    def make(model: CausalLM, ends: Sequence[int] = (), **settings: Any) -> EmbeddedEngine:
        engine = EmbeddedEngine(model, tokenizer, EngineConfig(**settings))
        engine.eos_ids = frozenset(ends)
        return engine

    return make


@pytest.fixture(scope="session")
def prompts() -> list[tuple[int, ...]]:
    """Twelve prompts of 1 to 40 tokens."""
    generator = torch.Generator().manual_seed(1)
    lengths = [1, 40, *torch.randint(2, 40, (10,), generator=generator).tolist()]
    return [tuple(torch.randint(8, VOCAB, (length,), generator=generator).tolist()) for length in lengths]
