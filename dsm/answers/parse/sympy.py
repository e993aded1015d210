"""From a tree to SymPy objects, built node by node. No text reaches SymPy, and nothing large does.

SymPy evaluates what it is given: Pow(9, 9**9) would never return. So powers, factorials and binomials of numbers go
through our own exact arithmetic, which has limits, and come out as numbers or as `TooLargeError`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dsm.answers.exact import Irrational, exact
from dsm.answers.nodes import (
    Based,
    Call,
    Const,
    Interval,
    Matrix,
    Node,
    Num,
    ParseError,
    Quantity,
    Relation,
    Seq,
    Sym,
    symbols,
    walk,
)

MAX_NODES = 400
_TRIG = tuple(
    f"{a}{name}{h}" for name in ("sin", "cos", "tan", "cot", "sec", "csc") for a in ("", "a") for h in ("", "h")
)
_OTHER = (
    "sqrt",
    "root",
    "cbrt",
    "floor",
    "factorial",
    "factorial2",
    "binomial",
    "gcd",
    "lcm",
    "gamma",
    "sign",
    "re",
    "im",
    "arg",
)
_SAME_NAME = frozenset((*_TRIG, *_OTHER))
_RENAMED = {
    "abs": "Abs",
    "ceil": "ceiling",
    "ln": "log",
    "log": "log",
    "conj": "conjugate",
    "max": "Max",
    "min": "Min",
    "mod": "Mod",
}
_RELATIONS = {"=": "Eq", "<": "Lt", "<=": "Le", ">": "Gt", ">=": "Ge", "!=": "Ne", "~": "Eq"}
_CONSTANTS = {"pi": "pi", "e": "E", "i": "I", "oo": "oo"}
_SETS = {name.lower(): name for name in ("Reals", "Integers", "Naturals", "Rationals", "Complexes")} | {
    "empty": "EmptySet"
}


def to_sympy(tree: Node, symbol: Callable[[str], Any] | None = None) -> Any:
    """The SymPy object of a tree: an `Expr`, `Eq`, `Interval`, `FiniteSet`, `Matrix`, or a tuple for lists.

    Args:
        tree: what `parse` gave.
        symbol: makes a symbol from its name; `sympy.Symbol` if not given.

    Raises:
        ParseError: if the tree holds what SymPy has no object for (words, times of day), or more than 400 nodes.
        TooLargeError: if a number in it is over the limits of `dsm.answers.exact`.
    """
    if sum(1 for _ in walk(tree)) > MAX_NODES:
        raise ParseError(f"more than {MAX_NODES} nodes")
    import sympy

    return _Builder(sympy, symbol or sympy.Symbol).build(tree)


class _Builder:
    def __init__(self, sympy: Any, symbol: Callable[[str], Any]) -> None:
        self.sympy = sympy
        self.symbol = symbol

    def rational(self, value: Any) -> Any:
        return self.sympy.Rational(value.numerator, value.denominator)

    def build(self, node: Node) -> Any:
        if isinstance(node, Call) and not symbols(node):
            try:
                return self.rational(exact(node))
            except Irrational:
                pass
        match node:
            case Num(value, _, _, _):
                return self.rational(value)
            case Sym(name):
                return self.symbol(name)
            case Const(name) if name in _CONSTANTS:
                return getattr(self.sympy, _CONSTANTS[name])
            case Const(name) if name in _SETS:
                return getattr(self.sympy.S, _SETS[name])
            case Based():
                return self.rational(node.value)
            case Quantity(value, _):
                return self.build(value)
            case Matrix(rows):
                return self.sympy.Matrix([[self.build(entry) for entry in row] for row in rows])
            case Interval(low, high, closed):
                return self.sympy.Interval(self.build(low), self.build(high), not closed[0], not closed[1])
            case Seq("set", items):
                return self.sympy.FiniteSet(*map(self.build, items))
            case Seq(_, items):
                return tuple(map(self.build, items))
            case Relation((op,), (left, right)) if op in _RELATIONS:
                return getattr(self.sympy, _RELATIONS[op])(self.build(left), self.build(right))
            case Call(name, args):
                return self.call(name, args)
        raise ParseError(f"no SymPy object for a {type(node).__name__}")

    def call(self, name: str, args: tuple[Node, ...]) -> Any:
        sympy = self.sympy
        if name in ("union", "intersection", "difference"):
            kind = {"union": sympy.Union, "intersection": sympy.Intersection, "difference": sympy.Complement}[name]
            return kind(*map(self.real_set, args))
        built = [self.build(arg) for arg in args]
        match name:
            case "+":
                return sympy.Add(*built)
            case "*":
                return sympy.Mul(*built)
            case "neg":
                return -built[0]
            case "/":
                return built[0] / built[1]
            case "^":
                return self.power(*built)
            case "logb":
                return sympy.log(built[0], built[1])
            case "pct":
                return built[0] / 100
            case "deg":
                return built[0] * sympy.pi / 180
        if name in _RENAMED:
            return getattr(sympy, _RENAMED[name])(*built)
        if name in _SAME_NAME:
            return getattr(sympy, name)(*built)
        if name.startswith("@"):
            return sympy.Function(name[1:])(*built)
        raise ParseError(f"no SymPy object for {name}")

    def real_set(self, node: Node) -> Any:
        """A part of a union: (0, 1) there is an interval, a bare number a point."""
        match node:
            case Seq("tuple", (low, high)):
                return self.build(Interval(low, high, (False, False)))
            case Num() | Sym():
                return self.sympy.FiniteSet(self.build(node))
        return self.build(node)

    def power(self, base: Any, exponent: Any) -> Any:
        """A power, where SymPy cannot be led to expand something huge."""
        if exponent.is_number and exponent.is_real and abs(float(exponent)) > 10_000:
            raise ParseError("an exponent over 10,000")
        return self.sympy.Pow(base, exponent)
