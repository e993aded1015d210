"""Answers in words: Monday, yes, no solution, choices (A) and B. They are compared as words, never as mathematics."""

from __future__ import annotations

import re

from dsm.answers.nodes import Call, Const, Node

_STYLE = re.compile(r"\\(?:text(?:bf|it|normal|rm)?|math(?:rm|bf|it|sf)|mbox|operatorname)(?![a-zA-Z])")
_MARKS = re.compile(r"[{}$\\\"'`*]")
_WORDS = re.compile(r"[a-z]+|\d+(?:\.\d+)?|[\u3400-\u9fff]+|[^\w\s]")
_IGNORED = frozenset(["the", "a", "an", "is", "are", "it", "they", "there", "of", ".", ",", ";", "!", "?"])
_MEANINGS = {
    "yes": ("true", "correct", "是", "对", "正确"),
    "no": ("false", "incorrect", "否", "错误"),
    "no solution": ("no solutions", "no real solution", "no real solutions", "nosolution", "none", "无解"),
    "undefined": ("does not exist", "doesn t exist", "do not exist", "not defined", "dne"),
}
_MEANING = {phrase: meaning for meaning, phrases in _MEANINGS.items() for phrase in phrases}
_TREES: dict[str, Node] = {
    **dict.fromkeys(
        ("all real numbers", "all reals", "real numbers", "any real number", "set of all real numbers"), Const("reals")
    ),
    **dict.fromkeys(("all integers", "any integer"), Const("integers")),
    **dict.fromkeys(("no solution", "empty set"), Const("empty")),
    **dict.fromkeys(("infinity", "positive infinity"), Const("oo")),
    "negative infinity": Call("neg", (Const("oo"),)),
}
_LETTER = re.compile(r"(?:\\text(?:bf|rm)?\s*\{)?\s*(?:\(\s*([A-Ja-j])\s*\)|([A-J]))\s*\}?")
_MARKED = re.compile(
    r"(?:\\text(?:bf|rm)?\s*\{\s*)?(?:\(\s*([A-J])\s*\)|([A-J])\s*[.):]|(?:[Oo]ption|[Cc]hoice|选项)\s*\(?([A-J])\)?)\s*\}?(?:\s*[.:]?\s+(.*))?",
    re.DOTALL,
)
_SEVERAL = re.compile(r"[A-J](?:\s*(?:,|、|;|和|and|&)?\s*[A-J])+")


def plain_words(text: str) -> str:
    """Lower case, single spaces, no commands, no articles."""
    words = _WORDS.findall(_bare(text).lower())
    plain = " ".join(word for word in words if word not in _IGNORED)
    return _MEANING.get(plain, plain)


def as_tree(text: str) -> Node | None:
    """What a phrase means in mathematics: all real numbers, no solution, infinity. None for any other text."""
    return _TREES.get(plain_words(text)) if len(text) < 60 else None


def is_words(text: str) -> bool:
    """Whether a text is words with no formula in it."""
    plain = _STYLE.sub(" ", text)
    return bool(re.search(r"[A-Za-z]{2}|[\u3400-\u9fff]", plain)) and not re.search(r"[\\+*/^=<>_]", plain)


def _bare(text: str) -> str:
    return _MARKS.sub(" ", _STYLE.sub(" ", text))


def same_words(gold: str, answer: str) -> bool:
    """Whether two texts hold the same words; texts with no word of two letters are for other layers."""
    first = plain_words(gold)
    return (
        bool(re.search(r"[a-z]{2}|[\u3400-\u9fff]", first))
        and first == plain_words(answer)
        and not re.search(r"[+*/^=<>_]", first)
    )


def same_choice(gold: str, answer: str) -> bool:
    """(B), B and `(B) 12` are one choice, and so are AC and A, C; the text of a marked choice may stand for it."""
    (letters, text), (other_letters, other_text) = _choice(gold), _choice(answer)
    if letters and other_letters:
        return letters == other_letters
    if not (letters or other_letters) or not (text or other_text):
        return False
    return comparable_text(text or gold) == comparable_text(other_text or answer)


def comparable_text(text: str) -> str:
    """For `==` of a choice's text and a bare one."""
    return _bare(text).replace(" ", "").rstrip(".")


def _choice(text: str) -> tuple[str, str]:
    """(letters, text) of a choice; both empty if it is none."""
    text = text.strip().rstrip(".")
    if found := _LETTER.fullmatch(text):
        return (found[1] or found[2]).upper(), ""
    if (found := _MARKED.fullmatch(text)) and len(text) < 200:
        return found[1] or found[2] or found[3], found[4] or ""
    plain = _bare(text).strip()
    if _SEVERAL.fullmatch(plain):
        letters = re.findall("[A-J]", plain)
        if sorted(set(letters)) == letters or (len(letters) == len(set(letters)) and "," in plain):
            return "".join(sorted(letters)), ""
    return "", ""
