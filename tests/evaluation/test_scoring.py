"""A reward model in `stage=eval`: scores on samples, best-of-n and the weighted vote from them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from dsm.cli import main
from dsm.config.model import ModelConfig
from dsm.data.tokenizer import load_tokenizer, train_tokenizer
from dsm.evaluation import stage
from dsm.evaluation.metrics import best_at_k, weighted_vote_at_k
from dsm.models.build import build_model
from dsm.models.export import export_model
from dsm.models.reward import build_reward_model
from dsm.rollout.engine import Completion, Request
from tests.evaluation.benchmark_lab import write_rows

SAID = ("1 + 1 = 2\nso \\boxed{2}", "I say\nboldly \\boxed{3}", "it is \\boxed{2}", "no idea")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy and two reward models of random weights that say something."""
    folder = tmp_path_factory.mktemp("models")
    tokenizer = train_tokenizer(["What is 1 + 1? The answer is \\boxed{2}."] * 4, 280)
    shape = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
        "max_position_embeddings": 512, "initializer_range": 0.3,
    }  # fmt: skip
    cfg = ModelConfig.model_validate({"architecture": "llama", "config": shape})
    export_model(build_model(cfg, len(tokenizer), seed=0), tokenizer, folder / "policy", title="", facts={})
    for supervision in ("outcome", "process"):
        judge = build_reward_model(cfg, len(tokenizer), supervision=supervision, seed=1)  # type: ignore[arg-type]
        torch.nn.init.normal_(judge.head_weight, std=0.5)
        export_model(judge, tokenizer, folder / supervision, title="", facts={})
    return folder


class Scripted:
    """An engine that says four things, whatever it is asked."""

    asked: list[Request]

    def __init__(self, model: Any, tokenizer: Any, config: Any) -> None:
        self.tokenizer = tokenizer

    def generate(self, requests: Sequence[Request], on_done: Any = None) -> list[list[Completion]]:
        type(self).asked = list(requests)
        for place, _ in enumerate(requests):
            tokens = [(*self.tokenizer(text, add_special_tokens=False).input_ids, 1) for text in SAID]
            on_done(
                place, [Completion(ids, (0.0,) * len(ids), text, "eos") for ids, text in zip(tokens, SAID, strict=True)]
            )
        return []


@pytest.mark.parametrize("supervision", ["outcome", "process"])
def test_samples_have_scores_and_the_table_has_the_votes(
    supervision: str, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The scores are what transformers finds for prompt and answer; of steps the least."""
    monkeypatch.setattr(stage, "make_engine", lambda config, *given: Scripted(*given, config))
    data = write_rows(tmp_path / "problems.jsonl", *[{"question": f"What is {i} + 1?", "answer": "2"} for i in (1, 2)])
    settings = [
        "stage=eval", f"model.path={models / 'policy'}", f"paths.runs={tmp_path / 'runs'}", "benchmark=custom",
        f"benchmarks.custom.data.path={data}", "sampling=votes", "sampling.n=4", "sampling.max_new_tokens=32",
        "grader.workers=1", "reward_model=scorer", f"reward_model.path={models / supervision}",
    ]  # fmt: skip
    assert main(settings) == 0
    (folder,) = (tmp_path / "runs" / "eval").iterdir()
    rows = [json.loads(line) for line in (folder / "items" / "custom.jsonl").read_text().splitlines()]
    own = load_tokenizer(str(models / "policy"))
    auto = AutoModelForSequenceClassification if supervision == "outcome" else AutoModelForTokenClassification
    judge = auto.from_pretrained(models / supervision).eval()
    line_end = own("\n", add_special_tokens=False).input_ids[0]
    for row, request in zip(rows, Scripted.asked, strict=True):
        for sample, text in zip(row["samples"], SAID, strict=True):
            answer = [*own(text, add_special_tokens=False).input_ids, 1]
            with torch.no_grad():
                logits = torch.sigmoid(judge(torch.tensor([[*request.input_ids, *answer]])).logits[0])
            if supervision == "process":
                start = len(request.input_ids)
                ends = [start + i for i, token in enumerate(answer) if token == line_end] + [start + len(answer) - 2]
                logits = logits[ends].min(0).values
            assert sample["score"] == pytest.approx(float(logits), rel=1e-4)
    metrics = json.loads((folder / "metrics.json").read_text())
    samples = [row["samples"] for row in rows]
    scores = [[sample["score"] for sample in row] for row in samples]
    right = [[sample["verdict"] == "correct" for sample in row] for row in samples]
    assert right == [[True, False, True, False]] * 2
    best = [row[int(np.argmax(of))] for row, of in zip(right, scores, strict=True)]
    assert metrics["custom/best@4"] == pytest.approx(np.mean(best))
    vote = [weighted_vote_at_k([0, 1, 0, None], row, of, 4) for row, of in zip(right, scores, strict=True)]
    assert metrics["custom/weighted@4"] == pytest.approx(np.mean(vote))
    told = json.loads((folder / "results.json").read_text())["benchmarks"]["custom"]["protocol"]["reward_model"]
    assert told["path"] == str(models / supervision)
    header = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("benchmark"))
    assert {"weighted@k", "best@k"} <= set(header.split())


def test_best_of_k_is_the_mean_over_subsets() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        scores, right = rng.integers(0, 4, 6).astype(float).tolist(), (rng.random(6) < 0.5).tolist()
        for k in range(1, 7):
            found = []
            for subset in combinations(range(6), k):
                top = [i for i in subset if scores[i] == max(scores[j] for j in subset)]
                found.append(np.mean([right[i] for i in top]))
            assert best_at_k(right, scores, k) == pytest.approx(np.mean(found))
    with pytest.raises(ValueError, match="must be finite"):
        best_at_k([True], [float("nan")], 1)


def test_a_policy_is_refused_as_a_judge(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_rows(tmp_path / "problems.jsonl", {"question": "What is 1 + 1?", "answer": "2"})
    settings = [
        "stage=eval", f"model.path={models / 'policy'}", f"paths.runs={tmp_path / 'runs'}", "benchmark=custom",
        f"benchmarks.custom.data.path={data}", "grader.workers=1", "reward_model=scorer", "sampling.max_new_tokens=16",
        f"reward_model.path={models / 'policy'}",
    ]  # fmt: skip
    assert main(settings) == 2
    assert "no reward model there" in capsys.readouterr().err
