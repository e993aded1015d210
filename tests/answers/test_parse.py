"""The parser: trees of typical answers, what it refuses, and SymPy objects that are built without text."""

from __future__ import annotations

from fractions import Fraction

import pytest
import sympy

from dsm.answers.exact import Irrational, exact
from dsm.answers.nodes import (
    Based,
    Call,
    Clock,
    Const,
    Interval,
    Matrix,
    Node,
    Num,
    Quantity,
    Relation,
    Seq,
    Sym,
    TooLargeError,
    number,
)
from dsm.answers.numeric import Numeric
from dsm.answers.parse import ParseError, parse, to_sympy
from dsm.answers.units import parse_unit

X, Y, ONE, TWO = Sym("x"), Sym("y"), number(1), number(2)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("12", number(12)),
        ("1,234", number(1234)),
        ("0.50", Num(Fraction(1, 2), digits=2, places=2)),
        ("1.5e3", Num(Fraction(1500), digits=2, places=-2)),
        (r"0.1\overline{6}", number(Fraction(1, 6))),
        (r"2\frac{1}{2}", number(Fraction(5, 2))),
        (r"\frac12", Call("/", (ONE, TWO))),
        ("2x", Call("*", (TWO, X))),
        ("x-1", Call("+", (X, number(-1)))),
        ("-x^2", Call("neg", (Call("^", (X, TWO)),))),
        ("2^-1", Call("^", (TWO, number(-1)))),
        (r"\sin 2x", Call("sin", (Call("*", (TWO, X)),))),
        (r"\sin x\cos y", Call("*", (Call("sin", (X,)), Call("cos", (Y,))))),
        (r"\sin^{-1} x", Call("asin", (X,))),
        (r"\log_2 x", Call("logb", (X, TWO))),
        ("f(x)", Call("@f", (X,))),
        ("h(x+1)", Call("*", (Sym("h"), Call("+", (X, ONE))))),
        ("x = 1", Relation(("=",), (X, ONE))),
        (r"1 \le x < 2", Relation(("<=", "<"), (ONE, X, TWO))),
        ("(1, 2)", Seq("tuple", (ONE, TWO))),
        ("(1, 2]", Interval(ONE, TWO, (False, True))),
        ("]1, 2[", Interval(ONE, TWO, (False, False))),
        (r"\{1, 2\}", Seq("set", (ONE, TWO))),
        ("1, 2", Seq("list", (ONE, TWO))),
        ("1 and 2", Seq("list", (ONE, TWO))),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", Matrix(((ONE,), (TWO,)))),
        ("Matrix([[1, 2]])", Matrix(((ONE, TWO),))),
        (r"\mathbb{R}", Const("reals")),
        (r"2\text{ cm}^2", Quantity(TWO, "cm^2")),
        ("3:30 pm", Clock(3 * 3600 + 30 * 60, "pm")),
        ("204_5", Based("204", 5)),
        ("1:2", Call("ratio", (ONE, TWO))),
        (r"1 \pm x", Call("pm", (ONE, X))),
        ("5!", Call("factorial", (number(5),))),
        (r"\{x \mid x > 1\}", Relation((">",), (X, ONE))),
    ],
)
def test_tree(text: str, tree: Node) -> None:
    assert parse(text) == tree


@pytest.mark.parametrize(
    "text",
    [
        "",
        "(",
        "1)",
        "[1, 2",
        r"\frac{1}",
        "1 +",
        "* 2",
        r"\foo x",
        r"\int_0^1 x",
        "Monday",
        r"\begin{pmatrix}1&2\\3\end{pmatrix}",
        "(1, 2}",
        "12_2",
        "sqrt(2, 3, 4)",
        "(" * 200 + "1" + ")" * 200,
        "x" * 5000,
        "1e999999",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(ParseError):
        parse(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x**2 + 2*x - 3 = 0", sympy.Eq(sympy.Symbol("x") ** 2 + 2 * sympy.Symbol("x") - 3, 0)),
        (r"\frac{\sqrt{2}}{2}", sympy.sqrt(2) / 2),
        ("2/6", sympy.Rational(1, 3)),
        ("0.1", sympy.Rational(1, 10)),
        (r"[0, \infty)", sympy.Interval(0, sympy.oo)),
        (r"(0, 1) \cup \{3\}", sympy.Union(sympy.Interval.open(0, 1), sympy.FiniteSet(3))),
        (r"\{1, \pi\}", sympy.FiniteSet(1, sympy.pi)),
        ("1, 2", (1, 2)),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", sympy.Matrix([[1, 2], [3, 4]])),
        ("e^{i x}", sympy.exp(sympy.I * sympy.Symbol("x"))),
        (r"\log_2 8", sympy.Integer(3)),
        (r"\sin 30^\circ", sympy.Rational(1, 2)),
        ("2^{100}", sympy.Integer(2**100)),
        ("x < 1", sympy.Symbol("x") < 1),
    ],
)
def test_to_sympy(text: str, value: object) -> None:
    assert to_sympy(parse(text)) == value


@pytest.mark.parametrize(
    "text", ["9^9^9^9", "10^{10^{10}}", "10000000!", r"\binom{10^6}{10^5}", "x^{10^9}", "2^{10^7}"]
)
def test_sympy_gets_nothing_large(text: str) -> None:
    with pytest.raises(ParseError):
        to_sympy(parse(text))


def test_exact_values() -> None:
    values = {
        "1/3 + 1/6": Fraction(1, 2),
        r"\binom{10}{3}": 120,
        r"\sum_{k=1}^{100} k": 5050,
        r"\sqrt{\frac{4}{9}}": Fraction(2, 3),
    }
    values |= {
        r"\lfloor -3.5 \rfloor": -4,
        r"\log_4 8": Fraction(3, 2),
        "101_2": 5,
        r"\sqrt[3]{-8}": -2,
        "7 mod 4": 3,
        "28%": Fraction(7, 25),
    }
    assert {text: exact(parse(text)) for text in values} == values
    assert exact(parse("x^2 - 1/y"), {"x": Fraction(3), "y": Fraction(2)}) == Fraction(17, 2)
    with pytest.raises(Irrational):
        exact(parse(r"\sqrt{2}"))
    with pytest.raises(TooLargeError):
        exact(parse("2^{10^6}"))


def test_numeric_values_agree_with_sympy() -> None:
    """Our evaluation of trees against SymPy's of the objects built from them, to 30 digits."""
    texts = [
        r"\sqrt{2}+\pi",
        "e^{1/3}",
        r"\sin 1 + \tan 2",
        r"\arctan 3",
        r"\ln 7",
        r"\cosh 2",
        "5^{1/3}",
        r"\frac{1+\sqrt5}{2}",
        r"\log_3 5",
        "(1+i)^5",
    ]
    for text in texts:
        ours, theirs = Numeric(40).value(parse(text)), sympy.N(to_sympy(parse(text)), 40)
        assert abs(sympy.sympify(complex(ours)) - complex(theirs)) < 1e-14
        assert str(theirs.as_real_imag()[0])[:30] == str(sympy.Float(str(getattr(ours, "real", ours)), 40))[:30]


@pytest.mark.parametrize(
    ("text", "factor", "dimensions"),
    [
        ("cm", Fraction(1, 100), (("L", 1),)),
        ("square inches", Fraction(254, 10000) ** 2, (("L", 2),)),
        ("cm^3", Fraction(1, 10**6), (("L", 3),)),
        ("km / h", Fraction(5, 18), (("L", 1), ("T", -1))),
        ("miles per hour", Fraction(1609344, 3600000), (("L", 1), ("T", -1))),
        ("millilitres", Fraction(1, 10**6), (("L", 3),)),
        ("厘米", Fraction(1, 100), (("L", 1),)),
        ("apples", Fraction(1), ()),
    ],
)
def test_units(text: str, factor: Fraction, dimensions: tuple[tuple[str, int], ...]) -> None:
    unit = parse_unit(text)
    assert (unit.factor, unit.dimensions) == (factor, dimensions)
