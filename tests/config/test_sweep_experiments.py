"""The experiments that compare settings: what they vary, and that they vary nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dsm.config.compose import compose_config, compose_raw
from dsm.config.pipeline import PipelineConfig
from dsm.config.stages import result_settings
from dsm.config.steps import pipeline_steps
from dsm.config.sweep import _check_combinations, _params, _sweeper, parse


def flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings by their dotted keys."""
    if not isinstance(settings, dict):
        return {prefix[:-1]: settings}
    return {key: value for name, inner in settings.items() for key, value in flat(inner, f"{prefix}{name}.").items()}


FACTORS = ["data.context", "trainer.sequences_per_step", "optim.lr", "trainer.steps"]


def test_the_ablation_changes_one_thing_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A centre, and runs that differ from it in one of the report's factors, and in their name."""
    monkeypatch.chdir(tmp_path)
    config = compose_config(["experiment=sft_ablation", "steps.measured=null", "steps.report=null"])
    assert isinstance(config, PipelineConfig)
    steps = pipeline_steps(config)
    runs = {step.name: flat(result_settings(step.config)) for step in steps if step.origin == "sft"}
    assert next(iter(runs)) == "sft-centre"
    centre = runs.pop("sft-centre")
    changed = [[key for key in run if run[key] != centre[key] and key != "name"] for run in runs.values()]
    assert changed == [[factor] for factor in FACTORS for _ in range(2)]
    assert compose_raw(["experiment=sft_ablation"]).steps.report.factors == FACTORS


def test_the_ablation_as_a_grid() -> None:
    """Every combination of three values each."""
    composed = compose_raw(["experiment=sft_ablation", "vars.design=grid"])
    assert [len(values) for values in composed.steps.sft.foreach.values()] == [3, 3, 3, 3]


def test_the_sweep_of_learning_rate_and_kl() -> None:
    """A grid of nine, of which the command line can take a part; one run has the paper's coefficient."""
    for typed, wanted in (([], {"vars.lr", "vars.kl"}), (["vars.kl=0.04"], {"vars.lr"})):
        overrides = parse(["experiment=lr_kl", *typed])
        sweeper = _sweeper(overrides)
        params = _params(sweeper, overrides)
        assert {param.key_or_group for param in params} == wanted
        first = _check_combinations([*params, *overrides], searched=False)
        assert (first.sweep_metrics, first.sweep_directions) == (["rl/eval/held_out/accuracy"], ["maximize"])
    assert compose_raw(["experiment=lr_kl"]).steps.rl.algorithm.kl.coef == 0.04
