"""Numeric values to any number of digits, for what is no fraction: radicals, logarithms, trigonometry, complex numbers.

mpmath computes; this module keeps it within limits. Unknown functions and sums without a range get a value that is a
hash of their arguments' values: equal arguments, equal value.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any
from zlib import crc32

from dsm.answers.exact import MAX_TERMS, Irrational, Undefined, exact
from dsm.answers.nodes import Based, Call, Const, Node, Num, Quantity, Sym, TooLargeError

MAX_MAGNITUDE = 10**7
"""Powers of two beyond which no value is computed."""
MAX_STEPS = 20_000
_local = threading.local()
_TRIG = tuple(f"{name}{h}" for name in ("sin", "cos", "tan", "cot", "sec", "csc") for h in ("", "h"))
_REAL = ("atan", "acot", "asinh", "floor", "ceil", "sign", "re", "im", "conj", "gamma", "factorial", "factorial2")
_DIRECT = frozenset((*_TRIG, *_REAL))
_BRANCHED = frozenset(["asin", "acos", "asec", "acsc", "acosh", "atanh", "acoth", "asech", "acsch"])


def context() -> Any:
    """This thread's own mpmath context."""
    if not hasattr(_local, "context"):
        from mpmath import MPContext

        _local.context = MPContext()
    return _local.context


class Numeric:
    """Evaluates trees at one point. `real` turns false when a step leaves the real numbers: sqrt(-1), log(-2).

    Args:
        digits: decimal digits of precision.
        values: the variables' values.
        log_base: what `log` without a base means; none is e.
        salt: another number gives unknown functions other values.
    """

    def __init__(
        self, digits: int, values: Mapping[str, Any] | None = None, log_base: int | None = None, salt: int = 0
    ) -> None:
        self.mp = context()
        self.mp.dps = digits
        self.values = dict(values or {})
        self.log_base = log_base
        self.salt = salt
        self.real = True
        self.steps = 0

    def value(self, node: Node) -> Any:
        """The value of a tree: mpf or mpc.

        Raises:
            Irrational: if the tree is no number (a set, a list, a variable without a value).
            Undefined, TooLargeError: as `exact` does.
        """
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise TooLargeError(f"more than {MAX_STEPS} steps")
        match node:
            case Num(value, _, _, _):
                return self.mp.mpf(value.numerator) / value.denominator
            case Sym(name):
                if name not in self.values:
                    raise Irrational(f"the variable {name}")
                return self.mp.mpf(self.values[name].numerator) / self.values[name].denominator
            case Const("pi"):
                return +self.mp.pi
            case Const("e"):
                return +self.mp.e
            case Const("i"):
                return self.mp.mpc(0, 1)
            case Based():
                return self.mp.mpf(node.value.numerator) / node.value.denominator
            case Quantity(value, _):
                return self.value(value)
            case Call("sum" | "prod", args):
                return self.series(node.name, args)
            case Call(name, args):
                return self.checked(self.call(name, [self.value(arg) for arg in args]))
        raise Irrational(type(node).__name__)

    def checked(self, value: Any) -> Any:
        if not self.mp.isfinite(value):
            raise Undefined("no finite value")
        if isinstance(value, self.mp.mpc) and value.imag == 0:
            value = value.real
        if value and abs(self.mp.mag(value)) > 2 * MAX_MAGNITUDE:
            raise TooLargeError("a value beyond 2^10,000,000")
        return value

    def call(self, name: str, args: list[Any]) -> Any:
        mp = self.mp
        first = args[0] if args else mp.mpf(0)
        match name:
            case "+":
                return mp.fsum(args)
            case "*":
                return mp.fprod(args)
            case "neg":
                return -first
            case "/" | "ratio" if len(args) == 2:
                return self.divide(*args)
            case "^":
                return self.power(*args)
            case "sqrt":
                return self.root(first, 2)
            case "cbrt":
                return self.root(first, 3)
            case "root":
                return self.root(first, args[1])
            case "pct":
                return first / 100
            case "deg":
                return first * mp.pi / 180
            case "abs":
                return abs(first)
            case "ln" | "log" | "logb" | "log1p":
                return self.logarithm(name, args)
            case "max" | "min":
                return (max if name == "max" else min)(self.reals(args))
            case "binomial":
                self.small(args, 10**9)
                return mp.binomial(*args)
            case "mod":
                return mp.fmod(*self.reals(args)) if args[1] else self.divide(first, args[1])
            case "arg":
                return mp.arg(first)
        if name.startswith("@"):
            return self.oracle(name, args)
        if name in _DIRECT or name in _BRANCHED:
            return self.function(name, first)
        raise Irrational(name)

    def function(self, name: str, value: Any) -> Any:
        mp = self.mp
        self.small([value], 10**9 if name in ("factorial", "factorial2", "gamma") else 10**60)
        if name in ("sinh", "cosh", "tanh", "coth", "sech", "csch"):
            self.small([value], MAX_MAGNITUDE)
        if name in ("factorial2", "floor", "ceil") and isinstance(value, mp.mpc):
            raise Irrational(name)
        try:
            result = getattr(mp, {"factorial2": "fac2", "ceil": "ceil"}.get(name, name))(value)
        except (ZeroDivisionError, ValueError) as error:
            raise Undefined(name) from error
        if name in ("tan", "sec", "cot", "csc") and result and mp.mag(result) > mp.prec - 20:
            raise Undefined(f"{name} at a pole")
        if name in _BRANCHED and isinstance(result, mp.mpc) and not isinstance(value, mp.mpc):
            self.real = False
        return result

    def divide(self, top: Any, bottom: Any) -> Any:
        if bottom == 0:
            raise Undefined("a division by zero")
        return top / bottom

    def small(self, values: list[Any], limit: int) -> None:
        if any(abs(value) > limit for value in values):
            raise TooLargeError("an argument that is too large")

    def reals(self, values: list[Any]) -> list[Any]:
        if any(isinstance(value, self.mp.mpc) for value in values):
            raise Irrational("an order of complex numbers")
        return values

    def power(self, base: Any, exponent: Any) -> Any:
        if base == 0:
            if not exponent:
                return self.mp.mpf(1)
            if self.mp.re(exponent) < 0:
                raise Undefined("a division by zero")
            return self.mp.mpf(0)
        if abs(exponent) * (abs(self.mp.mag(base)) + 1) > MAX_MAGNITUDE:
            raise TooLargeError("a power beyond 2^10,000,000")
        result = self.mp.power(base, exponent)
        if (
            isinstance(result, self.mp.mpc)
            and not isinstance(base, self.mp.mpc)
            and not isinstance(exponent, self.mp.mpc)
        ):
            self.real = False
        return result

    def root(self, value: Any, degree: Any) -> Any:
        """The real root where there is one, (-8)^(1/3) = -2; else the principal one."""
        mp = self.mp
        if degree == 0:
            raise Undefined("a zeroth root")
        if not isinstance(value, mp.mpc) and value < 0:
            if mp.isint(degree) and int(degree) % 2:
                return -self.power(-value, 1 / degree)
            self.real = False
        return mp.sqrt(value) if degree == 2 else self.power(value, 1 / degree)

    def logarithm(self, name: str, args: list[Any]) -> Any:
        mp = self.mp
        value = args[0] + 1 if name == "log1p" else args[0]
        if value == 0:
            raise Undefined("the logarithm of zero")
        if not isinstance(value, mp.mpc) and value < 0:
            self.real = False
        result = mp.log(value)
        if name == "logb" or (name == "log" and self.log_base):
            base = args[1] if name == "logb" else mp.mpf(self.log_base)
            result = self.divide(result, mp.log(base)) if base else self.divide(result, base)
        return result

    def oracle(self, name: str, args: list[Any]) -> Any:
        """A value in (1, 2) that depends on the name and the arguments only."""
        key = f"{name}|{self.salt or ''}|" + ",".join(
            self.mp.nstr(arg + 0, 18) if abs(arg) > 1e-25 else "0" for arg in args
        )
        return 1 + self.mp.mpf(crc32(key.encode()) + 1) / 2**32

    def series(self, name: str, args: tuple[Node, ...]) -> Any:
        """A sum over integers term by term; without a range of integers, an oracle that is linear in the body."""
        index, low, high, body = args
        if not isinstance(index, Sym):
            raise Irrational(name)
        outer = self.values.copy()
        try:
            first, last = exact(low), exact(high)
        except (Irrational, Undefined):
            bounds = [self.value(low), Call("@oo", ()) and self.mp.mpf(7) if high == Const("oo") else self.value(high)]
            point = self.oracle(f"@{name}", bounds)
            terms = []
            for shift in (0, 1, 2):
                self.values[index.name] = _Ratio(point + shift)
                terms.append(self.value(body) * (point + shift * 2))
            self.values = outer
            return self.mp.fsum(terms) if name == "sum" else self.mp.fprod(terms)
        if first.denominator != 1 or last.denominator != 1:
            raise Irrational("a sum over no range of integers")
        if last - first > MAX_TERMS:
            raise TooLargeError(f"a sum of more than {MAX_TERMS} terms")
        total = self.mp.mpf(name == "prod")
        for k in range(int(first), int(last) + 1):
            self.values[index.name] = k
            total = self.checked(total + self.value(body) if name == "sum" else total * self.value(body))
        self.values = outer
        return total


class _Ratio:
    """A real number where a fraction is expected."""

    denominator = 1

    def __init__(self, value: Any) -> None:
        self.numerator = value
