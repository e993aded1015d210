"""The page of a sweep: what it draws of which runs, and that nothing in it can run."""

from __future__ import annotations

import json
import math
import re
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from dsm.config.outcomes import Goal, Outcome, write_outcome
from dsm.report.sweep import cross, curve, values_of, write_page
from dsm.report.trials import Trial, factor_figure, factors_of

ACCURACY = Goal("accuracy", maximise=True)


def trials(**values: list[Any]) -> list[Trial]:
    """A grid; accuracy is the run's number."""
    grid = list(product(*values.values()))
    return [
        Trial(str(i), dict(zip(values, point, strict=True)), {"accuracy": float(i)}) for i, point in enumerate(grid)
    ]


def lines(svg: str | None) -> int:
    """Lines through several points; axes and grids are other elements."""
    assert svg is not None
    return len(re.findall(r'<path d="M [\d. ]+\nL [^"]*" clip-path[^>]*stroke-width: 1.6', svg))


def test_lines_join_what_differs_in_one_setting() -> None:
    """A grid has a line for each value of the others, seeds are one point; an ablation has one line a factor."""
    grid = trials(lr=[1e-4, 1e-3], kl=[0.0, 0.04, 0.4], seed=[0, 1])
    assert factors_of(grid) == ["lr", "kl"]
    assert lines(factor_figure(grid, "accuracy", maximise=True)) == 3 + 2
    centre, others = {"lr": 1.0, "batch": 8, "steps": 3}, [("lr", 2.0), ("lr", 0.5), ("batch", 4), ("steps", 9)]
    around = [Trial("", centre, {"accuracy": 0.5})]
    around += [Trial("", centre | {key: value}, {"accuracy": value / 10}) for key, value in others]
    assert lines(factor_figure(around, "accuracy", maximise=True)) == 3
    alone = [Trial("", {"lr": i, "kl": i * i}, {"accuracy": float(i)}) for i in range(1, 6)]
    assert lines(factor_figure(alone, "accuracy", maximise=True)) == 0


def test_figures_without_anything_to_draw() -> None:
    assert factor_figure(trials(seed=[0, 1]), "accuracy", maximise=True) is None
    assert factor_figure(trials(lr=[1, 2]), "loss", maximise=False) is None
    lost = [Trial("", {"lr": lr}, {"accuracy": math.nan}) for lr in (1, 2)]
    assert factor_figure(lost, "accuracy", maximise=True) is None


def test_two_settings_crossed() -> None:
    """Means over seeds in order of size; the best cell is the darkest. What is no grid is not crossed."""
    found = cross(trials(kl=[0.4, 0.04], lr=[1e-3, 1e-4], seed=[0, 1]), ACCURACY)
    assert found is not None
    assert (found["factors"], found["rows"], found["columns"]) == (["kl", "lr"], [0.04, 0.4], [1e-4, 1e-3])
    assert found["means"] == {(0.4, 1e-3): 0.5, (0.4, 1e-4): 2.5, (0.04, 1e-3): 4.5, (0.04, 1e-4): 6.5}
    assert found["heat"][(0.04, 1e-4)] == 1.0
    less = cross(trials(a=[1, 2], b=[1, 2]), Goal("accuracy"))
    assert less is not None
    assert less["heat"][(1, 1)] == 1.0
    assert cross(trials(a=[1, 2], b=[1, 2])[:3], ACCURACY) is None
    assert cross(trials(a=[1, 2, 3]), ACCURACY) is None


def test_values_are_read_as_they_are_meant() -> None:
    settings = ["optim.lr=1e-4", "n=3", "a=true", "model=tiny", "name='x y'", "l=[1,2]", "odd=a=b", "broken=[1"]
    assert values_of(settings) == {
        "optim.lr": 1e-4, "n": 3, "a": True, "model": "tiny", "name": "'x y'", "l": "[1,2]", "odd": "a=b",
        "broken": "[1",
    }  # fmt: skip


def test_curves_of_runs_and_of_steps_of_a_pipeline(tmp_path: Path) -> None:
    """The last word on a step counts; what a killed run was writing, and what is not finite, does not."""
    rows = [
        {"step": 1, "eval/x": 0.1},
        {"step": 2, "loss": 3.0},
        {"step": 2, "eval/x": 0.2},
        {"step": 2, "eval/x": 0.3},
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows) + '{"step": 3, "eval/x": NaN}\n{"step": 4, "ev'
    for folder in ("run", "pipeline/steps/04-rl"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "metrics.jsonl").write_text(text)
    assert curve(f"{tmp_path}/run/export", "eval/x") == [(1, 0.1), (2, 0.3)]
    assert curve(f"{tmp_path}/pipeline/steps", "rl/eval/x") == [(1, 0.1), (2, 0.3)]
    assert curve(f"{tmp_path}/pipeline/steps", "sft/eval/x") == []
    assert curve(f"{tmp_path}/run/export", "other") == []
    assert curve("", "eval/x") == []


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six runs, one of which ran away."""
    for number, (lr, kl) in enumerate(product((1e-4, 1e-3), (0, 0.04, 0.4))):
        value = -math.inf if number == 5 else lr * 1000 + kl
        settings = [f"optim.lr={lr}", f"algorithm.kl.coef={kl}", "name='<script>alert(1)</script>'"]
        write_outcome(Outcome(settings, {"accuracy": value}, "<b>export</b>"), tmp_path / f"{number}.json")
    return tmp_path


def test_the_page(folder: Path) -> None:
    """One file without scripts, the same bytes again, the best run first, what ran away told and not drawn."""
    page = write_page(folder, [ACCURACY], {"optim.lr"})
    text = page.read_text()
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "<b>export" not in text
    assert "default-src 'none'" in text
    assert not re.search(r'(src|href)="', text.replace('xlink:href="#', ""))
    rows = re.findall(r"<tr><td>([^<]*)</td><td>([^<]*)</td>", text)
    assert rows[:2] == [("0.001", "0.04"), ("0.001", "0")]
    assert rows[-1] == ("0.001", "0.4")
    assert "1 without finite numbers" in text
    before = page.read_bytes()
    assert write_page(folder, [ACCURACY], {"optim.lr"}).read_bytes() == before
