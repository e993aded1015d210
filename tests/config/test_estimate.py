"""Costs by arithmetic against the real thing: parameters and FLOPs of transformers' models, bytes autograd keeps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig

from dsm.config.compose import compose_config
from dsm.config.estimate import KNOWN_ARCHITECTURES, LOGITS_TILE_BYTES, ModelShape
from dsm.config.model import ModelConfig
from dsm.config.run import SFTConfig, TokenizerTrainingConfig
from dsm.data.tokenizer import MIN_VOCAB_SIZE
from dsm.models.build import abstract_model, build_model
from dsm.ops.logprobs import TILE_BYTES
from dsm.ops.varlen import Varlen

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


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_activations_are_what_autograd_keeps(precision: str) -> None:
    """Per layer and token, measured by what a layer more adds; some scalars a token are not counted."""
    tokens, kept = 64, {}
    for layers in (1, 2):
        config = GQA | {"num_hidden_layers": layers, "head_dim": 16}
        model = build_model(ModelConfig(architecture="llama", config=config, vocab_size=64), 64, seed=0)
        weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
        saved: dict[int, torch.Tensor] = {}

        def keep(tensor: torch.Tensor, saved: dict[int, torch.Tensor] = saved) -> torch.Tensor:
            saved[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        varlen = Varlen.from_lengths([tokens // 2] * 2)
        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"),
        ):
            model(torch.arange(tokens) % 64, varlen)
        kept[layers] = sum(t.untyped_storage().nbytes() for pointer, t in saved.items() if pointer not in weights)
    shape = ModelShape.from_config("llama", config, 64)
    assert shape is not None
    copies = 2 * shape.layer_matrices if precision == "bf16" else 0
    measured = (kept[2] - kept[1] - copies) / tokens
    assert shape.activation_bytes("cpu", precision) == pytest.approx(measured, rel=0.02)


def test_memory_adds_up() -> None:
    """Sixteen bytes a parameter, activations by the micro-batch, checkpointing for less."""
    shape = shape_of(preset("deepseek_7b"), 0)
    parts = shape.memory("gpu", "bf16", 4096, checkpointing=False)
    states = [parts[name] for name in ("weights, fp32", "gradients, fp32", "AdamW state, fp32")]
    assert sum(states) == 16 * shape.parameters
    assert parts["activations"] == 4096 * (30 * shape.activation_bytes("gpu", "bf16") + 8 * 4096)
    assert shape.memory("gpu", "bf16", 4096, checkpointing=True)["activations"] < parts["activations"] / 5
    assert "bf16 copies of matrices" not in shape.memory("cpu", "fp32", 4096, checkpointing=False)


def test_constants_that_other_rooms_hold_too() -> None:
    """What is written twice, because these modules must not import torch, says the same."""
    assert {"gpu": TILE_BYTES["cuda"], "cpu": TILE_BYTES["cpu"]} == LOGITS_TILE_BYTES
    (bound,) = (m.ge for m in TokenizerTrainingConfig.model_fields["vocab_size"].metadata if hasattr(m, "ge"))
    assert bound == MIN_VOCAB_SIZE
