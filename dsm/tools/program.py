"""Program of thought: the model writes a program, and the answer is what the program computes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dsm.config.tools import ToolConfig
from dsm.sandbox import Execution, Program, Sandbox
from dsm.tools.blocks import find_blocks
from dsm.tools.inside import calling

Failure = Literal["no program", "error", "timeout", "memory", "output", "killed", "crashed", "no answer"]

_RESULTS = ("solution()", "answer")
# A line that stands at the left margin of a Python program. In prose, no name is followed by `=` or by `(...)` alone.
_STATEMENT = re.compile(
    r"(?:def|class|import|from|if|elif|for|while|with|try|except|finally|else|return|assert|print|raise|del|global)\b.*"
    r"|[@#)\]}].*|\"\"\".*|'''.*|pass|break|continue"
    r"|[^\W\d]\w*(?:[.\[][^=\s]*)?(?:\s*,\s*[^\W\d][\w.\[\]]*)*\s*(?::[^=]*)?(?:[-+*/%@&|^]|//|\*\*|<<|>>)?=(?!=).*"
    r"|[^\W\d][\w.]*\((?:.*[)(,\[{])?\s*(?:#.*)?"
)
_COMPOUND = re.compile(r"(?:def|class|if|elif|for|while|with|try|except|finally|else)\b(?!.*:\s*(?:#.*)?$)")


@dataclass(frozen=True, slots=True)
class ProgramAnswer:
    """What a completion's program answered.

    `answer` is bare text for a grader. `rule` says where it was read: "solution()", "answer" or "printed". Either there
    is an answer, or `failure` says why not; a program that ended in an error has no answer, whatever it printed.
    `execution` is None where there was no program.
    """

    answer: str | None
    rule: str
    failure: Failure | None
    program: str | None = None
    execution: Execution | None = None


def extract_program(text: str) -> str | None:
    """The program in a completion: the last ```python block, closed or not; else unlabelled blocks; else bare code.

    A block that holds imports only goes before the program, also if it follows it as in DeepSeekMath's few-shot prompt
    for MATH. Without any fence, the program is the first run of lines that look like Python.
    """
    if not any(block.is_python for block in find_blocks(text)) and _fence_opened_before(text):
        text = f"```\n{text}"
    blocks = find_blocks(text)
    for wanted in (lambda block: block.is_python, lambda block: block.language == ""):
        codes = [block.code for block in blocks if wanted(block) and block.code.strip()]
        imports = [code for code in codes if _imports_only(code)]
        programs = [code for code in codes if code not in imports]
        if programs:
            return "\n".join([*imports, programs[-1]])
    return _bare_code(text)


def _fence_opened_before(text: str) -> bool:
    """Whether the prompt ended with an opening fence: the text starts with code, and its first fence closes it."""
    lines = text.split("\n")
    first = next((line for line in lines if line.strip()), "")
    fence = next((line.strip() for line in lines if line.strip().startswith("```")), None)
    return fence == "```" and _is_statement(first)


def _imports_only(code: str) -> bool:
    lines = [line.strip() for line in code.splitlines()]
    return all(not line or line.startswith(("import ", "from ", "#")) for line in lines)


def _bare_code(text: str) -> str | None:
    lines = text.split("\n")
    start = next((i for i, line in enumerate(lines) if _is_statement(line)), None)
    if start is None:
        return None
    code: list[str] = []
    quotes = 0  # inside a triple-quoted string while odd
    for line in lines[start:]:
        indented = not line.strip() or line[0].isspace()
        if not (indented or quotes % 2 or _is_statement(line)):
            break
        code.append(line)
        quotes += line.count('"""') + line.count("'''")
    return "\n".join(code).strip("\n")


def _is_statement(line: str) -> bool:
    return _STATEMENT.fullmatch(line) is not None and _COMPOUND.match(line) is None


def answering_program(code: str, result: str | None = None, timeout_s: float | None = None) -> Program:
    """`code` as a program whose value is its answer: that of `result`, else `solution()`, else `answer`.

    Each is passed over if the program does not have it, if it is None, or if the function wants arguments.
    """
    wanted = list(dict.fromkeys([*([result] if result else []), *_RESULTS]))
    return Program(code, result=calling("values", "report", wanted), timeout_s=timeout_s)


def read_answer(program: str, execution: Execution) -> ProgramAnswer:
    """The answer of an `answering_program` that has run: its value, else the last line that it printed."""
    if execution.status != "ok":
        return ProgramAnswer(None, "", execution.status, program, execution)
    rule, _, answer = (execution.value or "").partition("\n")
    if not answer:
        printed = [line.strip() for line in execution.stdout.splitlines() if line.strip()]
        rule, answer = ("printed", _number(printed[-1])) if printed else ("", "")
    if not answer:
        return ProgramAnswer(None, "", "no answer", program, execution)
    return ProgramAnswer(answer, rule, None, program, execution)


def _number(text: str) -> str:
    """A printed line; one that is a float and nothing else is cleaned as a value would be."""
    from dsm.tools.inside.values import write

    if re.fullmatch(r"[-+]?(?:\d+\.\d*|\.\d+|\d+(?=e))(?:e[-+]?\d+)?", text, re.IGNORECASE):
        return write(float(text)) or ""
    return "" if text in ("None", "nan") else text


def run_programs(
    completions: Sequence[str], sandbox: Sandbox, config: ToolConfig, result: str | None = None
) -> list[ProgramAnswer]:
    """Run the program of each completion, all as one batch, and read their answers.

    `result` is what to look at first, a name or a call without arguments ("answer", "solution()").
    """
    programs = [extract_program(text) for text in completions]
    to_run = [answering_program(code, result, config.timeout_s) for code in programs if code is not None]
    executions = iter(sandbox.run(to_run))
    return [
        ProgramAnswer(None, "", "no program") if code is None else read_answer(code, next(executions))
        for code in programs
    ]
