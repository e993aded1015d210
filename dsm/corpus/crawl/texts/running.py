"""Runs programs that this package itself has written, so that what their texts say of results is what came out."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable
from typing import Any


def printed(program: str) -> str:
    """What the program prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(program, "<text>", "exec"), {"__name__": "text"})
    return out.getvalue()


def defined(program: str) -> dict[str, Any]:
    """The names that it leaves behind, as functions and values."""
    names: dict[str, Any] = {"__name__": "text"}
    exec(compile(program, "<text>", "exec"), names)
    return names


def session(statements: Iterable[str]) -> str:
    """An interactive session: each statement at its prompt, and below an expression what the interpreter answers."""
    names: dict[str, Any] = {}
    lines: list[str] = []
    for statement in statements:
        first, *more = statement.split("\n")
        lines += [f">>> {first}", *(f"... {line}" for line in more)]
        try:
            code = compile(statement, "<text>", "eval")
        except SyntaxError:
            exec(compile(statement, "<text>", "exec"), names)
            continue
        value = eval(code, names)
        if value is not None:
            lines.append(repr(value))
    return "\n".join(lines)
