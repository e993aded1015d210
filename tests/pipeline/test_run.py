"""A pipeline as a user starts it: what it leaves and says, what it takes as it is, that the order changes nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from dsm.cli import main
from dsm.config.references import Step
from dsm.pipeline import process
from tests.pipeline.toys import PROGRAM

STEPS = [
    "stage=pipeline",
    "steps.problems={use: {stage: problems}, seconds: 1, problems: {n_train: 60, n_test: 5}}",
    "steps.more={use: {stage: problems}, seconds: 1, foreach: {draw: [1, 2]}, seed: '${each:draw}',"
    " problems: {n_train: 60}}",
]
CLEANED = (
    "steps.cleaned={use: {stage: decontaminate, benchmark: custom}, seconds: 1, data: {fields: [question],"
    " sources: {all: {path: '${out:more-2}/export/train.jsonl'}}}, executor: {workers: 1},"
    " benchmarks: {custom: {data: {path: '${out:problems}/export/test.jsonl'}}}}"
)
NAMES = ["problems", "more-1", "more-2", "cleaned"]


def toy(step: Step) -> list[str]:
    """In the place of a real step: one that leaves next to nothing in the same folder."""
    fails = "always" if step.name == "wrong" else "never"
    return [sys.executable, "-S", "-E", str(PROGRAM), step.name, str(step.folder), "1", fails]


@pytest.fixture
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "command", toy)


def pipeline_folder(folder: Path, name: str = "pipeline") -> Path:
    (found,) = (folder / "pipeline").glob(f"{name}-*")
    return found


def journal(folder: Path, name: str = "pipeline") -> list[tuple[str, int]]:
    lines = (pipeline_folder(folder, name) / "steps.jsonl").read_text().splitlines()
    return [(entry["step"], entry["status"]) for entry in map(json.loads, lines)]


def contents(folder: Path) -> dict[str, bytes]:
    """Every exported file by the name of its step."""
    steps = sorted((pipeline_folder(folder) / "steps").iterdir())
    files = {step.name: sorted(file for file in (step / "export").rglob("*") if file.is_file()) for step in steps}
    return {f"{name}/{file.name}": file.read_bytes() for name, found in files.items() for file in found}


def test_real_steps_one_after_another_and_side_by_side_leave_the_same(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert main([*STEPS, CLEANED, f"paths.runs={one}"]) == 0
    err = capfd.readouterr().err
    assert journal(one) == [(name, 0) for name in NAMES]
    assert [path.name for path in sorted((pipeline_folder(one) / "steps").iterdir())] == [
        f"{number:02}-{name}" for number, name in enumerate(NAMES, start=1)
    ]
    places = [err.index(f"step {number} of 4: {name} (stage=") for number, name in enumerate(NAMES, start=1)]
    assert places == sorted(places)
    assert "one of them: " in err  # a step's own words
    metrics = json.loads((pipeline_folder(one) / "metrics.json").read_text())
    assert metrics["problems/train/rows"] == 60
    assert metrics["seconds"] == pytest.approx(sum(metrics[f"{name}/seconds"] for name in NAMES))
    assert 0 < metrics["problems/cpu_seconds"] <= metrics["cpu_seconds"]
    made = contents(one)
    assert len({made[f"{name}/train.jsonl"] for name in ("01-problems", "02-more-1", "03-more-2")}) == 3  # three seeds

    assert main([*STEPS, CLEANED, f"paths.runs={two}", "at_once=2"]) == 0
    assert contents(two) == made
    metrics = json.loads((pipeline_folder(two) / "metrics.json").read_text())
    assert metrics["seconds"] < sum(metrics[f"{name}/seconds"] for name in NAMES)
    err = capfd.readouterr().err
    assert "one of them: " not in err
    assert "one of them: " in (pipeline_folder(two) / "output/problems.log").read_text()


def test_again_nothing_runs_and_another_pipeline_takes_what_is_there(
    tmp_path: Path, toys: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same start under another name: made once. A changed step, and what it feeds, is made anew."""
    runs = f"paths.runs={tmp_path}"
    assert main([*STEPS, CLEANED, runs]) == 0
    capsys.readouterr()
    assert main([*STEPS, CLEANED, runs, "at_once=2"]) == 0  # how many at once is no part of what a pipeline makes
    assert [line.count("finished before") for line in capsys.readouterr().err.splitlines()].count(1) == 4
    assert len(journal(tmp_path)) == 4
    assert main([*STEPS, CLEANED, runs, "name=other", "steps.more.problems.n_test=6"]) == 0
    assert "step 1 of 4: problems: finished before" in capsys.readouterr().err
    assert journal(tmp_path, "other") == [("more-1", 0), ("more-2", 0), ("cleaned", 0)]


def test_each_line_says_which_step_of_how_many_and_the_time_left(
    tmp_path: Path, toys: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the steps' own seconds; where one of those to come has none, nothing is claimed."""
    minutes = [line.replace("seconds: 1,", "seconds: 120,") for line in STEPS]
    assert main([*minutes, f"paths.runs={tmp_path}"]) == 0
    assert "step 1 of 3: problems (stage=problems), about 6 min left" in capsys.readouterr().err
    last = "steps.last={use: {stage: problems}, seed: 9}"
    assert main([*STEPS, last, f"paths.runs={tmp_path}", "name=unknown"]) == 0
    assert " left" not in capsys.readouterr().err


def test_a_step_that_fails_ends_the_pipeline_with_its_status(
    tmp_path: Path, toys: None, capfd: pytest.CaptureFixture[str]
) -> None:
    """The step's own message, the pipeline's, status 2; no later step has run."""
    wrong, last = "steps.wrong={use: {stage: problems}}", "steps.last={use: {stage: problems}, seed: 9}"
    assert main([*STEPS[:2], wrong, last, f"paths.runs={tmp_path}"]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert "dsm: wrong: wrong; allowed: right" in lines
    assert lines[-1] == "dsm: step 2 of 3: wrong ended with status 2; its own message stands above"
    assert journal(tmp_path) == [("problems", 0), ("wrong", 2)]


def test_never_makes_everything_anew_within_the_pipelines_own_folder(tmp_path: Path, toys: None) -> None:
    settings = [*STEPS[:2], f"paths.runs={tmp_path}"]
    for more in ([], ["resume=never"], ["resume=never"]):
        assert main([*settings, *more]) == 0
    first, second, third = sorted((tmp_path / "pipeline").iterdir())
    assert not (first / "runs").exists()
    for made in (second, third):
        assert (made / "steps/01-problems").resolve().is_relative_to(made.resolve())
        assert (made / "steps/01-problems/export/out.txt").is_file()


def test_several_processes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main([*STEPS[:2], f"paths.runs={tmp_path}/runs"]) == 2
    assert capsys.readouterr().err == "dsm: stage=pipeline: runs in one process; start it without torchrun\n"
    assert not (tmp_path / "runs").exists()
