"""The step of reward models against plain PyTorch, and what goes into it: rows, places of steps, pairs, replay."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F

from dsm.config.model import ModelConfig
from dsm.config.training import ConstantConfig, LossConfig, OptimConfig
from dsm.data.batch import NOTHING, Document, StepBatch, collate
from dsm.data.formats import CHAT, TEMPLATES
from dsm.data.instructions import hold_out
from dsm.data.layouts import RowError
from dsm.data.stream import StepStream
from dsm.data.tokenizer import load_tokenizer
from dsm.models.reward import build_reward_model
from dsm.ops.varlen import Varlen
from dsm.training.reward.batch import LABEL, collate_values, value_batch
from dsm.training.reward.data import Solutions, _scored, tokenise
from dsm.training.reward.material import _whole_pairs, pairs_of
from dsm.training.reward.measures import auc, best_of_n, brier, calibration_error, pair_accuracy
from dsm.training.reward.module import Objective, RewardModule
from dsm.training.reward.objectives import bradley_terry, cross_entropy
from dsm.training.reward.rows import read_row
from dsm.training.step import StepSettings
from tests.ranks import run_ranks
from tests.training.reward_lab import tokenizer

# ---------------------------------------------------------------- objectives


def test_bradley_terry_is_that_of_the_formula() -> None:
    values = torch.tensor([2.0, -1.0, 0.5, 0.5], dtype=torch.float64, requires_grad=True)
    found = bradley_terry(values)
    wanted = [math.log(1 / (1 + math.exp(-3))), math.log(0.5)]
    assert found.tolist() == pytest.approx([wanted[0], wanted[0], wanted[1], wanted[1]])
    (-found.sum() / 4).backward()  # the mean over pairs: each stands there twice
    assert values.grad is not None
    slope = [(1 / (1 + math.exp(3))) / 2, 0.25]
    assert values.grad.tolist() == pytest.approx([-slope[0], slope[0], -slope[1], slope[1]])
    assert torch.autograd.gradcheck(bradley_terry, (values,))


def test_cross_entropy_is_pytorchs_for_hard_and_soft_labels() -> None:
    values = torch.tensor([2.0, -1.0, 0.5, 30.0], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([1.0, 0.0, 0.25, 0.0], dtype=torch.float64)
    wanted = F.binary_cross_entropy_with_logits(values, labels, reduction="none")
    torch.testing.assert_close(-cross_entropy(values, labels), wanted)
    (gradient,) = torch.autograd.grad(cross_entropy(values, labels).sum(), values)
    torch.testing.assert_close(gradient, labels - torch.sigmoid(values))


# ---------------------------------------------------------------- the step

SETTINGS = StepSettings(
    optim=OptimConfig(lr=0.1, betas=[0.9, 0.95], eps=1e-8, weight_decay=0.0, clip_norm=None),
    scheduler=ConstantConfig(name="constant", warmup_steps=0),
    loss=LossConfig(normalisation="token"),
    total_steps=10,
    precision="fp32",
    max_skipped_steps=0,
)


def rows(objective: Objective) -> list[list[Document]]:
    """Six pairs, or six solutions with one to three judged steps each."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(6):
        row = []
        for _ in range(2 if objective == "pairwise" else 1):
            length = int(rng.integers(4, 12))
            places = [length - 1] if objective == "pairwise" else rng.choice(length, int(rng.integers(1, 4)), False)
            scored, labels = np.zeros(length, dtype=bool), np.zeros(length, dtype=np.float32)
            scored[places] = True
            labels[places] = rng.choice([0.0, 0.25, 1.0], len(places))
            row.append(Document(rng.integers(0, 90, length), scored, streams={LABEL: labels}))
        found.append(row)
    return found


def module_for(objective: Objective, loss: LossConfig) -> RewardModule:
    settings = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    cfg = ModelConfig.model_validate({"architecture": "llama", "config": settings | {"initializer_range": 0.2}})
    supervision: Any = "outcome" if objective == "pairwise" else "process"
    model = build_reward_model(cfg, 96, supervision=supervision, seed=1)
    with torch.no_grad():
        model.head_weight.normal_(generator=torch.Generator().manual_seed(2))
    return RewardModule(model, SETTINGS.__class__(**{**SETTINGS.__dict__, "loss": loss}), objective)


def gradients(module: RewardModule, batch: StepBatch, ranks: int = 1) -> dict[str, torch.Tensor]:
    """What the step hands to the optimiser; nothing is updated."""
    trainer = mock.Mock(world_size=ranks)
    trainer.strategy = mock.Mock(spec=[])
    with (
        mock.patch.object(RewardModule, "trainer", trainer),
        mock.patch.object(RewardModule, "manual_backward", lambda self, loss: loss.backward()),
        mock.patch.object(RewardModule, "_update", lambda self, report, trained: trained),
    ):
        module.training_step(batch, 0)
    found = {name: torch.zeros_like(w) if w.grad is None else w.grad for name, w in module.model.named_parameters()}
    return {name: gradient.clone() for name, gradient in found.items()}


def assert_close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    for name, gradient in one.items():
        torch.testing.assert_close(gradient, other[name], rtol=1e-4, atol=1e-6, msg=name)


LOSSES = [LossConfig(normalisation="token"), LossConfig(normalisation="sequence")]


@pytest.mark.parametrize("loss", LOSSES, ids=["token", "sequence"])
@pytest.mark.parametrize("objective", ["pairwise", "pointwise"])
def test_gradient_against_plain_pytorch(objective: Objective, loss: LossConfig) -> None:
    """One document at a time through the model, PyTorch's losses, means by hand."""
    module = module_for(objective, loss)
    found = gradients(module, value_batch(rows(objective), 64))
    plain = module_for(objective, loss)
    terms, per_solution = [], []
    for row in rows(objective):
        values = [plain.model.values(torch.tensor(d.ids), Varlen.from_lengths([len(d.ids)])) for d in row]
        if objective == "pairwise":
            terms.append(-F.logsigmoid(values[0][-1] - values[1][-1]))
        else:
            labels = torch.from_numpy(row[0].streams[LABEL][row[0].trained])
            losses = F.binary_cross_entropy_with_logits(values[0][row[0].trained], labels, reduction="none")
            terms += losses.unbind()
            per_solution.append(losses.mean())
    by_solution = objective == "pointwise" and loss.normalisation == "sequence"
    wanted = torch.stack(per_solution if by_solution else terms).mean()
    wanted.backward()
    assert module.report.loss == pytest.approx(float(wanted.detach()), rel=1e-5)
    assert_close(found, {name: w.grad for name, w in plain.model.named_parameters() if w.grad is not None})


@pytest.mark.parametrize("objective", ["pairwise", "pointwise"])
def test_the_split_into_microbatches_changes_nothing(objective: Objective) -> None:
    for loss in LOSSES:
        whole = value_batch(rows(objective), 10_000)
        assert len(whole.microbatches) == 1
        module = module_for(objective, loss)
        wanted, report = gradients(module, whole), module.report
        for limit in (1, 20, 40):
            split = value_batch(rows(objective)[::-1], limit)
            assert len(split.microbatches) > 1
            other = module_for(objective, loss)
            assert_close(gradients(other, split), wanted)
            assert other.report.loss == pytest.approx(report.loss, rel=1e-5)
            assert other.report.extra == pytest.approx(report.extra, rel=1e-4)


def _share(objective: Objective, ranks: int) -> Any:
    """One rank's share of a step of five examples and the sum of all gradients; the second rank has less."""
    rank = dist.get_rank() if ranks > 1 else 0
    stream = StepStream(_Rows(objective), 5, 6, 40, rank=rank, shares=ranks, batch=value_batch)
    module = module_for(objective, LOSSES[0])
    found = []
    for step in (0, 1):  # of the second step there is one example: nothing for the second rank
        module.model.zero_grad()
        one = gradients(module, stream[step], ranks)
        if ranks > 1:
            for gradient in one.values():
                dist.all_reduce(gradient)
        found.append((one, module.report))
    return found


class _Rows:
    """The examples by number."""

    def __init__(self, objective: Objective) -> None:
        self.rows = rows(objective)

    def __getitems__(self, numbers: Any) -> list[list[Document]]:
        return [self.rows[number] for number in numbers]


def test_two_ranks_compute_what_one_does() -> None:
    for objective in ("pairwise", "pointwise"):
        alone = _share(objective, 1)  # type: ignore[arg-type]
        for together in run_ranks(2, _share, objective, 2):
            for (one, report), (other, other_report) in zip(alone, together, strict=True):
                assert_close(other, one)
                assert other_report.loss == pytest.approx(report.loss, rel=1e-5)
                assert (other_report.sequences, other_report.tokens) == (report.sequences, report.tokens)
                assert other_report.extra == pytest.approx(report.extra, rel=1e-4)


@pytest.mark.parametrize("objective", ["pairwise", "pointwise"])
def test_nothing_to_score_gives_a_gradient_of_zero(objective: Objective) -> None:
    """On a rank without work, whichever way the micro-batch of nothing was made."""
    for batch in (collate([NOTHING]), collate_values([NOTHING])):
        module = module_for(objective, LOSSES[0])
        weighted, _, told = module.forward_microbatch(batch)
        weighted.backward()
        assert all(w.grad is not None and not w.grad.any() for w in module.model.parameters())
        assert list(told) == list(module.forward_microbatch(value_batch(rows(objective), 99).microbatches[0])[2])


# ---------------------------------------------------------------- measures


def test_auc_counts_pairs() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores, good = rng.integers(0, 6, 30).astype(float), rng.random(30) < 0.4
        ahead = [(a > b) + 0.5 * (a == b) for a in scores[good] for b in scores[~good]]
        assert auc(scores, good) == pytest.approx(np.mean(ahead))
    assert auc(np.ones(3), np.ones(3, dtype=bool)) is None


def test_pairs_and_the_best_stay_within_a_question() -> None:
    scores, groups = np.array([3.0, 1.0, 9.0, 0.0, 5.0, 5.0]), np.array([1, 1, 2, 2, 3, 3])
    good = np.array([True, False, False, False, True, False])
    assert pair_accuracy(scores, good, groups) == pytest.approx((1 + 0.5) / 2)
    assert best_of_n(scores, good, groups) == pytest.approx(((1 + 0 + 0.5) / 3, (0.5 + 0 + 0.5) / 3))
    assert best_of_n(scores[:1], good[:1], groups[:1]) is None


def test_calibration_by_hand() -> None:
    probabilities, labels = np.array([0.95, 0.91, 0.05, 0.31, 1.0]), np.array([1.0, 0.0, 0.0, 1.0, 1.0])
    bins = [abs(0.95 + 0.91 + 1.0 - 2), 0.05, 0.69]
    assert calibration_error(probabilities, labels) == pytest.approx(sum(bins) / 5)
    assert brier(probabilities, labels) == pytest.approx(np.mean([0.05**2, 0.91**2, 0.05**2, 0.69**2, 0]))


# ---------------------------------------------------------------- rows


def test_math_shepherds_line() -> None:
    text = "Jan has 2. How many? Step 1: She has 2 ки\nStep 2: 2 + 2 = 5 ки\nStep 3: The answer is: 5 ки"
    judged = text.replace("2 ки", "2 +", 1).replace("5 ки", "5 -")
    (found,) = read_row({"input": text, "label": judged, "task": "GSM8K"})
    assert found.prompt == "Jan has 2. How many?"
    assert found.solution == "Step 1: She has 2\nStep 2: 2 + 2 = 5\nStep 3: The answer is: 5"
    assert (found.step_labels, found.label) == ((1.0, 0.0, 0.0), 0.0)
    assert [found.solution[:end].rpartition("\n")[2] for end in found.step_ends] == found.solution.split("\n")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "q", "completion": "a"}, "are none of"),
        ({"prompt": "q", "completion": "a", "label": 2}, "neither true, false nor a number from 0 to 1"),
        ({"prompt": "q", "completion": "a", "label": "good"}, "neither true"),
        ({"prompt": " ", "completion": "a", "label": 1}, "prompt must be a text"),
        ({"prompt": "q", "chosen": "a", "rejected": "a"}, "the same text"),
        ({"prompt": "q", "chosen": "a"}, "rejected must be a text"),
        ({"prompt": "q", "steps": ["a", "b"], "labels": [1]}, "2 steps have 1 labels"),
        ({"prompt": "q", "steps": ["a", " "], "labels": [1, 0]}, "a step without text"),
        ({"prompt": "q", "steps": "a", "labels": [1]}, "a list of strings"),
        ({"prompt": "q", "steps": [], "labels": []}, "there is no step"),
        ({"input": "q Step 1: a ки", "label": "q Step 1: b +"}, r"with \+ or - in place"),
        ({"input": "q Step 1: a", "label": "q Step 1: a"}, "behind each step"),
        ({"input": "Step 1: a ки", "label": "Step 1: a +"}, "no question"),
    ],
)
def test_rows_that_cannot_be_used_say_why(row: dict[str, Any], reason: str) -> None:
    with pytest.raises(RowError, match=reason):
        read_row(row)


@pytest.mark.parametrize("template", ["chat", "plain"])
def test_steps_end_where_their_lines_do(template: str, tmp_path: Path) -> None:
    """The text up to a step's token ends with that step's line end; the last step's with the text."""
    own = load_tokenizer(str(tokenizer(tmp_path)))
    steps = ["1 + 2 = 3", "3 + 30 = 33", "so 33 ёж"]
    (row,) = read_row({"prompt": "1 + 2 + 30", "steps": steps, "labels": [True, 0.5, 0]})
    found = tokenise(row, own, TEMPLATES[template])
    assert found.ids[-1] == own.eos_token_id
    assert own.decode(found.ids[found.prompt : -1].tolist()).strip() == "\n".join(steps)
    for number, mark in enumerate(found.marks, start=1):
        said = own.decode(found.ids[found.prompt : mark + 1].tolist()).lstrip()
        assert said == "\n".join(steps[:number]) + ("\n" if number < 3 else "")
    assert found.labels.tolist() == [1.0, 0.5, 0.0]


def test_text_and_rollouts_agree_on_steps(tmp_path: Path) -> None:
    from dsm.config.rollout import StepsConfig
    from dsm.rollout.steps import StepFinder
    from dsm.rollout.stops import Detokenizer

    own = load_tokenizer(str(tokenizer(tmp_path)))
    (row,) = read_row({"prompt": "q", "steps": ["1 + 2 = 3", "3 + 4 = 7", "7"], "labels": [1, 1, 1]})
    found = tokenise(row, own, CHAT)
    finder = StepFinder(Detokenizer(own, len(own)), StepsConfig.model_validate({"split": "lines"}))
    ends = finder.ends(found.ids[found.prompt :].tolist(), ended=True)
    assert [found.prompt + end for end in ends] == found.marks.tolist()


def test_hard_labels_are_of_any_success(tmp_path: Path) -> None:
    """And an outcome is judged at the last token, the EOS."""
    own = load_tokenizer(str(tokenizer(tmp_path)))
    (row,) = read_row({"prompt": "q", "steps": ["1", "2", "3"], "labels": [1.0, 0.125, 0], "label": 0})
    found = tokenise(row, own, CHAT)
    assert _scored(found, "process", "soft").labels.tolist() == [1.0, 0.125, 0.0]
    assert _scored(found, "process", "hard").labels.tolist() == [1.0, 1.0, 0.0]
    outcome = _scored(found, "outcome", "hard")
    assert (outcome.marks.tolist(), outcome.labels.tolist()) == ([len(found.ids) - 1], [0.0])


# ---------------------------------------------------------------- pairs


def solutions(outcomes: list[float], questions: list[int], partners: list[int] | None = None) -> Solutions:
    count = len(outcomes)
    ones, zeros = np.ones(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    return Solutions(
        ids=np.zeros(count, dtype=np.int32), starts=np.arange(count), lengths=ones, sources=zeros,
        questions=np.asarray(questions, dtype=np.uint64), outcomes=np.asarray(outcomes, dtype=np.float32),
        partners=np.asarray(partners or [0] * count), marks=np.zeros(count, dtype=np.int32),
        labels=np.asarray(outcomes, dtype=np.float32), mark_starts=np.arange(count), mark_counts=ones,
    )  # fmt: skip


def test_pairs_are_of_one_question_and_use_every_solution() -> None:
    found = solutions([1, 0, 1, 0, 0, 1, 1, 1, 0], [7, 7, 7, 7, 7, 8, 8, 9, 9], [0] * 7 + [1, 2])
    every = {tuple(pair) for pair in pairs_of(found, None, seed=0).tolist()}
    assert every == {(r, w) for r in (0, 2) for w in (1, 3, 4)} | {(7, 8)}
    for seed in range(5):
        some = pairs_of(found, 3, seed).tolist()
        assert len(some) == 4
        assert {pair[1] for pair in some} == {1, 3, 4, 8}
        assert {pair[0] for pair in some} == {0, 2, 7}
        assert {tuple(pair) for pair in some} <= every
    assert len({json.dumps(pairs_of(found, 3, seed).tolist()) for seed in range(5)}) > 1


def test_of_a_given_pair_both_are_kept_or_none() -> None:
    found = solutions([1, 0, 1, 0, 1], [1, 1, 2, 2, 3], [1, 2, 1, 2, 0])
    kept = _whole_pairs(found, np.array([True, False, True, True, False]))
    assert kept.tolist() == [False, False, True, True, False]


def test_questions_are_held_out_whole_and_by_their_text() -> None:
    rng = np.random.default_rng(0)
    questions = rng.integers(0, 40, 200).tolist()
    found = solutions([0.0] * 200, questions)
    train, held = hold_out(found, 0.2, 1000)
    assert not set(train.questions.tolist()) & set(held.questions.tolist())
    assert 0.1 < len(held) / 200 <= 0.2
    again = hold_out(found.select(rng.permutation(200)), 0.2, 1000)[1]
    assert set(again.questions.tolist()) == set(held.questions.tolist())
    assert len(hold_out(found, 0.2, 7)[1]) <= 7
