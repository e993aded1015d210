"""Equations and inequalities: which give a value its name, and which say the same.

`x = 5` names the value 5 and equals `5`; `a + 3z = 0` is a statement and equals no value. Two statements are the same
if one is the other times a constant, or if one gives a variable that, put into the other, makes it true for all.
"""

from __future__ import annotations

from typing import Any

from dsm.answers.equality import ENOUGH, POINTS, Undecided, draw, points
from dsm.answers.exact import Irrational, Undefined, exact
from dsm.answers.nodes import (
    Call,
    Const,
    Node,
    Num,
    Quantity,
    Relation,
    Seq,
    Sym,
    TooLargeError,
    number,
    substitute,
    symbols,
    walk,
)
from dsm.answers.numeric import Numeric

FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "=", "!=": "!=", "~": "~", "==": "=="}
_TINY = 1e-25


def named_value(node: Relation) -> tuple[Node, Node] | None:
    """(name, value) if the relation gives a quantity its value: x = 5, 5 = x, f(x) = 1, AB/CD = 2, (p, q) = (3, 2)."""
    if "in" in node.ops and node.ops[-1] == "in" and set(node.ops) <= {"in", "="}:
        return node.sides[0], node.sides[-1]
    if node.ops[-1:] == ("=>",) or node.ops[-1:] == ("->",):
        last = node.sides[-1]
        return (node.sides[0], last) if len(node.ops) == 1 else None
    if not set(node.ops) <= {"=", "~"}:
        return None
    sides = _exact_sides(node)
    first, last = sides[0], sides[-1]
    if is_name(first) and not _mentions(last, first):
        return first, last
    if is_name(last) and _is_constant(first) and len(sides) == 2:
        return last, first
    if len(sides) > 2 and (all(map(_is_constant, sides[1:])) or all(map(_is_constant, sides[:1] + sides[-1:]))):
        return first, last
    if len(sides) == 2 and all(map(_is_constant, sides)):
        return first, last
    return None


def _exact_sides(node: Relation) -> list[Node]:
    """The sides of a chain of equalities, without what follows `about`: x = 1/3 ~ 0.33."""
    sides = [node.sides[0]]
    for op, side in zip(node.ops, node.sides[1:], strict=True):
        if op == "~" and len(sides) > 1:
            break
        if op == "~" and not is_name(sides[0]) and _is_constant(sides[0]):
            break
        sides.append(side)
    return sides if len(sides) > 1 else [sides[0], sides[0]]


def _is_constant(node: Node) -> bool:
    return not symbols(node) and not any(isinstance(part, Call) and part.name.startswith("@") for part in walk(node))


def _mentions(node: Node, name: Node) -> bool:
    return name in set(walk(node))


def is_name(node: Node) -> bool:
    """Whether an expression can only be the name of a quantity: x, x_1, f(2), |AB|, AB/CD, A:B, (x, y), sin A."""
    match node:
        case Sym():
            return True
        case Const("e" | "i"):
            return False
        case Call("abs" | "det", (inner,)):
            return is_name(inner) or _letters(inner)
        case Call("/" | "ratio", args):
            return all(is_name(arg) for arg in args)
        case Call("sin" | "cos" | "tan" | "cot" | "deg", (inner,)):
            return is_name(inner)
        case Call("^", (Call("sin" | "cos" | "tan", (inner,)), Num())):
            return is_name(inner)
        case Call("*", (Sym("d" | "m"), Sym())):
            return True  # dy, m∠A
        case Call("*", _):
            return _letters(node)
        case Call(name, args):
            return name.startswith("@") and len(args) > 0
        case Seq("tuple" | "list" | "group", items):
            return all(is_name(item) for item in items)
        case Quantity(value, _):
            return is_name(value)
    return False


def _letters(node: Node) -> bool:
    """AB, a segment: a product of capital letters."""
    return (
        isinstance(node, Call)
        and node.name == "*"
        and all(isinstance(arg, Sym) and arg.name[0].isupper() for arg in node.args)
    )


# ---------------------------------------------------------------- statements


def same_statement(gold: Relation, answer: Relation) -> bool:
    """Whether two equations or inequalities say the same, by moving all to one side.

    Raises:
        Undecided: if they cannot be evaluated.
    """
    if len(gold.ops) == 1 and len(answer.ops) == 1:
        return _same_single(gold, answer)
    if len(gold.ops) != len(answer.ops):
        return False
    straight = _links(gold)
    turned = _links(Relation(tuple(FLIPPED.get(op, op) for op in reversed(answer.ops)), tuple(reversed(answer.sides))))
    return any(
        all(a.ops == b.ops and _same_single(a, b) for a, b in zip(straight, links, strict=True))
        for links in (_links(answer), turned)
    )


def _links(node: Relation) -> list[Relation]:
    return [Relation((op,), pair) for op, *pair in zip(node.ops, node.sides, node.sides[1:], strict=False)]  # type: ignore[arg-type]


def _same_single(gold: Relation, answer: Relation) -> bool:
    ops = {gold.ops[0], answer.ops[0]}
    if not ops <= set(FLIPPED):
        return False
    first, second = _difference(gold), _difference(answer)
    factor = _constant_ratio(first, second)
    if factor is not None:
        sign = 1 if factor > 0 else -1
        return answer.ops[0] == (gold.ops[0] if sign > 0 else FLIPPED[gold.ops[0]])
    if ops == {"="}:
        return _explicit_in(gold, second) or _explicit_in(answer, first)
    return False


def _difference(node: Relation) -> Node:
    return Call("+", (node.sides[0], Call("neg", (node.sides[1],))))


def _explicit_in(explicit: Relation, other: Node) -> bool:
    """y = 1/x in xy - 1 = 0: the other is linear in y, and true for all x once y is put in."""
    for left, right in (explicit.sides, explicit.sides[::-1]):
        if not isinstance(left, Sym) or left.name in symbols(right) or left.name not in symbols(other):
            continue
        if not _vanishes(substitute(other, {left.name: right})):
            continue
        steps = [substitute(other, {left.name: Call("+", (right, number(step)))}) for step in (0, 1, 2)]
        bend = Call("+", (steps[0], Call("*", (number(-2), steps[1])), steps[2]))
        return _vanishes(bend) and not _vanishes(steps[1])
    return False


def _vanishes(node: Node) -> bool:
    seen = 0
    for first, _ in _values(node, number(0)):
        if abs(first) > _TINY:
            return False
        seen += 1
    return seen >= 2


def _constant_ratio(first: Node, second: Node) -> Any:
    """The constant c with first = c * second, if there is one and neither vanishes."""
    ratio = None
    seen = 0
    for left, right in _values(first, second):
        if abs(left) < _TINY or abs(right) < _TINY:
            if abs(left) < _TINY and abs(right) < _TINY:
                continue
            return None
        if getattr(left, "imag", 0) or getattr(right, "imag", 0):
            continue
        here = left / right
        if ratio is not None and abs(here - ratio) > abs(ratio) * 1e-20:
            return None
        ratio, seen = here, seen + 1
    return ratio if seen >= ENOUGH else None


def _values(first: Node, second: Node) -> list[tuple[Any, Any]]:
    """Both values at random points, exactly where possible."""
    names = sorted(symbols(first) | symbols(second))
    if not names and not any(isinstance(part, Call) and part.name.startswith("@") for part in walk(first)):
        return []
    found: list[tuple[Any, Any]] = []
    try:
        for point in range(ENOUGH + 2):
            values = draw(names, point, 1 << 16)
            try:
                found.append((exact(first, values), exact(second, values)))
            except Undefined:
                continue
        return found
    except (Irrational, TooLargeError):
        found = []
    for salt, values in enumerate(points(first, second, names) if names else [{}] * POINTS):
        try:
            found.append((Numeric(50, values, salt=salt).value(first), Numeric(50, values, salt=salt).value(second)))
        except Undefined:
            continue
        except (Irrational, TooLargeError, OverflowError) as error:
            raise Undecided(str(error)) from error
    return found
