"""Benchmarks of code (HumanEval, MBPP): from a completion to a program, and from its tests to a verdict."""

from __future__ import annotations

import re
import secrets
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from dsm.answers.verdict import Verdict
from dsm.config.tools import ToolConfig
from dsm.sandbox import Execution, Program, Sandbox
from dsm.tools.blocks import find_blocks
from dsm.tools.inside import calling

STOPS = ("\nclass ", "\ndef ", "\n#", "\nif ", "\nprint", "\n@", "\n```")
"""Where a completed function ends: the strings of the HumanEval paper (Chen et al. 2021), a decorator, a fence."""


@dataclass(frozen=True, slots=True)
class CodeTask:
    """A completion to be tested.

    `prompt` is what the completion goes on from, a function's head in Python; "" if the prompt is no code (MBPP).
    `tests` is a program that fails by an exception: asserts, or `def check` and its call. `entry_point` is the name of
    the tested function, where there is one.
    """

    completion: str
    tests: str
    prompt: str = ""
    entry_point: str | None = None


def assemble(task: CodeTask, stops: Sequence[str] = STOPS) -> str | None:
    """The program in a completion; None if there is none.

    With a code fence (tuned models): the last ```python block, or the last block if none says python. If it defines the
    entry point, what precedes that function in the prompt (imports, helpers) goes before it; otherwise it is the
    function's body. Without a fence (base models): the prompt, and the completion up to the first of `stops`; if there
    is no prompt, the completion.
    """
    blocks = [block for block in find_blocks(task.completion) if block.code.strip()]
    blocks = [block for block in blocks if block.is_python] or blocks
    if not blocks:
        return _continued(task, stops)
    code = blocks[-1].code
    if not task.prompt:
        return code
    if task.entry_point is None or _defines(code, task.entry_point):
        return _head(task) + code
    return task.prompt.rstrip("\n") + "\n" + _as_body(code)


def _continued(task: CodeTask, stops: Sequence[str]) -> str | None:
    text = task.completion
    if not text.strip():
        return None
    if not task.prompt:
        return text.strip("\n")
    if task.entry_point and _defines(text, task.entry_point):  # the whole function once more, without a fence
        return _head(task) + text[text.index(f"def {task.entry_point}") :]
    text = text[: min((text.find(stop) for stop in stops if stop in text), default=len(text))]
    if text.startswith((" ", "\t", "\n")) and not task.prompt.endswith("\n"):
        return task.prompt + text
    return task.prompt.rstrip("\n") + "\n" + _as_body(text)


def _defines(code: str, name: str) -> bool:
    return re.search(rf"^(?:async\s+)?(?:def|class)\s+{re.escape(name)}\b", code, re.MULTILINE) is not None


def _head(task: CodeTask) -> str:
    """What the prompt has before the function to complete."""
    if task.entry_point is None:
        return ""
    found = re.search(rf"^(?:@.*\n)*(?:async\s+)?def\s+{re.escape(task.entry_point)}\b", task.prompt, re.MULTILINE)
    return task.prompt[: found.start()] if found else ""


def _as_body(text: str) -> str:
    """Statements as the body of a function of the prompt's: indented, unless they are.

    The first line may lack its indentation alone, since the prompt can end with it.
    """
    lines = text.strip("\n").split("\n")
    rest = [line for line in lines[1:] if line.strip()]
    if lines[0][:1].isspace():
        return "\n".join(lines)
    if rest and all(line[0].isspace() for line in rest) and not lines[0].rstrip().endswith((":", "(", "[", "{", "\\")):
        return "\n".join([f"    {lines[0]}", *lines[1:]])
    return textwrap.indent("\n".join(lines), "    ")


def run_tests(tasks: Sequence[CodeTask], sandbox: Sandbox, config: ToolConfig) -> list[Verdict]:
    """Run each completion's program and its tests, all as one batch.

    "correct" is said only of a program whose tests ran to their end without an exception; `dsm.tools.inside.examiner`
    says what it cannot do to get there. "wrong" has a reason: "failed", "error: NameError: ...", "timeout", "memory",
    "output", or "ended early". "ungradable" are a completion without a program and tests that do not parse.
    """
    programs = [assemble(task) for task in tasks]
    words = [secrets.token_hex(16) for _ in tasks]
    to_run = [
        _examination(task, program, word, config.timeout_s)
        for task, program, word in zip(tasks, programs, words, strict=True)
        if program is not None
    ]
    executions = iter(sandbox.run(to_run))
    return [
        Verdict("ungradable", "no program") if program is None else _verdict(next(executions), word)
        for program, word in zip(programs, words, strict=True)
    ]


def _examination(task: CodeTask, program: str, word: str, timeout_s: float | None) -> Program:
    call = calling("examiner", "examine", program, task.tests, task.entry_point, word)
    return Program("", result=call, timeout_s=timeout_s)


def _verdict(execution: Execution, word: str) -> Verdict:
    if execution.status == "ok" and execution.value == word:
        return Verdict("correct", "tests passed")
    if execution.status == "ok" and execution.value:
        return Verdict("wrong", execution.value)
    if execution.status in ("ok", "crashed"):
        return Verdict("wrong", "ended early")
    if execution.status == "error":
        return Verdict("ungradable", "the tests cannot be read")
    return Verdict("wrong", execution.status)
