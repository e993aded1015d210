"""From text to normalised text: one spelling for every character and command that only looks different.

Full-width and unicode signs become LaTeX or ASCII, cosmetic commands go, thousands separators go, escapes that a JSON
or Python string has broken are mended. Nothing here knows what the text means; the parser does.
"""

from __future__ import annotations

import re
import unicodedata

from dsm.answers.spelling import CHARACTERS, COMMANDS, LOWERED, RAISED

_TABLE = str.maketrans(CHARACTERS)
_RAISED_RUN = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱˣ]+")
_LOWERED_RUN = re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₙₓₖ]+")

# Escapes that a string literal has eaten: a form feed in front of "rac" was \frac.
_EATEN = [
    (re.compile(r"\\?\x0c(?=rac|loor|box)"), r"\\f"),
    (re.compile(r"\\?\x08(?=egin|inom|oxed|eta|ar\b|mod|oldsymbol|f\{|ig)"), r"\\b"),
    (re.compile(r"\\?\t(?=ext|frac|imes|heta|an\b|au\b|o\b|riangle)"), r"\\t"),
    (re.compile(r"\\?\r(?=ight|angle|ho\b|floor|ceil)"), r"\\r"),
    (re.compile(r"\\?\x07(?=lpha|pprox|ngle|rc)"), r"\\a"),
    (re.compile(r"\\?\x0b(?=ec|ert|arphi|ee\b)"), r"\\v"),
]

_SIZED = re.compile(r"\\(?:left|right|middle|[bB]igg?[lrm]?)(?![a-zA-Z])\s*\.?(?=[\s|\\()\[\]{}/.<>])\s*")
_COSMETIC = re.compile(
    r"\\(?:(?:display|text|script)style|limits|nolimits|bf|rm|it|sf|small|large|Large|centering|hfill|nonumber|noindent"
    r"|allowbreak|protect|ensuremath)(?![a-zA-Z])"
    r"|\\[hv]space\*?\{[^{}]*\}|\\[vh]?phantom\{[^{}]*\}|\\(?:label|tag)\*?\{[^{}]*\}"
)
_DELIMITER_DOT = re.compile(r"\\(?:left|right)\s*(?:\.|$)")
_QUAD = re.compile(r"\\q?quad(?=[a-zA-Z]?)")
_ROW_SKIP = re.compile(r"\\\\\*?\s*\[[^\]]*(?:pt|em|ex|mm)\]")
_ORDINARY = re.compile(r"\{\s*([:=<>])\s*\}")
_THOUSANDS = re.compile(
    r"(?<=\d)(?:\s*\{\s*,\s*\}\s*|,\s*\\!\s*|\\!\s*,\s*(?:\\!)?|(?<!\\)\\[, :;]|,\\,|~|\{\\,\}|\\text\{,\})"
    r"(?=\d{3}(?!\d))"
)
_SPACED_THOUSANDS = re.compile(r"(?<![\d.,/] )(?<![\d.,/])\d{1,3}(?: \d{3})+(?!\s*[\d/])")
_SYSTEM = re.compile(r"\\left\s*\\\{\s*(?=\\begin\s*\{)")
_DECIMAL_COMMA = re.compile(r"(?<=\d)\{,\}(?=\d)")
_SPACES = re.compile(r"(?<!\\)\\[,;:> ]|~|\\thinspace(?![a-zA-Z])|\\medspace(?![a-zA-Z])|\\enspace(?![a-zA-Z])")
_RUN = re.compile(r"[ \t\r\n\f\v]+")
_DOUBLED = re.compile(r"\\\\(?=[a-zA-Z{}%$!,;()\[\]])")
_SINGLE = re.compile(r"(?<!\\)\\(?=[a-zA-Z])")
_SYNONYMS = re.compile(r"\\(?:not\s*=|(" + "|".join(sorted(COMMANDS, key=len, reverse=True)) + r")(?![a-zA-Z]))")
_DEGREE = re.compile(r"\^\s*\{?\s*\\circ\s*\}?|\\degrees?(?![a-zA-Z])|\\circ(?=\s*[.,;)}]*\s*$)")


def to_ascii(text: str) -> str:
    """Unicode signs as LaTeX or ASCII: √2 as \\sqrt 2, x² as x^{2}, ５ as 5, every digit as 0-9."""
    if text.isascii():
        return text.replace("\x00", "") if "\x00" in text else text
    text = _RAISED_RUN.sub(lambda run: "^{" + run[0].translate(RAISED) + "}", text)
    text = _LOWERED_RUN.sub(lambda run: "_{" + run[0].translate(LOWERED) + "}", text)
    text = text.translate(_TABLE)
    if text.isascii():
        return text
    text = unicodedata.normalize("NFKC", text).translate(_TABLE)
    return "".join(str(unicodedata.decimal(c)) if not c.isascii() and c.isdecimal() else c for c in text)


def mend_escapes(text: str) -> str:
    """Undo what a string literal or JSON did to LaTeX: control characters for \\f, \\t, and doubled backslashes."""
    if any(c in text for c in "\x0c\x08\t\r\x07\x0b"):
        for eaten, command in _EATEN:
            text = eaten.sub(command, text)
    if "\\\\" in text and not _SINGLE.search(text) and _DOUBLED.search(text):
        text = _DOUBLED.sub(r"\\", text).replace("\\\\\\\\", "\\\\")
    return text


def normalise(text: str) -> str:
    """The text in one spelling; white space is single, commands that only move ink are gone."""
    text = mend_escapes(to_ascii(text))
    if "\\" in text or "{" in text or "~" in text:
        text = _ROW_SKIP.sub(r"\\\\ ", text)
        text = _THOUSANDS.sub("", _ORDINARY.sub(r"\1", text))
        text = _DECIMAL_COMMA.sub(".", text)
        text = text.replace("\\!", "")
        text = _ORDINAL.sub("", text)
        text = _SYSTEM.sub("", text)
        text = _DELIMITER_DOT.sub(" ", text)
        text = _COSMETIC.sub("", _SIZED.sub("", text))
        text = _QUAD.sub(" ", text)
        text = _SYNONYMS.sub(lambda found: COMMANDS[found[1]] if found[1] else r"\ne ", text)
        text = _SPACES.sub(" ", text)
        text = _DEGREE.sub(r"\\degree ", text)
    text = _SPACED_THOUSANDS.sub(lambda found: found[0].replace(" ", ""), text)
    return _RUN.sub(" ", text).strip()


_INVISIBLE = re.compile(
    r"\\(?:text(?:bf|it|rm|normal)?|math(?:rm|bf|it|sf)|mbox|operatorname|boldsymbol|bm)\s*\{([^{}]*)\}"
)
_IDLE_SPACE = re.compile(r"(?<![\w]) | (?![\w])|(?<=[a-zA-Z]) (?=\d)")
_IDLE_BRACES = re.compile(r"([\^_])\{(\w)\}(?!\w)")
_ORDINAL = re.compile(r"(?<=\d)\s*\^\s*\{?\s*(?:\\(?:text|mathrm|textrm)\s*\{)?\s*(?:st|nd|rd|th)\s*\}?\}?")


def comparable(text: str) -> str:
    """The normalised text with everything dropped that two spellings of one answer may differ in; for `==` only."""
    text = _INVISIBLE.sub(r"\1", text)
    text = _IDLE_SPACE.sub("", text).replace("$", "").replace("\\%", "%")
    text = _IDLE_BRACES.sub(r"\1\2", text)
    return text.rstrip(".,;:")
