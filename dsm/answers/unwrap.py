"""From an answer as it was written to the bare answer: out of boxes, out of dollar signs, out of a short sentence.

The extractor has usually done this already; what is left is a stray `$..$`, a trailing full stop, `the answer is`.
"""

from __future__ import annotations

import re

from dsm.answers.boxes import boxes, last_group

_OPEN_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_LEAD = re.compile(
    r"^\W*(?:(?:so|thus|hence|therefore|and|then|is)\b[\s,:]*)*"
    r"(?:(?:the|my|our)\s+)?(?:final\s+|correct\s+|only\s+)?(?:answer|solution|result|value)s?(?:\s+choice)?\s*(?:is|are|:|=|be)+\s*:?\s*"
    r"|^\s*(?:最终)?(?:正确)?(?:答案|结果|解|答)\s*(?:应该)?\s*(?:是|为|：|:|=)+\s*"
    r"|^\s*####\s*|^\s*(?:answer|final answer|ans)\s*[:=]\s*"
    r"|^\s*(?:(?:so|thus|hence|therefore),?\s+)",
    re.IGNORECASE,
)
_CLAUSE = re.compile(
    r"^(?:(?:[A-Za-z][\w',-]*|\$[^$]{1,60}\$|\\\([^$]{1,60}\\\)),?:?\s+){1,20}(?:is|are|was|equals|becomes?|that)\s*:?\s*(?=\$|\\[(\[]|-?\d|\\boxed)"
)
_TAIL = re.compile(
    r"\s+(?:is|are)\s+(?:(?:the|our|my|your)\s+)?(?:(?:final|correct)\s+)?(?:answer|solution|result|value)s?\b.*$",
    re.DOTALL,
)
_MATH = re.compile(r"\$\$(.+?)\$\$|(?<!\\)\$(.+?)(?<!\\)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_WHOLE = re.compile(
    r"^(?:\$\$(?P<a>[^$]+)\$\$|\$(?P<b>(?:[^$\\]|\\.)+)\$|\\\((?P<c>.+)\\\)|\\\[(?P<d>.+)\\\])$|^\*\*(?P<e>[^*]+)\*\*$|^`+(?P<f>[^`]+)`+$",
    re.DOTALL,
)
_SPACE = re.compile(r"\s+")
_CLOSING = frozenset(" .。,，;；！")
MAX_TEXT = 20_000
"""Of a longer text only the end is looked at, and that only if it has a box."""
_ELLIPSIS = re.compile(r"(?:\.\.\.|\\[lcd]?dots[cbm]?\s*)$")


def opened(text: str) -> str:
    """What the last box holds, with the boxes that a comma, `and` or `or` joins to it; without a box, the text."""
    found = boxes(text)
    if found:
        contents = [box.content for box in last_group(text, found)]
        return contents[-1] if len({"".join(content.split()) for content in contents}) == 1 else ", ".join(contents)
    cut_off = _OPEN_BOX.search(text)
    return text[cut_off.end() :] if cut_off else text


def unwrap(text: str) -> str:
    """The bare answer in the text: boxes opened, delimiters, leading phrases and closing punctuation gone."""
    if len(text) > MAX_TEXT:
        text = text[-MAX_TEXT:]
        if "boxed" not in text:
            return text
    text = _SPACE.sub(" ", text).strip()
    for _ in range(3):
        if "boxed" not in text and "fbox" not in text:
            break
        text = opened(text).strip()
    for _ in range(8):
        before = text
        if found := _WHOLE.match(text):
            text = next(group for group in found.groups() if group is not None).strip()
        if not _ELLIPSIS.search(text):
            text = _without_closing(text)
        text = _LEAD.sub("", text, count=1).strip() or text
        text = _TAIL.sub("", text, count=1) or text
        text = _CLAUSE.sub("", text, count=1).strip() or text
        if text == before:
            break
    return text


def _without_closing(text: str) -> str:
    """The text without the punctuation and spacing commands at its end; 5! keeps its sign."""
    end = len(text)
    while end and (text[end - 1] in _CLOSING or (text[end - 1] in ":!" and text[end - 2 : end - 1] == "\\")):
        end -= 1
        end -= text[end - 1 : end] == "\\" and text[end] != "."
    while text[:end].endswith("\\\\"):
        end -= 2
    if text[end - 1 : end] == "!" and text[max(end - 4, 0) : end - 1].isalpha() and end > 3:
        end -= 1  # an exclamation; 5! and n! are factorials
    return text[:end]


def from_sentence(text: str) -> str | None:
    """The last formula or number of a short sentence; none if it has neither, or is no sentence."""
    formulas = [next(group for group in found if group) for found in _MATH.findall(text)]
    if formulas:
        return str(formulas[-1]).strip()
    if len(text.split()) < 3 and not re.search(r"[\u4e00-\u9fff]", text):
        return None
    tail = re.split(r"\b(?:is|are|was|equals|be|answer)\b|[=是为]", text)[-1].strip(" .:。")
    if tail != text and re.search(r"\d", tail):
        return tail
    numbers = re.findall(r"(?<![\w^{.])-?\d[\d,]*(?:\.\d+)?(?:/\d+)?|(?<![\w^{.])-?\.\d+", text)
    return numbers[-1].rstrip(",") if numbers else None
