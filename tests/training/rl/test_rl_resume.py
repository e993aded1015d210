"""A run that is killed goes on with the identical next step, and no layout changes any step."""

from __future__ import annotations

import json
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dsm.cli import main
from tests.training.harness import (
    Lab,
    assert_same_run,
    finish,
    start,
    start_ranks,
    will_be_signalled,
)
from tests.training.rl.lab import command, run_folder


@pytest.mark.parametrize("settings", [[], ["trainer.updates=2", "algorithm=ppo"]], ids=["grpo", "ppo, two updates"])
def test_killed_and_gone_on_with(settings: list[str], lab: Lab, tmp_path: Path) -> None:
    """At the beginning of the last step: with two updates that is in the middle of an exploration."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = start(command(lab, killed, *settings), tmp_path / "log", partial(will_be_signalled, 3, signal.SIGKILL))
    assert main(command(lab, whole, *settings)) == 0
    process.join(60)
    assert process.exitcode == -signal.SIGKILL, (tmp_path / "log").read_text()
    assert len((run_folder(killed) / "metrics.jsonl").read_text().splitlines()) == 3
    assert main(command(lab, killed, *settings)) == 0
    assert_same_run(run_folder(killed), run_folder(whole))
    assert samples(run_folder(killed)) == samples(run_folder(whole))


def samples(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rollouts.jsonl").read_text().splitlines()]


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process, with the reference and a KL penalty."""
    runs = tmp_path_factory.mktemp("alone")
    assert main(command(lab, runs, "trainer.updates=2")) == 0
    return run_folder(runs)


def assert_equal_runs(one: Path, other: Path) -> None:
    """The same samples to the letter; losses, norms and weights but for the order of sums."""
    ours, theirs = samples(one), samples(other)
    assert [row["answer"] for row in ours] == [row["answer"] for row in theirs]
    for mine, other_line in zip(metrics(one), metrics(other), strict=True):
        for key in ("train/loss", "train/grad_norm", "reward/mean", "advantage/std", "train/kl/k3", "train/ratio_max"):
            assert mine[key] == pytest.approx(other_line[key], rel=1e-4, abs=1e-7), key
    weights = [load_file(folder / "export" / "model.safetensors") for folder in (one, other)]
    for name, weight in weights[0].items():
        torch.testing.assert_close(weight, weights[1][name], rtol=1e-3, atol=2e-5)


def test_the_size_of_micro_batches_changes_nothing(lab: Lab, alone: Path, tmp_path: Path) -> None:
    assert main(command(lab, tmp_path, "trainer.updates=2", "parallel.tokens_per_microbatch=4096")) == 0
    assert_equal_runs(run_folder(tmp_path), alone)


@pytest.mark.parametrize("layout", ["strategy=ddp", "strategy=fsdp", "tensor=2"])
def test_the_number_of_ranks_changes_nothing(layout: str, lab: Lab, alone: Path, tmp_path: Path) -> None:
    settings = ["trainer.updates=2", f"parallel.{layout}"]
    log = tmp_path / "log"
    statuses = finish(start_ranks(2, command(lab, tmp_path / "runs", *settings), log), 90)
    assert statuses == [0, 0], log.with_suffix(".0").read_text() + log.with_suffix(".1").read_text()
    assert_equal_runs(run_folder(tmp_path / "runs"), alone)
