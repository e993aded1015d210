"""LaTeX as text: joining pieces, bracing arguments, and taking formulas out of what pages wrap them in."""

from __future__ import annotations

import re
from collections.abc import Iterable

_ENDS_IN_COMMAND = re.compile(r"\\[A-Za-z]*$")
_ONE_TOKEN = re.compile(
    r"[A-Za-z)\]|]|[0-9.,]+|\\[A-Za-z]+|\\(?:math[a-z]+|text[a-z]*|boldsymbol|operatorname)\{[^{}]*\}"
)
_WRAPPINGS = (("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"), ("$", "$"), ("[tex]", "[/tex]"), ("[math]", "[/math]"))
_COMMENT = re.compile(r"(?<!\\)((?:\\\\)*)%[^\n]*\n")
_BREAK = re.compile(r"\s*<br\s*/?>\s*", re.IGNORECASE)
_CDATA = re.compile(r"^\s*%?\s*<!\[CDATA\[(.*?)%?\s*\]\]>\s*$", re.DOTALL)
_OUTER_COMMENT = re.compile(r"^\s*<!--(.*?)(?://)?-->\s*$", re.DOTALL)
_DISPLAYED = re.compile(
    r"\\begin\s*\{(?:align|aligned|alignat|array|cases|displaymath|eqnarray|equation|flalign|gather|gathered|multline|"
    r"split)\*?\}|\\tag\b|\\\\"
)


def join(pieces: Iterable[str]) -> str:
    """One string of LaTeX; a space where a command would swallow the letter that follows it.

    >>> join(["\\\\alpha", "x", "^{2}"])
    '\\\\alpha x^{2}'
    """
    out = ""
    for piece in pieces:
        if piece[:1].isalpha() and _ENDS_IN_COMMAND.search(out):
            out += " "
        out += piece
    return out


def base(tex: str) -> str:
    """`tex` fit to carry a sub- or superscript."""
    if _ONE_TOKEN.fullmatch(tex) or _is_one_group(tex):
        return tex
    return f"{{{tex}}}"


def script(mark: str, tex: str) -> str:
    """`_{tex}` or `^{tex}`; nothing where there is nothing to set."""
    tex = tex.strip()
    return f"{mark}{{{tex}}}" if tex else ""


def _is_one_group(tex: str) -> bool:
    """Whether `tex` is one pair of brackets that stretch, whose right one is its end."""
    if not tex.startswith("\\left") or tex.startswith("\\leftarrow"):
        return False
    depth = 0
    for match in re.finditer(r"\\(left|right)(?![a-z])", tex):
        depth += 1 if match.group(1) == "left" else -1
        if depth == 0:
            return len(tex) - match.end() <= len("\\rangle")
    return False


def unwrapped(tex: str) -> tuple[str, bool | None]:
    """The formula without delimiters, CDATA and comments, and whether its delimiters said "display".

    Returns:
        the formula, stripped, and True, False or None where it had no delimiters of its own.
    """
    tex = tex.replace("\u00a0", " ").strip()
    if match := _CDATA.match(tex) or _OUTER_COMMENT.match(tex):
        tex = match.group(1).strip()
    if "<br" in tex:
        tex = _BREAK.sub("\n", tex)
    tex = _COMMENT.sub(r"\1\n", tex).strip()
    for before, after in _WRAPPINGS:
        inner = tex[len(before) : -len(after)]
        if tex.startswith(before) and tex.endswith(after) and len(tex) > len(before + after) and before not in inner:
            return inner.strip(), before in ("$$", "\\[")
    return tex, None


def looks_displayed(tex: str) -> bool:
    """Whether a formula is of several lines or numbered, which TeX sets on lines of its own."""
    return _DISPLAYED.search(tex) is not None


_SIGNS = re.compile(r"\\[A-Za-z]{2,}|[A-Za-z0-9)}\]]\s*[\^_]\s*[{A-Za-z0-9\\*+\-']|\\[{}|,;!]")


_PROSE = re.compile(r"[A-Za-z]{3,}\s+[A-Za-z]{3,}\s+[A-Za-z]{2,}")
_COMMANDS = re.compile(r"\\(?:text\w*|mbox|hbox|mathrm|operatorname|begin|end)\*?\s*\{[^{}]*\}|\\[A-Za-z]+")


def looks_like_tex(text: str) -> bool:
    """Whether text is a formula by marks of TeX in it: commands, scripts; and no sentence with one in it.

    A path of Windows or an identifier has none.

    >>> looks_like_tex("\\\\frac{1}{2}"), looks_like_tex("x^2"), looks_like_tex("my_photo_2")
    (True, True, False)
    """
    if not _SIGNS.search(text) or _PROSE.search(_COMMANDS.sub(" ", text)):
        return False
    if "\\" in text or "^" in text:
        return ":\\" not in text
    return "_{" in text or re.fullmatch(r"[A-Za-z]_[A-Za-z0-9]", text.strip()) is not None


def words(text: str) -> tuple[str, ...]:
    """A table written as one line of words."""
    return tuple(text.split())


def inline(tex: str) -> str:
    return f"${tex}$"


def display(tex: str) -> str:
    return f"$${tex}$$"
