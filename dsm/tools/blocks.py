"""Fenced blocks of a text, read line by line and by the same rules as the training data (`dsm.data.formats`)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_FENCE = "```"
_PYTHON = frozenset({"python", "python3", "py"})
_LATE_FENCE = re.compile(r"\S.*(```(?:python3?|py))\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block. `closed` is whether its closing fence has come."""

    language: str
    code: str
    closed: bool

    @property
    def is_python(self) -> bool:
        """Whether its fence says so."""
        return self.language in _PYTHON


def find_blocks(text: str) -> list[Block]:
    """All blocks in order; only the last can be unclosed.

    A block opens with a line that starts with ``` (or ends with ```python) and closes with a line that is ``` alone.
    """
    blocks: list[Block] = []
    language: str | None = None
    lines: list[str] = []
    for line in re.split(r"(?<=\n)", text):
        mark = line.strip()
        if language is not None:
            if mark == _FENCE:
                blocks.append(Block(language, "".join(lines), True))
                language = None
            else:
                lines.append(line)
        elif (opened := _opened(mark)) is not None:
            language, lines = opened, []
    if language is not None:
        blocks.append(Block(language, "".join(lines), False))
    return blocks


def _opened(mark: str) -> str | None:
    """The language of the block that this line opens."""
    if late := _LATE_FENCE.fullmatch(mark):
        mark = late[1]
    if not mark.startswith(_FENCE) or _FENCE in mark[3:]:
        return None
    return mark[3:].strip().lower()
