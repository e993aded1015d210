"""From what the model wrote to verdicts: find the answer or run the program, then compare.

How an answer is found and how it is compared are apart, and both are recorded, so that a wrong score can be traced to
either. All waiting happens in the pools (answers, sandbox): judging from several threads at once is safe and useful.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

from dsm.answers import GraderPool, equivalence_classes, extract
from dsm.config.tools import ToolConfig
from dsm.evaluation.benchmarks import Item
from dsm.evaluation.choices import ChoiceScores, Normalisation
from dsm.evaluation.columns import LETTERS
from dsm.evaluation.records import Sample
from dsm.rollout.engine import Completion
from dsm.sandbox import Execution, Sandbox
from dsm.tools.code_tests import CodeTask, run_tests
from dsm.tools.program import run_programs
from dsm.tools.tool_use import Trajectory

Written = Completion | Trajectory
Judge = Callable[[Item, Sequence[Written]], tuple[Sample, ...]]
"""From an item and all that was written for it to as many samples, their classes included."""


class AnswerJudge:
    """Finds the answer in the text and compares it with the reference answer."""

    def __init__(self, extractor: str, pool: GraderPool) -> None:
        self.extractor, self.pool = extractor, pool

    def __call__(self, item: Item, completions: Sequence[Written]) -> tuple[Sample, ...]:
        """One sample a completion."""
        found = [extract(completion.text, self.extractor) for completion in completions]
        samples = [
            _sample(completion, extraction.answer, extraction.rule, extraction.flags)
            for completion, extraction in zip(completions, found, strict=True)
        ]
        return compared(item, samples, self.pool)


class ProgramJudge:
    """Runs the program in the text; what it computes is the answer."""

    def __init__(self, sandbox: Sandbox, tools: ToolConfig, pool: GraderPool, result: str | None = None) -> None:
        self.sandbox, self.tools, self.pool, self.result = sandbox, tools, pool, result

    def __call__(self, item: Item, completions: Sequence[Written]) -> tuple[Sample, ...]:
        """One sample a completion; a program without an answer says why in `reason`."""
        found = run_programs([completion.text for completion in completions], self.sandbox, self.tools, self.result)
        samples = [
            replace(
                _sample(completion, program.answer, program.rule, reason=program.failure or ""),
                detail={"program": program.program, **_execution(program.execution)},
            )
            for completion, program in zip(completions, found, strict=True)
        ]
        return compared(item, samples, self.pool)


class TestsJudge:
    """Runs the item's tests on the program in the text; there is no answer to vote on."""

    def __init__(self, sandbox: Sandbox, tools: ToolConfig) -> None:
        self.sandbox, self.tools = sandbox, tools

    def __call__(self, item: Item, completions: Sequence[Written]) -> tuple[Sample, ...]:
        """One sample a completion."""
        prompt = item.question if item.entry_point else ""  # a function's head to complete, or a task in words
        tasks = [CodeTask(written.text, item.tests, prompt, item.entry_point or None) for written in completions]
        verdicts = run_tests(tasks, self.sandbox, self.tools)
        return tuple(
            replace(_sample(written, written.text, "program"), verdict=verdict.outcome, reason=verdict.reason)
            for written, verdict in zip(completions, verdicts, strict=True)
        )


def chosen(item: Item, scores: ChoiceScores, normalisation: Normalisation) -> Sample:
    """The most probable choice; all scores are kept."""
    letter = scores.chosen(normalisation)
    return Sample(
        output=item.choices[LETTERS.index(letter)],
        answer=letter,
        rule="likelihood",
        verdict="correct" if letter == item.gold else "wrong",
        reason="choice",
        klass=LETTERS.index(letter),
        detail={"logprobs": scores.logprobs, "tokens": scores.tokens, "bytes": scores.bytes},
    )


def compared(item: Item, samples: Sequence[Sample], pool: GraderPool) -> tuple[Sample, ...]:
    """The samples with verdicts on their answers, and with classes of answers that mean the same."""
    answers = [sample.answer for sample in samples]
    verdicts = pool.grade([(item.gold, answer) for answer in answers])
    classes = equivalence_classes(answers, pool) if len(answers) > 1 else [0 if answers[0] is not None else None]
    return tuple(
        replace(sample, verdict=verdict.outcome, reason=sample.reason or verdict.reason, klass=klass)
        for sample, verdict, klass in zip(samples, verdicts, classes, strict=True)
    )


def _sample(written: Written, answer: str | None, rule: str, flags: tuple[str, ...] = (), reason: str = "") -> Sample:
    """A sample whose answer is not compared yet."""
    calls = {"calls": [asdict(call) for call in written.calls]} if isinstance(written, Trajectory) else {}
    return Sample(
        output=written.text,
        answer=answer,
        rule=rule,
        verdict="ungradable",
        reason=reason,
        flags=flags,
        tokens=written.action_tokens if isinstance(written, Trajectory) else len(written.token_ids),
        finish_reason=written.finish_reason,
        detail=calls,
    )


def _execution(execution: Execution | None) -> dict[str, object]:
    """How a program ended, for the record."""
    if execution is None:
        return {}
    return {"status": execution.status, "stdout": execution.stdout, "stderr": execution.stderr}
