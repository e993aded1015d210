"""Answers in words: Monday, yes, no solution, choices (A) and B. They are compared as words, never as mathematics."""

from __future__ import annotations

import re

_INVISIBLE = re.compile(r"\\(?:text|mathrm|textbf|textit|mbox|mathbf|textnormal|textrm|operatorname|mathit|mathsf)(?![a-zA-Z])|[{}$\\\"'`*]")
_WORDS = re.compile(r"[a-z]+|\d+(?:\.\d+)?|[\u3400-\u9fff]+|[^\w\s]")
_IGNORED = frozenset("the a an is are it they there of . , ; ! ?".split())
_SYNONYMS = {"true": "yes", "correct": "yes", "false": "no", "incorrect": "no", "是": "yes", "对": "yes", "正确": "yes", "否": "no",
             "错误": "no", "none": "no solution", "nosolution": "no solution", "dne": "undefined"}  # fmt: skip
_PHRASES = {
    "no solutions": "no solution", "no real solution": "no solution", "no real solutions": "no solution", "no such": "no solution",
    "does not exist": "undefined", "doesn t exist": "undefined", "do not exist": "undefined", "not defined": "undefined",
    "无解": "no solution",
}  # fmt: skip
_CHOICE = re.compile(r"(?:\\text(?:bf)?\s*\{)?\s*\(?\s*([A-J])\s*\)?\s*\}?")
_MARKED = re.compile(
    r"(?:\\text(?:bf)?\s*\{\s*)?(?:\(\s*([A-Ja-j])\s*\)|([A-J])\s*[.):：]|(?:option|choice|选项)\s*\(?([A-J])\)?)\s*\}?\s*[.:]?\s*(.*)",
    re.DOTALL | re.IGNORECASE,
)


def plain_words(text: str) -> str:
    """Lower case, single spaces, no commands, no articles."""
    words = _WORDS.findall(_INVISIBLE.sub(" ", text).lower())
    plain = " ".join(word for word in words if word not in _IGNORED)
    for phrase, meaning in _PHRASES.items():
        if plain == phrase:
            return meaning
    return _SYNONYMS.get(plain, plain)


def same_words(gold: str, answer: str) -> bool:
    """Whether two texts hold the same words; texts with no word of two letters are for other layers."""
    first = plain_words(gold)
    return bool(re.search(r"[a-z]{2}|[\u3400-\u9fff]", first)) and first == plain_words(answer) and not re.search(r"[+*/^=<>_]", first)


def same_choice(gold: str, answer: str) -> bool:
    """(B), B and `(B) 12` are one choice; the text of a marked choice may stand for it."""
    letters, texts = zip(_choice(gold), _choice(answer), strict=True)
    if letters[0] is None and letters[1] is None:
        return False
    if letters[0] is not None and letters[1] is not None:
        return letters[0] == letters[1]
    return False if not any(texts) else comparable_text(texts[0] or gold) == comparable_text(texts[1] or answer)


def comparable_text(text: str) -> str:
    """For `==` of a choice's text and a bare one."""
    return _INVISIBLE.sub("", text).replace(" ", "").rstrip(".")


def _choice(text: str) -> tuple[str | None, str | None]:
    """(letter, text) of a choice; (none, none) if it is none."""
    text = text.strip().rstrip(".")
    if found := _CHOICE.fullmatch(text):
        return found[1], None
    if (found := _MARKED.fullmatch(text)) and len(found[4]) < 200:
        letter = next(group for group in found.groups()[:3] if group)
        return letter.upper(), found[4].strip() or None
    return None, None
