"""Formulas as MathML: what they look like, that none of them breaks the page, and real ones."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsm.corpus.annotate.mathml import FormulaError, to_mathml
from dsm.corpus.annotate.render import excerpt, render

_ELEMENTS = """math mrow mi mn mo mtext mspace mfrac msqrt mroot msub msup msubsup munder mover munderover mtable mtr
mtd mphantom"""
_ATTRIBUTES = """display class form stretchy minsize maxsize lspace rspace width linethickness accent accentunder
movablelimits mathvariant mathcolor displaystyle"""
ELEMENTS, ATTRIBUTES = set(_ELEMENTS.split()), set(_ATTRIBUTES.split())


def tree(latex: str) -> ElementTree.Element:
    """The formula read as XML; nothing in it but what may be there."""
    found = ElementTree.fromstring(to_mathml(latex))
    for element in found.iter():
        assert element.tag in ELEMENTS
        assert set(element.attrib) <= ATTRIBUTES
    return found


def shape(latex: str) -> str:
    """The structure, without rows that hold one thing: 'frac(a, b)'."""

    def of(element: ElementTree.Element) -> str:
        inside = [text for child in element if (text := of(child))]
        if element.tag in ("math", "mrow", "mtd"):
            return " ".join(inside)
        if not len(element):
            return "" if element.tag == "mspace" else (element.text or "")
        return f"{element.tag[1:]}({', '.join(inside)})"

    return of(tree(latex))


@pytest.mark.parametrize(
    ("latex", "wanted"),
    [
        (r"\frac{a}{b}", "frac(a, b)"),
        (r"\frac12", "frac(1, 2)"),
        (r"x^12", "sup(x, 1) 2"),
        (r"a \over b+c", "frac(a, b + c)"),
        (r"{n \choose k}", "( frac(n, k) )"),
        (r"x_i^2", "subsup(x, i, 2)"),
        (r"x^{2}_{ij}", "subsup(x, i j, 2)"),
        (r"f''(x)", "sup(f, ′ ′) ( x )"),
        (r"\sum_{i=1}^n i", "underover(∑, i = 1, n) i"),
        (r"\int_0^1", "subsup(∫, 0, 1)"),
        (r"\int\limits_0^1", "underover(∫, 0, 1)"),
        (r"\lim_{x\to 0} x", "under(lim, x → 0) x"),
        (r"\sqrt[3]{2}", "root(2, 3)"),
        (r"\mathbb{R}^n", "sup(ℝ, n)"),
        (r"\mathcal{F}\mathfrak{g}\mathbf{v}\boldsymbol{\beta}", "ℱ 𝔤 𝐯 𝜷"),
        (r"\mathrm{Hom}(A,B)", "Hom ( A , B )"),
        (r"{\rm Tr} X", "Tr X"),
        (r"\operatorname{Spec}A", "Spec A"),
        (r"\left\{ \frac{a}{b} \middle| c \right.", "{ frac(a, b) | c"),
        (r"\text{if $x>0$ then}", "if\u00a0 x > 0 \u00a0then"),
        (r"\hat{x}\overline{AB}", "over(x, ^) A B"),
        (r"\xrightarrow{f}", "over(→, f)"),
        (r"\overset{!}{=}", "over(=, !)"),
        (r"a \not= b", "a =\u0338 b"),
        (r"3.14 + 2,718", "3.14 + 2 , 718"),
        (r"\unknown{x}", r"\unknown x"),
        (r"a < b \& c", "a < b & c"),
        (r"\label{eq:1} x \tag{7}", "x (7)"),
        (r"\color{red}{x}", "x"),
        (r"\href{javascript:alert(1)}{x}", "x"),
        (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}", "( table(tr(1, 2), tr(3, 4)) )"),
        (r"\begin{cases}x & y\\ z & w\end{cases}", "{ table(tr(x, y), tr(z, w))"),
        (r"\begin{align*}a&=b\\&=c\end{align*}", "table(tr(a, = b), tr(= c))"),
        ("令 x", "令 x"),
        ("a % a remark\n b", "a b"),
    ],
)
def test_shapes(latex: str, wanted: str) -> None:
    assert shape(latex) == wanted


def test_a_minus_is_a_sign_or_an_operation() -> None:
    def signs(latex: str) -> list[bool]:
        return [element.get("form") == "prefix" for element in tree(latex).iter("mo") if element.text == "−"]

    assert signs("a-b") == [False]
    assert signs("[-1,-x]") == [True, True]
    assert signs(r"(a)-1=-2-\frac{-1}{n!-1}") == [False, True, False, True, False]


@pytest.mark.parametrize(
    "latex", ["a_{", "}", r"\frac{1}", r"\left(x", r"\right)", r"\begin{x}\end{x}", r"\begin{matrix}a", "x^"]
)
def test_what_is_no_formula_is_said_to_be_none(latex: str) -> None:
    with pytest.raises(FormulaError):
        to_mathml(latex)


@pytest.mark.parametrize(
    "bomb", [r"\hat", "{", r"\frac", r"\left(", r"\sqrt[", "^", r"\not", r"\text{$", r"\substack{", r"\begin{matrix}"]
)
def test_no_formula_exhausts_the_stack(bomb: str) -> None:
    for count in (70, 300, 5000):
        try:
            assert to_mathml(bomb * count + "x")
        except FormulaError as error:
            assert re.search("too deep|too long|too early|never closed|out of place", str(error))  # noqa: PT017


_PIECES = r"""\frac { } [ ] ( ) ^ _ & \\ \left \right \begin{matrix} \end{matrix} \text \sqrt \hat x 1 ' < > " $ \over
\color \mathbb \sum \limits \not \big \tag \href javascript: <script> \href{ \begin{cases} \end{cases} % ~ \ 中"""
PIECES = st.lists(st.sampled_from(_PIECES.split()), max_size=25)


@settings(max_examples=150)
@given(PIECES)
def test_whatever_comes_it_is_well_formed_or_refused(pieces: list[str]) -> None:
    try:
        tree("".join(pieces))
    except FormulaError:
        return


@settings(max_examples=60)
@given(st.text(alphabet="ab $\\<>&\"'\n{}()[]", max_size=60))
def test_a_page_is_escaped_whatever_it_holds(text: str) -> None:
    page = ElementTree.fromstring(
        f"<div>{render(text)}</div>"
    )  # unescaped markup would not be well-formed, or add tags
    assert {element.tag for element in page.iter()} <= ELEMENTS | {"div", "p", "h4", "code", "span"}


def test_where_formulas_stand() -> None:
    html = render(r"It costs $5 and $10. But $x$, \(y\) and $$z$$ and \[w\] or \begin{align}a&=b\end{align}; \$a\$ <b>")
    assert html.count("<math") == 5
    assert html.count('display="block"') == 3
    assert "It costs $5 and $10. But" in html
    assert html.endswith("\\$a\\$ &lt;b&gt;</p>")
    assert render("# Title\n\nOne\n\nTwo $x\n\ny$") == "<h4>Title</h4><p>One</p><p>Two $x</p><p>y$</p>"
    assert render("a $x$, b").startswith('<p>a <span class="nb"><math>')
    assert render(r"$\frac{1$") == '<p><code class="tex" title="{ is never closed">\\frac{1</code></p>'.replace(
        "{ is never closed", "ends too early"
    )


def test_an_excerpt_shows_a_formula_if_there_is_one() -> None:
    assert excerpt("short $x$", 100).more == 0
    long = "word " * 400 + "\n\nthen $x^2$ " + "end " * 400
    found = excerpt(long, 500)
    assert found.formulas == 1
    assert "<hr>" in found.html
    assert 0 < found.more < len(long)
    within = "a" * 90 + " $" + "x+" * 20 + "x$ " + "b" * 200
    assert excerpt(within, 100).formulas == 1  # never cut in the middle


def test_real_formulas(shared_data: Path) -> None:
    """Of those in the gold texts of real pages none is refused, and hardly a command is unknown."""
    folder = shared_data / "web" / "math_pages" / "gold"
    if not folder.is_dir():
        pytest.skip(f"no pages at {folder}")
    formulas = [html for file in sorted(folder.glob("*.jsonl")) for html in _formulas(file)]
    assert len(formulas) > 500
    assert not [html for html in formulas if "<code" in html]
    assert sum('class="unknown"' in html for html in formulas) <= 0.01 * len(formulas)


def _formulas(file: Path) -> Iterator[str]:
    def texts(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            for name, inside in value.items():
                if isinstance(inside, str):
                    yield from [inside] if name == "content" else [f"$${inside}$$"] if name == "math_content" else []
                else:
                    yield from texts(inside)
        elif isinstance(value, list):
            for inside in value:
                yield from texts(inside)

    for line in file.read_text(encoding="utf-8").splitlines():
        for text in texts(json.loads(line)):
            yield from re.findall(r'<math.*?</math>|<code class="tex".*?</code>', render(text), re.DOTALL)
