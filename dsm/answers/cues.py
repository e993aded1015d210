r"""`The answer is ...`: where an answer is announced, and where what is announced ends."""

from __future__ import annotations

import re
from typing import Literal

from dsm.answers.numbers import first_number, last_number, plain_digits, without_currency

_CUE = re.compile(
    r"""
    (?P<en>\banswers?\b[*_"”]*(?:\s+(?:choice|option)\b)?(?:\s+(?:to|of|for|in)\b[^.\n:$]{0,60}?)?
       (?:\s*(?:\b(?:is|are|equals|becomes|(?:would|should|must|will|can)\s+be)\b|[:=])\s*:?|(?=\s*(?:\$|\\\(|\\\[))|[*_]*\s*\n))
    |(?P<zh>答案\s*(?:应该|应|就|只能)?\s*(?:是|为|[:：]|选|等于)+\s*[:：]?|故答案[为是选]|(?:^|\n)[ \t]{0,8}答\s*[:：]
       |[故应所以][ \t]{0,4}选(?:择)?\s*(?:项)?\s*[:：]?)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_LETTERS_CUE = re.compile(
    r"""
    (?P<en>\b(?:answers?|choices?|options?)\b[*_"”]*(?:\s+(?:choice|option)s?\b)?(?:\s+(?:to|of|for|in)\b[^.\n:$]{0,60}?)?
       (?:\s*(?:\b(?:is|are|(?:would|should|must|will)\s+be)\b|[:=])\s*:?|[*_]*\s*\n)
       |\b(?:choose|select|pick)\b)
    |(?P<zh>答案\s*(?:应该|应|就|只能)?\s*(?:是|为|[:：]|选|等于)+\s*[:：]?|故答案[为是选]
       |(?:[故应所以][ \t]{0,4})?选(?:择)?\s*(?:项)?\s*[:：]?)
    """,
    re.VERBOSE | re.IGNORECASE,
)
_LEAD = re.compile(r"(?:[\s*_:：“\"，,>]|\bthat\b|\bagain\b|\bsimply\b|\btherefore\b|\bthus\b)+", re.IGNORECASE)
_SPAN = re.compile(  # formulas are skipped whole; the first full stop outside of one ends the sentence
    r"\$\$.*?\$\$|\$[^$\n]*\$|\\\(.*?\\\)|\\\[.*?\\\]|\\begin\{(?P<env>\w+\*?)\}.*?\\end\{(?P=env)\}"
    r"|(?P<end>(?<![\d\s][ap]\.m)(?<![ap]m)\.+(?=[\s*\"”)]|$)|[。；!！?？\n])",
    re.DOTALL,
)
_WINDOW = 2_000
_TAILS = (1_000, 20_000)
_WORD = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{3,}(?![a-zA-Z{])|[一-鿿]{2,}")
_CHINESE = re.compile(r"[一-鿿]{2,}")
_CLAUSE = re.compile(
    r"\s*(?:[,，]\s*(?=[a-zA-Z一-鿿]{2,}\s)(?!and\b|or\b)|\b(?:of|in|for|from|at|out|more|less|than|which|because|since|so|after|when|if|on"
    r"|by|as|with|that|where|among|during|within|to\s+[a-z]{3,})\b|[,，]?(?:因为|所以|即|也就是))",
    re.IGNORECASE,
)


def after_cue(text: str, kind: Literal["any", "letters"] = "any") -> tuple[str, str] | None:
    """The name of the last cue that something follows, and the sentence behind it."""
    pattern = _CUE if kind == "any" else _LETTERS_CUE
    if kind == "any" and not ("答" in text or "选" in text or "answer" in text.lower()):
        return None
    for tail in (*_TAILS, len(text)):
        start = max(len(text) - tail, 0)
        for match in reversed(list(pattern.finditer(text, start))):
            sentence = _sentence(text, match.end())
            if sentence:
                return ("the answer is" if match["en"] is not None else "答案是"), sentence
        if start == 0:
            return None
    return None


def cut_tail(sentence: str) -> tuple[str, bool]:
    """The answer at the head of a sentence, and whether anything was left out.

    `8% of the total, or 20` is `8%`; `5 hours and 20 minutes` stays; a sentence of prose gives its last number.
    """
    text = _opened(sentence)
    if text != sentence:
        return text, False
    plain = plain_digits(text)
    lead = first_number(plain)
    if lead is None:
        prose = len(_WORD.findall(plain)) >= 3 or _CHINESE.match(plain)
        if prose and not plain.startswith(("$", "\\")) and (match := last_number(plain)):
            return without_currency(match["number"]), True
        return text, False
    clause = _CLAUSE.match(plain, lead.end()) or _CLAUSE.search(plain, lead.end())
    if clause is None:
        return text, False
    head = plain[: clause.start()]
    if len(_WORD.findall(head)) > 2:
        head = lead["number"]
    return head.strip(), True


def _sentence(text: str, start: int) -> str:
    lead = _LEAD.match(text, start)
    start = lead.end() if lead else start
    stop = min(start + _WINDOW, len(text))
    if stop < len(text):
        stop = text.rfind(" ", start, stop) if " " in text[start:stop] else stop
    end = stop
    for match in _SPAN.finditer(text, start, stop):
        if match["end"] is not None:
            end = match.start()
            break
    return text[start:end].strip(' \t\n*_"“”。.,，;；')


def _opened(sentence: str) -> str:
    """A sentence that is one formula in dollar signs, without them."""
    for opening, closing in (("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
        if len(sentence) > 2 * len(opening) and sentence.startswith(opening) and sentence.endswith(closing):
            inner = sentence[len(opening) : -len(closing)]
            return inner.strip() if closing not in inner else sentence
    return sentence
