"""Labels of steps: the shares of completions that succeed, the same however the work is dealt out and interrupted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dsm.answers import GraderPool
from dsm.cli import main
from dsm.config.answers import GraderConfig
from dsm.config.reward_model import CompletionsConfig
from dsm.data.tokenizer import load_tokenizer
from dsm.rollout.engine import Completion, OnDone, Request
from dsm.rollout.stops import Detokenizer
from dsm.rollout.store import RolloutStore
from dsm.training.reward.completing import Completer
from tests.training.harness import finish, start_ranks
from tests.training.reward_lab import MODEL, Sum, rollouts, stored, sums, tokenizer

GRADER = {"name": "strict", "workers": 1}


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tokenizer(tmp_path_factory.mktemp("tokenizer"))


class Toy:
    """A completer that succeeds with a known chance, by how many lines there are; its noise comes from the request."""

    policy_version = 0

    def __init__(self, tokenizer: Any, chances: Sequence[float], answer: str) -> None:
        self.tokenizer, self.chances, self.answer = tokenizer, chances, answer
        self.asked: list[Request] = []

    def generate(self, requests: Sequence[Request], on_done: OnDone | None = None) -> list[list[Completion]]:
        self.asked += requests
        for index, request in enumerate(requests):
            text = self.tokenizer.decode(request.input_ids)
            lines = text.count("\n")
            draws = np.random.default_rng(request.sampling.seed).random(request.sampling.n)
            said = [f"= {self.answer if draw < self.chances[lines - 1] else 'x'}" for draw in draws]
            assert on_done is not None
            on_done(index, [Completion((), (), text, "eos") for text in said])
        return []


def test_shares_of_a_policy_with_known_chances(vocabulary: Path) -> None:
    """Three steps of right and wrong solutions; what follows the first two is the completer's, the third is judged."""
    own = load_tokenizer(str(vocabulary))
    right = Sum("1 + 2 + 3 + 4", ("1 + 2 = 3", "3 + 3 = 6", "6 + 4 = 0"), (1, 1, 1))
    wrong = Sum("1 + 2 + 3 + 4", ("1 + 2 = 3", "3 + 3 = 6", "6 + 4 = 5"), (1, 1, 0))
    made = rollouts([right, wrong], own)
    engine = Toy(own, [0.7, 0.2], "0")
    config = CompletionsConfig(n=2000, temperature=1.0, top_p=1.0, max_new_tokens=8, stop=[], extractor="last_number")
    with GraderPool(GraderConfig.model_validate(GRADER)) as pool:
        completer = Completer(engine, Detokenizer(own, len(own)), pool, config, seed=0, positions=None)  # type: ignore[arg-type]
        first, second = completer.label(made, ["0", "0"])
        again = completer.label(made[1:], ["0"])[0]
    assert len(engine.asked) == 2 + 2  # what the two have in common was completed once
    deviation = np.sqrt(np.array([0.7 * 0.3, 0.2 * 0.8]) / 2000)
    assert (np.abs(first.counts[:2] / 2000 - [0.7, 0.2]) < 4 * deviation).all()
    assert first.counts[2] == 2000
    assert second.counts.tolist() == [*first.counts[:2], 0] == again.counts.tolist()
    for request, end in zip(engine.asked[:2], made[0].step_ends[:2], strict=True):
        assert request.input_ids == tuple(made[0].token_ids[: end + 1].tolist())


def test_a_solution_that_was_cut_off_is_completed_too(vocabulary: Path) -> None:
    own = load_tokenizer(str(vocabulary))
    (made,) = rollouts([Sum("1 + 2 + 3", ("1 + 2 = 3", "3 + 3"), (1, 1))], own)
    cut = type(made)(**{**made.__dict__, "finish_reason": "length", "token_ids": made.token_ids[:-1]})
    engine = Toy(own, [1.0, 1.0], "6")
    config = CompletionsConfig(n=3, temperature=1.0, top_p=1.0, max_new_tokens=8, stop=[], extractor="last_number")
    with GraderPool(GraderConfig.model_validate(GRADER)) as pool:
        found = Completer(engine, Detokenizer(own, len(own)), pool, config, seed=0, positions=len(cut.token_ids) + 1)  # type: ignore[arg-type]
        labelled = found.label([cut], ["6"])[0]
        assert len(engine.asked) == 2
        assert labelled.counts[0] == 3
        found.positions = len(cut.token_ids)
        assert "leaves no room" in found.label([cut], ["6"])[0].reason


def command(runs: Path, vocabulary: Path, store: Path, *settings: str) -> list[str]:
    return [
        "stage=label", "model=tiny", *MODEL[1:], f"tokenizer.path={vocabulary}", f"data.path={store}",
        "completions.n=3", "completions.max_new_tokens=6", "completions.extractor=last_number", "grader.workers=1",
        "parallel.accelerator=cpu", "solutions_together=4", f"paths.runs={runs}", f"paths.cache={runs / 'cache'}",
        *settings,
    ]  # fmt: skip


def run_of(runs: Path) -> Path:
    (folder,) = (runs / "label").iterdir()
    return folder


def test_the_stage_goes_on_and_deals_out(vocabulary: Path, tmp_path: Path) -> None:
    """A run whose portions were lost makes those alone anew; two ranks write what one writes, to the byte."""
    found = sums(3, 5, tries=4)
    found[1] = found[0]  # equal solutions are labelled once
    store = stored(found, load_tokenizer(str(vocabulary)), tmp_path / "store")
    assert main(command(tmp_path / "one", vocabulary, store)) == 0
    one = run_of(tmp_path / "one")
    final = json.loads((one / "metrics.json").read_text())
    assert (final["label/solutions"], final["label/steps"]) == (11, 33)
    lines = (one / "labels.jsonl").read_text()
    assert all(len(json.loads(line)["counts"]) == 3 and json.loads(line)["n"] == 3 for line in lines.splitlines())
    labelled = RolloutStore.open(str(one), "x").read()
    for rollout in labelled:  # the last step's label is the rule's verdict
        assert rollout.step_rewards is not None
        assert rollout.step_rewards[-1] == float(bool(rollout.correct))

    part = one / "rollouts" / "part-00000001"
    kept = (one / "rollouts" / "part-00000000" / "rollouts.jsonl").stat().st_mtime_ns
    (part / "part.json").rename(part / "gone")  # a killed writer's folder never has the name, so take the name away
    part.rename(one / "rollouts" / ".part-00000001.partial")
    (one / "metrics.json").unlink()
    assert main(command(tmp_path / "one", vocabulary, store)) == 0
    assert (one / "rollouts" / "part-00000000" / "rollouts.jsonl").stat().st_mtime_ns == kept
    assert not list(one.rglob("*.partial"))
    assert (one / "labels.jsonl").read_text() == lines

    output = tmp_path / "output"
    two = command(tmp_path / "two", vocabulary, store)
    assert finish(start_ranks(2, two, output)) == [0, 0], output.with_suffix(".0").read_text()
    assert (run_of(tmp_path / "two") / "labels.jsonl").read_text() == lines


def test_mistakes_are_told(vocabulary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = stored(sums(1, 5), load_tokenizer(str(vocabulary)), tmp_path / "store")
    for settings, message in (
        ([f"data.path={tmp_path}"], "holds no rollouts"),
        (["completions.extractor=boxd"], "completions.extractor=boxd: must be one of"),
    ):
        arguments = [a for a in command(tmp_path / "runs", vocabulary, store) if a.split("=")[0] not in settings[0]]
        assert main([*arguments, *settings]) == 2
        assert message in capsys.readouterr().err
