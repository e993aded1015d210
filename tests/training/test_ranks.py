"""Two processes over gloo compute what one computes, and their checkpoints are interchangeable."""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path

import pytest

from dsm.cli import main
from tests.training.harness import (
    DROPOUT,
    Lab,
    assert_same_run,
    curve,
    finish,
    newest_state,
    run_folder,
    start_ranks,
    weights,
    will_be_signalled,
)

# 16 packed sequences, 5 in a step: one rank computes three and the other two, in the last step one and none.
UNEVEN = ("trainer.steps=null", "trainer.epochs=0.42", "trainer.validate_every=null", "checkpoint.keep=10")


@pytest.fixture(scope="module")
def one(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of one process."""
    runs = tmp_path_factory.mktemp("one")
    assert main(lab.command(runs, *UNEVEN)) == 0
    return run_folder(runs)


@pytest.fixture(scope="module")
def two(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of two."""
    return run_two(lab, tmp_path_factory.mktemp("two"), *UNEVEN)


def run_two(lab: Lab, runs: Path, *settings: str) -> Path:
    runs.mkdir(exist_ok=True)
    output = runs / "output"
    assert finish(start_ranks(2, lab.command(runs, *settings), output)) == [0, 0], output.with_suffix(".0").read_text()
    return run_folder(runs)


def assert_close_runs(folder: Path, other: Path, first_step: int = 0) -> None:
    """The same lines of metrics and the same weights, but for the order of sums."""
    lines, expected = ([line for line in curve(f) if line["step"] > first_step] for f in (folder, other))
    assert len(lines) == len(expected)
    for line, wanted in zip(lines, expected, strict=True):
        assert line == pytest.approx(wanted, rel=1e-5)
    theirs = weights(other)
    for name, weight in weights(folder).items():
        assert float((weight - theirs[name]).norm() / theirs[name].norm()) < 1e-5, name


def test_two_ranks_train_as_one(one: Path, two: Path) -> None:
    positions = [line["budget/positions"] for line in curve(one) if "budget/positions" in line]
    assert len(positions) == 4
    assert positions[-1] - positions[-2] <= 192  # one sequence: nothing for the second rank
    assert_close_runs(two, one)
    assert len(newest_state(two)["random"]) == 2


def test_rank_0_alone_makes_folders_and_speaks(two: Path) -> None:
    runs = two.parent.parent
    assert {path.name for path in runs.iterdir()} == {"sft", "output.0", "output.1"}
    assert "export: " in (runs / "output.0").read_text()
    assert (runs / "output.1").read_text() == ""
    assert not list(two.rglob("*.partial"))


def test_from_two_ranks_to_one(lab: Lab, one: Path, two: Path, tmp_path: Path) -> None:
    start = f"resume={two / 'checkpoints' / 'step-00000002'}"
    assert main(lab.command(tmp_path, *UNEVEN, start)) == 0
    assert_close_runs(run_folder(tmp_path), one, first_step=2)


def test_from_one_rank_to_two(lab: Lab, one: Path, tmp_path: Path) -> None:
    start = f"resume={one / 'checkpoints' / 'step-00000002'}"
    assert_close_runs(run_two(lab, tmp_path, *UNEVEN, start), one, first_step=2)


def test_two_ranks_go_on_to_the_bit(lab: Lab, tmp_path: Path) -> None:
    """Dropout asks for the random state of either rank; the signal reaches the second one only."""
    steps = "trainer.steps=3"
    whole = run_two(lab, tmp_path / "whole", DROPOUT, steps)
    runs = tmp_path / "stopped"
    trouble = {1: partial(will_be_signalled, 1, signal.SIGTERM)}
    stopped = start_ranks(2, lab.command(runs, DROPOUT, steps, "checkpoint.every=100"), tmp_path / "output", trouble)
    assert finish(stopped) == [143, 143]
    assert "stopped by SIGTERM after step 2 of 3" in (tmp_path / "output.0").read_text()
    assert_same_run(run_two(lab, runs, DROPOUT, steps), whole)


def test_a_mistake_ends_every_rank_with_one_message(lab: Lab, tmp_path: Path) -> None:
    """The data is read by rank 0 alone; the others must hear of what it found."""
    data = tmp_path / "bad.jsonl"
    data.write_text('{"a": 1}\n' * 3)
    command = lab.command(tmp_path / "runs", f"data.sources.problems.path={data}")
    assert finish(start_ranks(2, command, tmp_path / "output")) == [2, 2]
    lines = (tmp_path / "output.0").read_text().splitlines()
    (message,) = (line for line in lines if line.startswith("dsm: "))
    assert "none of its 3 rows can be used" in message
    assert "Traceback" not in "".join(lines)
    assert (tmp_path / "output.1").read_text() == ""
