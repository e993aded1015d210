"""A model in shards, on every layout, is the model of a single process: weights, gradients, norm, text, files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from dsm.config.model import ModelConfig
from dsm.config.parallel import Layout
from dsm.errors import UserError
from dsm.models import build
from dsm.models.build import build_model
from dsm.models.sharding import Sharding, full_state_dict, stream_weights
from dsm.models.tensor import check_tensor_parallel, sum_whole_gradients
from dsm.models.wrapper import CausalLM
from dsm.ops.logprobs import IGNORE
from dsm.ops.norms import clip_grad_norm
from dsm.ops.varlen import Varlen
from tests.models.conftest import FAMILIES
from tests.ranks import run_ranks

Shape = tuple[int, int, int]  # replicate, shard, tensor
TWO: list[Shape] = [(1, 2, 1), (1, 1, 2)]
FOUR: list[Shape] = [(2, 2, 1), (1, 2, 2)]
NETWORKS = {"llama": {"tie_word_embeddings": True, "attention_bias": True}, "qwen3": {"tie_word_embeddings": False}}
LENGTHS = (9, 1, 12)
VARLEN = Varlen.from_lengths(LENGTHS)
SEQUENCES = torch.randint(0, 90, (4, sum(LENGTHS)), generator=torch.Generator().manual_seed(1))
PROMPTS = [[1, 2, 3], [4]]


def configuration(family: str, **changes: Any) -> ModelConfig:
    settings = FAMILIES[family] | NETWORKS.get(family, {}) | {"vocab_size": None}
    settings.pop("vocab_size")
    return ModelConfig(architecture=family, config=settings, **changes)


def sharding(shape: Shape, precision: Any = "fp32", *, reshard: bool = True) -> Sharding:
    return Sharding.over(Layout("fsdp", *shape), torch.device("cpu"), precision, reshard_after_forward=reshard)


def learn(model: CausalLM, spread: Sharding | None, shape: Shape = (1, 1, 1)) -> dict[str, Any]:
    """This rank's share of four sequences, their gradients summed over ranks on the last; the norm, clipped to 1."""
    replicate, shard, tensor = shape
    rank = dist.get_rank() // tensor if spread else 0
    mine = SEQUENCES[rank :: replicate * shard]
    loss = torch.zeros(())
    for number, ids in enumerate(mine):
        targets = torch.where(torch.arange(len(ids)) % 5 == 0, IGNORE, ids.roll(-1))
        logprobs, entropy = model.logprobs(ids, VARLEN, targets, 0.9)
        if spread:
            model.set_requires_gradient_sync(number == len(mine) - 1)  # type: ignore[operator]
        (-logprobs.sum() + 0.1 * entropy.sum()).backward()
        loss -= logprobs.detach().sum()
    if spread:
        dist.all_reduce(loss)
        loss /= tensor
        if tensor > 1:
            sum_whole_gradients(model, spread.mesh["tensor"])
    gradients = {name: _whole(weight.grad) for name, weight in model.model.named_parameters()}
    return {"loss": float(loss), "gradients": gradients, "norm": float(clip_grad_norm(model.parameters(), 1.0))}


def _whole(weight: Any) -> Tensor:
    return (weight.full_tensor() if isinstance(weight, DTensor) else weight).detach().clone()


def compute(shapes: list[Shape]) -> dict[Any, Any]:
    found = {}
    for family in NETWORKS:
        for shape in shapes:
            spread = sharding(shape)
            model = build_model(configuration(family), 90, seed=7, sharding=spread)
            state = full_state_dict(model, keep=dist.get_rank() < 2)
            found[family, shape] = {"state": state, **learn(model, spread, shape)}
    return found


@pytest.fixture(scope="module")
def alone() -> dict[str, dict[str, Any]]:
    found = {}
    for family in NETWORKS:
        model = build_model(configuration(family), 90, seed=7)
        state = {name: weight.detach().clone() for name, weight in model.model.named_parameters()}
        found[family] = {"state": state, "text": model.generate(PROMPTS, 3), **learn(model, None)}
    return found


@pytest.mark.parametrize("shapes", [TWO, FOUR])
def test_every_layout_computes_as_one_process(shapes: list[Shape], alone: dict[str, dict[str, Any]]) -> None:
    results = run_ranks(2 if shapes == TWO else 4, compute, shapes)
    for rank, result in enumerate(results):
        for (family, shape), found in result.items():
            expected = alone[family]
            if rank < 2:  # to the bit, tied weights once
                assert found["state"].keys() == expected["state"].keys()
                assert all(torch.equal(found["state"][name], weight) for name, weight in expected["state"].items())
            else:
                assert found["state"] == {}
            assert found["loss"] == pytest.approx(expected["loss"], rel=1e-6)
            assert found["norm"] == pytest.approx(expected["norm"], rel=1e-6)
            assert found["gradients"].keys() == expected["gradients"].keys()
            for name, gradient in expected["gradients"].items():
                error = float((found["gradients"][name] - gradient).norm() / gradient.norm())
                assert error < (1e-6 if shape[2] == 1 else 5e-6), (family, shape, name)
            same = results[0][family, shape]  # to the bit on every rank
            assert found["norm"] == same["norm"]
            assert all(torch.equal(found["gradients"][name], gradient) for name, gradient in same["gradients"].items())


def options() -> dict[Any, Any]:
    """What changes memory, traffic or speed and no result, and what changes the precision."""
    found = {}
    for shape in TWO:
        spread = sharding(shape)
        for checkpointing in ("none", "selective", "full"):
            cfg = configuration("qwen3", activation_checkpointing=checkpointing)
            found[checkpointing, shape] = learn(build_model(cfg, 90, seed=7, sharding=spread), spread, shape)
    kept = sharding((1, 2, 1), reshard=False)
    found["kept"] = learn(build_model(configuration("qwen3"), 90, seed=7, sharding=kept), kept, (1, 2, 1))

    half = sharding((1, 2, 1), "bf16")
    model = build_model(configuration("qwen3"), 90, seed=7, sharding=half)
    hidden = model(SEQUENCES[0], VARLEN)
    found["bf16"] = learn(model, half, (1, 2, 1))
    found["dtypes"] = (hidden.dtype, {w.dtype for w in model.parameters()}, {w.grad.dtype for w in model.parameters()})
    with torch.no_grad():  # nothing gathered is left behind
        model(SEQUENCES[0], VARLEN)
        found["sharded"] = all(isinstance(weight, DTensor) for weight in model.parameters())
        model.logprobs(SEQUENCES[0], VARLEN, SEQUENCES[0])
        found["sharded"] &= all(isinstance(weight, DTensor) for weight in model.parameters())
    model = build_model(configuration("qwen3"), 90, seed=7, sharding=kept)
    found["text"] = model.generate(PROMPTS, 3)
    found["sharded"] &= all(isinstance(weight, DTensor) for weight in model.parameters())
    return found


def test_options_of_a_sharded_model(alone: dict[str, dict[str, Any]]) -> None:
    expected = alone["qwen3"]["gradients"]
    for found in run_ranks(2, options):
        for name, gradient in expected.items():
            for shape in TWO:
                plain = found["none", shape]["gradients"][name]
                assert torch.equal(found["selective", shape]["gradients"][name], plain)
                assert torch.equal(found["full", shape]["gradients"][name], plain)
            assert torch.equal(found["kept"]["gradients"][name], found["none", (1, 2, 1)]["gradients"][name])
            assert 1e-4 < float((found["bf16"]["gradients"][name] - gradient).norm() / gradient.norm()) < 0.15, name
        assert found["dtypes"] == (torch.bfloat16, {torch.float32}, {torch.float32})
        assert found["bf16"]["loss"] == pytest.approx(alone["qwen3"]["loss"], rel=1e-2)
        assert found["sharded"]
        assert found["text"] == alone["qwen3"]["text"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights in bf16 in two files, as large models come."""
    path = tmp_path_factory.mktemp("model")
    model = build_model(configuration("qwen3"), 90, seed=5).model
    model.to(torch.bfloat16).save_pretrained(path, max_shard_size="60KB")
    assert len(list(path.glob("*.safetensors"))) > 1
    return path


def load(folder: Path, broken: Path) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for shape in [(1, 2, 1), (1, 1, 2)]:
        with mock.patch.object(build, "scatter_from_first", side_effect=AssertionError("a whole model was made")):
            model = build_model(ModelConfig(path=str(folder)), 90, seed=0, sharding=sharding(shape))
        found[shape] = full_state_dict(model)
        found["buffers"] = dict(model.model.named_buffers())
        found["training"] = all(module.training for module in model.modules())
    grown = ModelConfig(path=str(folder), resize_embeddings=True)
    model = build_model(grown, 150, seed=3, sharding=sharding((1, 2, 1)))
    found["grown"] = {name: weight.clone() for name, weight in stream_weights(model)}
    for name in ("lacking", "misshapen", "damaged"):
        with pytest.raises(UserError) as caught:
            build_model(ModelConfig(path=str(broken / name)), 90, seed=0, sharding=sharding((1, 2, 1)))
        found[name] = str(caught.value)
    with pytest.raises(UserError) as caught:
        build_model(configuration("gpt2"), 90, seed=0, sharding=sharding((1, 1, 2)))
    found["gpt2"] = str(caught.value)
    return found


def test_a_folder_is_read_in_slices(folder: Path, tmp_path: Path) -> None:
    for name in ("lacking", "misshapen", "damaged"):
        shutil.copytree(folder, tmp_path / name)
    file = sorted((tmp_path / "lacking").glob("*.safetensors"))[-1]
    tensors = load_file(file)
    lost = max(tensors)
    save_file({name: tensor for name, tensor in tensors.items() if name != lost}, file, {"format": "pt"})
    save_file(tensors | {lost: torch.zeros(3)}, tmp_path / "misshapen" / file.name, {"format": "pt"})
    damaged = tmp_path / "damaged" / file.name
    damaged.write_bytes(damaged.read_bytes()[:-100])

    whole = build_model(ModelConfig(path=str(folder)), 90, seed=0)
    grown = build_model(ModelConfig(path=str(folder), resize_embeddings=True), 150, seed=3).model
    for found in run_ranks(2, load, folder, tmp_path):
        for shape in [(1, 2, 1), (1, 1, 2)]:
            for name, weight in whole.model.named_parameters():
                assert found[shape][name].dtype == torch.float32
                assert torch.equal(found[shape][name], weight)
        buffers = dict(whole.model.named_buffers())
        assert found["buffers"].keys() == buffers.keys()
        assert all(torch.equal(found["buffers"][name], buffer) for name, buffer in buffers.items())
        assert found["training"]
        assert found["grown"].keys() == dict(grown.named_parameters()).keys()
        assert all(torch.equal(found["grown"][name], weight) for name, weight in grown.named_parameters())
        assert f"its files lack 1 weights of the model: {lost}" in found["lacking"]
        assert f"its files have the wrong shape for 1 weights of the model: {lost}" in found["misshapen"]
        assert "its weights cannot be read" in found["damaged"]
        assert found["gpt2"].startswith("parallel.tensor=2: GPT2LMHeadModel is not Llama-like")


def test_heads_must_divide() -> None:
    config = build.transformers_config(configuration("llama"), 90)
    check_tensor_parallel(config, 2)
    with pytest.raises(UserError, match=r"parallel\.tensor=4: must divide the model's num_key_value_heads=2"):
        check_tensor_parallel(config, 4)
