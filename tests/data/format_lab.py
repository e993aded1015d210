"""What the tests of rows and formats share."""

from __future__ import annotations

from typing import Any

from dsm.config.data import SourceConfig
from dsm.data.formats import (
    Example,
    format_record,
)
from dsm.data.layouts import Turn
from dsm.data.records import Record, Rejected

TWO_TURNS = (Turn("user", "1 + 1?", False), Turn("assistant", "2", True))
USER, ASSISTANT, SYSTEM, TOOL = ("user", "q"), ("assistant", "a"), ("system", "s"), ("tool", "t")
TIR = "Let's see.\n```python\nprint(6 * 7)\n```\n```output\n42\n```\nThe answer is $\\boxed{42}$."


def formatted(row: dict[str, Any], **options: Any) -> Example | Rejected:
    return format_record(Record(row, "file:1"), SourceConfig(path="file", **options))


def example_of(row: dict[str, Any], **options: Any) -> Example:
    example = formatted(row, **options)
    assert isinstance(example, Example), example
    return example


def messages(*pairs: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in pairs]}
