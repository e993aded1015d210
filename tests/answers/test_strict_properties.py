"""Properties of the strict grader: rewritten answers stay equal, slightly changed ones do not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsm.answers.boxes import boxes
from dsm.answers.parse import ParseError, parse, to_sympy
from dsm.answers.strict import grade
from dsm.config.answers import GraderConfig

RULES = GraderConfig(fallback=False)
WHOLE = st.integers(-(10**6), 10**6)
PROPER = st.builds(Fraction, st.integers(-999, 999), st.integers(1, 99))


def same(gold: str, answer: str) -> bool:
    return grade(gold, answer, RULES).correct


# ---------------------------------------------------------------- numbers


def _spellings(value: Fraction) -> Iterator[str]:
    top, bottom, sign = abs(value.numerator), value.denominator, "-" if value < 0 else ""
    yield f"{value.numerator}/{bottom}"
    yield f"{sign}\\frac{{{top}}}{{{bottom}}}"
    yield f"\\dfrac{{{3 * value.numerator}}}{{{3 * bottom}}}"
    yield f"$x = {sign}\\frac{{{top}}}{{{bottom}}}$"
    yield f"Rational({value.numerator}, {bottom})"
    if top > bottom > 1:
        yield f"{sign}{top // bottom}\\frac{{{top % bottom}}}{{{bottom}}}"
        yield f"{sign}{top // bottom} {top % bottom}/{bottom}"


@settings(max_examples=40, deadline=None, derandomize=True)
@given(PROPER)
def test_fractions(value: Fraction) -> None:
    gold = f"{value.numerator}/{value.denominator}" if value.denominator > 1 else str(value.numerator)
    for spelling in _spellings(value):
        assert same(gold, spelling)
    for near in (value + 1, value + Fraction(1, 10**7), -value if value else Fraction(1), value * 100 or Fraction(1)):
        for spelling in _spellings(near):
            assert not same(gold, spelling)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(WHOLE)
def test_whole_numbers(value: int) -> None:
    spellings = [
        f"{value:,}",
        f"{value:,}".replace(",", "{,}"),
        f"{value:,}".replace(",", r"\,"),
        f"{value}.00",
        f"\\${value}",
        f"{value} cm",
    ]
    for spelling in spellings:
        assert same(str(value), spelling)
        assert not same(str(value + 1), spelling)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 10**5), st.integers(-9, 9))
def test_scientific_notation(mantissa: int, exponent: int) -> None:
    decimal = Fraction(mantissa) * Fraction(10) ** exponent
    gold = str(decimal.numerator) if decimal.denominator == 1 else f"{decimal.numerator}/{decimal.denominator}"
    for right, near in zip(_powers_of_ten(mantissa, exponent), _powers_of_ten(mantissa, exponent + 1), strict=True):
        assert same(gold, right)
        assert not same(gold, near)


def _powers_of_ten(mantissa: int, exponent: int) -> tuple[str, str, str]:
    return f"{mantissa}e{exponent}", f"{mantissa} \\times 10^{{{exponent}}}", f"{mantissa}*10**({exponent})"


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(2, 60), st.integers(2, 60), st.integers(-20, 20))
def test_radicals(a: int, b: int, c: int) -> None:
    gold = f"{c}+\\sqrt{{{a * a * b}}}"
    assert same(gold, f"{a}\\sqrt{{{b}}}+{c}")
    assert same(gold, f"{c} + {a}*sqrt({b})")
    assert same(gold, f"\\frac{{{2 * c}+{2 * a}\\sqrt{{{b}}}}}{{2}}")
    assert not same(gold, f"{a}\\sqrt{{{b + 1}}}+{c}")
    assert not same(gold, f"{a + 1}\\sqrt{{{b}}}+{c}")
    assert not same(gold, f"{c}-\\sqrt{{{a * a * b}}}")


# ---------------------------------------------------------------- expressions and structures

ATOM = st.one_of(st.integers(1, 9).map(str), st.sampled_from(("x", "y", "n")))
TREE = st.recursive(
    ATOM,
    lambda inner: st.one_of(
        st.tuples(st.sampled_from(("+", "-", "*")), inner, inner),
        st.tuples(st.just("^"), inner, st.integers(2, 3).map(str)),
    ),
    max_leaves=8,
)


def _latex(tree: object) -> str:
    if isinstance(tree, str):
        return tree
    op, left, right = tree  # type: ignore[misc]
    left, right = f"\\left({_latex(left)}\\right)", f"\\left({_latex(right)}\\right)"
    return f"{left}^{{{right}}}" if op == "^" else f"{left} \\cdot {right}" if op == "*" else f"{left} {op} {right}"


def _python(tree: object, swap: bool) -> str:
    if isinstance(tree, str):
        return tree
    op, left, right = tree  # type: ignore[misc]
    left, right = f"({_python(left, swap)})", f"({_python(right, swap)})"
    if swap and op in "+*":
        left, right = right, left
    return f"{left}{'**' if op == '^' else op}{right}"


@settings(max_examples=60, deadline=None, derandomize=True)
@given(TREE)
def test_expressions(tree: object) -> None:
    """The same expression in two notations, with sums and products turned round; and one more is not the same."""
    gold, answer = _latex(tree), _python(tree, swap=True)
    assert same(gold, answer)
    assert not same(gold, f"{answer}+1")
    assert not same(gold, f"{answer}+x/1000")


@settings(max_examples=40, deadline=None, derandomize=True)
@given(WHOLE, st.integers(1, 1000), st.sampled_from("(["), st.sampled_from(")]"))
def test_intervals(low: int, length: int, left: str, right: str) -> None:
    gold = f"{left}{low},{low + length}{right}"
    ops = {"(": "<", "[": "<=", ")": "<", "]": "<="}
    assert same(gold, f"\\left{left} {low}, {low + length} \\right{right}")
    assert same(gold, f"{low} {ops[left]} x {ops[right]} {low + length}")
    assert same(gold, f"Interval({low}, {low + length}, {left == '('}, {right == ')'})")
    assert not same(gold, f"{'[' if left == '(' else '('}{low},{low + length}{right}")
    assert not same(gold, f"{left}{low},{low + length}{']' if right == ')' else ')'}")
    assert not same(gold, f"{left}{low},{low + length + 1}{right}")


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.lists(st.integers(-50, 50), min_size=2, max_size=6, unique=True), st.randoms(use_true_random=False))
def test_sets_and_tuples(values: list[int], rng) -> None:  # type: ignore[no-untyped-def]
    shuffled = rng.sample(values, len(values))
    listed, other = ", ".join(map(str, values)), ", ".join(map(str, shuffled))
    assert same(f"\\{{{listed}\\}}", f"\\{{{other}\\}}")
    assert same(listed, other)
    assert same(f"({listed})", f"({other})") == (values == shuffled)
    assert not same(listed, ", ".join(map(str, values[:-1])))
    assert not same(f"\\{{{listed}\\}}", f"\\{{{listed}, 99\\}}")


# ---------------------------------------------------------------- the answers of MATH


@pytest.fixture(scope="module")
def golds(shared_data: Path) -> list[str]:
    lines = (shared_data / "math" / "math" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    return [boxes(json.loads(line)["solution"])[-1].content for line in lines]


def test_golds_equal_themselves(golds: list[str]) -> None:
    assert len(golds) == 5000
    assert [gold for gold in golds if not same(gold, gold)] == []
    assert [gold for gold in golds if not same(gold, f" {gold} .")] == []


def test_golds_rewritten(golds: list[str]) -> None:
    for gold in sorted(set(golds)):
        assert same(gold, gold.replace("\\frac", "\\dfrac").replace("(", "\\left(").replace(")", "\\right)"))
        assert same(gold, gold.replace("\\pi", "π").replace("\\infty", "∞").replace("-", "−").replace("\\cup", "∪"))
        assert same(gold, f"The answer is $\\boxed{{{gold}}}$.")


def test_golds_as_sympy_prints_them(golds: list[str]) -> None:
    """Every third gold that SymPy can hold, printed by SymPy; numbers in bases lose theirs and are left out."""
    for gold in sorted(set(golds))[::3]:
        try:
            printed = to_sympy(parse(gold))
        except ParseError:
            continue
        if not isinstance(printed, tuple) and not re.search(r"\d_|!", gold):
            assert same(gold, str(printed)), (gold, printed)


def _near(gold: str) -> Iterator[str]:
    for number in re.finditer(r"\d+", gold):
        yield gold[: number.start()] + str(int(number[0]) + 1) + gold[number.end() :]
    if "+" in gold:
        yield gold.replace("+", "-", 1)
    if re.fullmatch(r"[(\[][^,\\]+,[^,\\]+[)\]]", gold):
        turned = {"(": "[", "[": "(", ")": "]", "]": ")"}
        yield turned[gold[0]] + gold[1:]
        yield gold[:-1] + turned[gold[-1]]


def test_golds_nearly(golds: list[str]) -> None:
    """One number one higher, a plus that becomes a minus, an end that opens or closes: never the same."""
    assert [(gold, near) for gold in sorted(set(golds))[::4] for near in _near(gold) if same(gold, near)] == []
