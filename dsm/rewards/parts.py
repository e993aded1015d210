"""The parts of a reward that are rules: answers, programs, tests, form, length. Each scores one group at a time.

A part returns `Marks`: for every sample a number, None (it does not apply), or the reason why it could not be scored.
All waiting happens in pools of processes (answers, sandbox), so groups are scored in threads while others are written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dsm.answers import GraderPool, Verdict, extract
from dsm.answers.boxes import boxes
from dsm.config.reward import AnswerPart, CodePart, FormatPart, LengthPart, ProgramPart
from dsm.config.tools import ToolConfig
from dsm.rewards.gold import NoGoldError, column, read_gold
from dsm.rollout.record import Prompt, Rollout
from dsm.sandbox import Sandbox
from dsm.tools.blocks import find_blocks
from dsm.tools.code_tests import CodeTask, run_tests
from dsm.tools.program import ProgramAnswer, run_programs

Steps = NDArray[np.float64]


@dataclass
class Marks:
    """What a part says of the n samples of one call.

    Attributes:
        values: (n,) each a number, or None where the part does not apply or `faults` has the reason.
        faults: by sample, why it could not be scored.
        steps: under process supervision the rewards of each sample's steps; None where `values` is.
        metrics: numbers that a function of the user's has logged.
        notes: texts that it has logged, n a column.
    """

    values: list[float | None]
    faults: dict[int, str] = field(default_factory=dict)
    steps: list[Steps | None] | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, list[str]] = field(default_factory=dict)

    @classmethod
    def none(cls, n: int, reason: str) -> Marks:
        """No sample could be scored."""
        return cls([None] * n, dict.fromkeys(range(n), reason))


class Part(Protocol):
    """Scores the samples of one prompt; called from several threads at once."""

    def score(self, prompt: Prompt, rollouts: Sequence[Rollout], step: int) -> Marks:
        """One mark a rollout. `step` is the trainer's."""
        ...


# ---------------------------------------------------------------- rules that compare


class Answers:
    """1 where the answer in the text equals the reference answer."""

    def __init__(self, config: AnswerPart, pool: GraderPool) -> None:
        self.config, self.pool = config, pool

    def score(self, prompt: Prompt, rollouts: Sequence[Rollout], step: int) -> Marks:
        """One mark a rollout; no answer is a wrong answer."""
        found = [extract(rollout.text, self.config.extractor).answer for rollout in rollouts]
        return _compared(prompt, self.config, found, self.pool)


class Programs:
    """1 where the program in the text computes the reference answer."""

    def __init__(self, config: ProgramPart, pool: GraderPool, sandbox: Sandbox, tools: ToolConfig) -> None:
        self.config, self.pool, self.sandbox, self.tools = config, pool, sandbox, tools

    def score(self, prompt: Prompt, rollouts: Sequence[Rollout], step: int) -> Marks:
        """One mark a rollout; a program that fails has a wrong answer."""
        texts = [rollout.text for rollout in rollouts]
        found: list[ProgramAnswer] = run_programs(texts, self.sandbox, self.tools, self.config.result)
        return _compared(prompt, self.config, [program.answer for program in found], self.pool)


class Tests:
    """1 where the program in the text passes the row's tests."""

    def __init__(self, config: CodePart, sandbox: Sandbox, tools: ToolConfig) -> None:
        self.config, self.sandbox, self.tools = config, sandbox, tools

    def score(self, prompt: Prompt, rollouts: Sequence[Rollout], step: int) -> Marks:
        """One mark a rollout; no program is a wrong one, tests that cannot be read are a fault."""
        try:
            tests = column(prompt, self.config.tests)
            name = column(prompt, self.config.entry_point) if self.config.entry_point is not None else None
        except NoGoldError as error:
            return Marks.none(len(rollouts), str(error))
        head = prompt.question if name is not None else ""  # a function's head to complete, or a task in words
        tasks = [CodeTask(rollout.text, tests, head, name) for rollout in rollouts]
        verdicts = run_tests(tasks, self.sandbox, self.tools)
        return _judged(verdicts, blameless=("no program",))


def _compared(
    prompt: Prompt, config: AnswerPart | ProgramPart, answers: Sequence[str | None], pool: GraderPool
) -> Marks:
    try:
        gold = read_gold(prompt, config.gold, config.gold_form)
    except NoGoldError as error:
        return Marks.none(len(answers), str(error))
    itself, *verdicts = pool.grade([(gold, gold), *((gold, answer) for answer in answers)])
    if not itself.correct:
        reason = f"the reference answer {gold[:40]!r} does not equal itself ({itself.reason})"
        return Marks.none(len(answers), reason)
    return _judged(verdicts, blameless=("no answer", "empty answer"))


def _judged(verdicts: Sequence[Verdict], blameless: tuple[str, ...]) -> Marks:
    """Ungradable is a fault, not a wrong answer: a limit was hit. Except for those reasons, which are the answer's."""
    faults = {
        i: f"ungradable: {verdict.reason}"
        for i, verdict in enumerate(verdicts)
        if verdict.outcome == "ungradable" and verdict.reason not in blameless
    }
    return Marks([None if i in faults else float(verdict.correct) for i, verdict in enumerate(verdicts)], faults)


# ---------------------------------------------------------------- rules that look at the text alone


class Format:
    """1 where the answer has the form that is asked for. A pattern is searched elsewhere: see `functions`."""

    def __init__(self, config: FormatPart) -> None:
        self.config = config

    def score(self, prompt: Prompt, rollouts: Sequence[Rollout], step: int) -> Marks:
        """One mark a rollout."""
        return Marks([float(self.holds(rollout)) for rollout in rollouts])

    def holds(self, rollout: Rollout) -> bool:
        """Whether one answer has it, the pattern apart."""
        config = self.config
        return not (
            (config.box and not has_one_box(rollout.text))
            or (config.eos and rollout.finish_reason != "eos")
            or (config.fences and not has_good_fences(rollout))
        )


def has_one_box(text: str) -> bool:
    r"""Whether there is exactly one \boxed, and it is closed."""
    return len(boxes(text)) == 1 and "open box" not in extract(text, "boxed").flags


def has_good_fences(rollout: Rollout) -> bool:
    """Whether all fences pair up, programs are Python and every output block was put in, not written by the model."""
    blocks = find_blocks(rollout.text)
    marks = sum("```" in line for line in rollout.text.splitlines())
    outputs = sum(block.language == "output" for block in blocks)
    if not all(block.closed and (block.is_python or block.language == "output") for block in blocks):
        return False
    mask = rollout.action_mask[rollout.prompt_tokens :].astype(np.int8)
    put_in = int(np.count_nonzero(np.diff(mask, prepend=1) < 0))
    return marks == 2 * len(blocks) and outputs == put_in


class Length:
    """DAPO's soft punishment of overlong answers."""

    def __init__(self, config: LengthPart) -> None:
        self.config = config

    def score(self, prompt: Prompt, rollouts: Sequence[Rollout], step: int) -> Marks:
        """One mark a rollout."""
        return Marks([overlong(rollout.actions, self.config.max_tokens, self.config.buffer) for rollout in rollouts])


def overlong(tokens: int, max_tokens: int, buffer: int) -> float:
    """Eq. 13 of DAPO (arXiv 2503.14476): 0 up to max_tokens - buffer, -1 beyond max_tokens, linear in between."""
    return min(0.0, max(-1.0, (max_tokens - buffer - tokens) / buffer))


def cells(prompt: Prompt) -> dict[str, Any]:
    """The columns of a prompt's row that a function gets, less those whose names mean something else there."""
    return {name: value for name, value in prompt.columns.items() if name not in TAKEN}


TAKEN = frozenset(("prompt", "completion", "completion_ids", "prompts", "completions", "steps", "step_ends"))
"""Columns of these names are not passed on: TRL reads them itself, or a function would get the name twice."""
