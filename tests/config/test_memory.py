"""The plan's memory against the real thing: what autograd keeps, and what a step's allocations add up to at most."""

from __future__ import annotations

import gc
from contextlib import nullcontext
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from dsm.config.estimate import ModelShape
from dsm.config.fitting import changes_that_fit, largest_microbatch
from dsm.config.memory import (
    CHECKPOINTINGS,
    LOGITS_MIN_TILE,
    LOGITS_TILE_BYTES,
    Work,
    activations,
    moments,
    needed,
    peak,
)
from dsm.config.model import ModelConfig
from dsm.config.parallel import Layout
from dsm.config.training import LossConfig, OptimConfig
from dsm.data.batch import Document, MicroBatch, collate
from dsm.models.build import build_model
from dsm.ops import logprobs
from dsm.ops.varlen import Varlen
from dsm.training.likelihood import LikelihoodModule
from dsm.training.optim import build_adamw
from dsm.training.step import StepSettings

NARROW = {"hidden_size": 96, "intermediate_size": 160, "num_hidden_layers": 3, "num_attention_heads": 6}
NARROW |= {"num_key_value_heads": 2, "head_dim": 16}
SEVEN_B = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 30, "num_key_value_heads": 32}
H100 = 85.5e9 * 0.9


def shape_of(config: dict[str, Any], vocab: int) -> ModelShape:
    shape = ModelShape.from_config("llama", config, vocab)
    assert shape is not None
    return shape


def seven_b(layout: Layout, **settings: Any) -> Work:
    """The paper's 7B in bf16 on a GPU, 16 sequences of 4K a step and rank, four at once."""
    values = {"context": 4096, "sequences": 4, "share": 16, "layout": layout} | settings
    return Work(shape_of(SEVEN_B, 102400), "gpu", "bf16", **values)


@pytest.mark.parametrize("way", ["fp32", "bf16 by autocast", "bf16 throughout"])
def test_activations_are_what_autograd_keeps(way: str) -> None:
    """Per layer and token, by what a layer more adds; some scalars a token are not counted.

    FSDP2 computes in bf16 throughout, on parameters that it has gathered in bf16.
    """
    tokens, kept = 64, {}
    for layers in (1, 2):
        config = NARROW | {"num_hidden_layers": layers}
        model = build_model(ModelConfig(architecture="llama", config=config, vocab_size=64), 64, seed=0)
        model = model.to(torch.bfloat16) if way == "bf16 throughout" else model
        weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
        saved: dict[int, torch.Tensor] = {}

        def keep(tensor: torch.Tensor, saved: dict[int, torch.Tensor] = saved) -> torch.Tensor:
            saved[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        autocast = torch.autocast("cpu", torch.bfloat16) if way == "bf16 by autocast" else nullcontext()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), autocast:
            model(torch.arange(tokens) % 64, Varlen.from_lengths([tokens // 2] * 2))
        kept[layers] = sum(t.untyped_storage().nbytes() for pointer, t in saved.items() if pointer not in weights)
    layout = Layout("fsdp", shard=2) if way == "bf16 throughout" else Layout()
    work = Work(shape_of(config, 64), "cpu", way[:4], tokens, 1, 1, layout)
    copies = 2 * work.shape.layer_matrices if way == "bf16 by autocast" else 0
    assert activations(work).layer == pytest.approx((kept[2] - kept[1] - copies) / tokens, rel=0.02)


@pytest.mark.parametrize("checkpointing", CHECKPOINTINGS)
def test_checkpointing_keeps_what_the_plan_says(checkpointing: Any) -> None:
    """Per layer and token, by the allocations that a layer more leaves behind after forward."""
    tokens, left = 512, {}
    varlen, ids = Varlen.from_lengths([tokens]), torch.arange(tokens) % 64
    for layers in (1, 2):
        config = NARROW | {"num_hidden_layers": layers}
        asked = ModelConfig(architecture="llama", config=config, vocab_size=64, activation_checkpointing=checkpointing)
        model = build_model(asked, 64, seed=0)
        model(ids, varlen)
        gc.collect()
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            hidden = model(ids, varlen)
        events = profiler.profiler.kineto_results.events()
        left[layers] = sum(event.nbytes() for event in events if event.name() == "[memory]")
        del hidden
    work = Work(shape_of(config, 64), "cpu", "fp32", tokens, 1, 1, checkpointing=checkpointing)
    states = 3 * 5056 / tokens  # of the random generator, one a checkpoint
    assert activations(work).kept == pytest.approx((left[2] - left[1]) / tokens, rel=0.02, abs=states)


@pytest.mark.parametrize(
    ("precision", "checkpointing", "microbatches"),
    [("fp32", "none", 1), ("bf16", "none", 1), *product(["fp32", "bf16"], CHECKPOINTINGS, [2])],
)
def test_a_steps_allocations_peak_where_the_plan_says(precision: str, checkpointing: Any, microbatches: int) -> None:
    """Every allocation of a real step, summed in their order: within 5 %."""
    config = {"hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 3, "num_attention_heads": 4}
    config |= {"tie_word_embeddings": True}
    context = 256
    asked = ModelConfig(architecture="llama", config=config, vocab_size=2048, activation_checkpointing=checkpointing)
    ids = np.arange(context) % 2048
    batch = collate([Document(ids, np.ones(context, dtype=bool), 0, 1)])
    measured = _measured_peak(asked, precision, batch, microbatches)
    work = Work(shape_of(config, 2048), "cpu", precision, context, 1, microbatches, checkpointing=checkpointing)
    assert needed(work) == pytest.approx(measured, rel=0.05)


def _measured_peak(config: ModelConfig, precision: str, batch: MicroBatch, microbatches: int) -> int:
    """The most bytes alive during the second of two steps, by the allocator's own record."""
    optim = OptimConfig(lr=1e-3, betas=[0.9, 0.95], eps=1e-8, weight_decay=0.1, clip_norm=1.0)
    gc.collect()  # what an earlier test leaves must not be freed under the eyes of the profiler
    settings = StepSettings(optim, None, LossConfig(normalisation="token"), 2, precision, 1)  # type: ignore[arg-type]
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        module = LikelihoodModule(build_model(config, 2048, seed=0), settings)
        optimizer = build_adamw(module.model, optim)
        for step in range(2):
            with torch.profiler.record_function(f"step {step}"):
                for _ in range(microbatches):
                    module.forward_microbatch(batch)[0].backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
        del module, optimizer
    events = profiler.profiler.kineto_results.events()
    (start,) = (event.start_ns() for event in events if event.name() == "step 1")
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    live = np.cumsum([change for _, change in changes])
    return int(live[np.array([when for when, _ in changes]) >= start].max())


def test_states_of_every_layout() -> None:
    """Sixteen bytes a parameter, divided by shards; gradients whole while micro-batches add up, twice beside DDP's."""
    size = shape_of(SEVEN_B, 102400).parameters
    for layout, states, gradients in (
        (Layout(), 12 * size, 4 * size),
        (Layout("ddp", 8), 12 * size, 8 * size),
        (Layout("fsdp", 1, 8), 12 * size / 8, 4 * size),
        (Layout("fsdp", 2, 4), 12 * size / 4, 4 * size),
    ):
        parts = moments(seven_b(layout))["in the head, backward"]
        assert parts["parameters, fp32"] + parts["AdamW state, fp32"] == pytest.approx(states)
        assert parts["gradients, fp32"] == gradients
    scattered = moments(seven_b(Layout("fsdp", 1, 8), reduce_gradients="microbatch"))["in the head, backward"]
    assert scattered["gradients, fp32"] == pytest.approx(size / 2)
    alone = moments(seven_b(Layout("fsdp", 1, 8), share=4))
    assert "gradients, fp32" not in alone["in the head, backward"]
    assert alone["in the update"]["gradients, fp32"] == pytest.approx(size / 2)


def test_what_is_gathered() -> None:
    """The root's unit in bf16; the blocks too where they are kept between forward and backward."""
    work = seven_b(Layout("fsdp", 1, 8))
    root, block = 2 * 102400 * 4096 + 4096, 4 * 4096**2 + 3 * 4096 * 11008 + 2 * 4096
    assert moments(work)["in the head, backward"]["gathered weights"] == 2 * root
    kept = replace(work, reshard_after_forward=False)
    assert moments(kept)["in the head, backward"]["gathered weights"] == 2 * (root + 30 * block)
    assert needed(kept) > needed(work)


def test_tensor_parallelism_divides_blocks_only() -> None:
    """Matrices, and what they and attention keep; the residual stream, embedding and head stay whole."""
    one, two = (seven_b(Layout("fsdp", 1, 8, tensor)) for tensor in (1, 2))
    assert one.matrices == 2 * two.matrices
    assert one.root == two.root
    stream = 16 * 4096
    assert activations(one).layer - stream == 2 * (activations(two).layer - stream)


def test_checkpointing_takes_less_in_its_order() -> None:
    """On a GPU in bf16: all, 16 H of 7B's block, one residual stream."""
    for layout in (Layout("ddp", 2), Layout("fsdp", 1, 8)):
        none, selective, full = (seven_b(layout, checkpointing=mode) for mode in CHECKPOINTINGS)
        assert needed(none) > needed(selective) > needed(full)
    assert activations(none).kept == 24 * 4096 + 8 * 11008
    assert activations(selective).kept == 16 * 4096
    assert activations(full).kept == 2 * 4096


def test_the_largest_microbatch_is_the_largest() -> None:
    """It fits and one sequence more does not; none fits a 7B model on one device."""
    work = seven_b(Layout("fsdp", 1, 64), share=39)
    most = largest_microbatch(work, H100)
    assert most is not None
    assert needed(replace(work, sequences=most)) <= H100 < needed(replace(work, sequences=most + 1))
    assert largest_microbatch(seven_b(Layout()), H100) is None
    assert largest_microbatch(replace(work, share=2), H100) == 2


@pytest.mark.parametrize("layout", [Layout(), Layout("ddp", 8), Layout("fsdp", 1, 8)])
def test_changes_do_fit(layout: Layout) -> None:
    """Each as a person would type it, applied to the work; none is one before it and more."""
    work = seven_b(layout, sequences=16)
    assert needed(work) > H100
    changes = changes_that_fit(work, H100)
    assert changes
    for change in changes:
        settings = dict(override.split("=") for override in change.overrides)
        mesh = {
            name: int(settings.get(f"parallel.{name}", getattr(layout, name)))
            for name in ("replicate", "shard", "tensor")
        }
        spread = Layout("fsdp", **mesh) if mesh["shard"] > 1 or mesh["tensor"] > 1 else Layout("ddp", **mesh)
        share = -(-work.share * layout.data_size // spread.data_size)
        asked = int(settings.get("parallel.tokens_per_microbatch", work.tokens)) // work.context
        other = replace(
            work,
            layout=spread if spread.size > 1 else layout,
            share=share,
            sequences=min(asked, share),
            checkpointing=settings.get("model.activation_checkpointing", work.checkpointing),  # type: ignore[arg-type]
            reduce_gradients=settings.get("parallel.reduce_gradients", work.reduce_gradients),  # type: ignore[arg-type]
        )
        assert needed(other) == change.bytes <= H100
        assert spread.size == change.ranks
    kinds = [{override.split("=")[0] for override in change.overrides} for change in changes]
    assert not any(one <= other for i, one in enumerate(kinds) for other in kinds[i + 1 :])


def test_the_peak_is_the_largest_moment() -> None:
    """With one micro-batch and checkpointing, gradients outgrow activations: the peak moves behind backward."""
    moment, parts = peak(seven_b(Layout(), share=1, sequences=1, checkpointing="full"))
    assert moment == "after backward"
    assert sum(parts.values()) == max(
        sum(found.values()) for found in moments(seven_b(Layout(), share=1, sequences=1, checkpointing="full")).values()
    )


def test_constants_that_other_rooms_hold_too() -> None:
    """What is written twice, because these modules must not import torch, says the same."""
    assert {"gpu": logprobs.TILE_BYTES["cuda"], "cpu": logprobs.TILE_BYTES["cpu"]} == LOGITS_TILE_BYTES
    assert logprobs.MIN_TILE == LOGITS_MIN_TILE
