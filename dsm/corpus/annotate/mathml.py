"""LaTeX formulas as MathML Core, which browsers draw by themselves: nothing is fetched, and nothing runs in the page.

Made for formulas as they are found on web pages: an unknown command is shown by its name, a formula that cannot be read
raises `FormulaError` and is then shown as its source. Only the elements and attributes written here ever reach the
page; every character of the formula is escaped. Letters of other alphabets are Unicode's, since MathML Core has no
`mathvariant`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from html import escape

from dsm.corpus.annotate import symbols
from dsm.corpus.annotate.commands import COMMANDS, FormulaError, fraction, text

MAX_CHARS = 6_000
MAX_DEPTH = 80

_TOKEN = re.compile(r"\\[A-Za-z]+\*?|\\.|%[^\n]*\n?|\s+|.", re.DOTALL)
_OPENS = re.compile(r"<mo(?![^>]*(?:postfix|lspace))[^>]*>[^<!]+</mo>|<mspace[^>]*/>")
"""After these a minus is a sign."""
_INFIX = {"over": "frac", "choose": "binom", "atop": "atop", "brace": "brace", "brack": "brack"}


def to_mathml(latex: str, *, display: bool = False) -> str:
    """A `<math>` element.

    Args:
        latex: a formula without its delimiters.
        display: on a line of its own, with large operators.

    Raises:
        FormulaError: it cannot be read.
    """
    if len(latex) > MAX_CHARS:
        raise FormulaError("too long")
    parser = Parser(latex)
    body = parser.row(())
    if parser.peek() is not None:
        raise FormulaError(f"{parser.peek()} out of place")
    block = ' display="block" class="display"' if display else ""
    return f"<math{block}><mrow>{body}</mrow></math>"


_FIXED = {
    **dict.fromkeys("([", ' stretchy="false" form="prefix"'),
    **dict.fromkeys(")]", ' stretchy="false" form="postfix"'),
    **dict.fromkeys("|/", ' stretchy="false" lspace="0" rspace="0"'),
}


class Parser:
    """Reads a formula from left to right; the commands of dsm/corpus/annotate/commands.py call it back."""

    def __init__(self, latex: str, depth: int = 0) -> None:
        self.tokens = [token for token in _TOKEN.findall(latex) if not token.startswith("%")]
        self.at = 0
        self.depth = depth
        self.alphabet = ""
        self.opened = True  # nothing, or an operator, stands before: a minus is a sign

    def part(self, latex: str) -> str:
        """A formula inside this one, given by its source."""
        return Parser(latex, self.depth + 1).row(())

    def peek(self) -> str | None:
        """The next token that is no blank."""
        while self.at < len(self.tokens) and self.tokens[self.at].isspace():
            self.at += 1
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def take(self) -> str:
        token = self.peek()
        if token is None:
            raise FormulaError("ends too early")
        self.at += 1
        return token

    def expect(self, wanted: str) -> None:
        if (token := self.take()) != wanted:
            raise FormulaError(f"{token} where {wanted} was to be")

    def row(self, stops: Collection[str]) -> str:
        """Everything up to one of these tokens (which is left) or the end, with fractions of the form `a \\over b`."""
        self.deeper()
        alphabet, parts = self.alphabet, list[str]()
        while (token := self.peek()) is not None and token not in stops:
            if token in ("}", "&", "\\\\", "\\right", "\\end"):
                if token == "}" or stops or token in ("\\right", "\\end"):
                    raise FormulaError(f"{token} out of place")
                self.take()
                parts.append('<mspace width="1em"/>')
            elif token[1:] in _INFIX and token[0] == "\\":
                self.take()
                above, below = "".join(parts), self.row(stops)
                parts = [fraction(_INFIX[token[1:]], above, below)]
            else:
                self.opened = not parts or _OPENS.fullmatch(parts[-1]) is not None
                parts.append(self.scripted())
        self.alphabet = alphabet
        self.depth -= 1
        return "".join(parts)

    def scripted(self) -> str:
        """One thing with what stands below and above it."""
        token = self.peek()
        base, limits = ("<mrow></mrow>", False) if token in ("^", "_", "'") else self.atom()
        below = above = ""
        while (token := self.peek()) in ("^", "_", "'", "′", "\\limits", "\\nolimits"):
            self.take()
            if token in ("\\limits", "\\nolimits"):
                limits = token == "\\limits"
            elif token in ("'", "′"):
                above += '<mo lspace="0" rspace="0">′</mo>'
            elif token == "^":
                above += self.argument()
            else:
                below += self.argument()
        if not below and not above:
            return base
        names = ("munder", "mover", "munderover") if limits else ("msub", "msup", "msubsup")
        if not above:
            return f"<{names[0]}>{base}<mrow>{below}</mrow></{names[0]}>"
        if not below:
            return f"<{names[1]}>{base}<mrow>{above}</mrow></{names[1]}>"
        return f"<{names[2]}>{base}<mrow>{below}</mrow><mrow>{above}</mrow></{names[2]}>"

    def argument(self) -> str:
        """A group in braces, or one thing."""
        if self.peek() == "{":
            return self.group()
        if (self.peek() or "").isdigit():  # \frac12 is a half
            return f"<mn>{self.take()}</mn>"
        return self.atom()[0]

    def group(self, opening: str = "{", closing: str = "}") -> str:
        self.expect(opening)
        body = self.row((closing,))
        self.expect(closing)
        return f"<mrow>{body}</mrow>"

    def raw(self) -> str:
        """The source of a group in braces (or of one token)."""
        if self.peek() != "{":
            return self.take()
        start = self.at = self.at + 1
        depth = 1
        while depth and self.at < len(self.tokens):
            depth += {"{": 1, "}": -1}.get(self.tokens[self.at], 0)
            self.at += 1
        if depth:
            raise FormulaError("{ is never closed")
        return "".join(self.tokens[start : self.at - 1])

    def optional(self) -> str | None:
        """The source of an argument in brackets, if there is one."""
        if self.peek() != "[":
            return None
        self.take()
        start = self.at
        while self.take() != "]":
            pass
        return "".join(self.tokens[start : self.at - 1])

    def atom(self) -> tuple[str, bool]:
        """One thing, and whether its scripts go below and above it in display."""
        self.deeper()
        found = self._atom()
        self.depth -= 1
        return found

    def deeper(self) -> None:
        """Keeps hostile formulas from exhausting the stack."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise FormulaError("too deep")

    def _atom(self) -> tuple[str, bool]:
        if self.peek() == "{":
            return self.group(), False
        token = self.take()
        if token.startswith("\\"):
            return self.command(token[1:])
        if token.isdigit():
            while self.at < len(self.tokens) and (self.tokens[self.at].isdigit() or self._is_point()):
                token += self.tokens[self.at]
                self.at += 1
            return f"<mn>{''.join(symbols.letter(digit, self.alphabet) for digit in token)}</mn>", False
        return self.character(token), False

    def _is_point(self) -> bool:
        following = self.tokens[self.at + 1 : self.at + 2]
        return self.tokens[self.at] == "." and bool(following) and following[0].isdigit()

    def character(self, token: str) -> str:
        if token == "~":
            return '<mspace width="0.333em"/>'
        if token.isalpha():
            if self.alphabet == "rm":
                while self.at < len(self.tokens) and self.tokens[self.at].isalpha() and self.tokens[self.at].isascii():
                    token += self.tokens[self.at]
                    self.at += 1
                return f'<mi mathvariant="normal">{escape(token)}</mi>'
            if not token.isascii() and ord(token) > 0x2E80:
                return f"<mtext>{escape(token)}</mtext>"
            return f"<mi>{escape(symbols.letter(token, self.alphabet))}</mi>"
        shown = {"-": "−", "*": "∗", "`": "‘"}.get(token, token)
        if token in "+-" and self.opened:
            return f'<mo form="prefix">{shown}</mo>'
        attributes = _FIXED.get(token, "")
        return f"<mo{attributes}>{escape(shown)}</mo>"

    def command(self, name: str) -> tuple[str, bool]:
        if name in symbols.IDENTIFIERS:
            return f"<mi>{symbols.letter(symbols.IDENTIFIERS[name], self.alphabet)}</mi>", False
        if name in symbols.OPERATORS:
            side = {"l": ' form="prefix"', "r": ' form="postfix"'}.get(name[0], "")
            fixed = f' stretchy="false"{side}' if name in symbols.FENCES else ""
            return f"<mo{fixed}>{escape(symbols.OPERATORS[name])}</mo>", False
        if name in symbols.BIG:
            return f"<mo>{symbols.BIG[name]}</mo>", True
        if name in symbols.INTEGRALS:
            return f"<mo>{symbols.INTEGRALS[name]}</mo>", False
        if name in symbols.LIMITS:
            return f'<mo movablelimits="true" form="prefix">{symbols.LIMITS[name]}</mo>', True
        if name in symbols.FUNCTIONS:
            return self._function(name), False
        if name in symbols.SPACES:
            return f'<mspace width="{symbols.SPACES[name]}"/>', False
        if name in symbols.ACCENTS or name in symbols.UNDER:
            return self._accented(name), name in ("overbrace", "underbrace")
        if name in symbols.ALPHABETS:
            return self._in_alphabet(name), False
        if name in symbols.TEXT:
            return text(self), False
        if name in COMMANDS:
            return COMMANDS[name](self), name in ("operatorname*", "overset", "underset", "stackrel")
        if name.rstrip("lrm") in symbols.SIZES:
            size = symbols.SIZES[name.rstrip("lrm")]
            return self._fence(f'stretchy="true" minsize="{size}em" maxsize="{size}em"'), False
        if name in symbols.IGNORED:
            return "", False
        if not name or name.isspace():
            return '<mspace width="0.333em"/>', False
        if len(name) == 1 and not name.isalpha():
            fixed = {"{": _FIXED["("], "}": _FIXED[")"]}.get(name, _FIXED["|"])
            return f"<mo{fixed}>{escape('‖' if name == '|' else name)}</mo>", False
        return f'<mtext class="unknown">\\{escape(name)}</mtext>', False

    def _function(self, name: str) -> str:
        if self.peek() in ("(", "[", "^", "_", "}", "\\left", "\\,", None):
            return f"<mi>{name}</mi>"
        return f'<mrow><mi>{name}</mi><mspace width="0.167em"/></mrow>'

    def _accented(self, name: str) -> str:
        inside = self.argument()
        if name == "underline":
            return f'<mrow class="underline">{inside}</mrow>'
        if name == "overline":
            return f'<mrow class="overline">{inside}</mrow>'
        stretchy = "true" if name in symbols.STRETCHED else "false"
        if name in symbols.UNDER:
            return f'<munder accentunder="true">{inside}<mo stretchy="true">{symbols.UNDER[name]}</mo></munder>'
        return f'<mover accent="true">{inside}<mo stretchy="{stretchy}">{symbols.ACCENTS[name]}</mo></mover>'

    def _in_alphabet(self, name: str) -> str:
        before, self.alphabet = self.alphabet, symbols.ALPHABETS[name]
        if name in symbols.SWITCHES:
            return ""  # until the group ends: row() puts the old one back
        inside = self.argument()
        self.alphabet = before
        return inside

    def _fence(self, attributes: str) -> str:
        token = self.take()
        shown = symbols.OPERATORS.get(token[1:], {"|": "‖"}.get(token[1:], token[1:])) if token[0] == "\\" else token
        shown = {".": "", "<": "⟨", ">": "⟩"}.get(shown, shown)
        return f"<mo {attributes}>{escape(shown)}</mo>" if shown else "<mrow></mrow>"

    def left_right(self) -> str:
        parts = [self._fence('stretchy="true" form="prefix"')]
        while True:
            inside = self.row(("\\right", "\\middle"))
            parts.append(f"<mrow>{inside}</mrow>")
            if self.take() == "\\right":
                break
            parts.append(self._fence('stretchy="true" form="infix"'))
        parts.append(self._fence('stretchy="true" form="postfix"'))
        return f"<mrow>{''.join(parts)}</mrow>"

    def root(self) -> str:
        index = self.optional()
        inside = self.argument()
        if index is None:
            return f"<msqrt>{inside}</msqrt>"
        return f"<mroot>{inside}<mrow>{self.part(index)}</mrow></mroot>"

    def environment(self) -> str:
        name = self.raw().rstrip("*")
        self.optional()
        columns = self.raw() if name in ("array", "tabular", "subarray", "alignat", "alignedat") else ""
        if name in symbols.CENTRED or name in symbols.ALIGNED or name in symbols.MATRICES:
            rows = self._rows()
        else:
            raise FormulaError(f"no environment {name}")
        if self.raw().rstrip("*") != name:
            raise FormulaError(f"{name} is never ended")
        if name in symbols.CENTRED and len(rows) == 1 and len(rows[0]) == 1:
            return f"<mrow>{rows[0][0]}</mrow>"
        kind = "aligned" if name in symbols.ALIGNED else "cases" if "cases" in name else "matrix"
        sides = re.findall(r"[lcr]", columns)
        cells = ["".join(_cell(cell, sides[at : at + 1]) for at, cell in enumerate(row)) for row in rows]
        body = "".join(f"<mtr>{row}</mtr>" for row in cells)
        style = ' displaystyle="true"' if kind == "aligned" else ""
        table = f'<mtable class="{kind}"{style}>{body}</mtable>'
        opening, closing = symbols.MATRICES.get(name, ("", ""))
        before = f'<mo stretchy="true" form="prefix">{opening}</mo>' if opening else ""
        after = f'<mo stretchy="true" form="postfix">{closing}</mo>' if closing else ""
        return f"<mrow>{before}{table}{after}</mrow>"

    def _rows(self) -> list[list[str]]:
        rows: list[list[str]] = [[]]
        while True:
            rows[-1].append(self.row(("&", "\\\\", "\\end", "\\cr")))
            token = self.take()
            if token in ("\\\\", "\\cr"):
                if self.at < len(self.tokens) and self.tokens[self.at] == "[":
                    self.optional()
                rows.append([])
            elif token == "\\end":
                return [row for row in rows if any(row)] or [[""]]


def _cell(body: str, side: list[str]) -> str:
    return f'<mtd class="{side[0]}">{body}</mtd>' if side and side[0] != "c" else f"<mtd>{body}</mtd>"
