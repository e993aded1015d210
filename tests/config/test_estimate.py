"""Costs by arithmetic against the real thing: parameters and FLOPs of transformers' models."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig

from dsm.config.compose import compose_config
from dsm.config.estimate import KNOWN_ARCHITECTURES, ModelShape
from dsm.config.model import ModelConfig
from dsm.config.run import SFTConfig, TokenizerTrainingConfig
from dsm.data.tokenizer import MIN_VOCAB_SIZE
from dsm.models.build import abstract_model

GQA = {"hidden_size": 96, "intermediate_size": 160, "num_hidden_layers": 3, "num_attention_heads": 6}
GQA |= {"num_key_value_heads": 2, "head_dim": 24}


def preset(name: str) -> ModelConfig:
    config = compose_config(["stage=sft", f"model={name}", "data.sources.a.path=x", "tokenizer.path=x"])
    assert isinstance(config, SFTConfig)
    return config.model


def shape_of(model: ModelConfig, vocab: int) -> ModelShape:
    shape = ModelShape.from_config(str(model.architecture), model.config, model.vocab_size or vocab)
    assert shape is not None
    return shape


def test_the_papers_sizes() -> None:
    """6.91B; 1.21B and 0.42B of embeddings (reference sheet 2.1)."""
    seven, one = (shape_of(preset(name), 0) for name in ("deepseek_7b", "deepseek_1_3b"))
    assert round(seven.parameters / 1e9, 2) == 6.91
    assert round(one.body / 1e9, 2) == 1.21
    assert round(one.embeddings / 1e9, 2) == 0.42


@pytest.mark.parametrize("name", ["tiny", "mini", "small", "deepseek_1_3b", "deepseek_7b"])
def test_presets_count_as_the_real_model(name: str) -> None:
    """Parameters, with and without embeddings, and FLOPs."""
    model = preset(name)
    shape, real = shape_of(model, 4096), abstract_model(model, 4096)
    assert shape.parameters == real.num_parameters()
    assert shape.body == real.num_parameters(embedding=False)
    assert shape.flops_per_token(100.5) == real.flops_per_token(100.5)


@pytest.mark.parametrize("architecture", KNOWN_ARCHITECTURES)
@pytest.mark.parametrize(
    "extra", [{}, {"tie_word_embeddings": True}, {"attention_bias": True, "mlp_bias": True}, {"head_dim": None}]
)
def test_architectures_count_as_the_real_model(architecture: str, extra: dict[str, Any]) -> None:
    """Grouped heads, heads of a width of their own, biases, norms of queries and keys; and what is left unsaid."""
    known = AutoConfig.for_model(architecture)
    config = {key: value for key, value in (GQA | extra).items() if hasattr(known, key)}
    if config.get("head_dim", 0) is None:
        del config["head_dim"]
    model = ModelConfig(architecture=architecture, config=config, vocab_size=320)
    shape, real = shape_of(model, 0), abstract_model(model, 320)
    assert shape.parameters == real.num_parameters()
    assert shape.flops_per_token(7) == real.flops_per_token(7)


@pytest.mark.parametrize("architecture", KNOWN_ARCHITECTURES)
def test_defaults_are_transformers(architecture: str) -> None:
    """A configuration that says nothing has the shape of transformers' own."""
    with torch.device("meta"):
        real = abstract_model(ModelConfig(architecture=architecture, vocab_size=64), 64)
    shape = ModelShape.from_config(architecture, {}, 64)
    assert shape is not None
    assert shape.parameters == real.num_parameters()


def test_an_unknown_architecture_is_not_guessed() -> None:
    """No number is better than a wrong one."""
    assert ModelShape.from_config("mamba", {}, 64) is None


def test_the_smallest_vocabulary_is_the_tokenizers_own() -> None:
    """What is written twice, because settings must not import the tokenizer, says the same."""
    (bound,) = (m.ge for m in TokenizerTrainingConfig.model_fields["vocab_size"].metadata if hasattr(m, "ge"))
    assert bound == MIN_VOCAB_SIZE
