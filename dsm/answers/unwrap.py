"""From an answer as it was written to the bare answer: out of boxes, out of dollar signs, out of a short sentence.

The extractor has usually done this already; what is left is a stray `$..$`, a trailing full stop, `the answer is`.
"""

from __future__ import annotations

import re

_BOX = re.compile(r"\\?\\(?:boxed|fbox)\s*\{")
_CONNECTOR = re.compile(r"[,;&]|\b(?:and|or)\b|\bet\b|\by\b|或|和|与|及|、")
_MARKUP = re.compile(r"\\(?:text|mbox|quad|qquad)(?![a-zA-Z])|\\[()\[\],; ]|[${}.\s]+")
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


def last_boxes(text: str) -> list[str]:
    """The contents of the last \\boxed and of those in front of it that a short `and`, `or` or comma joins to it."""
    found: list[tuple[int, int, str]] = []
    position = 0
    while match := _BOX.search(text, position):
        end = closing_brace(text, match.end())
        if end is None:
            if not found:
                return [text[match.end() :]]
            break
        found.append((match.start(), end + 1, text[match.end() : end]))
        position = end + 1
    if not found:
        return []
    boxes = [found[-1][2]]
    if len({"".join(content.split()) for _, _, content in found}) == 1:
        return boxes
    for (_, end, content), (start, _, _) in zip(found[-2::-1], found[:0:-1], strict=True):
        gap = _MARKUP.sub(" ", text[end:start]).strip() if start - end < 60 else "far"
        if gap and (len(gap.split()) > 5 or not _CONNECTOR.search(gap)):
            break
        boxes.insert(0, content)
    return boxes


def closing_brace(text: str, start: int) -> int | None:
    """The index of the brace that closes the one just before `start`, if any."""
    depth = 1
    for match in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, start):
        if match[0] == "{":
            depth += 1
        elif match[0] == "}":
            depth -= 1
            if depth == 0:
                return match.start()
    return None


def unwrap(text: str) -> str:
    """The bare answer in the text: boxes opened, delimiters, leading phrases and closing punctuation gone."""
    if len(text) > MAX_TEXT:
        text = text[-MAX_TEXT:]
        if "boxed" not in text:
            return text
    text = _SPACE.sub(" ", text).strip()
    if "boxed" in text or "fbox" in text:
        boxes = last_boxes(text)
        if boxes:
            text = ", ".join(unwrap(box) if "boxed" not in box else box for box in boxes)
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
