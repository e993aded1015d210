"""The tree that an answer becomes: numbers, symbols, calls, and the structures that answers are made of.

Operators are calls too: "+", "*", "/", "^", "neg", "pm", "union", ... so that every walker of trees has one case for
them. Nodes are immutable and hashable; equal trees are equal objects for `==`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

MAX_CHARS = 4_000
"""Longer texts are not parsed."""
MAX_DEPTH = 40
"""Deeper nesting is not parsed: it keeps every recursive walk over a tree far from Python's own limit."""


class ParseError(ValueError):
    """The text is no mathematics that we can read, or is over a size limit. Its message says which."""


class TooLargeError(ParseError):
    """A value, not a text, is over a limit: 9^9^9^9."""


@dataclass(frozen=True, slots=True)
class Num:
    """A literal, exact as written. `digits` counts the significant digits of a decimal (None: not a decimal).

    `open` marks a decimal that goes on: 0.333... Its value is what is written, cut off.
    """

    value: Fraction
    digits: int | None = None
    places: int = 0
    open: bool = False


@dataclass(frozen=True, slots=True)
class Sym:
    """A variable; subscripts and primes belong to the name: `x_1`, `y'`."""

    name: str


@dataclass(frozen=True, slots=True)
class Const:
    """pi, e, i, oo (infinity), or a set: reals, integers, naturals, rationals, complexes, empty; ellipsis."""

    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """An operator or a function and its arguments. Unknown functions have a name that starts with "@"."""

    name: str
    args: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Seq:
    """Several values. `list`: bare, no brackets; `group`: in braces that LaTeX does not print; `bracket`: [1, 2, 3]."""

    kind: Literal["list", "group", "tuple", "set", "bracket", "vector"]
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Interval:
    """low to high; `closed` at the left, at the right. `(a, b)` is a tuple until something shows it to be one."""

    low: Node
    high: Node
    closed: tuple[bool, bool]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of equal length."""

    rows: tuple[tuple[Node, ...], ...]


@dataclass(frozen=True, slots=True)
class Relation:
    """A chain `sides[0] ops[0] sides[1] ops[1] ...`; ops are = < <= > >= != ~ (about) == (congruent) in."""

    ops: tuple[str, ...]
    sides: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value and the words or symbols behind (or, for money, before) it: `%`, `deg`, `cm^2`, `apples`."""

    value: Node
    unit: str


@dataclass(frozen=True, slots=True)
class Words:
    """Text that is no mathematics, in lower case with single spaces."""

    text: str


@dataclass(frozen=True, slots=True)
class Clock:
    """A time of day in seconds; `half` is "am" or "pm" where the text says so."""

    seconds: int
    half: str | None


@dataclass(frozen=True, slots=True)
class Based:
    """A number written in a base: 204_5, 0.011_2."""

    digits: str
    base: int

    @property
    def value(self) -> Fraction:
        whole, _, places = self.digits.partition(".")
        return Fraction(int(whole + places or "0", self.base), self.base ** len(places))


Node = Num | Sym | Const | Call | Seq | Interval | Matrix | Relation | Quantity | Words | Clock | Based


def children(node: Node) -> tuple[Node, ...]:
    """The direct parts of a node, in order."""
    match node:
        case Call(_, args):
            return args
        case Seq(_, items):
            return items
        case Interval(low, high, _):
            return (low, high)
        case Matrix(rows):
            return tuple(entry for row in rows for entry in row)
        case Relation(_, sides):
            return sides
        case Quantity(value, _):
            return (value,)
    return ()


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it."""
    stack = [node]
    while stack:
        node = stack.pop()
        yield node
        stack.extend(children(node))


def rebuild(node: Node, parts: tuple[Node, ...]) -> Node:
    """The same node over other direct parts (as `children` lists them)."""
    match node:
        case Call(name, _):
            return Call(name, parts)
        case Seq(kind, _):
            return Seq(kind, parts)
        case Interval(_, _, closed):
            return Interval(parts[0], parts[1], closed)
        case Matrix(rows):
            width = len(rows[0])
            return Matrix(tuple(parts[i : i + width] for i in range(0, len(parts), width)))
        case Relation(ops, _):
            return Relation(ops, parts)
        case Quantity(_, unit):
            return Quantity(parts[0], unit)
    return node


def replace(node: Node, old: Node, new: Node) -> Node:
    """The tree with every occurrence of one tree replaced by another."""
    if node == old:
        return new
    parts = children(node)
    return rebuild(node, tuple(replace(part, old, new) for part in parts)) if parts else node


def substitute(node: Node, values: Mapping[str, Node]) -> Node:
    """The tree with trees put in for variables."""
    if isinstance(node, Sym):
        return values.get(node.name, node)
    parts = children(node)
    return rebuild(node, tuple(substitute(part, values) for part in parts)) if parts else node


def symbols(node: Node) -> frozenset[str]:
    """The names of the variables in a tree."""
    return frozenset(part.name for part in walk(node) if isinstance(part, Sym))


def number(value: int | Fraction) -> Num:
    """An exact literal."""
    return Num(Fraction(value))


def negative(node: Node) -> Node:
    """Minus a node; the sign of a literal goes into the literal."""
    if isinstance(node, Num):
        return Num(-node.value, node.digits, node.places, node.open)
    return Call("neg", (node,))
