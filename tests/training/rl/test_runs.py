"""Every row of Table 10 as a small run from end to end, and what stops a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dsm.cli import main
from dsm.rollout.embedded import EmbeddedEngine
from tests.training.harness import Lab
from tests.training.rl.lab import FUNCTIONS, command, run_folder

STEPS = ["reward.parts.custom.steps=true", f"reward.parts.custom.function={FUNCTIONS}:letters_of_steps"]
MANY_LETTERS = "reward.parts.custom.bias=-0.5"  # without a rule an answer with a reward above 0 counts as correct
ROWS: dict[str, list[str]] = {
    "grpo": ["reward.parts.correct.name=answer"],
    "online_rft": [MANY_LETTERS],
    "rft": [MANY_LETTERS],
    "dpo": [MANY_LETTERS],
    "ppo": ["trainer.updates=2"],
    "grpo_process": STEPS,
    "sft": [],
    "dapo": [MANY_LETTERS, "trainer.updates=2", "algorithm.truncated=keep", "trainer.prompts_per_step=6"],
}


def metrics(runs: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_folder(runs) / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("algorithm", ROWS)
def test_an_algorithm_from_prompts_to_an_export(algorithm: str, lab: Lab, tmp_path: Path) -> None:
    assert main(command(lab, tmp_path, f"algorithm={algorithm}", *ROWS[algorithm])) == 0
    lines = metrics(tmp_path)
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert all(line["train/grad_norm"] > 0 for line in lines)
    assert (run_folder(tmp_path) / "export" / "model.safetensors").is_file()
    rows = [json.loads(line) for line in (run_folder(tmp_path) / "rollouts.jsonl").read_text().splitlines()]
    explorations = len(lines) // (2 if algorithm in ("ppo", "dapo") else 1)
    assert len({row["exploration"] for row in rows}) == explorations
    match algorithm:
        case "sft":  # one solution a prompt, all of them learnt
            assert all(line["samples/trained"] == line["groups"] == 3 for line in lines)
            assert lines[-1]["train/loss"] < lines[0]["train/loss"]
        case "rft":  # the engine keeps the weights of the start: the gap grows, and nobody minds
            gaps = [line["train/engine/gap_abs"] for line in lines]
            assert gaps[0] < 1e-5 < 1e-2 < gaps[-1]
        case "dpo":
            assert all(line["pairs"] > 0 and line["samples/trained"] == 2 * line["pairs"] for line in lines)
        case "dapo":  # groups of one verdict are replaced
            assert all(line["groups/saturated"] == 0 or line["groups/rounds"] == 4 for line in lines)
            assert sum(line["groups/replaced"] for line in lines) > 0
        case "ppo":
            assert all(line["critic/grad_norm"] > 0 for line in lines)
            first, second = lines[0], lines[1]
            assert abs(first["train/ratio_max"] - 1) < 1e-5 < abs(second["train/ratio_max"] - 1)
        case _:
            assert max(line["train/engine/gap_abs"] for line in lines) < 1e-5
    if algorithm in ("grpo", "grpo_process"):
        assert lines[0]["train/kl/k3"] < 1e-9 < lines[-1]["train/kl/k3"]


def test_the_temperature_of_sampling_is_that_of_the_trained_probabilities(lab: Lab, tmp_path: Path) -> None:
    settings = ["rollout.temperature=0.5", "trainer.steps=2"]
    assert main(command(lab, tmp_path, *settings)) == 0
    assert max(line["train/engine/gap_abs"] for line in metrics(tmp_path)) < 1e-5


def test_an_engine_with_stale_weights_is_caught(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(EmbeddedEngine, "free", lambda self: None)
    monkeypatch.setattr(EmbeddedEngine, "sync", lambda self, weights: None)
    assert main(command(lab, tmp_path, "optim.lr=3.0e-3", "trainer.steps=20")) == 2
    message = capfd.readouterr().err.splitlines()[-1]
    assert message.startswith("dsm: rollout.gap_limit=0.1: the log-probabilities of the engine (policy version ")
    assert "likely cause: stale weights" in message
    assert max(line["train/engine/gap_abs"] for line in metrics(tmp_path)) <= 0.1


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("rollout.group_size=1", "rollout.group_size=1: algorithm=grpo compares the answers of a group; at least 2"),
        ("algorithm=grpo_process", "algorithm=grpo_process: needs rewards of steps and the reward has none"),
        ("rollout.max_new_tokens=4096", "rollout.max_new_tokens=4096: the model has"),
        ("rollout.source=store", "rollout.store=null"),
        ("trainer.samples=10", "trainer: give exactly one of steps, samples and epochs"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(
    setting: str, message: str, lab: Lab, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(command(lab, tmp_path, setting)) == 2
    assert message in capfd.readouterr().err.splitlines()[-1]


def test_stored_rollouts_are_learnt_from_without_being_drawn_again(lab: Lab, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert main(command(lab, first, MANY_LETTERS, "table.keep=true", "rollout.source=start")) == 0
    settings = ["algorithm=dpo", "prompts=none", "rollout.source=store", f"rollout.store={run_folder(first)}"]
    stored = [setting for setting in command(lab, second, *settings) if not setting.startswith("prompts.sources")]
    assert main(stored) == 0
    learnt, drawn = metrics(second), metrics(first)
    assert sum(line["reward/mean"] for line in learnt) == pytest.approx(sum(line["reward/mean"] for line in drawn))
    assert all(line["pairs"] > 0 for line in learnt)
    assert "speed/generate_s" not in learnt[0]


def test_iterations_begin_where_the_last_one_ended(lab: Lab, tmp_path: Path) -> None:
    """Algorithm 1 with a reward model: policy, reward model, policy; a second start finds all of it done."""
    judged = tmp_path / "judged.jsonl"
    rows = [json.loads(line) for line in lab.data.read_text().splitlines()]
    judged.write_text(
        "".join(
            json.dumps({"prompt": row["question"], "completion": row["answer"], "label": bool(i % 2)}) + "\n"
            for i, row in enumerate(rows)
        )
    )
    model = [setting for setting in command(lab, tmp_path) if setting.startswith(("model", "tokenizer", "paths"))]
    short = {"trainer.epochs": "null", "trainer.steps": "2", "trainer.examples_per_step": "8"}
    short |= {"data.validation.fraction": "0.0", "data.context": "192", "parallel.accelerator": "cpu"}
    learn = ["stage=reward", f"data.sources.judged.path={judged}", *(f"{key}={value}" for key, value in short.items())]
    assert main([*learn, *model, "callbacks.progress=false"]) == 0
    (judge,) = (tmp_path / "reward").iterdir()
    turns = [f"iteration.reward.{key}={value}" for key, value in short.items()]
    settings = ["reward=outcome_model", f"reward.parts.model.path={judge}/export", "iteration=paper", *turns]
    whole = command(lab, tmp_path, *settings, "iteration.count=2", "trainer.steps=2", f"iteration.replay={judged}")
    assert main(whole) == 0
    folder = run_folder(tmp_path)
    one, two = (run_folder(folder / f"iteration-{number}") for number in (1, 2))
    (learnt,) = (folder / "iteration-1" / "reward").iterdir()
    assert f"path: {one}/export" in (two / "config.yaml").read_text()
    assert f"path: {learnt}/export" in (two / "config.yaml").read_text()
    assert (folder / "export").resolve() == (two / "export").resolve()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [(line["iteration"], line["step"]) for line in lines] == [(1, 1), (1, 2), (2, 3), (2, 4)]
    assert lines[1]["train/kl/k3"] > 1e-6 > abs(lines[2]["train/kl/k3"])  # the reference is the policy again
    before = (folder / "metrics.json").read_text()
    (folder / "metrics.json").unlink()
    assert main(whole) == 0
    assert (folder / "metrics.json").read_text() == before


def test_answers_that_say_nothing_end_a_run_with_the_reason(
    lab: Lab, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """No answer is right, so there are no pairs: each step is skipped, and in the end the run is."""
    settings = ["algorithm=dpo", "reward.parts.custom.bias=-2.0", "trainer.max_skipped_steps=2", "trainer.steps=9"]
    assert main(command(lab, tmp_path, *settings)) == 2
    assert "3 steps in a row had nothing to train on" in capfd.readouterr().err.splitlines()[-1]
    assert [line["groups/without_pair"] for line in metrics(tmp_path)] == [3, 3]
