"""Exact values: a tree as a fraction, if it is one, within limits of size and work.

Variables take rational values from an environment, so that an identity of polynomials is tested exactly: two rational
functions that agree at random points of a large range are the same (Schwartz and Zippel), but for a chance below 1e-9.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction

from dsm.answers.nodes import Based, Call, Clock, Const, Node, Num, Quantity, Sym, TooLargeError

MAX_BITS = 65_536
MAX_STEPS = 20_000
MAX_FACTORIAL = 5_000
MAX_TERMS = 2_000


class Irrational(ValueError):
    """The value is no fraction, or not one that these rules find."""


class Undefined(ValueError):
    """There is no value: a division by zero, a factorial of -1."""


def exact(node: Node, values: Mapping[str, Fraction] | None = None) -> Fraction:
    """The value of a tree as a fraction; variables come from `values`.

    Raises:
        Irrational: if it is none or cannot be seen to be one.
        Undefined: if it has no value.
        TooLargeError: if it, or a step on the way, has more than 65,536 bits, or there are more than 20,000 steps.
    """
    return _Exact(values or {}).value(node)


class _Exact:
    def __init__(self, values: Mapping[str, Fraction]) -> None:
        self.values = dict(values)
        self.steps = 0

    def value(self, node: Node) -> Fraction:
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise TooLargeError(f"more than {MAX_STEPS} steps of exact arithmetic")
        match node:
            case Num(value, _, _, _):
                return value
            case Sym(name):
                if name in self.values:
                    return self.values[name]
            case Based():
                return node.value
            case Quantity(value, _):
                return self.value(value)
            case Clock():
                raise Irrational("a time of day")
            case Call("sum" | "prod", args):
                return self.series(node.name, args)
            case Call(name, args) if name in _RULES:
                return checked(_RULES[name](*map(self.value, args)))
            case Const():
                raise Irrational(node.name)
        raise Irrational(type(node).__name__)

    def series(self, name: str, args: tuple[Node, ...]) -> Fraction:
        index, low, high, body = args
        first, last = self.value(low), self.value(high)
        if not isinstance(index, Sym) or first.denominator != 1 or last.denominator != 1:
            raise Irrational("a sum over no range of integers")
        if last - first > MAX_TERMS:
            raise TooLargeError(f"a sum of more than {MAX_TERMS} terms")
        outer = self.values.get(index.name)
        total = Fraction(name == "prod")
        for k in range(int(first), int(last) + 1):
            self.values[index.name] = Fraction(k)
            term = self.value(body)
            total = checked(total + term if name == "sum" else total * term)
        if outer is None:
            self.values.pop(index.name, None)
        else:
            self.values[index.name] = outer
        return total


def checked(value: Fraction) -> Fraction:
    """The value itself, if it is not too large."""
    if value.numerator.bit_length() > MAX_BITS or value.denominator.bit_length() > MAX_BITS:
        raise TooLargeError(f"a value of more than {MAX_BITS} bits")
    return value


def integer_root(value: int, degree: int) -> int | None:
    """The exact root of a whole number that is no negative, or none."""
    if value < 2 or degree == 1:
        return value
    if degree > value.bit_length():
        return None
    if degree == 2:
        root = math.isqrt(value)
    else:
        root = 1 << -(-value.bit_length() // degree)
        while True:  # Newton, from above
            lower = ((degree - 1) * root + value // root ** (degree - 1)) // degree
            if lower >= root:
                break
            root = lower
    return root if root**degree == value else None


def _root(value: Fraction, degree: int) -> Fraction:
    if value < 0:
        if degree % 2 == 0:
            raise Irrational("an even root of a negative number")
        return -_root(-value, degree)
    top, bottom = integer_root(value.numerator, degree), integer_root(value.denominator, degree)
    if top is None or bottom is None:
        raise Irrational("an irrational root")
    return Fraction(top, bottom)


def _add(*values: Fraction) -> Fraction:
    return sum(values, Fraction(0))


def _multiply(*values: Fraction) -> Fraction:
    product = Fraction(1)
    for value in values:
        product = checked(product * value)
    return product


def _divide(top: Fraction, bottom: Fraction) -> Fraction:
    if bottom == 0:
        raise Undefined("a division by zero")
    return top / bottom


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if base == 0:
        if exponent < 0:
            raise Undefined("a division by zero")
        return Fraction(exponent == 0)
    if base == 1:
        return base
    if abs(exponent.numerator) > 10**7 or exponent.denominator > 10**4:
        raise TooLargeError("a power with such an exponent")
    if exponent.denominator != 1:
        if base < 0:
            raise Irrational("a root of a negative number")
        base, exponent = _root(base, exponent.denominator), Fraction(exponent.numerator)
    if max(base.numerator.bit_length(), base.denominator.bit_length()) * abs(exponent.numerator) > 2 * MAX_BITS:
        if base == -1:
            return Fraction(1 if exponent.numerator % 2 == 0 else -1)
        raise TooLargeError(f"a power of more than {MAX_BITS} bits")
    return base ** int(exponent)


def _whole(value: Fraction, most: int) -> int:
    if value.denominator != 1:
        raise Irrational("no whole number")
    if abs(value) > most:
        raise TooLargeError(f"a whole number over {most}")
    return int(value)


def _factorial(value: Fraction) -> Fraction:
    n = _whole(value, MAX_FACTORIAL)
    if n < 0:
        raise Undefined("the factorial of a negative number")
    return Fraction(math.factorial(n))


def _factorial2(value: Fraction) -> Fraction:
    n = _whole(value, MAX_FACTORIAL)
    if n < -1:
        raise Undefined("the factorial of a negative number")
    return Fraction(math.prod(range(n, 0, -2)))


def _binomial(top: Fraction, bottom: Fraction) -> Fraction:
    n, k = _whole(top, 10**6), _whole(bottom, 10**6)
    if k < 0 or n < 0:
        raise Irrational("a binomial of negative numbers")
    if min(k, n - k) > MAX_FACTORIAL:
        raise TooLargeError("a binomial of more than 65,536 bits")
    return Fraction(math.comb(n, k))


def _permutations(top: Fraction, bottom: Fraction) -> Fraction:
    return Fraction(math.perm(_whole(top, MAX_FACTORIAL), max(_whole(bottom, MAX_FACTORIAL), 0)))


def _modulo(value: Fraction, modulus: Fraction) -> Fraction:
    if modulus == 0:
        raise Undefined("a remainder of a division by zero")
    return value % modulus


def _logarithm(value: Fraction, base: Fraction) -> Fraction:
    """log_b(value) where both are powers of one number."""
    if value <= 0 or base <= 0 or base == 1:
        raise Irrational("a logarithm outside the reals")
    if value == 1:
        return Fraction(0)
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > 4096:
        raise Irrational("a logarithm of a large number")
    guess = Fraction(math.log(value.numerator) - math.log(value.denominator)) / Fraction(
        math.log(base.numerator) - math.log(base.denominator) or 1
    )
    guess = guess.limit_denominator(60)
    bits = max(base.numerator.bit_length(), base.denominator.bit_length()) * abs(guess.numerator)
    if bits <= MAX_BITS and base**guess.numerator == value**guess.denominator:
        return guess
    raise Irrational("an irrational logarithm")


def _gcd(*values: Fraction) -> Fraction:
    return Fraction(math.gcd(*(_whole(value, 10**1000) for value in values)))


def _lcm(*values: Fraction) -> Fraction:
    return Fraction(math.lcm(*(_whole(value, 10**100) for value in values)))


_RULES: dict[str, Callable[..., Fraction]] = {
    "+": _add,
    "*": _multiply,
    "/": _divide,
    "^": _power,
    "neg": lambda x: -x,
    "pct": lambda x: x / 100,
    "ratio": _divide,
    "mod": _modulo,
    "abs": lambda x: abs(x),
    "sign": lambda x: Fraction((x > 0) - (x < 0)),
    "floor": lambda x: Fraction(math.floor(x)),
    "ceil": lambda x: Fraction(math.ceil(x)),
    "max": lambda *xs: max(xs),
    "min": lambda *xs: min(xs),
    "sqrt": lambda x: _power(x, Fraction(1, 2)),
    "cbrt": lambda x: _root(x, 3),
    "root": lambda x, n: _root(x, max(_whole(n, 1000), 1)),
    "logb": _logarithm,
    "factorial": _factorial,
    "factorial2": _factorial2,
    "binomial": _binomial,
    "perm": _permutations,
    "gcd": _gcd,
    "lcm": _lcm,
    "re": lambda x: x,
    "im": lambda x: Fraction(0),
    "conj": lambda x: x,
}
