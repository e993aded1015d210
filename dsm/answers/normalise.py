"""From text to normalised text: one spelling for every character and command that only looks different.

Full-width and unicode signs become LaTeX or ASCII, cosmetic commands go, thousands separators go, escapes that a JSON
or Python string has broken are mended. Nothing here knows what the text means; the parser does.
"""

from __future__ import annotations

import re
import unicodedata

_CHARACTERS = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "﹣": "-", "×": r"\times ", "✕": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ",
    "∙": r"\cdot ", "•": r"\cdot ", "∗": "*", "÷": r"\div ", "∕": "/", "⁄": "/", "√": r"\sqrt ", "∛": r"\cbrt ", "π": r"\pi ",
    "∞": r"\infty ", "≤": r"\le ", "≦": r"\le ", "⩽": r"\le ", "≥": r"\ge ", "≧": r"\ge ", "⩾": r"\ge ", "≠": r"\ne ",
    "≈": r"\approx ", "≅": r"\approx ", "≃": r"\approx ", "≡": r"\equiv ", "∪": r"\cup ", "⋃": r"\cup ", "∩": r"\cap ",
    "∈": r"\in ", "∅": r"\emptyset ", "∖": r"\setminus ", "±": r"\pm ", "∓": r"\mp ", "°": r"\degree ", "º": r"\degree ",
    "˚": r"\degree ", "′": "'", "’": "'", "‘": "'", "″": "''", "“": '"', "”": '"', "，": ",", "。": ". ", "；": ";", "：": ":",
    "、": ",", "〔": "[", "〕": "]", "⟨": r"\langle ", "⟩": r"\rangle ", "〈": r"\langle ", "〉": r"\rangle ", "⌊": r"\lfloor ",
    "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℕ": r"\mathbb{N}", "ℚ": r"\mathbb{Q}",
    "ℂ": r"\mathbb{C}", "∑": r"\sum ", "Σ": r"\Sigma ", "∏": r"\prod ", "∠": r"\angle ", "△": r"\triangle ", "→": r"\to ",
    "⇒": r"\Rightarrow ", "∧": r"\wedge ", "∨": r"\vee ", "…": r"\ldots ", "⋯": r"\ldots ", "‰": r"\permil ", "∣": "|", "ⅈ": "i", "ⅇ": "e",
    "½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "⅕": r"\frac{1}{5}",
    "⅖": r"\frac{2}{5}", "⅗": r"\frac{3}{5}", "⅘": r"\frac{4}{5}", "⅙": r"\frac{1}{6}", "⅚": r"\frac{5}{6}", "⅛": r"\frac{1}{8}",
    "⅜": r"\frac{3}{8}", "⅝": r"\frac{5}{8}", "⅞": r"\frac{7}{8}", "⅐": r"\frac{1}{7}", "⅑": r"\frac{1}{9}", "⅒": r"\frac{1}{10}",
    "\u200b": "", "\u200c": "", "\u200d": "", "\u2060": "", "\ufeff": "", "\u2061": "", "\u2062": "", "\u00ad": "", "\x00": "",
    "\u2009": r"\,", "\u202f": r"\,", "\u2007": r"\,", "\u2008": r"\,", "\u00a0": "~",
}  # fmt: skip
_GREEK = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi", "omicron", "pi", "rho", "varsigma", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega"]
_CHARACTERS |= {chr(0x3B1 + i): f"\\{name} " for i, name in enumerate(_GREEK)}
_CHARACTERS |= {"Δ": r"\Delta ", "Ω": r"\Omega ", "Φ": r"\Phi ", "Γ": r"\Gamma ", "Θ": r"\Theta ", "Λ": r"\Lambda ", "Π": r"\Pi "}
_CHARACTERS |= {"µ": r"\mu ", "ϕ": r"\phi ", "ϵ": r"\epsilon "}
_TABLE = str.maketrans(_CHARACTERS)

_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱˣ", "0123456789+-()nix")
_LOWERED = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₙₓₖ", "0123456789+-()nxk")
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

_COSMETIC = re.compile(
    r"\\(?:left|right|middle|bigl|bigr|Bigl|Bigr|biggl|biggr|Biggl|Biggr|big|Big|bigg|Bigg)(?![a-zA-Z])\s*\.?(?=[\s|\\()\[\]{}/.<>])\s*"
    r"|\\(?:displaystyle|textstyle|scriptstyle|limits|nolimits|bf|rm|it|sf|small|large|Large|centering|hfill|nonumber|noindent"
    r"|allowbreak|protect|ensuremath)(?![a-zA-Z])|\\[hv]space\*?\{[^{}]*\}|\\(?:v|h)?phantom\{[^{}]*\}|\\(?:label|tag)\*?\{[^{}]*\}"
)
_DELIMITER_DOT = re.compile(r"\\(?:left|right)\s*\.")
_QUAD = re.compile(r"\\q?quad(?=[a-zA-Z]?)")
_ROW_SKIP = re.compile(r"\\\\\*?\s*\[[^\]]*(?:pt|em|ex|mm)\]")
_THOUSANDS = re.compile(r"(?<=\d)(?:\s*\{\s*,\s*\}\s*|,\s*\\!\s*|\\!\s*,\s*(?:\\!)?|(?<!\\)\\[, :;]|,\\,|~|\{\\,\}|\\text\{,\})(?=\d{3}(?!\d))")
_DECIMAL_COMMA = re.compile(r"(?<=\d)\{,\}(?=\d)")
_SPACES = re.compile(r"(?<!\\)\\[,;:> ]|~|\\thinspace(?![a-zA-Z])|\\medspace(?![a-zA-Z])|\\enspace(?![a-zA-Z])")
_RUN = re.compile(r"[ \t\r\n\f\v]+")
_DOUBLED = re.compile(r"\\\\(?=[a-zA-Z{}%$!,;()\[\]])")
_SINGLE = re.compile(r"(?<!\\)\\(?=[a-zA-Z])")
_SYNONYMS = re.compile(
    r"\\(dfrac|tfrac|cfrac|sfrac|nicefrac|dbinom|tbinom|leq|leqslant|geq|geqslant|neq|not\s*=|lt|gt|land|lor|colon|dots|cdots|dotsc|dotsb|"
    r"dotsm|vdots|hdots|lbrace|rbrace|lbrack|rbrack|lvert|rvert|vert|mid|times|ast|varnothing|empty|smallsetminus|backslash|"
    r"varepsilon|varphi|vartheta|varpi|textdegree|approxeq|simeq|cong|thickapprox|implies|Longrightarrow|iff|lVert|rVert|Vert|"
    r"textstyleminus|minus|plus|textdollar|euro|pounds|exponentialE|imaginaryI|differentialD|infin|real|reals|Reals|RR|ZZ|NN|QQ|CC|R|Z|N|Q)(?![a-zA-Z])"
)
_SYNONYM = {
    "dfrac": r"\frac", "tfrac": r"\frac", "cfrac": r"\frac", "sfrac": r"\frac", "nicefrac": r"\frac", "dbinom": r"\binom",
    "tbinom": r"\binom", "leq": r"\le ", "leqslant": r"\le ", "geq": r"\ge ", "geqslant": r"\ge ", "neq": r"\ne ", "lt": "<", "gt": ">",
    "land": r"\wedge ", "lor": r"\vee ", "colon": ":", "dots": r"\ldots ", "cdots": r"\ldots ", "dotsc": r"\ldots ",
    "dotsb": r"\ldots ", "dotsm": r"\ldots ", "vdots": r"\ldots ", "hdots": r"\ldots ", "lbrace": r"\{", "rbrace": r"\}", "lbrack": "[", "rbrack": "]",
    "lvert": "|", "rvert": "|", "vert": "|", "mid": "|", "times": r"\cdot ", "ast": "*", "varnothing": r"\emptyset ", "empty": r"\emptyset ",
    "smallsetminus": r"\setminus ", "backslash": r"\setminus ", "varepsilon": r"\epsilon ", "varphi": r"\phi ", "vartheta": r"\theta ",
    "varpi": r"\pi ", "textdegree": r"\degree ", "approxeq": r"\approx ", "simeq": r"\approx ", "cong": r"\approx ", "thickapprox": r"\approx ",
    "implies": r"\Rightarrow ", "Longrightarrow": r"\Rightarrow ", "iff": r"\Rightarrow ", "lVert": r"\|", "rVert": r"\|", "Vert": r"\|",
    "minus": "-", "plus": "+", "textdollar": r"\$", "euro": "€", "pounds": "£", "exponentialE": "e", "imaginaryI": "i",
    "infin": r"\infty ", "real": r"\mathbb{R}", "reals": r"\mathbb{R}", "Reals": r"\mathbb{R}", "RR": r"\mathbb{R}", "ZZ": r"\mathbb{Z}",
    "NN": r"\mathbb{N}", "QQ": r"\mathbb{Q}", "CC": r"\mathbb{C}", "R": r"\mathbb{R}", "Z": r"\mathbb{Z}", "N": r"\mathbb{N}", "Q": r"\mathbb{Q}",
}  # fmt: skip
_DEGREE = re.compile(r"\^\s*\{?\s*\\circ\s*\}?|\\degrees?(?![a-zA-Z])|\\circ(?=\s*[.,;)}]*\s*$)")


def to_ascii(text: str) -> str:
    """Unicode signs as LaTeX or ASCII: √2 as \\sqrt 2, x² as x^{2}, ５ as 5, every digit as 0-9."""
    if text.isascii():
        return text.replace("\x00", "") if "\x00" in text else text
    text = _RAISED_RUN.sub(lambda run: "^{" + run[0].translate(_RAISED) + "}", text)
    text = _LOWERED_RUN.sub(lambda run: "_{" + run[0].translate(_LOWERED) + "}", text)
    text = text.translate(_TABLE)
    if text.isascii():
        return text
    text = unicodedata.normalize("NFKC", text).translate(_TABLE)
    return "".join(str(unicodedata.decimal(c)) if not c.isascii() and c.isdecimal() else c for c in text)


def mend_escapes(text: str) -> str:
    """Undo what a string literal or JSON did to LaTeX: control characters for \\f, \\t, ..., and doubled backslashes."""
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
        text = text.replace("\\dollar", "\\$").replace("{,}", "{,}")
        text = _ROW_SKIP.sub(r"\\\\ ", text)
        text = _THOUSANDS.sub("", text)
        text = _DECIMAL_COMMA.sub(".", text)
        text = text.replace("\\!", "")
        text = _DELIMITER_DOT.sub(" ", text)
        text = _COSMETIC.sub("", text)
        text = _QUAD.sub(" ", text)
        text = _SYNONYMS.sub(lambda found: _SYNONYM.get(found[1], r"\ne "), text)
        text = _SPACES.sub(" ", text)
        text = _DEGREE.sub(r"\\degree ", text)
    return _RUN.sub(" ", text).strip()


_INVISIBLE = re.compile(r"\\(?:text|mathrm|textbf|textit|mbox|mathbf|textnormal|textrm|operatorname|mathit|mathsf|boldsymbol|bm)\s*\{([^{}]*)\}")
_CLOSING = ".。,，;；:!！?？ "


def comparable(text: str) -> str:
    """The normalised text with everything dropped that two spellings of one answer may differ in; for `==` only."""
    text = _INVISIBLE.sub(r"\1", text)
    text = text.replace(" ", "").replace("$", "").replace("\\%", "%")
    text = re.sub(r"\^\{(\w)\}", r"^\1", text)
    text = re.sub(r"_\{(\w)\}", r"_\1", text)
    return text.rstrip(".,;:")
