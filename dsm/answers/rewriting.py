r"""The official evaluation's rewriting of answers: what only looks different becomes the same string.

Described step by step from what it does (data_processing/answer_extraction.py there), to give the same verdicts; some
steps are crude (`inf` becomes \infty inside of words, a unit at the end vanishes). `normalise` is the careful one.
"""

from __future__ import annotations

import re

_FIRST = [
    (re.compile(r"\n|\\!"), ""),
    (re.compile(r"[tdc]frac"), "frac"),
    (re.compile(r"\\left|\\right"), ""),
]
_UNIT = re.compile(r"\\text\{.*?\}$")
_SECOND = [
    (re.compile(r"\^\{\\circ\}|\^\\circ"), ""),
    (re.compile(r"\{[cm]?m\}(?:\^[23])?"), ""),
    (re.compile(r"p\.m\.$"), ""),
    (re.compile(r"(\d)\s*t$"), r"\1"),
    (re.compile(r"\\?\$"), ""),
    (re.compile(r"x\\in"), ""),
    (re.compile(r"\\%"), "%"),
    (re.compile(r"(^|[ {])\."), r"\g<1>0."),
    (re.compile(r"\\cdot"), ""),
    (re.compile(r"infinity"), r"\\infty"),
    (re.compile(r"\\mathbf|\\mathrm|\\mbox\{.*?\}"), ""),
]
_ZEROS = re.compile(r"(\d+)\.0+(?=\D|$)")
_SHORT_ROOT = re.compile(r"\\(sqrt|tan)(?:\s*(-?[0-9.a-zA-Z]+)(?=$)|(-?[0-9.a-zA-Z]+))")
_SHORT_FRACTION = re.compile(r"\\frac(?!\{)([^\\])(\{[^{}]*\}|[^\\{}])")
_HALF_FRACTION = re.compile(r"\\frac(\{[^{}]*\})(?!\{)([^\\{}])")
_SLASH = re.compile(r"(-?\d+)/(-?\d+)")


def rewritten(text: str) -> str:
    r"""The string that the official evaluation compares: `$\dfrac 12$ \text{ cm}` is `\frac{1}{2}`."""
    text = text.strip().rstrip(".")
    for pattern, new in _FIRST:
        text = pattern.sub(new, text)
    text = text.strip()
    if text.startswith(r"\text{") and text.endswith("}") and text.count("{") == 1:
        text = text[6:-1]
    text = _UNIT.sub("", text).strip() or text
    for pattern, new in _SECOND:
        text = pattern.sub(new, text).strip()
    if r"\infty" not in text:
        text = text.replace("inf", r"\infty")
    if "j" in text and "i" not in text:
        text = text.replace("j", "i")
    text = _ZEROS.sub(r"\1", text)
    text = _SHORT_ROOT.sub(lambda match: rf"\{match[1]}{{{match[2] or match[3]}}}", text)
    text = text.replace(" ", "")
    text = _SHORT_FRACTION.sub(lambda match: rf"\frac{{{match[1]}}}" + _braced(match[2]), text)
    text = _HALF_FRACTION.sub(lambda match: rf"\frac{match[1]}" + _braced(match[2]), text)
    if whole := _SLASH.fullmatch(text):
        text = rf"\frac{{{whole[1]}}}{{{whole[2]}}}"
    return text.rstrip("\\,.")


def _braced(part: str) -> str:
    return part if part.startswith("{") else f"{{{part}}}"
