"""A pipeline as a user starts it: its order, what it leaves, and that killing it anywhere changes nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dsm.cli import main
from dsm.pipeline.process import run_step

STEPS = [
    "stage=pipeline",
    "steps.problems={use: {stage: problems}, problems: {n_train: 60, n_test: 5}}",
    "steps.more={use: {stage: problems}, foreach: {draw: [1, 2]}, seed: '${each:draw}', problems: {n_train: 60}}",
]
TOKENIZER = (
    "steps.tokenizer={use: {stage: tokenizer}, data: {fields: [question], sources: {all: {path:"
    " '${out:problems}/export/train.jsonl'}}}, tokenizer: {vocab_size: 300}}"
)
NAMES = ["problems", "more-1", "more-2", "tokenizer"]


def start(folder: Path, *settings: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    chosen = {setting.partition("=")[0]: setting for setting in (*STEPS, f"paths.runs={folder}/runs", *settings)}
    command = [sys.executable, "-m", "dsm", *chosen.values()]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, err = process.communicate(timeout=200)
    return process.returncode, err


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A pipeline that nothing disturbed, and what it said."""
    folder = tmp_path_factory.mktemp("whole")
    status, err = finish(start(folder, TOKENIZER))
    assert status == 0, err
    return folder, err


def pipeline_folder(folder: Path) -> Path:
    (found,) = (folder / "runs" / "pipeline").iterdir()
    return found


def journal(folder: Path) -> list[tuple[str, int]]:
    lines = (pipeline_folder(folder) / "steps.jsonl").read_text().splitlines()
    return [(entry["step"], entry["status"]) for entry in map(json.loads, lines)]


def contents(folder: Path) -> dict[str, bytes]:
    """Every exported file by the name of its step."""
    steps = sorted((pipeline_folder(folder) / "steps").iterdir())
    return {
        f"{step.name}/{file.name}": file.read_bytes() for step in steps for file in sorted((step / "export").iterdir())
    }


def test_steps_run_in_their_order_and_say_so(ended: tuple[Path, str]) -> None:
    folder, err = ended
    assert journal(folder) == [(name, 0) for name in NAMES]
    assert [path.name for path in sorted((pipeline_folder(folder) / "steps").iterdir())] == [
        f"{number:02}-{name}" for number, name in enumerate(NAMES, start=1)
    ]
    places = [err.index(f"step {number} of 4: {name} (stage=") for number, name in enumerate(NAMES, start=1)]
    assert places == sorted(places)
    metrics = json.loads((pipeline_folder(folder) / "metrics.json").read_text())
    assert metrics["problems/train/rows"] == 60
    assert metrics["tokenizer/tokenizer/vocab_size"] == 300
    assert metrics["seconds"] == pytest.approx(sum(metrics[f"{name}/seconds"] for name in NAMES))
    rows = [
        (pipeline_folder(folder) / "steps" / f"0{k}-{n}" / "export/train.jsonl").read_text()
        for k, n in ((1, "problems"), (2, "more-1"), (3, "more-2"))
    ]
    assert len(set(rows)) == 3  # three seeds


def test_again_nothing_runs(ended: tuple[Path, str]) -> None:
    folder, _ = ended
    status, err = finish(start(folder, TOKENIZER))
    assert status == 0
    assert [line.count("finished before") for line in err.splitlines()].count(1) == 4
    assert len(journal(folder)) == 4


def test_another_pipeline_takes_what_is_there(ended: tuple[Path, str]) -> None:
    """The same start under another name: made once. A changed step, and what it feeds, is made anew."""
    folder, _ = ended
    environment_folder = folder / "runs"
    before = {path: path.stat().st_mtime_ns for path in environment_folder.glob("problems/*/export/train.jsonl")}
    status, err = finish(start(folder, "name=other", "steps.more.problems.n_test=6"))
    assert status == 0, err
    assert "step 1 of 3: problems: finished before" in err
    assert all(path.stat().st_mtime_ns == at for path, at in before.items())
    made = next(path for path in (folder / "runs" / "pipeline").iterdir() if path.name.startswith("other"))
    assert [json.loads(line)["step"] for line in (made / "steps.jsonl").read_text().splitlines()] == [
        "more-1",
        "more-2",
    ]
    for path in sorted(made.rglob("*"), reverse=True):  # other tests look for one pipeline
        path.unlink() if path.is_symlink() or path.is_file() else path.rmdir()
    made.rmdir()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_in_the_middle_it_goes_on_and_ends_the_same(
    number: signal.Signals, status: int, ended: tuple[Path, str], tmp_path: Path
) -> None:
    process = start(tmp_path)
    card = lambda: list(tmp_path.glob("runs/pipeline/*/step-process.json"))  # noqa: E731
    deadline = time.monotonic() + 100
    while (
        not (list(tmp_path.glob("runs/problems/more-1-*")) and card())
        and time.monotonic() < deadline
        and process.poll() is None
    ):
        time.sleep(0.02)
    child = json.loads(card()[0].read_text())["pid"]
    process.send_signal(number)
    stopped, err = finish(process)
    assert stopped == status, err
    for _ in range(500):  # the step does not outlive its pipeline
        if not Path(f"/proc/{child}").exists():
            break
        time.sleep(0.02)
    assert not Path(f"/proc/{child}").exists()
    again, err = finish(start(tmp_path))
    assert again == 0, err
    assert "step 1 of 3: problems: finished before" in err
    whole = contents(ended[0])
    assert contents(tmp_path) == {name: content for name, content in whole.items() if "tokenizer" not in name}


def test_a_step_that_fails_ends_the_pipeline_with_its_status(tmp_path: Path) -> None:
    """Problems are no evaluation: the step's own message, the pipeline's, status 2; no later step has run."""
    table = "steps.table={use: {stage: report}, evaluations: {a: '${out:problems}'}}"
    last = "steps.last={use: {stage: problems}, problems: {n_train: 3}}"
    status, err = finish(start(tmp_path, "steps.more=null", table, last))
    assert status == 2
    own, ours = err.splitlines()[-2:]
    assert own.startswith("dsm: evaluations.a=")
    assert ours.startswith("dsm: step 2 of 3: table ended with status 2")
    assert journal(tmp_path) == [("problems", 0), ("table", 2)]


def test_never_makes_everything_anew_within_the_pipelines_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dsm.pipeline.stage.run_step", lambda overrides, card, threads: main(overrides))
    settings = [*STEPS[:2], f"paths.runs={tmp_path}"]
    for more in ([], ["resume=never"], ["resume=never"]):
        assert main([*settings, *more]) == 0
    first, second, third = sorted((tmp_path / "pipeline").iterdir())
    assert not (first / "runs").exists()
    for made in (second, third):
        assert (made / "steps/01-problems").resolve().is_relative_to(made.resolve())
        assert (made / "steps/01-problems/export/test.jsonl").is_file()


def test_several_processes_are_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dsm", *STEPS, f"paths.runs={tmp_path}/runs"]
    environment = {**os.environ, "RANK": "0", "WORLD_SIZE": "2"}
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr == "dsm: stage=pipeline: runs in one process; start it without torchrun\n"


def test_the_status_of_a_process_that_a_signal_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a shell has it."""
    monkeypatch.setattr(sys, "executable", "/bin/sh")
    monkeypatch.setattr("dsm.pipeline.process.COMMAND", ("-c", "kill -9 $$"))
    assert run_step([], tmp_path / "card.json") == 137
    assert not (tmp_path / "card.json").exists()
