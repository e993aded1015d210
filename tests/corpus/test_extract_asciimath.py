"""AsciiMath to LaTeX: the notation's own examples, and that nothing a page holds can stop it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsm.corpus.extract.formulas.asciimath import latex

CASES = {
    "x=(-b +- sqrt(b^2 - 4ac))/(2a)": r"x = \frac{- b \pm \sqrt{b^{2} - 4 a c}}{2 a}",
    "sum_(i=1)^n i^3=((n(n+1))/2)^2": r"\sum_{i = 1}^{n} i^{3} = \left(\frac{n \left(n + 1\right)}{2}\right)^{2}",
    "int_0^1 f(x)dx": r"\int_{0}^{1} f \left(x\right) dx",
    "sin x": r"\sin x",
    "sin^2 x": r"\sin^{2} x",
    "sqrt x": r"\sqrt{x}",
    "root(3)(x)": r"\sqrt[3]{x}",
    "frac(a)(b)": r"\frac{a}{b}",
    "a//b": "a / b",
    "x_1^2": "x_{1}^{2}",
    "x_(ij)": "x_{i j}",
    "f'(x)": r"f' \left(x\right)",
    "alpha in RR": r"\alpha \in \mathbb{R}",
    "A -> B": r"A \to B",
    "a != b": r"a \ne b",
    "AA x EE y": r"\forall x \exists y",
    "((1,2),(3,4))": r"\left(\begin{matrix} 1 & 2 \\ 3 & 4 \end{matrix}\right)",
    "[[a,b],[c,d]]": r"\left[\begin{matrix} a & b \\ c & d \end{matrix}\right]",
    "((1),(0))": r"\left(\begin{matrix} 1 \\ 0 \end{matrix}\right)",
    "|(a,b),(c,d)|": r"\left|\begin{matrix} a & b \\ c & d \end{matrix}\right|",
    "(a,b)": r"\left(a, b\right)",
    "|x|": "|x|",
    "{(1, if x>0),(0, if x<=0):}": r"\begin{cases} 1 & \text{if } x > 0 \\ 0 & \text{if } x \le 0 \end{cases}",
    "{x | x > 0}": r"\left\{x \mid x > 0\right\}",
    '"area" = pi r^2': r"\text{area} = \pi r^{2}",
    "text(if (a)) x": r"\text{if (a)} x",
    "hat x + vec(AB)": r"\hat{x} + \vec{A B}",
    "bb(x) + bbb R": r"\mathbf{x} + \mathbb{R}",
    r"\sqrt(x)": r"\sqrt{x}",
    r"a,\ \ b": r"a, \ \ b",
    r"\ \ ": "",
    "3.14": "3.14",
    "1/2/3": r"\frac{1}{2} / 3",
    "": "",
}


@pytest.mark.parametrize("source", CASES)
def test_asciimath(source: str) -> None:
    assert latex(source) == CASES[source]


@given(st.text(alphabet="ab1 ()[]{}|/^_,:.'\"\\`sqrtfacinl<>=+-é", max_size=60))
def test_anything_gives_balanced_latex(source: str) -> None:
    tex = latex(source)
    plain = tex.replace("\\\\", "").replace("\\{", "").replace("\\}", "")
    assert tex.count("\\left") - tex.count("\\leftarrow") == tex.count("\\right") - tex.count("\\rightarrow")
    if "text" not in source and '"' not in source:
        assert plain.count("{") == plain.count("}")


def test_deep_and_long_sources_end() -> None:
    assert latex("(" * 500 + "x")
    assert latex("sqrt " * 500 + "x")
    assert latex("|" * 60)
    assert latex("x^" * 2000)
