"""What LaTeX's commands with arguments become in MathML; a table for dsm/corpus/annotate/mathml.py."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dsm.corpus.annotate.mathml import Parser

_COLOUR = re.compile(r"[A-Za-z]{1,20}|#[0-9a-fA-F]{3,8}")
_PAD = '<mspace width="0.5em"/>'
_LENGTH = re.compile(r"(-?\d{0,3}(?:\.\d{1,4})?)\s*(em|ex|pt|mm|cm|in|mu|px)")


class FormulaError(ValueError):
    """A formula that is no LaTeX (or too long, or too deep)."""


def fraction(kind: str, above: str, below: str) -> str:
    line = "" if kind == "frac" else ' linethickness="0"'
    fraction = f"<mfrac{line}><mrow>{above}</mrow><mrow>{below}</mrow></mfrac>"
    fences = {"binom": "()", "brace": "{}", "brack": "[]"}.get(kind)
    return f"<mrow><mo>{fences[0]}</mo>{fraction}<mo>{fences[1]}</mo></mrow>" if fences else fraction


def text(parser: Parser, before: str = "", after: str = "") -> str:
    """Text, in which `$...$` is a formula again."""
    parts = []
    for number, piece in enumerate(re.split(r"(?<!\\)\$", f"{before}{parser.raw()}{after}")):
        if number % 2:
            parts.append(f"<mrow>{parser.part(piece)}</mrow>")
        elif piece:
            plain = re.sub(r"\\([^A-Za-z])", r"\1", re.sub(r"[{}]", "", piece))
            plain = re.sub(r"[\s~]", "\u00a0", plain)
            parts.append(f"<mtext>{escape(plain)}</mtext>")
    return "".join(parts) if len(parts) == 1 else f"<mrow>{''.join(parts)}</mrow>"


def _space(parser: Parser) -> str:
    found = _LENGTH.fullmatch(parser.raw().strip())
    if found is None:
        return ""
    unit = "em" if found[2] == "mu" else found[2]
    size = float(found[1] or 0) / (18 if found[2] == "mu" else 1)
    return f'<mspace width="{size:.3f}{unit}"/>'


def _coloured(parser: Parser) -> str:
    colour = parser.raw()
    inside = parser.argument() if parser.peek() not in (None, "}") else ""
    return f'<mrow mathcolor="{colour}">{inside}</mrow>' if _COLOUR.fullmatch(colour) else inside


def _scripts(kind: str) -> Callable[[Parser], str]:
    def make(parser: Parser) -> str:
        script, base = parser.argument(), parser.argument()
        return f"<{kind}>{base}{script}</{kind}>"

    return make


def _arrow(character: str) -> Callable[[Parser], str]:
    def make(parser: Parser) -> str:
        under, over = parser.optional(), parser.argument()
        arrow = f'<mo stretchy="true">{character}</mo>'
        if under:
            return f"<munderover>{arrow}<mrow>{_PAD}{parser.part(under)}{_PAD}</mrow>{over}</munderover>"
        return f"<mover>{arrow}<mrow>{_PAD}{over}{_PAD}</mrow></mover>"

    return make


def _negated(parser: Parser) -> str:
    token = parser.peek() or ""
    inside = parser.argument()
    found = re.fullmatch(r"<mo[^>]*>(&lt;|&gt;|.)</mo>", inside)
    return f"<mo>{found[1]}\u0338</mo>" if found and token else f"<mrow>{inside}<mo>\u0338</mo></mrow>"


def _named(parser: Parser) -> str:
    name = re.sub(r"\\[A-Za-z]*[,;: ]?|[{}]", "", parser.raw())
    return f'<mrow><mi mathvariant="normal">{escape(name)}</mi><mspace width="0.167em"/></mrow>'


def _modulo(parser: Parser) -> str:
    return f'<mspace width="0.6em"/><mo>(</mo><mi>mod</mi><mspace width="0.333em"/>{parser.argument()}<mo>)</mo>'


def _dropped(count: int) -> Callable[[Parser], str]:
    def drop(parser: Parser) -> str:
        for _ in range(count):
            parser.raw()
        return ""

    return drop


def _between(before: str, after: str) -> Callable[[Parser], str]:
    return lambda parser: f"{before}{parser.argument()}{after}"


def _fractions(kind: str) -> Callable[[Parser], str]:
    return lambda parser: fraction(kind, parser.argument(), parser.argument())


def _substack(parser: Parser) -> str:
    rows = "".join(f"<mtr><mtd>{parser.part(row)}</mtd></mtr>" for row in parser.raw().split("\\\\"))
    return f"<mtable>{rows}</mtable>"


COMMANDS: dict[str, Callable[[Parser], str]] = {
    **dict.fromkeys(("frac", "dfrac", "tfrac", "cfrac", "sfrac", "nicefrac"), _fractions("frac")),
    **dict.fromkeys(("binom", "dbinom", "tbinom"), _fractions("binom")),
    **dict.fromkeys(("label", "require", "vspace", "eqref", "ref", "cite", "hskip"), _dropped(1)),
    **dict.fromkeys(("phantom", "hphantom", "vphantom"), _between("<mphantom>", "</mphantom>")),
    **dict.fromkeys(("boxed", "fcolorbox"), _between('<mrow class="boxed">', "</mrow>")),
    **dict.fromkeys(("cancel", "bcancel", "xcancel"), _between('<mrow class="cancel">', "</mrow>")),
    **dict.fromkeys(("operatorname", "operatorname*", "mathop*", "DeclareMathOperator"), _named),
    **dict.fromkeys(("color", "textcolor"), _coloured),
    **dict.fromkeys(("hspace", "hspace*", "mspace", "kern", "mkern"), _space),
    **dict.fromkeys(("overset", "stackrel"), _scripts("mover")),
    "genfrac": lambda parser: (
        [parser.raw() for _ in range(4)],
        fraction("frac", parser.argument(), parser.argument()),
    )[1],
    "underset": _scripts("munder"),
    "xrightarrow": _arrow("→"),
    "xleftarrow": _arrow("←"),
    "xleftrightarrow": _arrow("↔"),
    "xmapsto": _arrow("↦"),
    "not": _negated,
    "sqrt": lambda parser: parser.root(),
    "left": lambda parser: parser.left_right(),
    "begin": lambda parser: parser.environment(),
    "pmod": _modulo,
    "bmod": lambda parser: '<mspace width="0.222em"/><mi>mod</mi><mspace width="0.222em"/>',
    "mod": lambda parser: '<mspace width="0.6em"/><mi>mod</mi><mspace width="0.333em"/>',
    "tag": lambda parser: f'<mspace width="2em"/>{text(parser, "(", ")")}',
    "tag*": lambda parser: f'<mspace width="2em"/>{text(parser)}',
    "substack": _substack,
    "href": lambda parser: (parser.raw(), parser.argument())[1],
}
