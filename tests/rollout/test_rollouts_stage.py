"""`stage=rollouts`: a folder of rewarded answers, the same however it comes about."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from dsm.cli import main
from dsm.rollout.record import Rollout
from dsm.rollout.store import RolloutStore
from tests.rollout.test_rollout_store import _equal
from tests.training.harness import Lab, finish, start, start_ranks


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab.build(tmp_path_factory.mktemp("lab"))


def _command(lab: Lab, runs: Path, *settings: str) -> list[str]:
    defaults = [
        "stage=rollouts",
        "model=tiny",
        "model.config.hidden_size=32",
        "model.config.intermediate_size=48",
        "model.config.num_hidden_layers=2",
        "model.config.initializer_range=0.2",
        f"tokenizer.path={lab.tokenizer}",
        f"prompts.sources.problems.path={lab.data}",
        "prompts.sources.problems.gold=boxed",
        "rollout.group_size=4",
        "rollout.max_new_tokens=12",
        "reward=custom",
        f"reward.parts.custom.function={Path(__file__).parents[1] / 'training' / 'rl' / 'rewards.py'}:letters",
        "reward.parts.custom.bias=-0.6",
        "limit=10",
        "prompts_per_part=3",
        "grader.workers=1",
        "parallel.accelerator=cpu",
        f"paths.runs={runs}",
        f"paths.cache={lab.folder / 'cache'}",
    ]
    given = {setting.partition("=")[0]: setting for setting in (*defaults, *settings)}
    return list(given.values())


def _result(runs: Path) -> tuple[Path, dict[str, Any], list[Rollout]]:
    (folder,) = (runs / "rollouts").iterdir()
    store = RolloutStore.open(str(folder), "store")
    return folder, json.loads((folder / "metrics.json").read_text()), store.read()


def test_what_it_leaves(lab, tmp_path, capsys):
    """Groups of the prompts drawn, rewarded; numbers that follow from the rows; the same again for the same command."""
    assert main(_command(lab, tmp_path)) == 0
    folder, metrics, rollouts = _result(tmp_path)
    assert [(r.group, r.sample) for r in rollouts] == [(g, s) for g in range(10) for s in range(4)]
    assert len({r.prompt for r in rollouts}) == 10
    rewards = [r.reward for r in rollouts]
    assert None not in rewards
    assert metrics["reward/mean"] == pytest.approx(sum(rewards) / 40)
    assert metrics["rollout/length"] == pytest.approx(sum(r.actions for r in rollouts) / 40)
    rates = [json.loads(line) for line in (folder / "pass_rates.jsonl").read_text().splitlines()]
    assert [rate["pass_rate"] for rate in rates] == [
        sum(r.reward > 0 for r in rollouts if r.group == g) / 4 for g in range(10)
    ]
    assert metrics["rollout/pass@1"] == pytest.approx(sum(rate["pass_rate"] for rate in rates) / 10)
    assert metrics["rollout/pass@4"] == pytest.approx(1 - metrics["rollout/never_solved"])
    assert metrics["engine_gap/max_abs"] < 1e-4
    assert main(_command(lab, tmp_path)) == 0
    assert "finished before" in capsys.readouterr().err
    assert main([*_command(lab, tmp_path), "mode=plan"]) == 0
    assert "10, drawn by seed 0; 3 between two writes" in capsys.readouterr().out


def test_its_pass_rates_choose_prompts(lab, tmp_path):
    """What one run has found too hard, the next one does not ask."""
    assert main(_command(lab, tmp_path, "limit=16")) == 0
    folder, metrics, _ = _result(tmp_path)
    solved = sum(json.loads(line)["pass_rate"] > 0 for line in (folder / "pass_rates.jsonl").read_text().splitlines())
    assert 0 < solved < metrics["rollouts/groups"]
    difficulty = "{path: %s, min: 0.01, unknown: set_aside}" % (folder / "pass_rates.jsonl")
    assert main(_command(lab, tmp_path / "next", "limit=null", f"prompts.difficulty={difficulty}")) == 0
    assert _result(tmp_path / "next")[1]["rollouts/groups"] == solved


def test_killed_and_resumed(lab, tmp_path):
    """kill -9 in the middle, the same command again: what the whole run would have left, whole parts made once."""
    assert main(_command(lab, tmp_path / "whole")) == 0
    _, metrics, whole = _result(tmp_path / "whole")
    process = start(_command(lab, tmp_path / "cut"), tmp_path / "log")
    while not list((tmp_path / "cut").glob("rollouts/*/rollouts/part-*1")) and process.is_alive():
        time.sleep(0.002)
    process.kill()
    process.join()
    (folder,) = (tmp_path / "cut" / "rollouts").iterdir()
    made = {part: part.stat().st_mtime_ns for part in folder.glob("rollouts/part-*")}
    assert not (folder / "metrics.json").exists()
    assert main(_command(lab, tmp_path / "cut")) == 0
    assert {part: part.stat().st_mtime_ns for part in made} == made
    _, again, rollouts = _result(tmp_path / "cut")
    assert all(_equal(a, b) for a, b in zip(rollouts, whole, strict=True))
    own = ("speed/", "engine_gap/", "rollouts")
    assert [again[k] for k in again if not k.startswith(own)] == [metrics[k] for k in metrics if not k.startswith(own)]


def test_two_ranks_share_the_prompts(lab, tmp_path):
    """What two ranks write is what one does, to the last bit."""
    assert main(_command(lab, tmp_path / "one")) == 0
    processes = start_ranks(2, _command(lab, tmp_path / "two"), tmp_path / "log")
    assert finish(processes, 120) == [0, 0], (tmp_path / "log.0").read_text()
    _, metrics, one = _result(tmp_path / "one")
    _, again, two = _result(tmp_path / "two")
    assert all(_equal(a, b) for a, b in zip(one, two, strict=True))
    assert again["rollout/pass@2"] == metrics["rollout/pass@2"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("rollout.max_new_tokens=5000", "rollout.max_new_tokens=5000: the model has"),
        ("prompts.sources.problems.path=/nowhere", "prompts.sources.problems.path=/nowhere: no such file"),
        ("prompts.sources.problems.gold=box", "prompts.sources.problems.gold=box"),
        ("rollout.stop=['']", "rollout.stop: holds an empty string"),
        ("rollout.temperature=0", "rollout.temperature=0"),
        ("rollout.steps=null", "rollout.steps=null: reward.parts.custom rewards steps"),
    ],
)
def test_refused_before_a_model_is_made(setting, message, lab, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("dsm.rollout.stage.build_model", None)
    more = ["reward.parts.custom.steps=true"] if setting == "rollout.steps=null" else []
    assert main(_command(lab, tmp_path, setting, *more)) == 2
    assert message in capsys.readouterr().err


def test_an_engine_of_other_weights_is_found(lab, tmp_path, capsys, monkeypatch):
    """The log-probabilities of the first answers are compared with the model's own."""
    from dsm.rollout.engines import make_engine

    def stale(config: Any, model: Any, tokenizer: Any) -> Any:
        return make_engine(config, model, tokenizer, build_other(model))

    def build_other(model: Any) -> Any:
        return {name: weight.detach() * 1.3 for name, weight in model.model.state_dict().items()}

    monkeypatch.setattr("dsm.rollout.stage.make_engine", stale)
    assert main(_command(lab, tmp_path)) == 2
    error = capsys.readouterr().err
    assert "rollout.gap_limit=0.1: the log-probabilities of the engine (policy version 0) are" in error
    assert "likely cause: " in error
