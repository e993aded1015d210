"""Pre-training from texts to an exported model: exact shares, the same losses on any layout, and clear refusals."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from dsm.cli import main
from dsm.data.mixture import Mixture
from tests.training.harness import Lab, curve, finish, start, start_ranks, weights, will_be_signalled

CONTEXT, STEPS = 64, 6
WEIGHTS = {"maths": 3, "code": 1}


@dataclass(frozen=True)
class Corpus:
    """Two token stores and the command that trains on them."""

    lab: Lab
    stores: Path

    def command(self, runs: Path, *settings: str) -> list[str]:
        """Six steps of ten sequences."""
        defaults = [
            "stage=pretrain",
            "model=tiny",
            "model.config.hidden_size=32",
            "model.config.intermediate_size=48",
            "model.config.num_hidden_layers=2",
            f"tokenizer.path={self.lab.tokenizer}",
            f"mix.root={self.stores}",
            f"mix.context={CONTEXT}",
            "mix.validation.sequences=3",
            *(f"mix.sources.{name}.weight={weight}" for name, weight in WEIGHTS.items()),
            "optim.lr=1.0e-2",
            "scheduler.warmup_steps=1",
            "parallel.accelerator=cpu",
            "parallel.tokens_per_microbatch=200",
            f"trainer.tokens={STEPS * 10 * CONTEXT}",
            f"trainer.tokens_per_step={10 * CONTEXT}",
            "trainer.log_every=1",
            "trainer.validate_every=3",
            "checkpoint.every=1",
            "callbacks.progress=false",
            f"paths.runs={runs}",
            f"paths.cache={runs / 'cache'}",
        ]
        given = {setting.partition("=")[0]: setting for setting in (*defaults, *settings)}
        return list(given.values())


def folder_of(runs: Path) -> Path:
    (folder,) = (runs / "pretrain").iterdir()
    return folder


@pytest.fixture(scope="module")
def corpus(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("corpus")
    code = [{"text": f"def add_{n}(x):\n    return x + {n}\n"} for n in range(300)]
    (folder / "code.jsonl").write_text("".join(json.dumps(row) + "\n" for row in code))
    command = ["stage=tokenize", f"tokenizer.path={lab.tokenizer}", "store.workers=1", "store.held_out.fraction=0.1"]
    command += [f"data.sources.maths.path={lab.data}", "data.sources.maths.fields=[question,answer]"]
    command += [f"data.sources.code.path={folder / 'code.jsonl'}", f"paths.runs={folder}"]
    assert main(command) == 0
    (run,) = (folder / "tokenize").iterdir()
    return Corpus(lab, run / "export")


@pytest.fixture(scope="module")
def alone(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one process."""
    runs = tmp_path_factory.mktemp("alone")
    assert main(corpus.command(runs)) == 0
    return folder_of(runs)


def training(folder: Path) -> list[dict[str, float]]:
    return [line for line in curve(folder) if "train/loss" in line]


def test_every_source_gets_its_share_and_the_loss_falls(alone: Path) -> None:
    lines = training(alone)
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    for line in lines:
        positions = line["budget/positions"]
        assert positions == line["step"] * 10 * CONTEXT
        for name, weight in WEIGHTS.items():
            assert abs(line[f"mix/tokens/{name}"] - positions * weight / 4) < CONTEXT
        by_source = [line[f"train/loss/{name}"] for name in WEIGHTS]
        assert min(by_source) < line["train/loss"] < max(by_source)
    held_out = [line for line in curve(alone) if "validation/loss" in line]
    assert [line["step"] for line in held_out] == [0, 3, 6]
    for key in ("validation/loss", "validation/loss/maths", "validation/loss/code"):
        assert held_out[-1][key] < held_out[0][key] - 0.1
    model = AutoModelForCausalLM.from_pretrained(alone / "export")
    assert all(torch.equal(model.state_dict()[name], weight) for name, weight in weights(alone).items())


def test_all_that_a_step_trains_on_is_in_the_stores(corpus: Corpus, tmp_path: Path) -> None:
    """A row of the mix is a stretch of its store, and each document's last token is trained on unless it ends there."""
    from dsm.config.compose import compose_config

    config = compose_config(corpus.command(tmp_path))
    mixture = Mixture.open(config.mix, seed=0, cache=tmp_path)  # type: ignore[attr-defined]
    for number in range(20):
        source, _, _ = mixture.locate(number)
        documents = mixture[number]
        assert {document.source for document in documents} == {source}
        ids = np.concatenate([document.ids for document in documents])
        assert len(ids) == CONTEXT
        store = mixture.stores[source].read(0, mixture.stores[source].tokens)
        windows = np.lib.stride_tricks.sliding_window_view(store, CONTEXT)
        assert (windows == ids).all(1).any()


@pytest.mark.parametrize("layout", ["parallel.strategy=ddp", "parallel.shard=2"])
def test_two_ranks_train_as_one(layout: str, corpus: Corpus, alone: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    assert finish(start_ranks(2, corpus.command(tmp_path, layout), output), 120) == [0, 0], output.with_suffix(
        ".0"
    ).read_text()
    for line, wanted in zip(curve(folder_of(tmp_path)), curve(alone), strict=True):
        norm, their_norm = (one.pop("train/grad_norm", 0.0) for one in (line, wanted))
        assert line == pytest.approx(wanted, rel=1e-4)
        assert norm == pytest.approx(their_norm, rel=1e-3)  # rounding grows tenfold a step here, and shows there first
    theirs = weights(alone)
    for name, weight in weights(folder_of(tmp_path)).items():
        assert float((weight - theirs[name]).norm() / theirs[name].norm()) < 1e-4, name


def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(corpus: Corpus, alone: Path, tmp_path: Path) -> None:
    command, output = corpus.command(tmp_path, "parallel.data_workers=1"), tmp_path / "output"
    stopped = start(command, output, partial(will_be_signalled, 2, signal.SIGTERM))
    assert finish([stopped]) == [143], output.read_text()
    assert main(command) == 0
    assert curve(folder_of(tmp_path)) == curve(alone)
    assert all(torch.equal(weight, weights(alone)[name]) for name, weight in weights(folder_of(tmp_path)).items())


def test_another_store_under_the_same_path_is_refused(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stores = tmp_path / "stores"
    shutil.copytree(corpus.stores, stores)
    command = corpus.command(tmp_path, f"mix.root={stores}")
    stopped = start(command, tmp_path / "output", partial(will_be_signalled, 2, signal.SIGTERM))
    assert finish([stopped]) == [143]
    shutil.rmtree(stores / "code")
    shutil.copytree(stores / "maths", stores / "code")
    assert main(command) == 2
    assert "mix.sources.code" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("trainer.tokens_per_step=32", "mix.context=64"),
        ("trainer.tokens=100", "trainer.tokens_per_step=640"),
        ("scheduler.warmup_steps=6", "6 steps"),
        ("mix.sources.poetry.weight=1", "mix.sources.poetry.path"),
        ("mix.context=1000000", "less than one"),
        ("mix.sources.maths.max_epochs=0.01", "mix.sources.maths.max_epochs"),
        ("parallel.shard=3", "parallel"),
    ],
)
def test_what_cannot_be_is_said_at_once(
    setting: str, named: str, corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extra = ["trainer.tokens=10_000_000", "trainer.tokens_per_step=1_000_000"] if "context" in setting else []
    assert main(corpus.command(tmp_path, *extra, setting)) == 2
    *before, error = capsys.readouterr().err.splitlines()
    assert error.startswith("dsm: ")
    assert named in error
    assert all(line.startswith("run folder: ") for line in before)
