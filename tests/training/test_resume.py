"""However a run ends, the same command goes on from it, and the end is the same to the bit."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import torch.distributed.checkpoint as dcp
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dsm.cli import main
from dsm.training import fit, stages
from dsm.training.checkpoint import ExactCheckpoint
from dsm.training.checkpoint.writing import _Writer
from dsm.training.step import UpdateModule
from tests.training.harness import (
    DROPOUT,
    Lab,
    assert_same_run,
    curve,
    run_folder,
    same,
    signal_at,
    start,
    weights,
    will_die_writing,
)
from tests.training.kill import run_with_kills

Errors = Callable[[], str]
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


@pytest.fixture
def errors(capfd: pytest.CaptureFixture[str]) -> Errors:
    """What has come on stderr since it was asked last."""
    return lambda: capfd.readouterr().err


def stop_at(step: int, command: list[str], *signals: signal.Signals) -> int:
    """Run until signals come when so many steps are made; the exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UpdateModule, "training_step", signal_at(step, *(signals or (signal.SIGTERM,))))
        return main(command)


def checkpoints(folder: Path) -> list[str]:
    return sorted(os.listdir(folder / "checkpoints"))


# -- the same end -----------------------------------------------------------------------------------------------------


def test_killed_again_and_again(lab: Lab, undisturbed: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    command = lab.command(runs, DROPOUT)
    process = start(command, tmp_path / "output", partial(will_die_writing, 2))
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert checkpoints(run_folder(runs)) == [".step-00000002.partial", "step-00000001"]
    rng = random.Random(1)
    run_with_kills(command, runs, [rng.uniform(0.5, 1.5) for _ in range(2)])
    assert_same_run(run_folder(runs), undisturbed)
    assert checkpoints(run_folder(runs)) == checkpoints(undisturbed) == ["step-00000005", "step-00000006"]


@pytest.mark.parametrize("number", STOPS)
def test_told_to_stop(number: signal.Signals, lab: Lab, undisturbed: Path, tmp_path: Path, errors: Errors) -> None:
    handlers = [signal.getsignal(each) for each in STOPS]
    # Twice at once, as torchrun passes on what the terminal has sent already.
    assert stop_at(2, lab.command(tmp_path, DROPOUT, "checkpoint.every=100"), number, number) == 128 + number
    assert [signal.getsignal(each) for each in STOPS] == handlers
    said = errors()
    assert f"{number.name}: this step ends" in said
    assert said.splitlines()[-1] == (
        f"dsm: stopped by {number.name} after step 3 of 6; the same command goes on from there"
    )
    assert checkpoints(run_folder(tmp_path)) == ["step-00000003"]
    assert main(lab.command(tmp_path, DROPOUT)) == 0
    assert_same_run(run_folder(tmp_path), undisturbed)


@pytest.mark.parametrize("when", ["in a step", "while writing"])
def test_a_second_ctrl_c_stops_at_once(
    when: str, lab: Lab, undisturbed: Path, tmp_path: Path, errors: Errors, monkeypatch: pytest.MonkeyPatch
) -> None:
    def again() -> None:
        time.sleep(1.1)
        os.kill(os.getpid(), signal.SIGINT)

    def impatient(self: UpdateModule, batch: Any, batch_idx: int) -> None:
        signal_at(2, signal.SIGINT)(self, batch, batch_idx)
        if when == "in a step" and self.progress.step == 3:
            again()

    def slow(self: _Writer, *args: Any) -> Any:
        if when == "while writing" and "step-00000003" in str(self.path):
            again()
        return write_data(self, *args)

    write_data = _Writer.write_data
    with monkeypatch.context() as patch:
        patch.setattr(UpdateModule, "training_step", impatient)
        patch.setattr(_Writer, "write_data", slow)
        assert main(lab.command(tmp_path, DROPOUT)) == 130
    assert "stopped at once" in errors().splitlines()[-1]
    assert [name for name in checkpoints(run_folder(tmp_path)) if name[0] != "."] == ["step-00000001", "step-00000002"]
    assert main(lab.command(tmp_path, DROPOUT)) == 0
    assert_same_run(run_folder(tmp_path), undisturbed)


def test_ended_in_the_export(lab: Lab, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def power_cut(*_: Any, **__: Any) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(fit, "export_model", power_cut)
        with pytest.raises(RuntimeError, match="power cut"):
            main(lab.command(tmp_path, DROPOUT, "checkpoint.asynchronous=false"))
    assert main(lab.command(tmp_path, DROPOUT, "checkpoint.asynchronous=false")) == 0
    assert_same_run(run_folder(tmp_path), undisturbed)


@pytest.mark.parametrize("which", ["folder", "checkpoint"])
def test_a_larger_budget(which: str, lab: Lab, undisturbed: Path, longer: Path, tmp_path: Path) -> None:
    resume = {"folder": undisturbed, "checkpoint": undisturbed / "checkpoints" / "step-00000005"}[which]
    assert main(lab.command(tmp_path, DROPOUT, "trainer.steps=8", f"resume={resume}")) == 0
    folder = run_folder(tmp_path)
    assert same(weights(folder), weights(longer))
    first = 6 if which == "folder" else 5
    assert curve(folder) == [line for line in curve(longer) if line["step"] > first]


@pytest.fixture(scope="module")
def longer(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = tmp_path_factory.mktemp("longer")
    assert main(lab.command(runs, DROPOUT, "trainer.steps=8")) == 0
    return run_folder(runs)


def test_never_starts_anew_beside_the_old_and_finished_runs_stay(
    lab: Lab, undisturbed: Path, tmp_path: Path, errors: Errors, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stop_at(2, lab.command(tmp_path, DROPOUT)) == 143
    old = run_folder(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in old.rglob("*")}
    assert main(lab.command(tmp_path, DROPOUT, "resume=never")) == 0
    assert {path: path.stat().st_mtime_ns for path in old.rglob("*")} == before
    new = old.with_name(f"{old.name}-2")
    assert_same_run(new, undisturbed)

    assert main(lab.command(tmp_path, DROPOUT)) == 0
    finished = (old / "metrics.json").read_bytes()
    errors()
    monkeypatch.setattr(stages, "build_model", None)
    assert main(lab.command(tmp_path, DROPOUT)) == 0
    assert "finished before" in errors()
    assert (old / "metrics.json").read_bytes() == finished


# -- what is refused --------------------------------------------------------------------------------------------------


def test_other_data_under_the_same_path(lab: Lab, tmp_path: Path, errors: Errors) -> None:
    data = tmp_path / "data.jsonl"
    data.write_bytes(lab.data.read_bytes())
    command = lab.command(tmp_path / "runs", f"data.sources.problems.path={data}")
    assert stop_at(1, command) == 143
    data.write_bytes(b"".join(lab.data.read_bytes().splitlines(keepends=True)[1:]))
    errors()
    assert main(command) == 2
    message = errors().splitlines()[-1]
    assert message.startswith("dsm: resume: the checkpoint was made on other data; ")
    assert " changed since: data.sources.problems; " in message
    data.write_bytes(lab.data.read_bytes())
    assert main(command) == 0


def test_a_damaged_checkpoint_is_named_and_a_half_written_one_ignored(
    lab: Lab, undisturbed: Path, tmp_path: Path, errors: Errors
) -> None:
    command = lab.command(tmp_path, DROPOUT)
    assert stop_at(3, command) == 143
    folder = run_folder(tmp_path) / "checkpoints"
    newest = folder / "step-00000004"
    shutil.copytree(newest, folder / ".step-00000005.partial")
    file = newest / "__0_0.distcp"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    for damaged in (content, content[: len(content) // 2], b""):
        file.write_bytes(damaged)
        errors()
        assert main(command) == 2
        message = errors().splitlines()[-1]
        assert message.startswith(f"dsm: resume: {newest} cannot be read (")
        assert "delete it to go on from the one before it" in message
    assert checkpoints(folder.parent) == ["step-00000003", "step-00000004"]
    shutil.rmtree(newest)
    assert main(command) == 0
    assert_same_run(folder.parent, undisturbed)


def test_a_checkpoint_of_something_else(lab: Lab, undisturbed: Path, tmp_path: Path, errors: Errors) -> None:
    foreign = tmp_path / "step-00000100"
    dcp.save({"weight": torch.zeros(2)}, checkpoint_id=foreign)
    assert main(lab.command(tmp_path / "a", f"resume={foreign}")) == 2
    assert errors().splitlines()[-1].startswith(f"dsm: resume: {foreign} is no checkpoint of dsm's")
    assert main(lab.command(tmp_path / "b", "model.config.hidden_size=64", f"resume={undisturbed}")) == 2
    message = errors().splitlines()[-1]
    assert message.startswith("dsm: resume: the checkpoint holds another model; ")
    assert "model.model.model.embed_tokens.weight ((384, 32) there, (384, 64) here)" in message


# -- what watches a run does not touch it, and tells each step once ----------------------------------------------------


def test_loggers_and_samples_of_a_run_that_was_cut_off(
    lab: Lab, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The power goes after step 3 was logged and before it was saved, so that it is made and logged again."""
    monkeypatch.setenv("WANDB_SILENT", "true")
    watching = [
        "logger=wandb",
        "logger.wandb.mode=offline",
        "logger.csv=true",
        "logger.tensorboard=true",
        "callbacks.samples.every=1",
        "callbacks.samples.prompts=2",
        "callbacks.samples.max_new_tokens=4",
        "callbacks.samples.temperature=0.7",
    ]
    command = lab.command(tmp_path, DROPOUT, *watching)
    save = ExactCheckpoint.save

    def power_cut(self: ExactCheckpoint, trainer: pl.Trainer, step: int) -> None:
        if step == 3:
            raise RuntimeError("power cut")
        save(self, trainer, step)

    with monkeypatch.context() as patch:
        patch.setattr(ExactCheckpoint, "save", power_cut)
        with pytest.raises(RuntimeError, match="power cut"):
            main(command)
    folder = run_folder(tmp_path)
    assert curve(folder)[-1]["step"] == 3
    assert main(command) == 0
    assert_same_run(folder, undisturbed)

    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [{key: float(value) for key, value in row.items() if value} for row in rows] == lines

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    told = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert told == [(line["step"], pytest.approx(line["train/loss"])) for line in lines if "train/loss" in line]

    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert [sample["step"] for sample in samples] == [step for step in range(1, 7) for _ in range(2)]
    assert all(sample["prompt"] and "answer" in sample for sample in samples)

    ids = {path.name.rpartition("-")[2] for path in (folder / "wandb").glob("offline-run-*")}
    assert ids == {(folder / "wandb_id").read_text()}
    assert len(list((folder / "wandb").glob("offline-run-*"))) == 2
