"""Benchmarks answered while a model is trained: the same as `stage=eval` says, shared by the ranks, seen by nobody."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
import torch.distributed as dist

from dsm.cli import main
from dsm.config.compose import compose_config
from dsm.config.engine import EngineConfig
from dsm.config.model import ModelConfig
from dsm.config.parallel import Layout
from dsm.config.runs import settings_hash
from dsm.data.tokenizer import load_tokenizer
from dsm.errors import UserError
from dsm.evaluation.loading import load_evaluation
from dsm.evaluation.records import ItemRecord, ItemStore
from dsm.models.build import build_model
from dsm.models.sharding import Sharding
from dsm.rollout.embedded import EmbeddedEngine
from dsm.rollout.engine import Request, Sampling
from dsm.rollout.weights import WholeWeights
from dsm.training.bench_callback import InTrainingEvaluation
from dsm.training.bench_callback import _drop_other as drop_other
from tests.models.conftest import FAMILIES
from tests.ranks import run_ranks
from tests.training.harness import (
    DROPOUT,
    Lab,
    assert_same_run,
    curve,
    finish,
    newest_state,
    same,
    start,
    start_ranks,
    weights,
)

CONTEXT, STEPS, EVERY = 64, 6, 3
ITEMS = 10
ASKED = [
    "prompting=few_shot",
    f"limit={ITEMS}",
    "grader.workers=1",
    "sampling.n=2",
    "sampling.temperature=1.0",
    "sampling.max_new_tokens=8",
]
_append = ItemStore.append


@dataclass(frozen=True)
class Bench:
    """A token store, a benchmark of sums, and the command that trains on the one and asks the other."""

    lab: Lab
    store: Path
    sums: Path

    def train(self, runs: Path, *settings: str) -> list[str]:
        defaults = [
            "stage=pretrain",
            "model=tiny",
            "model.config.hidden_size=32",
            "model.config.intermediate_size=48",
            "model.config.num_hidden_layers=2",
            DROPOUT,
            f"tokenizer.path={self.lab.tokenizer}",
            f"mix.sources.maths={{path: '{self.store}', weight: 1}}",
            f"mix.context={CONTEXT}",
            "mix.validation.sequences=0",
            "optim.lr=1.0e-2",
            "scheduler.warmup_steps=1",
            "parallel.accelerator=cpu",
            "parallel.tokens_per_microbatch=200",
            f"trainer.tokens={STEPS * 5 * CONTEXT}",
            f"trainer.tokens_per_step={5 * CONTEXT}",
            "trainer.log_every=1",
            "checkpoint.every=1",
            "callbacks.progress=false",
            f"paths.runs={runs}",
            f"paths.cache={self.lab.folder / 'cache'}",
        ]
        given = {setting.partition("=")[0]: setting for setting in (*defaults, *settings)}
        return list(given.values())

    def measured(self, runs: Path, *settings: str) -> list[str]:
        """Two sampled answers to each item, after every third step."""
        every = f"evaluation.every_tokens={EVERY * 5 * CONTEXT}"
        asked = [f"evaluation.{setting}" for setting in ASKED]
        return self.train(runs, "evaluation=small", "benchmark=custom", self.data, every, *asked, *settings)

    @property
    def data(self) -> str:
        return f"benchmarks.custom.data.path={self.sums}"


@pytest.fixture(scope="module")
def bench(lab: Lab, store: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    sums = tmp_path_factory.mktemp("bench") / "sums.jsonl"
    rows = [{"question": f"What is {i} + {i}?", "answer": str(2 * i)} for i in range(ITEMS + 2)]
    sums.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Bench(lab, store, sums)


def folder_of(runs: Path, stage: str = "pretrain") -> Path:
    (folder,) = (runs / stage).iterdir()
    return folder


def answers(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "items" / "custom.jsonl").read_text().splitlines()]


def metrics_at(folder: Path, step: int) -> dict[str, Any]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    (found,) = [line for line in lines if line["step"] == step and "eval/custom/accuracy" in line]
    return {key.removeprefix("eval/"): value for key, value in found.items() if key.startswith("eval/")}


@pytest.fixture(scope="module")
def watched(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was measured after steps 3 and 6, and that nothing disturbed."""
    runs = tmp_path_factory.mktemp("watched")
    assert main(bench.measured(runs)) == 0
    return folder_of(runs)


# -- what training and a user see -------------------------------------------------------------------------------------


def test_training_does_not_notice(bench: Bench, watched: Path, tmp_path: Path) -> None:
    """To the bit, with dropout: the run without benchmarks is the same, down to its folder's name."""
    assert main(bench.train(tmp_path)) == 0
    plain = folder_of(tmp_path)
    assert plain.name == watched.name
    assert same(weights(plain), weights(watched))
    ours, theirs = newest_state(plain), newest_state(watched)
    for key in ours:
        assert key == "callbacks" or same(ours[key], theirs[key]), key
    assert curve(plain) == [line for line in curve(watched) if "eval/custom/accuracy" not in line]


def test_it_is_what_stage_eval_says(bench: Bench, watched: Path, tmp_path: Path) -> None:
    """The last evaluation and one of the exported model: every prompt, answer, verdict and number."""
    command = [
        "stage=eval",
        f"model.path={watched / 'export'}",
        "benchmark=custom",
        bench.data,
        f"paths.runs={tmp_path}",
    ]
    assert main([*command, *ASKED]) == 0
    other = folder_of(tmp_path, "eval")
    assert sorted(folder.name for folder in (watched / "evaluations").iterdir()) == ["step-00000003", "step-00000006"]
    ours = watched / "evaluations" / "step-00000006"
    assert answers(ours) == answers(other)
    assert len(answers(ours)) == ITEMS
    theirs = json.loads((other / "metrics.json").read_text())
    assert metrics_at(watched, STEPS) == {key: value for key, value in theirs.items() if isinstance(value, float)}
    final = json.loads((watched / "metrics.json").read_text())
    assert final["eval/custom/accuracy"] == theirs["custom/accuracy"]
    report = load_evaluation(str(ours), "last", "evaluations.last")  # as stage=report reads it
    assert report.results.model == "pretrain after step 6"


# -- stops ------------------------------------------------------------------------------------------------------------


def will_be_signalled_at_item(step: int, items: int, number: signal.Signals) -> None:
    """Trouble: a signal when so many items of the evaluation after a step are on the disk."""
    kept = []

    def append(store: ItemStore, record: ItemRecord) -> None:
        _append(store, record)
        if store.path.parent.parent.name == f"step-{step:08d}":
            kept.append(record)
            if len(kept) == items:
                os.kill(os.getpid(), number)

    ItemStore.append = append  # type: ignore[method-assign]


STOPS = [(EVERY, 3, signal.SIGTERM), (EVERY, 2, signal.SIGKILL), (STEPS, 3, signal.SIGTERM)]
"""In the evaluation after which step, after how many items of this start, by what."""


def test_what_a_stop_left_is_done_by_the_next_start(
    bench: Bench, watched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three starts are stopped within an evaluation; no item is answered twice, and nothing comes out otherwise."""
    command, output = bench.measured(tmp_path, "evaluation.engine.max_rows=4"), tmp_path / "output"
    for step, items, number in STOPS:
        trouble = partial(will_be_signalled_at_item, step, items, number)
        status = -number if number == signal.SIGKILL else 128 + number
        assert finish([start(command, output, trouble)]) == [status], output.read_text()
        place = folder_of(tmp_path) / "evaluations" / f"step-{step:08d}"
        assert not (place / "results.json").exists()
    assert 3 <= len(there := [row["id"] for row in answered(place)]) < ITEMS

    again: list[str] = []

    def append(store: ItemStore, record: ItemRecord) -> None:
        again.append(record.id)
        _append(store, record)

    monkeypatch.setattr(ItemStore, "append", append)
    assert main(command) == 0
    assert sorted(there + again) == sorted(row["id"] for row in answers(watched / "evaluations" / "step-00000006"))
    assert_same_run(folder_of(tmp_path), watched)
    for name in ("step-00000003", "step-00000006"):
        assert answers(folder_of(tmp_path) / "evaluations" / name) == answers(watched / "evaluations" / name)


def answered(folder: Path) -> list[dict[str, Any]]:
    """The records of an evaluation under way."""
    files = [file for file in (folder / "items").iterdir() if file.suffix in (".jsonl", ".part")]
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_answers_of_other_weights_are_not_taken_over(bench: Bench, watched: Path, tmp_path: Path) -> None:
    """A run with another seed of the same settings would find them if it were given their folder."""
    foreign = tmp_path / "evaluations" / "step-00000003" / "items"
    foreign.mkdir(parents=True)
    note, items = (
        watched / "evaluations" / "step-00000003" / "items" / f"custom.{kind}" for kind in ("protocol.json", "jsonl")
    )
    task = Mock(protocol=json.loads(note.read_text()))
    task.name = "custom"
    for file in (note, items):
        (foreign / file.name).write_bytes(file.read_bytes())
    drop_other(foreign.parent, [task])
    assert answers(foreign.parent) == answers(watched / "evaluations" / "step-00000003")
    task.protocol |= {"model": "other weights"}
    drop_other(foreign.parent, [task])
    assert not foreign.parent.exists()


# -- ranks and shards -------------------------------------------------------------------------------------------------


def test_two_ranks_that_share_the_model_share_the_items(bench: Bench, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    command = bench.measured(runs, "parallel.strategy=fsdp", "evaluation.every_tokens=1_000_000")
    assert finish(start_ranks(2, command, tmp_path / "output"), seconds=200) == [0, 0], (
        tmp_path / "output.0"
    ).read_text()
    folder = folder_of(runs)
    eval_runs = tmp_path / "eval"
    evaluate = ["stage=eval", f"model.path={folder / 'export'}", "benchmark=custom", bench.data]
    assert main([*evaluate, f"paths.runs={eval_runs}", *ASKED]) == 0
    assert answers(folder / "evaluations" / "step-00000006") == answers(folder_of(eval_runs, "eval"))


REQUESTS = [Request((1 + i, 5, 9), Sampling(max_new_tokens=6, n=2, temperature=1.0, seed=i)) for i in range(3)]


def generated(tokenizer: str, families: list[str], shape: tuple[int, int, int] | None) -> list[Any]:
    """What engines say whose weights come from whole or from sharded models, before and after these have changed."""
    said = []
    for family in families:
        spread = None
        if shape is not None:
            layout = Layout("fsdp", *shape)
            spread = Sharding.over(layout, torch.device("cpu"), "fp32", reshard_after_forward=True)
        config = ModelConfig(
            architecture=family, config={k: v for k, v in FAMILIES[family].items() if k != "vocab_size"}
        )
        model = build_model(config, 384, seed=1, sharding=spread)
        engine = EmbeddedEngine(model, load_tokenizer(tokenizer), EngineConfig(), WholeWeights(model, torch.float32))
        said.append([[c.token_ids for c in of_request] for of_request in engine.generate(REQUESTS)])
        engine.free()
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(1.1)
        engine.sync(model)
        said.append(engine.score([((1, 2), (3, 4, 5))]))
    return said


@pytest.mark.parametrize(("shape", "families"), [((1, 2, 1), ["llama", "qwen3", "gpt2"]), ((1, 1, 2), ["llama"])])
def test_an_engine_takes_sharded_weights_whole(lab: Lab, shape: tuple[int, int, int], families: list[str]) -> None:
    """On every rank the same tokens and the same log-probabilities as from the whole model, to the bit."""
    whole = generated(str(lab.tokenizer), families, None)
    for on_rank in run_ranks(2, generated, str(lab.tokenizer), families, shape):
        assert on_rank == whole


def test_sharded_weights_stay_sharded_until_they_are_read(lab: Lab) -> None:
    assert run_ranks(2, looked_at) == [(True, True, torch.bfloat16)] * 2


def looked_at() -> tuple[bool, bool, torch.dtype]:
    """Names and lookups need no other rank; reading gathers, in the engine's precision."""
    spread = Sharding.over(Layout("fsdp", 1, 2, 1), torch.device("cpu"), "fp32", reshard_after_forward=True)
    config = ModelConfig(architecture="llama", config={k: v for k, v in FAMILIES["llama"].items() if k != "vocab_size"})
    weights = WholeWeights(build_model(config, 384, seed=1, sharding=spread), torch.bfloat16)
    alone = dist.get_rank() > 0 or ("model.norm.weight" in weights and len(list(weights)) == len(weights))
    return alone, "lm_head.bias" not in weights, weights["model.norm.weight"].dtype


# -- when -------------------------------------------------------------------------------------------------------------


def due(tokens_per_step: int, every: int, total: int, path: str | None = None) -> list[int]:
    callback = Mock(every_tokens=every, tokens_after=lambda step: tokens_per_step * step)
    callback.config.model.path = path
    return [step for step in range(total + 1) if InTrainingEvaluation.is_due(callback, step, total)]


def test_when_it_is_due() -> None:
    assert due(10, 20, 7) == [2, 4, 6, 7]
    assert due(10, 25, 10) == [3, 5, 8, 10]  # the first step that reaches 25, 50, 75, 100
    assert due(10, 3, 3) == [1, 2, 3]
    assert due(10, 1000, 7) == [7]
    assert due(10, 20, 4, path="a model") == [0, 2, 4]  # one that knows something is measured before it learns


# -- settings ---------------------------------------------------------------------------------------------------------


def test_a_benchmark_that_is_not_there_is_told_before_anything_runs(
    bench: Bench, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = ["evaluation=small", "benchmark=custom", "benchmarks.custom.data.path=nowhere.jsonl"]
    assert main(bench.train(tmp_path, *settings)) == 2
    assert "benchmarks.custom.data.path=nowhere.jsonl: no such file or folder" in capfd.readouterr().err
    assert not any(tmp_path.iterdir())


def test_measuring_makes_no_other_run(bench: Bench, tmp_path: Path) -> None:
    hashes = {settings_hash(compose_config(command)) for command in (bench.train(tmp_path), bench.measured(tmp_path))}
    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["evaluation.limit=3"], r"evaluation\.limit: nothing is measured; evaluation=small switches it on"),
        (["benchmark=gsm8k"], r"benchmark=gsm8k: stage=pretrain has no group benchmark"),
        (["evaluation=small", "benchmark=[]"], r"benchmarks=\{\}: name at least one, as benchmark=gsm8k"),
        (["evaluation=small", "benchmarks.gsm8k.grader={foo: 1}"], r"benchmarks\.gsm8k\.grader\.foo=1: unknown key"),
    ],
)
def test_mistakes_are_told_before_anything_runs(bench: Bench, tmp_path: Path, settings: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        compose_config(bench.train(tmp_path, *settings))
