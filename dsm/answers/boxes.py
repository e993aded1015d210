r"""The boxes of a solution: every complete \boxed{...} of a text, found in one pass."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Escaped characters first, so that \{ counts for nothing; a doubled backslash (\\boxed in a JSON string) is one such.
_TOKEN = re.compile(
    r"\\(?:boxed|fbox|framebox)(?![a-zA-Z])\s*(?P<open>\{)?"
    r"|(?<![a-zA-Z\\])(?:boxed|fbox)\{|\\(?:\\(?:boxed|fbox)\{|.)|[{}]",
    re.DOTALL,
)
_BARE = re.compile(r"-?(?:\\[a-zA-Z]+(?:\{[^{}]*\}){0,2})?[^\s$\\{},;，。；]*(?<![.:\s])")

_MARKUP = re.compile(
    r"\\(?:text|textbf|mathrm|mbox|quad|qquad|left|right|displaystyle)(?![a-zA-Z])|\\[()\[\],;! \\]|[${}~*\s]+"
)
_JOINT = re.compile(
    r"(?P<words>(?:[\w'()-]+\s){0,4}?[\w'()-]*\s*)(?:[,;、&，；]\s*(?:and|or|和|或)?|\b(?:and|or)\b|和|或|与|以及|或者)\s*"
    r"(?:[a-zA-Z]\w{0,2}(?:_\w+)?\s*=)?\s*"
)
_NEW_CLAIM = re.compile(
    r"\b(?:so|thus|hence|therefore|then|is|are|was|but|not|which|because|answer|gives?|get)\b|[.。?!:：]", re.IGNORECASE
)
_LONGEST_JOINT = 80


@dataclass(frozen=True, slots=True)
class Box:
    """What is boxed, and where: `text[start:end]` is the whole command."""

    content: str
    start: int
    end: int


def boxes(text: str) -> list[Box]:
    r"""All complete, outermost boxes of the text, in order; time is linear in its length.

    \boxed, \fbox, a doubled backslash or none (`boxed{5}`), and `\boxed 5`. A box whose brace is never closed, in a
    text cut off, is none.
    """
    first = min((at for at in (text.find("boxed"), text.find("fbox"), text.find("framebox")) if at >= 0), default=-1)
    if first < 0:
        return []
    found: list[Box] = []
    stack: list[tuple[bool, int, int]] = []  # is it a box, where it starts, where its content starts
    for match in _TOKEN.finditer(text, max(first - 2, 0)):
        token = match[0]
        if token == "{":
            stack.append((False, match.start(), match.end()))
        elif token == "}":
            if stack:
                is_box, start, inside = stack.pop()
                if is_box:
                    while found and found[-1].start > start:
                        found.pop()
                    found.append(Box(text[inside : match.start()], start, match.end()))
        elif token[-1] == "{" and len(token) > 2:
            stack.append((True, match.start(), match.end()))
        elif len(token) > 2 and (bare := _BARE.match(text, match.end())) and bare[0]:
            found.append(Box(bare[0], match.start(), bare.end()))
    return found


def last_group(text: str, found: list[Box]) -> list[Box]:
    r"""The last box, and those that nothing, a comma, `and` or `or` joins to it: \boxed{2} and \boxed{3}.

    A few words may stand before the joint (`\boxed{4} apples and \boxed{3} pears`), yet none that start a new claim.
    """
    group = found[-1:]
    for before, after in zip(found[-2::-1], found[:0:-1], strict=True):
        if after.start - before.end > _LONGEST_JOINT:
            break
        between = text[before.end : after.start]
        gap = _MARKUP.sub(" ", between).strip()
        if (gap or "\n" in between) and (_NEW_CLAIM.search(gap) or not _JOINT.fullmatch(gap + " ")):
            break
        group.insert(0, before)
    return group
