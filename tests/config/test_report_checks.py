"""Findings on evaluations that are yet to run: what cannot be decided is said before anything has run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dsm.config.compose import compose_config
from dsm.config.evaluation import EvalConfig
from dsm.config.report import ReportStageConfig
from dsm.config.report_checks import check_questions
from dsm.errors import UserError


@pytest.fixture(scope="module")
def coming() -> dict[Path, EvalConfig]:
    """Two evaluations: four samples an item of one benchmark, one of the other."""
    common = ["stage=eval", "benchmark=[gsm8k,math]", "data_root=x", "model.path=x", "sampling.n=4"]
    common += ["sampling.temperature=1.0", "benchmarks.math.greedy=true"]
    configs = [compose_config([*common, f"name={name}"]) for name in ("base", "rl")]
    return {Path(config.name): config for config in configs if isinstance(config, EvalConfig)}


def report(**finding: Any) -> ReportStageConfig:
    config = compose_config(["stage=report", "evaluations={base: base, rl: rl, old: elsewhere}"])
    settings = config.model_dump() | {"findings": {"x": {"claim": "c", "higher": "rl", "than": "base"} | finding}}
    return ReportStageConfig.model_validate(settings)


@pytest.mark.parametrize(
    "finding",
    [
        {},
        {"benchmarks": ["gsm8k"], "metric": "pass@4"},
        {"metric": "maj@4"},  # decided on what has the samples
        {"than": "old", "benchmarks": ["gsm8k"]},  # what has run before is looked at when the report is made
    ],
)
def test_what_can_be_decided(coming: dict[Path, EvalConfig], finding: dict[str, Any]) -> None:
    check_questions(report(**finding), coming)


@pytest.mark.parametrize(
    ("finding", "message"),
    [
        (
            {"benchmarks": ["gsm9k"]},
            r"x.benchmarks=gsm9k: rl does not run it; it runs gsm8k, math \(did you mean",
        ),
        ({"metric": "pass@8", "benchmarks": ["gsm8k"]}, r"x.metric=pass@8: rl draws 4 samples of each item of gsm8k"),
        ({"metric": "maj@4", "benchmarks": ["gsm8k", "math"]}, "rl draws 1 samples of each item of math"),
        ({"metric": "maj@8"}, "rl draws 4 samples"),
    ],
)
def test_what_cannot(coming: dict[Path, EvalConfig], finding: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_questions(report(**finding), coming)
