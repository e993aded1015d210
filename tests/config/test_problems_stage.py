"""`stage=problems`: what it leaves, the same again, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from dsm.cli import main
from dsm.config.compose import compose_config
from dsm.config.problems import Kind
from dsm.config.runs import run_path
from dsm.data.problem_templates import TEMPLATES
from dsm.data.problems import split_problems

SMALL = ["stage=problems", "problems.n_train=40", "problems.n_test=7"]


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / "export" / f"{name}.jsonl").read_text().splitlines()]


def test_it_writes_the_problems_of_its_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [*SMALL, "seed=5", "problems.steps=[2,2]", "problems.difficulty=basic", f"paths.runs={tmp_path}"]
    folder = run_path(compose_config(settings))
    assert main(settings) == 0
    train, test = split_problems(40, 7, 5, steps=(2, 2), difficulty="basic")
    for name, problems in (("train", train), ("test", test)):
        assert [(row["question"], row["answer"], row["gold"]) for row in rows(folder, name)] == [
            (problem.question, problem.solution, problem.answer) for problem in problems
        ]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (metrics["train/rows"], metrics["test/rows"], metrics["export"]) == (40, 7, str(folder / "export"))
    before = (folder / "export/train.jsonl").stat().st_mtime_ns
    assert main(settings) == 0
    assert "finished before" in capsys.readouterr().err
    assert (folder / "export/train.jsonl").stat().st_mtime_ns == before


def test_lines_part_the_steps(tmp_path: Path) -> None:
    """The same words; a line for each calculation and one for the answer."""
    found = {}
    for lines in ("false", "true"):
        settings = [*SMALL, f"problems.lines={lines}", f"paths.runs={tmp_path}"]
        assert main(settings) == 0
        found[lines] = rows(run_path(compose_config(settings)), "train")
    for one, other in zip(found["false"], found["true"], strict=True):
        assert one["answer"] == other["answer"].replace("\n", " ")
        assert other["answer"].count("\n") == one["answer"].count(" = ")


def test_sets_of_other_problems_share_no_question_with_those_to_learn_from(tmp_path: Path) -> None:
    """Each set is what it says, and the same however many there are to learn from."""
    others = "problems.tests={zh: {language: zh}, kinds: {kinds: [savings]}, larger: {difficulty: hard, steps: [3, 3]}}"
    settings = [*SMALL, "problems.style=mixed", "problems.kinds=[inventory,ages]", others, f"paths.runs={tmp_path}"]
    folder = run_path(compose_config(settings))
    assert main(settings) == 0
    learnt = [row for style in ("cot", "pot", "tir") for row in rows(folder, f"train_{style}")]
    assert [len(rows(folder, name)) for name in ("train_cot", "train_pot", "train_tir", "test")] == [13, 14, 13, 7]
    assert not (folder / "export/train.jsonl").exists()
    assert {row["kind"] for row in learnt} == {"inventory", "ages"}
    assert {row["language"] for row in rows(folder, "zh")} == {"zh"}
    assert {row["kind"] for row in rows(folder, "kinds")} == {"savings"}
    assert all(row["answer"].count(" = ") == 3 for row in rows(folder, "larger"))
    asked = [row["question"] for name in ("test", "zh", "kinds", "larger") for row in rows(folder, name)]
    assert len({*asked, *(row["question"] for row in learnt)}) == len(asked) + len(learnt) == 28 + 40
    more = ["problems.n_train=80" if setting == "problems.n_train=40" else setting for setting in settings]
    assert main(more) == 0
    for name in ("test", "zh", "kinds", "larger"):
        assert rows(run_path(compose_config(more)), name) == rows(folder, name)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("problems.steps=[3,1]", "problems.steps=[3, 1]: the fewest come first"),
        ("problems.steps=[0,1]", "problems.steps.0=0: must be at least 1"),
        ("problems.language=de", "problems.language=de: must be en, zh or mixed"),
        ("problems.level=basic", "problems.level=basic: unknown key; problems takes n_train, n_test, language, steps"),
        ("problems.n_train=0", "problems.n_train=0: must be greater than 0"),
        ("problems.kinds=[cooking]", "problems.kinds.0=cooking: must be inventory, shopping"),
        ("+problems.tests.a.steps=[2,1]", "problems.tests.a.steps=[2, 1]: the fewest come first"),
        ("+problems.tests.train_x={}", "problems.tests.train_x: names a file; allowed are letters, digits, _ and -"),
        ("+problems.tests.a.kinds=[cooking]", "problems.tests.a.kinds.0=cooking: must be inventory, shopping"),
    ],
)
def test_a_wrong_setting_is_one_line(setting: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stage=problems", setting]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"dsm: {message}")
    assert error.count("\n") == 1


def test_the_kinds_are_the_templates() -> None:
    assert get_args(Kind) == tuple(TEMPLATES)


def test_neither_problems_nor_pipelines_import_torch() -> None:
    code = "import sys, dsm.data.problems_stage, dsm.pipeline.stage; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
