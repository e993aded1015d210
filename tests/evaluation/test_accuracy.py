"""Greedy accuracy: which box counts, and that a model's right and wrong answers are told apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from dsm.config.model import ModelConfig
from dsm.data.formats import Example, render, tokenise_example
from dsm.data.layouts import Turn
from dsm.data.problems import Problem, generate_problems
from dsm.data.tokenizer import train_tokenizer
from dsm.evaluation.accuracy import AccuracyReport, greedy_accuracy, last_boxed
from dsm.models.build import build_model
from dsm.ops.varlen import Varlen

TINY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"The answer is \boxed{42}.", "42"),
        (r"first \boxed{1}, then \boxed{ 2 }", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"{an open brace \boxed{7}", "7"),
        (r"a closed one } \boxed{7}", "7"),
        (r"\boxed{3} and unfinished \boxed{4", "3"),
        (r"\boxed{\frac{1}{2}", None),
        (r"\boxed{}", ""),
        (r"\boxed 5, boxed{5}, {5}", None),
        ("", None),
    ],
)
def test_the_last_balanced_box(text: str, content: str | None) -> None:
    assert last_boxed(text) == content


class Echo:
    """Stands in for a model: answers each prompt by a fixed text and records the calls."""

    def __init__(self, tokenizer: Any, answers: Sequence[str]) -> None:
        self.answers = [tokenizer(answer, add_special_tokens=False)["input_ids"] for answer in answers]
        self.prompts: list[list[int]] = []
        self.calls: list[tuple[int, int]] = []

    def generate(self, prompts: Sequence[list[int]], max_new_tokens: int, *, eos_token_id: int) -> list[list[int]]:
        self.calls.append((len(prompts), max_new_tokens))
        self.prompts += prompts
        return [self.answers.pop(0) for _ in prompts]


def test_counting_order_and_batches() -> None:
    problems = generate_problems(5, seed=1)
    tokenizer = train_tokenizer([p.question + p.solution for p in problems], 320)
    boxes = [p.answer for p in problems]
    answers = [f"so \\boxed{{{boxes[0]}}}", "no box", f" {problems[2].solution} ", f"\\boxed{{{boxes[3]}0}}", boxes[4]]
    echo = Echo(tokenizer, answers)
    report = greedy_accuracy(echo, tokenizer, problems, max_new_tokens=7, batch_size=2)  # type: ignore[arg-type]

    assert (report.correct, report.total, report.accuracy) == (2, 5, 0.4)
    assert [output.correct for output in report.outputs] == [True, False, True, False, False]
    assert [output.answer for output in report.outputs] == [boxes[0], None, boxes[2], f"{boxes[3]}0", None]
    assert report.outputs[2].text == problems[2].solution
    assert echo.calls == [(2, 7), (2, 7), (1, 7)]
    for problem, prompt in zip(problems, echo.prompts, strict=True):
        assert tokenizer.decode(prompt) == f"{tokenizer.bos_token}User: {problem.question}\n\nAssistant:"


def solve(model: Any, tokenizer: Any, problems: list[Problem]) -> AccuracyReport:
    return greedy_accuracy(model, tokenizer, problems, max_new_tokens=64, batch_size=3)


def test_a_model_that_has_learnt_four_problems_by_heart() -> None:
    """The prompt that is asked with is the prompt that was trained on: memorised answers come back to the letter."""
    problems = generate_problems(4, seed=2, steps=(1, 1))
    tokenizer = train_tokenizer([p.question + p.solution for p in problems], 400)
    model = build_model(ModelConfig(architecture="llama", config=TINY), len(tokenizer), seed=0)
    assert solve(model, tokenizer, problems).correct == 0

    rows = []
    for problem in problems:
        turns = (Turn("user", problem.question, False), Turn("assistant", problem.solution, True))
        rows.append(tokenise_example(render(Example(turns, "", "", "cot")), tokenizer))
    ids = torch.tensor([token for row, _ in rows for token in row])
    trained = torch.tensor([flag for _, flags in rows for flag in flags])
    targets = torch.where(trained.roll(-1), ids.roll(-1), -100)  # BOS is never trained, so no target crosses a border
    varlen = Varlen.from_lengths([len(row) for row, _ in rows])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(80):
        logprobs, _ = model.logprobs(ids, varlen, targets)
        (-logprobs.sum() / trained.sum()).backward()
        optimizer.step()
        optimizer.zero_grad()

    report = solve(model, tokenizer, problems)
    assert report.correct == report.total == 4
    assert [output.text for output in report.outputs] == [problem.solution for problem in problems]
