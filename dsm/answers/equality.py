"""Whether two expressions have the same value: exactly where they are fractions, else to many digits, at many points.

Two constants that agree to 60 digits at two precisions are equal. Expressions in variables are compared at random
points: exactly if they are rational functions, else numerically, where both are real (or, if they nowhere are, in the
complex numbers). So sqrt(x^2) is |x| and not x, and (x^2 - 1)/(x - 1) is x + 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any
from zlib import crc32

from dsm.answers.exact import Irrational, Undefined, exact
from dsm.answers.nodes import Call, Const, Node, Num, Sym, TooLargeError, substitute, symbols, walk
from dsm.answers.numeric import Numeric, context
from dsm.config.answers import GraderConfig

POINTS = 12
ENOUGH = 4
_INTEGRATION = frozenset(("C", "c", "C_1", "c_1", "C_0"))
"""Names of one arbitrary constant."""
_DISCRETE = frozenset(["factorial", "factorial2", "binomial", "floor", "ceil", "mod", "gcd", "lcm", "perm"])


class Undecided(Exception):
    """Neither equal nor unequal can be shown: a value is over a limit or has no numeric meaning."""


def same_value(gold: Node, answer: Node, rules: GraderConfig) -> bool:
    """Whether two expressions are equal, with the tolerance that the rules grant to rounded decimals.

    Raises:
        Undecided: if one of them is no expression or cannot be computed within the limits.
    """
    if gold == answer:
        return True
    if (infinite := (_infinity(gold), _infinity(answer))) != (None, None):
        return infinite[0] == infinite[1]
    if symbols(gold) or symbols(answer):
        return identical(gold, answer)
    for log_base in (None, 10) if _has_log(gold) or _has_log(answer) else (None,):
        if _same_constant(gold, answer, rules, log_base):
            return True
    return False


def _has_log(node: Node) -> bool:
    return any(isinstance(part, Call) and part.name == "log" for part in walk(node))


def _infinity(node: Node) -> int | None:
    """The sign of an infinity; none for anything else."""
    match node:
        case Const("oo"):
            return 1
        case Call("neg", (inner,)):
            sign = _infinity(inner)
            return -sign if sign else None
        case Call("+" | "*", args) if any(_infinity(arg) for arg in args):
            return 1 if all(_infinity(arg) != -1 for arg in args) else None
    return None


# ---------------------------------------------------------------- constants


def _same_constant(gold: Node, answer: Node, rules: GraderConfig, log_base: int | None) -> bool:
    try:
        values: list[Any] = [exact(gold), exact(answer)]
    except (Irrational, TooLargeError):
        values = []
    except Undefined:
        return False
    if values:
        return values[0] == values[1] or rounded(gold, answer, values[0], values[1], rules)
    coarse = _evaluate(gold, answer, 60, log_base)
    if _apart(coarse[0], coarse[1], 30):
        return rounded(gold, answer, coarse[0], coarse[1], rules)
    fine = _evaluate(gold, answer, 220, log_base)
    return not _apart(fine[0], fine[1], 60) or max(abs(fine[0]), abs(fine[1])) < 1e-150 * max(1, abs(coarse[0]))


def _evaluate(gold: Node, answer: Node, digits: int, log_base: int | None) -> tuple[Any, Any]:
    try:
        return Numeric(digits, log_base=log_base).value(gold), Numeric(digits, log_base=log_base).value(answer)
    except Undefined:
        raise Undecided("no value") from None
    except (Irrational, TooLargeError, OverflowError) as error:
        raise Undecided(str(error)) from error


def _apart(first: Any, second: Any, digits: int) -> bool:
    return bool(abs(first - second) > max(abs(first), abs(second)) * context().mpf(10) ** -digits)


def rounded(gold: Node, answer: Node, gold_value: Any, answer_value: Any, rules: GraderConfig) -> bool:
    """Whether one value is a rounded decimal of the other, as the rules grant it."""
    if not (_is_real(gold_value) and _is_real(answer_value)):
        return False
    exactly = isinstance(gold_value, Fraction)
    scale = Fraction if exactly else context().mpf
    difference = abs(gold_value - answer_value)
    if rules.relative_tolerance and difference <= abs(gold_value) * scale(rules.relative_tolerance):
        return True
    for decimal, value, other in (
        (_decimal(gold), gold_value, answer_value),
        (_decimal(answer), answer_value, gold_value),
    ):
        if decimal is None or decimal.digits is None:
            continue
        unit = scale(10) ** -decimal.places
        if decimal.open and decimal.digits >= 3 and 0 <= (other - value) * (1 if value >= 0 else -1) < unit:
            return True
        if decimal.digits >= rules.decimal_digits and difference * 2 <= unit:
            return True
        if decimal.digits >= 12 and difference * 10**12 <= abs(value):
            return True  # the noise of floating point
    return False


def _is_real(value: Any) -> bool:
    return isinstance(value, Fraction) or not getattr(value, "imag", 0)


def _decimal(node: Node) -> Num | None:
    """The decimal that an expression is: 0.33, -0.33, 3.3 * 10^-1, 33.3%."""
    match node:
        case Num(_, digits, _, _) if digits is not None:
            return node
        case Call("neg", (inner,)):
            return _decimal(inner)
        case Call("pct", (inner,)) if (found := _decimal(inner)) is not None:
            return Num(found.value / 100, found.digits, found.places + 2, found.open)
        case Call("*", (first, Call("^", (Num(ten, _, _, _), power)))) if ten == 10:
            found = _decimal(first) or (first if isinstance(first, Num) else None)
            try:
                exponent = exact(power)
            except (Irrational, Undefined, TooLargeError):
                return None
            if found is not None and exponent.denominator == 1:
                digits = found.digits or len(str(abs(found.value.numerator)))
                return Num(found.value, digits, found.places - int(exponent), found.open)
    return None


# ---------------------------------------------------------------- identities in variables


def identical(gold: Node, answer: Node) -> bool:
    """Whether two expressions agree for all values of their variables (as far as random points can tell).

    Raises:
        Undecided: if there are not enough points where both have a value.
    """
    gold, answer = _align(gold, answer)
    names = sorted(symbols(gold) | symbols(answer))
    exactly = _identical_exactly(gold, answer, names)
    if exactly is not None:
        return exactly
    for log_base in (None, 10) if _has_log(gold) or _has_log(answer) else (None,):
        if _identical_numerically(gold, answer, names, log_base):
            return True
    return False


def _align(gold: Node, answer: Node) -> tuple[Node, Node]:
    """E and I are e and i where only the other side has those."""
    for letter, constant in (("E", Const("e")), ("I", Const("i"))):
        in_gold, in_answer = letter in symbols(gold), letter in symbols(answer)
        if in_gold and not in_answer and constant in walk(answer):
            gold = substitute(gold, {letter: constant})
        elif in_answer and not in_gold and constant in walk(gold):
            answer = substitute(answer, {letter: constant})
    ours, theirs = symbols(gold) - symbols(answer), symbols(answer) - symbols(gold)
    if len(ours) == len(theirs) == 1 and ours | theirs <= _INTEGRATION:
        answer = substitute(answer, {next(iter(theirs)): Sym(next(iter(ours)))})
    return gold, answer


def draw(names: list[str], point: int, spread: int = 1 << 30) -> dict[str, Fraction]:
    """Pseudo-random whole numbers, the same in every run."""
    return {name: Fraction(crc32(f"{name}/{point}".encode()) % spread - spread // 2 or 1) for name in names}


def _identical_exactly(gold: Node, answer: Node, names: list[str]) -> bool | None:
    agreed = 0
    for point in range(POINTS):
        values = draw(names, point)
        try:
            first, second = exact(gold, values), exact(answer, values)
        except Undefined:
            continue
        except (Irrational, TooLargeError):
            return None
        if first != second:
            return False
        agreed += 1
        if agreed == 3:
            return True
    return None


def points(gold: Node, answer: Node, names: list[str]) -> Iterator[dict[str, Fraction]]:
    """Where expressions that are no rational functions are compared: reals of both signs, or whole numbers."""
    discrete = any(
        isinstance(part, Call) and (part.name in _DISCRETE or (part.name == "^" and _negative(part.args[0])))
        for tree in (gold, answer) for part in walk(tree)
    )  # fmt: skip
    for point in range(5 * POINTS if discrete else POINTS):
        if discrete:
            yield {name: Fraction(crc32(f"{name}:{point}".encode()) % 9 + 2 + point // 4) for name in names}
            continue
        sign = -1 if point % 3 == 2 else 1
        size = 1 if point % 2 else 3
        yield {
            name: Fraction(crc32(f"{name}:{point}".encode()) % 9973 + 500, 9973)
            * size
            * (sign if i % 2 == 0 or point % 2 else 1)
            for i, name in enumerate(names)
        }


def _negative(node: Node) -> bool:
    try:
        return exact(node) < 0
    except (Irrational, Undefined, TooLargeError):
        return False


def _identical_numerically(gold: Node, answer: Node, names: list[str], log_base: int | None) -> bool:
    real = strange = 0
    complex_differs = False
    for values in points(gold, answer, names):
        first, second = Numeric(50, values, log_base), Numeric(50, values, log_base)
        try:
            left, right = first.value(gold), second.value(answer)
        except Undefined:
            continue
        except (Irrational, TooLargeError, OverflowError) as error:
            raise Undecided(str(error)) from error
        differ = _apart(left, right, 25) and max(abs(left), abs(right)) > 1e-30
        if first.real and second.real:
            if differ:
                return False
            real += 1
        else:
            strange += 1
            complex_differs |= differ
    if real >= ENOUGH:
        return True
    if real + strange < ENOUGH:
        raise Undecided("too few points where both have a value")
    return not complex_differs
