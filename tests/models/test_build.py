"""Models from settings: the presets' sizes, seeds, folders that work and folders that do not."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from dsm.config.model import ModelConfig
from dsm.errors import UserError
from dsm.models.build import abstract_model, build_model, transformers_config
from dsm.ops.varlen import Varlen

MakeNetwork = Callable[..., PreTrainedModel]
CONF = Path(__file__).resolve().parents[2] / "conf" / "model"
SMALL: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 2,
}  # fmt: skip


def preset(name: str, *overrides: str) -> ModelConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return ModelConfig(**OmegaConf.to_container(compose(name, overrides=list(overrides))))


@pytest.mark.parametrize(
    ("name", "ids", "total", "inner"),
    [
        ("tiny", 2048, 1.07e6, 0.80e6),
        ("mini", 4096, 5.87e6, 4.82e6),
        ("small", 4096, 40.6e6, 38.5e6),
        ("deepseek_1_3b", 100_015, 1.63e9, 1.21e9),
        ("deepseek_7b", 100_015, 6.91e9, 6.07e9),
    ],
)
def test_presets_have_their_sizes_without_memory(name: str, ids: int, total: float, inner: float) -> None:
    start = time.perf_counter()
    model = abstract_model(preset(name), ids)
    assert time.perf_counter() - start < 5
    assert model.num_parameters() == pytest.approx(total, rel=5e-3)
    assert model.num_parameters(embedding=False) == pytest.approx(inner, rel=5e-3)
    assert all(weight.is_meta for weight in model.parameters())


def test_the_paper_s_settings() -> None:
    config = transformers_config(preset("deepseek_7b"), 100_015)
    assert (config.vocab_size, config.initializer_range, config.rms_norm_eps) == (102_400, 0.006, 1e-6)
    assert config.rope_parameters["rope_theta"] == 10_000
    assert (config.tie_word_embeddings, config.hidden_act, config.max_position_embeddings) == (False, "silu", 4096)


def test_base_group_states_the_defaults() -> None:
    stated = preset("pretrained", "path=somewhere")
    assert stated == ModelConfig(path="somewhere")
    assert set(OmegaConf.load(CONF / "base.yaml")) == set(ModelConfig.model_fields)


def test_new_weights_depend_on_the_seed_alone() -> None:
    cfg = ModelConfig(architecture="llama", config=SMALL | {"initializer_range": 0.006})
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = build_model(cfg, 100, seed=7)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    second, other = build_model(cfg, 100, seed=7), build_model(cfg, 100, seed=8)
    for a, b, c in zip(first.parameters(), second.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a.dim() == 1 or not torch.equal(a, c)
    assert first.head_weight.shape == (128, 32)  # 100 ids rounded up to a multiple of 64
    assert first.head_weight.std().item() == pytest.approx(0.006, rel=0.1)
    assert first.training
    assert first.head_weight.dtype == torch.float32


@pytest.fixture
def folder(tmp_path: Path, make_network: MakeNetwork) -> Path:
    """A model of 96 ids, as any tool would have saved it."""
    make_network("llama", tie_word_embeddings=False).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_folder_is_loaded_for_training(folder: Path, make_network: MakeNetwork) -> None:
    model = build_model(ModelConfig(path=str(folder)), 96, seed=0)
    assert all(module.training for module in model.modules())
    expected = make_network("llama", tie_word_embeddings=False)
    ids = torch.arange(20)
    torch.testing.assert_close(model.logits(ids, Varlen.from_lengths([20])), expected(ids[None]).logits[0])
    half = build_model(ModelConfig(path=str(folder)), 96, seed=0, dtype=torch.bfloat16)
    assert {weight.dtype for weight in half.parameters()} == {torch.bfloat16}


def test_an_embedding_can_grow(folder: Path) -> None:
    cfg = ModelConfig(path=str(folder), resize_embeddings=True, pad_vocab_multiple=16)
    state = torch.get_rng_state()
    grown, again = build_model(cfg, 97, seed=0), build_model(cfg, 97, seed=0)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(grown.head_weight, again.head_weight)
    assert grown.head_weight.shape == (112, 64)
    assert grown.model.config.vocab_size == 112
    assert grown.num_parameters() == abstract_model(cfg, 97).num_parameters()
    kept = build_model(ModelConfig(path=str(folder)), 96, seed=0)
    assert torch.equal(grown.head_weight[:96], kept.head_weight)


def failure(cfg: ModelConfig, ids: int = 96) -> str:
    with pytest.raises(UserError) as caught:
        build_model(cfg, ids, seed=0)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_broken_folders(folder: Path, tmp_path: Path) -> None:
    cfg, weights = ModelConfig(path=str(folder)), folder / "model.safetensors"
    assert "no such folder; a model of the hub is written hub:org/name" in failure(ModelConfig(path="org/name"))
    assert "no config.json in it" in failure(ModelConfig(path=str(tmp_path)))
    assert "its embedding has 96 rows, the tokenizer 97 ids" in failure(cfg, 97)

    tensors = load_file(weights)
    save_file({k: v for k, v in tensors.items() if "norm" not in k}, weights, {"format": "pt"})
    assert "lack 5 weights of the model: model.layers.0.input_layernorm.weight" in failure(cfg)
    save_file(tensors | {"lm_head.weight": torch.zeros(96, 32)}, weights, {"format": "pt"})
    assert "have the wrong shape for 1 weights of the model: lm_head.weight" in failure(cfg)
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "its weights cannot be read" in failure(cfg)
    weights.unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    assert "no *.safetensors in it" in failure(cfg)

    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"model_type": "unheard_of"}))
    assert "its configuration cannot be read" in failure(cfg)
    (folder / "config.json").write_text("{")
    assert "its configuration cannot be read" in failure(cfg)
    shutil.rmtree(folder)
    assert "no such folder" in failure(cfg)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"architecture": "lama"}, "model.architecture=lama: not a model type of transformers; did you mean llama?"),
        ({"config": {"hiden_size": 8}}, "model.config.hiden_size=8: not a setting of llama; did you mean hidden_size?"),
        ({"config": {"hidden_size": 30, "num_attention_heads": 4}}, "hidden size (30) is not a multiple"),
        ({"vocab_size": 90}, "model.vocab_size=90: the tokenizer has 96 ids"),
    ],
)
def test_wrong_architectures(settings: dict[str, Any], message: str) -> None:
    assert message in failure(ModelConfig(**({"architecture": "llama", "config": SMALL} | settings)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "path=null: must be given"),
        ({"path": "a", "architecture": "llama"}, "path=a, architecture=llama: exactly one is allowed"),
        ({"path": "a", "config": {"hidden_size": 8}}, "only for a new architecture"),
        ({"path": "a", "vocab_size": 8}, "vocab_size=8: only for a new architecture"),
        ({"architecture": "llama", "resize_embeddings": True}, "only with path"),
        ({"architecture": "llama", "config": {"vocab_size": 8}}, "the tokenizer decides it"),
        ({"path": "a", "attention": "flash"}, "attention"),
        ({"path": "a", "compile": 1}, "compile"),
        ({"path": "a", "pad_vocab_multiple": 0}, "pad_vocab_multiple"),
        ({"path": "a", "sliding": 3}, "sliding"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match="1 validation error") as caught:
        ModelConfig(**settings)
    assert message in str(caught.value)
