"""AsciiMath to LaTeX: a tokenizer of longest matches and a parser of its small grammar.

    expression = intermediate ("/" intermediate)? ...        1/2 is a fraction; its brackets are dropped
    intermediate = simple ("_" simple)? ("^" simple)?
    simple = constant | unary simple | binary simple simple | open expression close

Brackets around an argument go away, those that stay stretch, and brackets in brackets with equal numbers of commas are
a matrix. Anything can be parsed: what is no word of the notation is letters of their own, and a bracket that never
closes closes at the end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dsm.corpus.extract.formulas.asciimath_symbols import (
    BINARY,
    CONSTANTS,
    FENCES_CLOSE,
    FENCES_OPEN,
    NAMES,
    TEXTS,
    UNARY,
)
from dsm.corpus.extract.formulas.characters import command_of
from dsm.corpus.extract.formulas.tex import base, join, script

_WORDS = sorted({*CONSTANTS, *FENCES_OPEN, *FENCES_CLOSE, *UNARY, *BINARY, *TEXTS, *NAMES}, key=len, reverse=True)
_TOKEN = re.compile(
    r"\s+|(?P<space>\\[ \t\r\n])|\\(?=[A-Za-z])|(?P<quoted>\"[^\"]*\")|(?P<number>\d+(?:\.\d+)?|\.\d+)|(?P<word>"
    + "|".join(map(re.escape, _WORDS))
    + r")|(?P<other>.)",
    re.DOTALL,
)
_OUTER_SPACE = re.compile(r"^(?:\\ | )+|(?:(?<!\\)\\ | )*(?:(?<!\\)\\)?$")
_MAX_DEPTH = 60


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str


@dataclass(frozen=True)
class _Group:
    """Something in brackets: LaTeX without them, and the brackets ("." where nothing is drawn)."""

    body: str
    opening: str
    closing: str

    def __str__(self) -> str:
        return join([f"\\left{self.opening}", self.body, f"\\right{self.closing}"])


def latex(source: str) -> str:
    """LaTeX of one formula of AsciiMath, without delimiters; never raises.

    >>> latex("sum_(i=1)^n i^3=((n(n+1))/2)^2")
    '\\\\sum_{i = 1}^{n} i^{3} = \\\\left(\\\\frac{n \\\\left(n + 1\\\\right)}{2}\\\\right)^{2}'
    """
    parser = _Parser(_tokens(source))
    try:
        tex = re.sub(r" {2,}", " ", parser.expression(0, stop=False))
    except RecursionError:
        return " ".join(source.split())
    return _OUTER_SPACE.sub("", tex)


def _tokens(source: str) -> list[_Token]:
    tokens = []
    position = 0
    while match := _TOKEN.match(source, position):
        position = match.end()
        kind = match.lastgroup
        if kind == "word" and match.group() in TEXTS:
            words = re.compile(r"\s*(?:\(([^()]*(?:\([^()]*\)[^()]*)*)\)|\[([^\]]*)\]|\{([^}]*)\})").match(
                source, position
            )
            if words:
                position = words.end()
                tokens.append(_Token("text", next(group for group in words.groups() if group is not None)))
                continue
            kind = "other"
        if kind == "quoted":
            tokens.append(_Token("text", match.group()[1:-1]))
        elif kind is not None:
            tokens.append(_Token(kind, match.group()))
    return tokens


def _closing(tokens: list[_Token]) -> dict[int, int]:
    """Index of each opening bracket, and of the bracket that closes it."""
    pairs: dict[int, int] = {}
    stack: list[int] = []
    for i, token in enumerate(tokens):
        if token.kind == "text":
            continue
        if token.text in FENCES_OPEN:
            stack.append(i)
        elif token.text in FENCES_CLOSE and stack:
            pairs[stack.pop()] = i
    return pairs


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self.tokens = tokens
        self.position = 0
        self.closing = _closing(tokens)

    def peek(self) -> str:
        """The next token if it is a sign or a word, else ""."""
        if self.position < len(self.tokens) and self.tokens[self.position].kind in ("word", "other"):
            return self.tokens[self.position].text
        return ""

    def expression(self, depth: int, *, stop: bool, bar: bool = False) -> str:
        """Until the end, a closing bracket (`stop`) or a bar (`bar`)."""
        parts: list[str] = []
        while self.position < len(self.tokens):
            sign = self.peek()
            if (stop and sign in FENCES_CLOSE) or (bar and sign == "|"):
                break
            if sign == "/":  # nothing above it
                self.position += 1
                parts.append("/")
                continue
            part = self.intermediate(depth)
            if self.peek() == "/":
                self.position += 1
                below = self.intermediate(depth) if self.position < len(self.tokens) else ""
                part = f"\\frac{{{_bare(part)}}}{{{_bare(below)}}}"
            parts.append(str(part))
        return _spaced(parts)

    def intermediate(self, depth: int) -> str | _Group:
        """A simple expression with its scripts; a lone group keeps its brackets apart, for a fraction to drop."""
        nucleus = self.simple(depth)
        under = over = ""
        while self.peek() in ("_", "^") and not (under if self.peek() == "_" else over):
            mark = self.peek()
            self.position += 1
            argument = _bare(self.simple(depth)) if self.position < len(self.tokens) else ""
            if mark == "_":
                under = script("_", argument)
            else:
                over = script("^", argument)
            if not argument:
                break
        primes = ""
        while self.peek() in ("'", "prime"):
            primes += "'"
            self.position += 1
        if not (under or over or primes):
            return nucleus
        tex = str(nucleus)
        if tex.lstrip("\\") in NAMES and self.position < len(self.tokens) and not self.ends():
            return f"{tex}{primes}{under}{over} {self.intermediate(depth + 1)}"
        return base(tex) + primes + under + over

    def ends(self) -> bool:
        return self.peek() in FENCES_CLOSE or self.peek() in ("|", "/", "^", "_", ",", "=", "+", "-")

    def simple(self, depth: int) -> str | _Group:
        token = self.tokens[self.position]
        self.position += 1
        text = token.text
        if depth > _MAX_DEPTH:
            return text
        if token.kind == "text":
            return f"\\text{{{text}}}"
        if token.kind == "number":
            return text
        if token.kind == "space":
            return "\\ "
        if text in FENCES_OPEN:
            return self.bracket(depth, text)
        if text == "|":
            return self.bars(depth)
        if text in UNARY or text in BINARY or text in NAMES:
            return self.applied(depth, text)
        if text in FENCES_CLOSE:
            return FENCES_CLOSE[text].replace(".", "")
        if text in CONSTANTS:
            return CONSTANTS[text]
        return command_of(text)

    def applied(self, depth: int, name: str) -> str:
        if name in NAMES:
            tex = f"\\{name}" if name[0].islower() and name not in ("sech", "csch") else f"\\operatorname{{{name}}}"
            if self.position >= len(self.tokens) or self.ends():
                return tex
            return join([tex, " ", str(self.intermediate(depth + 1))])
        arguments = []
        for _ in range(2 if name in BINARY else 1):
            more = self.position < len(self.tokens) and self.peek() not in FENCES_CLOSE
            arguments.append(_bare(self.simple(depth + 1)) if more else "")
        if name in BINARY:
            return BINARY[name] % tuple(arguments)
        return UNARY[name] % arguments[0]

    def bracket(self, depth: int, opened: str) -> str | _Group:
        rows = self.rows(depth, self.closing.get(self.position - 1, len(self.tokens)))
        body = "" if rows else self.expression(depth + 1, stop=True)
        closing = "."
        if self.peek() in FENCES_CLOSE:
            closing = FENCES_CLOSE[self.peek()]
            self.position += 1
        opening = FENCES_OPEN[opened]
        if not rows:
            return _Group(body, opening, closing)
        if (opening, closing) == ("\\{", "."):
            return _matrix("cases", rows)
        if (opening, closing) == (".", "."):
            return _matrix("matrix", rows)
        return str(_Group(_matrix("matrix", rows), opening, closing))

    def bars(self, depth: int) -> str:
        """`|...|`: bars around what they hold, or a bar of its own where none follows before the brackets close."""
        end = self.next_bar()
        if end is None or end == self.position:
            return "\\mid"
        rows = self.rows(depth, end)
        body = "" if rows else self.expression(depth + 1, stop=True, bar=True)
        if self.peek() == "|":
            self.position += 1
        return str(_Group(_matrix("matrix", rows), "|", "|")) if rows else f"|{body}|"

    def next_bar(self) -> int | None:
        """Where the next bar is that stands in the same brackets."""
        position = self.position
        while position < len(self.tokens):
            text = self.tokens[position].text
            if text == "|":
                return position
            if text in FENCES_CLOSE:
                return None
            position = self.closing.get(position, position) + 1
        return None

    def rows(self, depth: int, end: int) -> list[list[str]]:
        """Rows of a matrix up to the token `end`: brackets side by side with commas between, each with as many commas
        in it; empty where something else is there, and then nothing is read."""
        position, commas = self.position, set()
        groups = 0
        while position < end and self.tokens[position].text in ("(", "[") and position in self.closing:
            close = self.closing[position]
            commas.add(self.commas(position + 1, close))
            groups += 1
            position = close + 1
            if position < end and self.tokens[position].text == ",":
                position += 1
            elif position != end:
                return []
        if position != end or len(commas) != 1 or (groups == 1 and 0 in commas):
            return []
        found = []
        while self.position < end:
            self.position += 1
            found.append(self.cells(depth))
            self.position = min(end, self.position + 2)  # the bracket and the comma after it
        return found

    def commas(self, position: int, end: int) -> int:
        """Commas between two tokens that are in no brackets there."""
        found = 0
        while position < end:
            found += self.tokens[position].text == ","
            position = self.closing.get(position, position) + 1
        return found

    def cells(self, depth: int) -> list[str]:
        cells: list[str] = []
        parts: list[str] = []
        while self.position < len(self.tokens) and self.peek() not in FENCES_CLOSE:
            if self.peek() == ",":
                self.position += 1
                cells.append(_spaced(parts))
                parts = []
                continue
            part = self.intermediate(depth + 1)
            if self.peek() == "/":
                self.position += 1
                below = self.intermediate(depth + 1) if self.position < len(self.tokens) else ""
                part = f"\\frac{{{_bare(part)}}}{{{_bare(below)}}}"
            parts.append(str(part))
        return [*cells, _spaced(parts)]


def _bare(part: str | _Group) -> str:
    """An argument without the brackets that only held it together."""
    return part.body if isinstance(part, _Group) else part


def _matrix(name: str, rows: list[list[str]]) -> str:
    return f"\\begin{{{name}}} " + " \\\\ ".join(" & ".join(row) for row in rows) + f" \\end{{{name}}}"


def _spaced(parts: list[str]) -> str:
    """Parts in a line with a space between, but none before a comma or around what hugs its neighbour."""
    out = " ".join(part for part in parts if part)
    return re.sub(r" +([,;.!'])", r"\1", out)
