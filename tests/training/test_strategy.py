"""Training in shards, through Lightning's loop, is training in one process, whatever the ranks have to do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any
from unittest import mock

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp._fully_shard import _fsdp_param_group
from torch.distributed.fsdp._fully_shard._fsdp_collectives import foreach_reduce
from torch.distributed.tensor import DTensor

from dsm.config.model import ModelConfig
from dsm.config.parallel import Layout
from dsm.config.training import ConstantConfig, LossConfig, OptimConfig
from dsm.data.batch import NOTHING, Document, StepBatch, collate, step_batch
from dsm.models.build import build_model
from dsm.models.sharding import Sharding, full_state_dict, units
from dsm.training.likelihood import LikelihoodModule
from dsm.training.step import StepSettings
from dsm.training.strategy import FSDP2Strategy
from tests.ranks import run_ranks

Shape = tuple[int, int, int]  # replicate, shard, tensor
CONFIG = ModelConfig(
    architecture="llama",
    config={
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "initializer_range": 0.1, "tie_word_embeddings": True,
    },
)  # fmt: skip


def rows(step: int) -> list[list[Document]]:
    """Packed sequences of a step: seven, then two, then four that teach nothing, then six that are bad, then five."""
    rng = np.random.default_rng(step)
    return [
        [Document(rng.integers(0, 64, n), np.full(n, step != 2)) for n in rng.integers(2, 12, 1 + i % 3)]
        for i in range([7, 2, 4, 6, 5][step])
    ]


STEPS = 5


def batches(rank: int, size: int) -> list[StepBatch]:
    """Every rank's share: up to four micro-batches on one rank and one on another, or nothing at all."""
    found = []
    for step in range(STEPS):
        mine = rows(step)[rank::size]
        batch = step_batch(mine, 12) if mine else StepBatch([collate([NOTHING])], 0, 0, 0)
        found.append(batch)
    return found


class Observed(LikelihoodModule):
    """Keeps each step's report; the objective of step 3 is not finite on the last of its sequences."""

    reports: Sequence[tuple[float, float, int, bool]] = ()
    reductions: Sequence[int] = ()

    def objective(self, logprobs: Tensor, entropy: Tensor, batch: Any) -> Tensor:
        bad = self.progress.step == 3 and int(batch.input_ids[0]) == int(rows(3)[-1][0].ids[0])
        return logprobs * (math.nan if bad else 1.0)

    def training_step(self, batch: StepBatch, batch_idx: int) -> None:
        with mock.patch.object(_fsdp_param_group, "foreach_reduce", wraps=foreach_reduce) as reduced:
            super().training_step(batch, batch_idx)
        report = self.report
        self.reports = [*self.reports, (report.loss, report.grad_norm, report.tokens, report.applied)]
        self.reductions = [*self.reductions, reduced.call_count]


def train(shape: Shape, precision: Any = "fp32", reduce: Any = "step", clip: float | None = 0.5) -> dict[str, Any]:
    replicate, shard, tensor = shape
    layout = Layout("fsdp", *shape)
    alone = layout.size == 1
    spread = None if alone else Sharding.over(layout, torch.device("cpu"), precision, reshard_after_forward=True)
    module = Observed(
        build_model(CONFIG, 64, seed=2, sharding=spread),
        StepSettings(
            optim=OptimConfig(lr=1e-2, betas=[0.9, 0.95], eps=1e-8, weight_decay=0.1, clip_norm=clip),
            scheduler=ConstantConfig(name="constant", warmup_steps=0),
            loss=LossConfig(normalisation="token"),
            total_steps=STEPS,
            precision=precision,
            max_skipped_steps=5,
        ),
    )
    trainer = pl.Trainer(
        accelerator="cpu", devices=layout.size, max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        strategy="auto" if spread is None else FSDP2Strategy(spread, reduce),
    )  # fmt: skip
    rank = 0 if alone else dist.get_rank() // tensor
    data = torch.utils.data.DataLoader(batches(rank, replicate * shard), batch_size=None)
    trainer.fit(module, data)
    states = [value for state in module.optimizers().state.values() for value in state.values() if value.ndim]
    return {
        "reports": module.reports,
        "weights": full_state_dict(module.model),
        "reductions": module.reductions,
        "units": len(units(module.model)),
        "state": {(value.dtype, isinstance(value, DTensor)) for value in states},
        "bytes": sum(value.to_local().nbytes if isinstance(value, DTensor) else value.nbytes for value in states),
    }


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    found = train((1, 1, 1))
    assert [applied for *_, applied in found["reports"]] == [True, True, False, False, True]
    return found


def assert_close(found: dict[str, Any], expected: dict[str, Any], tolerance: float) -> None:
    for ours, theirs in zip(found["reports"], expected["reports"], strict=True):
        assert ours[2:] == theirs[2:]
        if ours[3]:
            assert ours[:2] == pytest.approx(theirs[:2], rel=tolerance)
    assert found["weights"].keys() == expected["weights"].keys()
    for name, weight in expected["weights"].items():
        assert float((found["weights"][name] - weight).norm() / weight.norm()) < 10 * tolerance, name


def several(shapes: list[Shape]) -> dict[Any, Any]:
    return {shape: train(shape) for shape in shapes}


def two_ranks() -> dict[Any, Any]:
    found: dict[Any, Any] = several([(1, 2, 1), (1, 1, 2)])
    found["microbatch"] = train((1, 2, 1), reduce="microbatch")
    found["bf16"] = train((1, 2, 1), "bf16")
    return found


def test_two_ranks_train_as_one(alone: dict[str, Any]) -> None:
    for found in run_ranks(2, two_ranks):
        for key in ((1, 2, 1), (1, 1, 2), "microbatch"):
            assert_close(found[key], alone, 1e-6)
            assert found[key]["state"] == {(torch.float32, True)}
        # Gradients are summed once a step and unit, however many micro-batches there are; or after each of them.
        shards = found[1, 2, 1]
        assert shards["reductions"] == [shards["units"]] * STEPS
        most = [4, 1, 2, 3, 3]
        microbatches = [max(len(batches(rank, 2)[step].microbatches) for rank in range(2)) for step in range(STEPS)]
        assert microbatches == most
        assert found["microbatch"]["reductions"] == [shards["units"] * count for count in microbatches]
        assert alone["bytes"] / 2 <= shards["bytes"] < 0.52 * alone["bytes"]
        # Compute in bf16 over fp32 weights, moments and sums.
        assert found["bf16"]["state"] == {(torch.float32, True)}
        assert_close(found["bf16"], alone, 2e-2)
        assert found["bf16"]["reports"][0][0] != alone["reports"][0][0]


def four_ranks() -> dict[Any, Any]:
    found: dict[Any, Any] = several([(2, 2, 1), (1, 2, 2), (2, 1, 2)])
    found["microbatch"] = train((2, 2, 1), reduce="microbatch")
    return found


def test_copies_shards_and_tensor_parallel_train_as_one(alone: dict[str, Any]) -> None:
    results = run_ranks(4, four_ranks)
    for found in results:
        for key in found:
            assert_close(found[key], alone, 1e-6)
            assert found[key]["reports"][0] == results[0][key]["reports"][0]
            assert all(torch.equal(found[key]["weights"][n], w) for n, w in results[0][key]["weights"].items())
