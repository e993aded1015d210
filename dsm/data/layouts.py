"""The layouts a row may have, read into turns: lists of messages, prompt and completion, or named columns."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from dsm.config.data import SourceConfig

Role = Literal["system", "user", "assistant", "tool"]

# OpenAI's names and ShareGPT's.
_ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "human": "user",
    "gpt": "assistant",
}
_FOLLOWERS: dict[Role | None, tuple[Role, ...]] = {
    None: ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}


@dataclass(frozen=True, slots=True)
class Turn:
    """A stretch of the conversation, trained on or not.

    Consecutive assistant and tool turns are one message of the assistant's, joined as they are: a tool turn is what the
    interpreter wrote into that message, from its opening ```output to its closing fence.
    """

    role: Role
    content: str
    train: bool


class RowError(Exception):
    """Why a row cannot be used; `format_record` turns it into a `Rejected`."""


def read_turns(row: dict[str, Any], source: SourceConfig) -> list[Turn]:
    """The turns of a row in the layout that `source` names, or that its keys show under `layout=auto`.

    Raises:
        RowError: a column is missing or empty, a role unknown, the order of the turns impossible, ...
    """
    return _LAYOUTS[_layout(row, source)](row, source)


def _layout(row: dict[str, Any], source: SourceConfig) -> str:
    if source.layout != "auto":
        return source.layout
    if source.columns:
        return "columns"
    if "messages" in row or "conversations" in row:
        return "messages"
    if "prompt" in row and "completion" in row:
        return "prompt_completion"
    if "question" in row and "answer" in row:
        return "columns"
    raise RowError(f"no layout fits its keys ({_keys(row)}); name them with layout and columns")


def _from_columns(row: dict[str, Any], source: SourceConfig) -> list[Turn]:
    columns = {"question": "question", "answer": "answer"} | source.columns
    question = Turn("user", _column(row, columns["question"]), False)
    answer = Turn("assistant", _column(row, columns["answer"]), True)
    if "system" not in columns or row.get(columns["system"]) in (None, ""):
        return [question, answer]
    return [Turn("system", _column(row, columns["system"]), False), question, answer]


def _from_prompt_completion(row: dict[str, Any], source: SourceConfig) -> list[Turn]:
    return [Turn("user", _column(row, "prompt"), False), Turn("assistant", _column(row, "completion"), True)]


def _from_messages(row: dict[str, Any], source: SourceConfig) -> list[Turn]:
    column = next((name for name in ("messages", "conversations") if name in row), None)
    if column is None:
        raise RowError(f"has neither messages nor conversations; its keys are {_keys(row)}")
    messages = row[column]
    if not isinstance(messages, list) or not messages:
        raise RowError(f"{column} must be a non-empty list of messages")
    turns: list[Turn] = []
    for number, message in enumerate(messages, start=1):
        where = f"message {number}"
        if not isinstance(message, dict):
            raise RowError(f"{where} must be an object with role and content")
        role_key, text_key = ("role", "content") if "role" in message else ("from", "value")
        role = _ROLES.get(str(message.get(role_key)))
        if role is None:
            raise RowError(f"{where}: unknown {role_key} {message.get(role_key)!r}; allowed are {', '.join(_ROLES)}")
        before = turns[-1].role if turns else None
        if role not in _FOLLOWERS[before]:
            place = f"after {before}" if before else "at the start"
            raise RowError(f"{where} is {role} {place}; allowed there: {' or '.join(_FOLLOWERS[before])}")
        if text_key not in message:
            raise RowError(f"{where} ({role}) has no {text_key}; its keys are {_keys(message)}")
        content = _text(message[text_key], f"{where} ({role})", may_be_empty=role == "tool")
        if role == "tool":
            if before == "assistant":  # the output goes into the assistant's message, on lines of its own
                turns[-1] = replace(turns[-1], content=turns[-1].content.strip() + "\n")
            content = f"```output\n{content.strip()}\n```\n"
        elif before == "tool":
            content = content.strip()
        turns.append(Turn(role, content, role == "assistant"))
    if turns[-1].role != "assistant":
        raise RowError(f"ends with a {turns[-1].role} message; the last must be the assistant's")
    return turns


_LAYOUTS: dict[str, Callable[[dict[str, Any], SourceConfig], list[Turn]]] = {
    "messages": _from_messages,
    "prompt_completion": _from_prompt_completion,
    "columns": _from_columns,
}


def _column(row: dict[str, Any], name: str) -> str:
    if name not in row:
        raise RowError(f"has no column {name!r}; its keys are {_keys(row)}")
    return _text(row[name], f"column {name!r}")


def _text(value: Any, where: str, *, may_be_empty: bool = False) -> str:
    """The value as text: a string with LF line ends, or a number written out (72.0 as 72: readers make ints floats)."""
    if isinstance(value, float) and math.isfinite(value):
        value = str(int(value)) if value.is_integer() else repr(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise RowError(f"{where} must be text or a finite number, not {json.dumps(value, default=str)[:40]}")
    if not value.strip() and not may_be_empty:
        raise RowError(f"{where} is empty")
    try:
        value.encode("utf-8")  # JSON can spell half a surrogate pair, which no tokenizer takes
    except UnicodeEncodeError:
        raise RowError(f"{where} holds half a surrogate pair") from None
    return value.replace("\r\n", "\n")


def _keys(row: Mapping[str, Any]) -> str:
    return ", ".join(map(str, row)) or "none"
