r"""Letters of multiple-choice questions, in boxes, sentences and running text."""

from __future__ import annotations

import re
from typing import Literal

_STYLE = re.compile(r"\\(?:text|textbf|mathrm|mathbf|textrm|bf|rm)\b|[{}$*_`]|\\[()\[\],; ]|（|）")
_LETTER = r"\(?([A-J])\)?"
_JOINT = r"\s*(?:[,，、;/&]|\band\b|\bor\b|和|与|及)?\s*"
_HEAD = re.compile(
    rf"\s*(?:(?:option|choice|answer|letter)s?\s*|选项?|the\s+)*{_LETTER}(?![a-z'’])"
    rf"((?:{_JOINT}(?:option\s+)?\(?[A-J]\)?(?![a-z'’]))*)(?P<then>\s*[a-z]*)",
)
_LOWER = re.compile(r"\s*(?:option\s+|choice\s+)?(?:\(([a-j])\)|([a-j])(?=\s*[.):,]|\s*$))")
_ALONE = re.compile(
    r"(?:\(([A-J])\)|(?<![A-Za-z0-9\\])([A-J](?:\s*[,，、]?\s*[A-J]){0,3})(?=\s*(?:[.):：,，。]|$)))(?![A-Za-z'’])",
    re.MULTILINE,
)


def find_letters(text: str, where: Literal["box", "sentence", "text"]) -> str | None:
    """The letters that a box or a sentence starts with, or the last that stand alone in a text; sorted, once each.

    `A` before a word is an article: in a sentence it counts only with a bracket or nothing behind it.
    """
    text = _STYLE.sub(lambda match: {"（": "(", "）": ")"}.get(match[0], ""), text)
    if where == "text":
        found = max(_ALONE.finditer(text), key=re.Match.start, default=None)
        return _sorted(found[1] or found[2]) if found else None
    match = _HEAD.match(text)
    if match is not None:
        several, then = match[2].strip(), match["then"].strip()
        bracket = text[match.start(1) - 1 : match.start(1)] == "(" or text[match.end(1) : match.end(1) + 1] in (
            ")",
            ".",
            ":",
        )
        if not then or several or bracket or match[1] not in "AI":
            return _sorted(match[1] + several)
        return None
    low = _LOWER.match(text)
    return (low[1] or low[2]).upper() if low else None


def _sorted(letters: str) -> str:
    return "".join(sorted({letter for letter in re.sub(r"and|or|option", "", letters) if "A" <= letter <= "J"}))
