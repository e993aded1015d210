"""How many problems a model solves: one greedy answer each, its last box compared with the known answer as text.

That is enough where an answer has one way to be written, as the quickstart's whole numbers have.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from dsm.data.formats import render_prompt, tokenise_example
from dsm.data.layouts import Turn
from dsm.data.problems import Problem
from dsm.models.wrapper import CausalLM

_BOX = "\\boxed{"
_BRACES = re.compile(r"\\boxed\{|\\.|[{}]", re.DOTALL)  # \\. steps over escaped braces


@dataclass(frozen=True)
class Output:
    """What the model said to one problem; `answer` is what stands in its last box, None where there is none."""

    text: str
    answer: str | None
    correct: bool


@dataclass(frozen=True)
class AccuracyReport:
    """`correct` of `total`, and the outputs in the order of the problems."""

    correct: int
    total: int
    outputs: tuple[Output, ...]

    @property
    def accuracy(self) -> float:
        """The share that is correct, 0 to 1."""
        return self.correct / self.total


def greedy_accuracy(
    model: CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    *,
    max_new_tokens: int = 256,
    batch_size: int = 64,
) -> AccuracyReport:
    """Answer every problem greedily in the chat form it was trained in; at least one problem.

    An answer that is not finished after `max_new_tokens` is judged as it stands.
    """
    prompts = [
        tokenise_example(render_prompt([Turn("user", problem.question, False)]), tokenizer)[0] for problem in problems
    ]
    outputs: list[Output] = []
    for start in range(0, len(prompts), batch_size):
        answers = model.generate(
            prompts[start : start + batch_size], max_new_tokens, eos_token_id=tokenizer.eos_token_id
        )
        for problem, ids in zip(problems[start:], answers, strict=False):
            text = tokenizer.decode(ids).strip()
            answer = last_boxed(text)
            outputs.append(Output(text, answer, correct=answer == problem.answer.strip()))
    return AccuracyReport(sum(output.correct for output in outputs), len(outputs), tuple(outputs))


def last_boxed(text: str) -> str | None:
    r"""What stands in the last `\boxed{...}` whose braces balance, trimmed; None where there is none."""
    opened: list[int | None] = []  # one entry per open brace: where a box's content begins, None for other braces
    last = None
    for mark in _BRACES.finditer(text):
        if mark[0] in (_BOX, "{"):
            opened.append(mark.end() if mark[0] == _BOX else None)
        elif mark[0] == "}" and opened:
            begin = opened.pop()
            last = last if begin is None else text[begin : mark.start()].strip()
    return last
