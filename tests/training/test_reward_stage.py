"""`stage=reward` end to end: it learns to tell right from wrong, stops and goes on to the bit, is trained further."""

from __future__ import annotations

import json
import re
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForTokenClassification

from dsm.cli import main
from dsm.config.compose import compose_config
from dsm.config.plan import plan_text
from dsm.data.tokenizer import load_tokenizer
from dsm.errors import UserError
from dsm.rewards.reward_model import RewardScorer
from dsm.training.reward.measures import auc, best_of_n
from tests.training.harness import assert_same_run, curve, finish, start, start_ranks, weights, will_be_signalled
from tests.training.reward_lab import command, in_steps, judged, rollouts, stored, sums, tokenizer, write

LEARNS = (
    "model.config.hidden_size=32", "model.config.intermediate_size=64", "model.config.initializer_range=0.1",
    "optim.lr=5.0e-3", "optim.weight_decay=0.0", "scheduler=cosine", "scheduler.warmup_steps=5",
    "trainer.steps=80", "trainer.examples_per_step=48",
    "trainer.validate_every=40", "data.validation.fraction=0.15", "checkpoint.every=1000", "trainer.log_every=15",
)  # fmt: skip


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def process(vocabulary: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that learnt to judge the steps of sums."""
    runs = tmp_path_factory.mktemp("process")
    data = in_steps(sums(500, 1, largest=2, terms=3), runs / "steps.jsonl")
    assert main(command(runs, vocabulary, *LEARNS, "supervision=process", f"data.sources.sums.path={data}")) == 0
    return run_of(runs)


def run_of(runs: Path) -> Path:
    (folder,) = (runs / "reward").iterdir()
    return folder


def validations(folder: Path) -> list[dict[str, Any]]:
    return [line for line in curve(folder) if "validation/loss" in line]


def test_it_learns_to_tell_right_from_wrong(process: Path, vocabulary: Path) -> None:
    first, *_, last = validations(process)
    assert first["validation/loss"] == pytest.approx(np.log(2), abs=0.05)
    assert last["validation/step_auc"] > 0.8 > 0.65 > first["validation/step_auc"]
    assert last["validation/step_accuracy"] > 0.7
    assert last["validation/loss"] < 0.5
    final = json.loads((process / "metrics.json").read_text())
    assert final["validation/step_auc"] == last["validation/step_auc"]


def test_best_of_n_is_lifted(process: Path, vocabulary: Path) -> None:
    """New solutions, as rollouts: picking by the least step score beats picking one at random."""
    own = load_tokenizer(str(vocabulary))
    found = sums(60, 99, tries=8, largest=2, terms=3)
    scorer = RewardScorer(str(process / "export"), tokenizer=own)
    assert not scorer.retokenises
    outcome, steps = scorer.score(rollouts(found, own))
    assert steps is not None
    assert outcome.tolist() == [row.min() for row in steps]
    right = np.asarray([one.right for one in found])
    best = best_of_n(outcome, right, np.repeat(np.arange(60), 8))
    assert best is not None
    assert best[0] > best[1] + 0.2
    labels = np.concatenate([one.labels for one in found]) > 0
    assert (auc(np.concatenate(steps), labels) or 0) > 0.85


def test_scores_are_transformers_own_however_they_are_batched(process: Path, vocabulary: Path) -> None:
    own = load_tokenizer(str(vocabulary))
    made = rollouts(sums(4, 7), own)
    scorer = RewardScorer(str(process / "export"), "process", tokenizer=own)
    _, together = scorer.score(made)
    assert together is not None
    scorer.tokens_per_microbatch = 1
    _, alone = scorer.score(made)
    assert alone is not None
    plain = AutoModelForTokenClassification.from_pretrained(process / "export").eval()
    for rollout, one, other in zip(made, together, alone, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
        with torch.no_grad():
            logits = plain(torch.from_numpy(rollout.token_ids)[None]).logits[0, :, 0]
        np.testing.assert_allclose(one, torch.sigmoid(logits)[rollout.step_ends].numpy(), rtol=1e-4)


def test_another_tokenizer_s_rollouts_are_read_as_text(process: Path, vocabulary: Path, tmp_path: Path) -> None:
    """The same text in other tokens has the same scores, step for step."""
    own = load_tokenizer(str(vocabulary))
    from dsm.data.tokenizer import save_tokenizer, train_tokenizer

    save_tokenizer(train_tokenizer(["User: Assistant: 1 + 2 = 3\n"] * 3, 280), tmp_path / "other")
    other = load_tokenizer(str(tmp_path / "other"))
    found = sums(4, 7)
    scorer = RewardScorer(str(process / "export"), tokenizer=other)
    assert scorer.retokenises
    ours = RewardScorer(str(process / "export"), tokenizer=own).score(rollouts(found, own))
    theirs = scorer.score(rollouts(found, other))
    assert ours.steps is not None
    assert theirs.steps is not None
    for one, again, ends in zip(ours.steps, theirs.steps, rollouts(found, own), strict=True):
        assert len(again) == len(ends.step_ends)
        np.testing.assert_allclose(again, one, rtol=1e-5)
    too_long = replace(rollouts(found, own)[0], token_ids=np.zeros(5000, dtype=np.int64))
    assert np.isnan(RewardScorer(str(process / "export"), tokenizer=own).score([too_long]).outcome[0])


def test_a_reward_model_is_trained_further_with_replay(process: Path, vocabulary: Path, tmp_path: Path) -> None:
    """It begins where it ended, on new rollouts and a tenth of the old data."""
    own = load_tokenizer(str(vocabulary))
    new = stored(sums(40, 3, largest=2, terms=3), own, tmp_path / "rollouts", labelled=True)
    settings = [
        "model=pretrained", f"model.path={process / 'export'}", "tokenizer=from_model", "supervision=process",
        f"data.sources.new.path={new}", f"data.replay.path={process.parents[1] / 'steps.jsonl'}", "trainer.steps=2",
    ]  # fmt: skip
    arguments = [a for a in command(tmp_path / "runs", vocabulary) if not a.startswith(("model", "tokenizer"))]
    given = {a.partition("=")[0]: a for a in (*arguments, *settings)}
    assert main(list(given.values())) == 0
    folder = run_of(tmp_path / "runs")
    first, last = validations(folder)
    assert first["validation/step_auc"] > 0.8
    text = (folder / "run.log").read_text()
    assert "the head that it has" in text
    share = re.search(r"replay: ([\d.]+)% of the examples", text)
    assert share is not None
    assert float(share[1]) == pytest.approx(10, abs=1)
    assert "the head that it has" in text
    lines = [line for line in curve(folder) if "train/loss" in line]
    assert "mix/tokens/replay" in lines[-1]
    assert last["step"] == 2


@pytest.mark.parametrize("objective", ["pairwise", "pointwise"])
def test_outcomes_from_rollouts_on_one_rank_and_two(objective: str, vocabulary: Path, tmp_path: Path) -> None:
    """A store is read with what the rule says of each rollout; ranks change nothing but the order of sums."""
    if objective == "pointwise":
        source = judged(sums(20, 3), tmp_path / "judged.jsonl")
    else:
        source = stored(sums(20, 3), load_tokenizer(str(vocabulary)), tmp_path / "store")
    settings = (
        f"objective={objective}",
        f"data.sources.a.path={source}",
        "trainer.steps=3",
        "trainer.validate_every=2",
    )
    assert main(command(tmp_path / "one", vocabulary, *settings, "trainer.examples_per_step=5")) == 0
    two = command(tmp_path / "two", vocabulary, *settings, "trainer.examples_per_step=5")
    output = tmp_path / "output"
    assert finish(start_ranks(2, two, output)) == [0, 0], output.with_suffix(".0").read_text()
    one, other = run_of(tmp_path / "one"), run_of(tmp_path / "two")
    for line, wanted in zip(curve(other), curve(one), strict=True):
        assert line == pytest.approx(wanted, rel=1e-4, abs=1e-6)
    theirs = weights(other)
    for name, weight in weights(one).items():
        assert float((weight - theirs[name]).norm() / theirs[name].norm()) < 1e-4, name
    assert {"validation/auc", "validation/pair_accuracy", "validation/best_of_n"} <= curve(one)[0].keys()


def test_a_stopped_run_goes_on_to_the_bit(vocabulary: Path, tmp_path: Path) -> None:
    data = write(
        [{"prompt": s.prompt, "chosen": "right", "rejected": s.solution} for s in sums(20, 3, tries=1)],
        tmp_path / "pairs.jsonl",
    )
    settings = ("objective=pairwise", f"data.sources.a.path={data}", "model.config.attention_dropout=0.1")
    assert main(command(tmp_path / "whole", vocabulary, *settings)) == 0
    arguments, output = command(tmp_path / "stopped", vocabulary, *settings), tmp_path / "output"
    stopped = start(arguments, output, partial(will_be_signalled, 3, signal.SIGKILL))
    assert finish([stopped]) == [-signal.SIGKILL]
    assert main(arguments) == 0
    assert_same_run(run_of(tmp_path / "stopped"), run_of(tmp_path / "whole"))


def test_bad_rows_are_kept_aside(vocabulary: Path, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"prompt": "q", "completion": "a", "label": n % 2} for n in range(4)]
    data = write([*rows, {"prompt": "q", "completion": "a", "label": 3}], tmp_path / "data.jsonl")
    settings = (f"data.sources.a.path={data}", "trainer.steps=1", "data.validation.fraction=0")
    assert main(command(tmp_path, vocabulary, *settings)) == 0
    (line,) = (run_of(tmp_path) / "rejected.jsonl").read_text().splitlines()
    assert json.loads(line)["location"].endswith("data.jsonl:5")
    assert "neither true" in json.loads(line)["reason"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["objective=pairwise", "supervision=process"], "objective=pairwise: steps are judged one by one"),
        (["supervision=process"], "supervision=process needs steps with labels"),
        (["trainer.steps=null"], "trainer.give exactly one of steps and epochs"),
        (["data.replay.path=nowhere"], "data.replay.path=nowhere: no such file or folder"),
        (["data.context=8"], "data.context=8: nothing is left to train on"),
        (["objective=pairwise"], "no question has a right and a wrong solution"),
    ],
)
def test_mistakes_are_one_line(
    settings: list[str], message: str, vocabulary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write([{"prompt": "1 + 1", "completion": "1 + 1 = 2", "label": 1}] * 5, tmp_path / "data.jsonl")
    assert main(command(tmp_path, vocabulary, f"data.sources.a.path={data}", *settings)) == 2
    assert message.replace("trainer.give", "give") in capsys.readouterr().err


def test_a_policy_is_no_reward_model(process: Path, vocabulary: Path) -> None:
    with pytest.raises(UserError, match="judges by process, not by supervision=outcome"):
        RewardScorer(str(process / "export"), "outcome")
    with pytest.raises(UserError, match="no reward model there"):
        RewardScorer(str(vocabulary))


def test_the_plan(vocabulary: Path, tmp_path: Path) -> None:
    data = judged(sums(2, 1), tmp_path / "judged.jsonl")
    arguments = command(tmp_path, vocabulary, f"data.sources.a.path={data}", "objective=pairwise")
    text = plan_text(compose_config(arguments))
    assert "pairs of a right and a wrong solution" in text
    assert "16 packed sequences x 192 = 3,072 tokens at most" in text
