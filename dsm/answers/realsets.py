"""Sets of real numbers: intervals, unions, inequalities in one unknown, all brought to one sorted list of pieces."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

from dsm.answers.exact import Irrational, Undefined, exact
from dsm.answers.nodes import (
    Call,
    Const,
    Interval,
    Node,
    Quantity,
    Relation,
    Seq,
    Sym,
    TooLargeError,
    number,
    replace,
    substitute,
    symbols,
    walk,
)
from dsm.answers.numeric import Numeric, context

MAX_PIECES = 60
_DIGITS = 50
_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!="}


class NotASetError(ValueError):
    """The tree is no set of real numbers that we can lay out."""


@dataclass(frozen=True, slots=True)
class Piece:
    """The numbers from low to high; `closed` at the left, at the right. A point is closed at both."""

    low: Any
    high: Any
    closed: tuple[bool, bool]


Pieces = tuple[Piece, ...]


def same_pieces(first: Pieces, second: Pieces) -> bool:
    """Whether two laid-out sets are the same."""
    return len(first) == len(second) and all(
        a.closed == b.closed and order(a.low, b.low) == 0 and order(a.high, b.high) == 0
        for a, b in zip(first, second, strict=True)
    )


def order(first: Any, second: Any) -> int:
    """-1, 0, 1: how two endpoints compare, equal where they agree to 40 digits."""
    if first == second:
        return 0
    mp = context()
    if mp.isinf(first) or mp.isinf(second):
        return -1 if first < second else 1
    if abs(first - second) <= max(abs(first), abs(second)) * mp.mpf(10) ** -40:
        return 0
    return -1 if first < second else 1


# ---------------------------------------------------------------- trees -> pieces


def lay_out(node: Node) -> Pieces:
    """The pieces of a set of reals, sorted and merged.

    Raises:
        NotASetError: if it is none, or an endpoint has no number.
    """
    match node:
        case Interval(low, high, closed):
            ends = _endpoint(low), _endpoint(high)
            if order(*ends) > 0 or (order(*ends) == 0 and closed != (True, True)):
                raise NotASetError("ends that do not come in order")
            infinite = [context().isinf(end) for end in ends]
            return _merge([Piece(*ends, (closed[0] and not infinite[0], closed[1] and not infinite[1]))])
        case Seq("tuple", (low, high)):
            return lay_out(Interval(low, high, (False, False)))
        case Seq("set", items):
            return _merge([_point(item) for item in items])
        case Const("reals"):
            return (Piece(-context().inf, context().inf, (False, False)),)
        case Const("empty"):
            return ()
        case Call("union" | "or", args):
            return _merge([piece for arg in args for piece in lay_out_part(arg)])
        case Call("intersection" | "and", args):
            return _intersect([lay_out_part(arg) for arg in args])
        case Call("both", args):
            parts = [lay_out_part(arg) for arg in args]
            return _intersect(parts) or _merge([piece for part in parts for piece in part])
        case Call("difference", (left, right)) | Call("+", (left, Call("neg", (right,)))):
            return _intersect([lay_out_part(left), _complement(lay_out_part(right))])
        case Relation():
            return _solve(node)
        case Quantity(value, _):
            return lay_out(value)
    raise NotASetError(type(node).__name__)


def lay_out_part(node: Node) -> Pieces:
    """A set inside a union; a bare number there is a point."""
    try:
        return lay_out(node)
    except NotASetError:
        if isinstance(node, Seq | Relation | Interval):
            raise
        return (_point(node),)


def _endpoint(node: Node) -> Any:
    match node:
        case Const("oo"):
            return context().inf
        case Call("neg", (Const("oo"),)):
            return -context().inf
        case Call("+", (Const("oo"),)):
            return context().inf
        case Relation(("=",), (Sym(), value)):
            return _endpoint(value)
    try:
        value = Numeric(_DIGITS).value(node)
    except (Irrational, Undefined, TooLargeError) as error:
        raise NotASetError(str(error)) from error
    if isinstance(value, context().mpc):
        raise NotASetError("a complex endpoint")
    return value


def _point(node: Node) -> Piece:
    value = _endpoint(node)
    if context().isinf(value):
        raise NotASetError("infinity is no point")
    return Piece(value, value, (True, True))


def _merge(pieces: list[Piece]) -> Pieces:
    """Sorted, joined where they touch, without the empty ones."""
    if len(pieces) > MAX_PIECES:
        raise NotASetError(f"more than {MAX_PIECES} pieces")
    kept = []
    for piece in pieces:
        length = order(piece.low, piece.high)
        if length > 0 or (length == 0 and piece.closed != (True, True)):
            continue
        kept.append(piece)
    kept.sort(key=lambda piece: (piece.low, not piece.closed[0]))
    merged: list[Piece] = []
    for piece in kept:
        if merged:
            last = merged[-1]
            gap = order(piece.low, last.high)
            if gap < 0 or (gap == 0 and (piece.closed[0] or last.closed[1])):
                further = order(piece.high, last.high)
                high = piece.high if further > 0 else last.high
                right = (
                    piece.closed[1]
                    if further > 0
                    else last.closed[1]
                    if further < 0
                    else piece.closed[1] or last.closed[1]
                )
                left = last.closed[0] or (piece.closed[0] and order(piece.low, last.low) == 0)
                merged[-1] = Piece(last.low, high, (left, right))
                continue
        merged.append(piece)
    return tuple(merged)


def _complement(pieces: Pieces) -> Pieces:
    mp = context()
    low, closed = -mp.inf, False
    gaps: list[Piece] = []
    for piece in pieces:
        if not (mp.isinf(piece.low) and piece.low < 0):
            gaps.append(Piece(low, piece.low, (closed, not piece.closed[0])))
        low, closed = piece.high, not piece.closed[1]
    if not pieces or not mp.isinf(pieces[-1].high):
        gaps.append(Piece(low, mp.inf, (closed, False)))
    return _merge(gaps)


def _intersect(parts: list[Pieces]) -> Pieces:
    """By De Morgan: the complement of the union of the complements."""
    return _complement(_merge([piece for part in parts for piece in _complement(part)]))


# ---------------------------------------------------------------- inequalities -> pieces


def _solve(relation: Relation) -> Pieces:
    """The solutions of a chain of inequalities in one unknown: linear, quadratic, or about |x|."""
    ops, sides = relation.ops, relation.sides
    if "in" in ops:
        if ops == ("in",) and not isinstance(sides[0], Seq):
            return lay_out(sides[1])
        raise NotASetError("membership in a chain")
    if ops == ("notin",):
        return _complement(lay_out_part(sides[1]))
    if not set(ops) <= {"<", "<=", ">", ">=", "!=", "="} or set(ops) == {"="}:
        raise NotASetError("no inequality")
    unknown = _unknown(sides)
    parts = [_solve_one(op, left, right, unknown) for op, left, right in zip(ops, sides, sides[1:], strict=False)]
    return _intersect(parts)


def _unknown(sides: tuple[Node, ...]) -> Node:
    """What the chain is about: its only variable, or its only side that is no constant, f(x) say."""
    names = frozenset().union(*map(symbols, sides))
    functions = {part for side in sides for part in walk(side) if isinstance(part, Call) and part.name.startswith("@")}
    if len(functions) == 1:
        return next(iter(functions))
    if len(names) != 1 or functions:
        raise NotASetError("not one unknown")
    return Sym(next(iter(names)))


def _solve_one(op: str, left: Node, right: Node, unknown: Node) -> Pieces:
    """left op right, by the roots of left - right, a polynomial of degree two at most in the unknown or its |.|."""
    difference = Call("+", (left, Call("neg", (right,))))
    free = Call("abs", (unknown,)) if Call("abs", (unknown,)) in set(walk(difference)) else unknown
    variable = Sym(" unknown")
    polynomial = replace(difference, free, variable)
    if symbols(polynomial) - {variable.name}:
        raise NotASetError("not one unknown")
    pieces = _polynomial(op, polynomial, variable.name)
    if free is unknown:
        return pieces
    mp = context()
    positive = _intersect([pieces, (Piece(mp.mpf(0), mp.inf, (True, False)),)])
    mirrored = [Piece(-piece.high, -piece.low, (piece.closed[1], piece.closed[0])) for piece in positive]
    return _merge([*positive, *mirrored])


def _polynomial(op: str, polynomial: Node, name: str) -> Pieces:
    def at(x: Fraction | int) -> Any:
        value = substitute(polynomial, {name: number(Fraction(x))})
        try:
            return exact(value)
        except (Irrational, TooLargeError):
            return _endpoint(value)
        except Undefined:
            raise NotASetError("a pole") from None

    mp = context()
    mp.dps = _DIGITS
    c, plus, minus = at(0), at(1), at(-1)
    a, b = (plus + minus) / 2 - c, (plus - minus) / 2
    for x in (Fraction(7, 3), Fraction(-11), Fraction(113, 5)):
        if abs(at(x) - (a * x * x + b * x + c)) > (1 + abs(at(x))) * 10**-35:
            raise NotASetError("no polynomial of degree two")
    a, b, c = (mp.mpf(v.numerator) / v.denominator if isinstance(v, Fraction) else v for v in (a, b, c))
    if a == 0 and b == 0:
        roots = []
    elif a == 0:
        roots = [-c / b]
    else:
        square = b * b - 4 * a * c
        roots = (
            []
            if square < 0
            else [-b / (2 * a)]
            if square == 0
            else sorted([(-b - mp.sqrt(square)) / (2 * a), (-b + mp.sqrt(square)) / (2 * a)])
        )
    return _by_sign(op, lambda x: a * x * x + b * x + c, roots)


def _by_sign(op: str, f: Any, roots: list[Any]) -> Pieces:
    """Where f op 0 holds, given all of f's roots in order."""
    mp = context()

    def holds(sign: int) -> bool:
        return {"<": sign < 0, "<=": sign <= 0, ">": sign > 0, ">=": sign >= 0, "!=": sign != 0, "=": sign == 0}[op]

    edges = [-mp.inf, *roots, mp.inf]
    pieces = [Piece(root, root, (True, True)) for root in roots if holds(0)]
    for low, high in pairwise(edges):
        inside = (high - 1 if mp.isinf(low) else low + 1) if mp.isinf(low) or mp.isinf(high) else (low + high) / 2
        value = f(mp.mpf(0) if mp.isinf(low) and mp.isinf(high) else inside)
        if holds(0 if value == 0 else 1 if value > 0 else -1):
            pieces.append(Piece(low, high, (False, False)))
    return _merge(pieces)
