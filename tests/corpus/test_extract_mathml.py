"""MathML to LaTeX, by hand-written expectations: what a mathematician would have typed."""

from __future__ import annotations

import pytest
from resiliparse.parse.html import HTMLTree

from dsm.corpus.extract.formulas.characters import COMMANDS, command_of
from dsm.corpus.extract.formulas.mathml import latex


def translated(inner: str) -> str:
    tree = HTMLTree.parse(f"<math>{inner}</math>")
    assert tree.document is not None
    math = tree.document.query_selector("math")
    assert math is not None
    return latex(math)


X2 = "<msup><mi>x</mi><mn>2</mn></msup>"
CASES = {
    "fraction": ("<mfrac><mrow><mi>a</mi><mo>+</mo><mn>1</mn></mrow><mi>b</mi></mfrac>", r"\frac{a + 1}{b}"),
    "bevelled": ('<mfrac bevelled="true"><mi>a</mi><mi>b</mi></mfrac>', "a/b"),
    "binomial": (
        '<mo>(</mo><mfrac linethickness="0"><mi>n</mi><mi>k</mi></mfrac><mo>)</mo>',
        r"\binom{n}{k}",
    ),
    "square root of a row": (f"<msqrt>{X2}<mo>-</mo><mn>1</mn></msqrt>", r"\sqrt{x^{2} - 1}"),
    "cube root": ("<mroot><mi>x</mi><mn>3</mn></mroot>", r"\sqrt[3]{x}"),
    "both scripts": ("<msubsup><mi>x</mi><mi>i</mi><mn>2</mn></msubsup>", "x_{i}^{2}"),
    "base of several": ("<msup><mrow><mi>a</mi><mi>b</mi></mrow><mn>2</mn></msup>", "{ab}^{2}"),
    "empty base": ("<msup><mrow></mrow><mrow><mo>−</mo><mn>1</mn></mrow></msup>", "{}^{-1}"),
    "primes": ("<msup><mi>f</mi><mo>″</mo></msup>", "f''"),
    "degrees": ("<msup><mn>90</mn><mo>∘</mo></msup>", r"90^{\circ}"),
    "sum with limits": (
        "<munderover><mo>∑</mo><mrow><mi>i</mi><mo>=</mo><mn>1</mn></mrow><mi>n</mi></munderover><mi>i</mi>",
        r"\sum_{i = 1}^{n}i",
    ),
    "limit": (
        "<munder><mi>lim</mi><mrow><mi>x</mi><mo>→</mo><mn>0</mn></mrow></munder><mi>x</mi>",
        r"\lim_{x \to 0}x",
    ),
    "integral": (
        "<msubsup><mo>∫</mo><mn>0</mn><mi>∞</mi></msubsup><mi>f</mi><mi>d</mi><mi>x</mi>",
        r"\int_{0}^{\infty}fdx",
    ),
    "function before a letter": ("<mi>sin</mi><mo>&ApplyFunction;</mo><mi>x</mi>", r"\sin x"),
    "function before a fence": ("<mi>log</mi><mo>(</mo><mi>x</mi><mo>)</mo>", r"\log\left(x\right)"),
    "fences that stretch": ("<mo>[</mo><mn>0</mn><mo>,</mo><mn>1</mn><mo>)</mo>", r"\left[0,1\right)"),
    "fences that do not": ('<mo stretchy="false">(</mo><mi>x</mi><mo stretchy="false">)</mo>', "(x)"),
    "fence without its pair": ("<mo>(</mo><mi>x</mi>", "(x"),
    "mfenced": ("<mfenced><mi>x</mi><mi>y</mi></mfenced>", r"\left(x, y\right)"),
    "mfenced, open alone": ('<mfenced open="{" close=""><mi>x</mi></mfenced>', r"\left\{x\right."),
    "set": ("<mo>{</mo><mi>x</mi><mo>∈</mo><mi>ℝ</mi><mo>}</mo>", r"\left\{x \in \mathbb{R}\right\}"),
    "angle brackets": ("<mo>⟨</mo><mi>u</mi><mo>⟩</mo>", r"\left\langle u\right\rangle"),
    "greek": ("<mi>α</mi><mi>β</mi><mi>x</mi>", r"\alpha\beta x"),
    "operators": ("<mi>a</mi><mo>≤</mo><mi>b</mi><mo>×</mo><mi>c</mi><mo>≠</mo><mi>d</mi>", r"a \le b \times c \ne d"),
    "sign of a number": ("<mi>x</mi><mo>=</mo><mo>−</mo><mn>3</mn>", "x = -3"),
    "invisible times": ("<mn>2</mn><mo>&InvisibleTimes;</mo><mi>x</mi>", "2x"),
    "words": ("<mi>x</mi><mtext>&nbsp;if&nbsp;</mtext><mi>y</mi>", r"x\text{ if }y"),
    "words with specials": ("<mtext>50% of $x_1</mtext>", r"\text{50\% of \$x\_1}"),
    "long identifier": ("<mi>PF</mi>", r"\mathrm{PF}"),
    "upright d": ('<mi mathvariant="normal">d</mi><mi>x</mi>', r"\mathrm{d}x"),
    "upright symbol": ('<mi mathvariant="normal">∞</mi>', r"\infty"),
    "bold": ('<mi mathvariant="bold">v</mi>', r"\mathbf{v}"),
    "styled letters of Unicode": ("<mi>𝐱</mi><mi>ℒ</mi><mi>𝔤</mi>", r"\mathbf{x}\mathcal{L}\mathfrak{g}"),
    "hat": ("<mover><mi>x</mi><mo>^</mo></mover>", r"\hat{x}"),
    "wide hat": ("<mover><mrow><mi>x</mi><mi>y</mi></mrow><mo>^</mo></mover>", r"\widehat{xy}"),
    "bar": ("<mover accent='true'><mi>z</mi><mo>¯</mo></mover>", r"\bar{z}"),
    "overline": ("<mover><mrow><mi>A</mi><mi>B</mi></mrow><mo>¯</mo></mover>", r"\overline{AB}"),
    "vector of a bold letter": ("<mover><mi mathvariant='bold'>B</mi><mo>→</mo></mover>", r"\vec{\mathbf{B}}"),
    "dot": ("<mover><mi>x</mi><mo>˙</mo></mover>", r"\dot{x}"),
    "accent in a group": ("<mover><mi>x</mi><mrow><mo>~</mo></mrow></mover>", r"\tilde{x}"),
    "underbrace with its text": (
        "<munder><munder><mrow><mi>a</mi><mo>+</mo><mi>b</mi></mrow><mo>⏟</mo></munder><mi>n</mi></munder>",
        r"\underbrace{a + b}_{n}",
    ),
    "label over a sign": ("<mover><mo>=</mo><mtext>def</mtext></mover>", r"\overset{\text{def}}{=}"),
    "label over an arrow": ("<mover><mo>→</mo><mi>f</mi></mover>", r"\xrightarrow{f}"),
    "matrix": (
        "<mo>(</mo><mtable><mtr><mtd><mn>1</mn></mtd><mtd><mn>0</mn></mtd></mtr>"
        "<mtr><mtd><mn>0</mn></mtd><mtd><mn>1</mn></mtd></mtr></mtable><mo>)</mo>",
        r"\begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix}",
    ),
    "determinant": (
        "<mo>|</mo><mtable><mtr><mtd><mi>a</mi></mtd><mtd><mi>b</mi></mtd></mtr></mtable><mo>|</mo>",
        r"\begin{vmatrix} a & b \end{vmatrix}",
    ),
    "matrix in mfenced": (
        "<mfenced open='[' close=']'><mtable><mtr><mtd><mi>a</mi></mtd></mtr><mtr><mtd><mi>b</mi></mtd></mtr></mtable>"
        "</mfenced>",
        r"\begin{bmatrix} a \\ b \end{bmatrix}",
    ),
    "cases": (
        "<mi>f</mi><mo>=</mo><mrow><mo>{</mo><mtable columnalign='left left'><mtr><mtd><mn>1</mn></mtd>"
        "<mtd><mi>x</mi><mo>></mo><mn>0</mn></mtd></mtr><mtr><mtd><mn>0</mn></mtd><mtd><mtext>else</mtext></mtd></mtr>"
        "</mtable></mrow>",
        r"f = \begin{cases} 1 & x > 0 \\ 0 & \text{else} \end{cases}",
    ),
    "aligned lines": (
        "<mtable columnalign='right left'><mtr><mtd><mi>a</mi></mtd><mtd><mo>=</mo><mi>b</mi></mtd></mtr>"
        "<mtr><mtd></mtd><mtd><mo>=</mo><mi>c</mi></mtd></mtr></mtable>",
        r"\begin{aligned} a & =b \\ & =c \end{aligned}",
    ),
    "numbered line": (
        "<mtable><mlabeledtr><mtd><mtext>(1)</mtext></mtd><mtd><mi>a</mi></mtd><mtd><mi>b</mi></mtd></mlabeledtr>"
        "</mtable>",
        r"\begin{matrix} a & b \tag{\text{(1)}} \end{matrix}",
    ),
    "array with a rule": (
        "<mtable columnlines='none solid'><mtr><mtd><mn>1</mn></mtd><mtd><mn>2</mn></mtd><mtd><mn>3</mn></mtd></mtr>"
        "</mtable>",
        r"\begin{array}{cc|c} 1 & 2 & 3 \end{array}",
    ),
    "isotope": (
        "<mmultiscripts><mi>C</mi><mn>2</mn><none/><mprescripts/><mn>6</mn><mn>14</mn></mmultiscripts>",
        "{}_{6}^{14}C_{2}",
    ),
    "box and strike": (
        "<menclose notation='box'><mi>x</mi></menclose><menclose notation='updiagonalstrike'><mi>y</mi></menclose>",
        r"\boxed{x}\cancel{y}",
    ),
    "presentation before content": (
        "<semantics><mi>x</mi><annotation-xml encoding='MathML-Content'><ci>wrong</ci></annotation-xml></semantics>",
        "x",
    ),
    "phantom": ("<mphantom><mi>x</mi></mphantom><mi>y</mi>", "y"),
    "room": ("<mi>x</mi><mspace width='.17em'></mspace><mi>y</mi><mspace width='2em'/><mi>z</mi>", r"xy\qquad z"),
    "nothing but room": ("<mspace width='.17em'></mspace>", ""),
    "unknown element": ("<mglorp><mi>x</mi></mglorp>", "x"),
    "too few children": ("<mfrac><mi>x</mi></mfrac><msup><mi>y</mi></msup>", "xy"),
}


@pytest.mark.parametrize("name", CASES)
def test_mathml(name: str) -> None:
    source, expected = CASES[name]
    assert translated(source) == expected


def test_nesting_without_end_ends() -> None:
    assert "x" in translated("<mrow>" * 5000 + "<mi>x</mi>")
    assert translated("<msqrt>" * 300 + "<mi>x</mi>").startswith(r"\sqrt{\sqrt{")


def test_every_command_is_one_piece_of_latex() -> None:
    """Balanced braces, no space at the ends, and ASCII: what goes into the corpus is plain LaTeX."""
    for character in COMMANDS:
        tex = command_of(character)
        assert tex.isascii()
        assert tex.count("{") - tex.count("\\{") == tex.count("}") - tex.count("\\}")
