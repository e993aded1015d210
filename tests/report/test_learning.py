"""Accuracy over training, read off the metrics of runs and drawn into the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dsm.errors import UserError
from dsm.report.charts import colour
from dsm.report.compare import Comparison
from dsm.report.learning import load_learning
from dsm.report.plots import learning


def run(folder: Path, points: dict[int, float], stage: str = "rl", updates: int = 1) -> str:
    folder.mkdir(parents=True)
    rows = [{"step": step, "train/loss": 1.0} for step in range(1, 5)]
    rows += [{"step": step, "eval/held_out/accuracy": value} for step, value in points.items()]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "config.yaml").write_text(
        f"stage: {stage}\ntrainer: {{prompts_per_step: 4, updates: {updates}}}\nrollout: {{group_size: 6}}\n"
    )
    return str(folder)


def test_runs_of_different_updates_meet_at_equal_samples(tmp_path: Path) -> None:
    """24 samples a step; with two updates on each exploration, 12 a step."""
    runs = {
        "one": run(tmp_path / "one", {0: 0.1, 2: 0.2, 4: 0.3}),
        "two": run(tmp_path / "two", {0: 0.1, 4: 0.25}, updates=2),
    }
    (found,) = load_learning(runs)
    assert (found.benchmark, found.unit) == ("held_out", "samples")
    assert found.lines == {"one": [(0, 0.1), (48, 0.2), (96, 0.3)], "two": [(0, 0.1), (48, 0.25)]}


def test_other_stages_count_steps(tmp_path: Path) -> None:
    runs = {"rl": run(tmp_path / "rl", {2: 0.2}), "sft": run(tmp_path / "sft", {3: 0.4}, stage="sft")}
    (found,) = load_learning(runs)
    assert (found.unit, found.lines) == ("steps", {"rl": [(2, 0.2)], "sft": [(3, 0.4)]})


def test_a_step_that_was_measured_again_counts_once(tmp_path: Path) -> None:
    folder = run(tmp_path / "a", {2: 0.2})
    with (tmp_path / "a" / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": 2, "eval/held_out/accuracy": 0.5}) + "\n")
    assert load_learning({"a": folder})[0].lines == {"a": [(48, 0.5)]}


@pytest.mark.parametrize("missing", ["metrics.jsonl", "measurements"])
def test_what_is_missing_is_named(missing: str, tmp_path: Path) -> None:
    folder = run(tmp_path / "a", {})
    if missing == "metrics.jsonl":
        (tmp_path / "a" / missing).unlink()
    expected = "no metrics.jsonl" if missing == "metrics.jsonl" else "measured no benchmark"
    with pytest.raises(UserError, match=rf"^curves\.x=.*: .*{expected}"):
        load_learning({"x": folder})


def test_a_line_has_the_colour_of_its_model(tmp_path: Path) -> None:
    (found,) = load_learning({"grpo": run(tmp_path / "a", {0: 0.1, 2: 0.2})})
    comparison = Comparison(labels=("start", "dpo", "grpo"), models=("", "", ""), baseline=0, benchmarks=())
    svg = learning(comparison, found)
    assert colour(2) in svg
    assert colour(0) not in svg
    assert "samples seen" in svg
