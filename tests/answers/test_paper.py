"""The official protocol's verdicts, its leniency included, without its running of what the model wrote."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from dsm.answers.ocw import close, squeezed
from dsm.answers.paper import grade, split_list
from dsm.answers.rewriting import rewritten
from dsm.config.answers import GraderConfig

MATH = GraderConfig(name="paper")
CLOZE = GraderConfig(name="paper", protocol="cloze")
OCW = GraderConfig(name="paper", protocol="ocw")


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("18", "18"),
        ("70000", "70,000"),
        ("0.5", r"\frac{1}{2}"),
        (r"\frac{1}{2}", r"\dfrac 12"),
        (r"10\text{ cm}", "10"),
        (r"90^\circ", "90"),
        ("5", "x=5"),
        ("x=5", "5"),
        ("y=2x+1", "2x+1-y=0"),
        ("x^2-1", "(x-1)(x+1)"),
        (r"\sqrt{8}", r"2\sqrt2"),
        (r"\pi", "3.1416"),
        ("(1,2)", "( 1, 2.0 )"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{bmatrix} 1\\ 2\end{bmatrix}"),
        (r"(1,2]\cup[3,4)", r"[3,4)\cup(1,2]"),
        (r"\text{Evelyn}", "Evelyn"),
        ("1,-2", "-2, 1"),
        (["1", "2"], ["2", "1"]),
        (r"\boxed{1}, \boxed{2}", r"\boxed{2}, \boxed{1}"),
        ("7", r"\boxed{3}, \boxed{7}"),
        ("B", "(B)"),
        ("ACD", "A, C, D"),
        # lenient, as the original is
        ("3", "300"),
        ("50", "0.5"),
        ("7", "7.0004"),
        ("[0,1)", "(0,1]"),
        ("99999999999", "100000000000"),
        ("1/5120", "1/28800"),
    ],
)
def test_correct(gold: str | Sequence[str], answer: str | Sequence[str]) -> None:
    assert grade(gold, answer, MATH).correct


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("18", "19"),
        ("2", "-2"),
        ("18", ""),
        ("x+1", "x+2"),
        ("(1,2)", "(1,3)"),
        ("(1,2)", "(1,2,3)"),
        (r"\begin{pmatrix}1&2\end{pmatrix}", r"\begin{pmatrix}1\\2\end{pmatrix}"),
        (["1", "2"], ["1", "3"]),
        (["1", "2"], ["1"]),
        ("B", "C"),
        ("ACD", "AC"),
        ("B", "ABCD"),
        (r"\text{Evelyn}", "Carla"),
        ("5", "x>5"),
        ("1", "1" * 5000),
    ],
)
def test_wrong(gold: str | Sequence[str], answer: str | Sequence[str]) -> None:
    assert grade(gold, answer, MATH).outcome == "wrong"


def test_an_empty_gold_is_ungradable() -> None:
    assert grade("", "1", MATH).outcome == "ungradable"
    assert grade([], "1", MATH).outcome == "ungradable"


def test_blanks_of_a_cloze_come_in_order() -> None:
    assert grade("5, 10", "5;10", CLOZE).correct
    assert not grade("5, 10", "10;5", CLOZE).correct
    assert grade("5, 10", "10;5", MATH).correct
    assert grade(r"(1,2), \frac{8}{9}", r"(1,2);\frac{8}{9}", CLOZE).correct
    assert not grade("5, 10", "5", CLOZE).correct


@pytest.mark.parametrize(
    ("gold", "answer", "expected"),
    [
        ("4.5e33", r"4.5 \times 10^{33}", True),
        ("4.5e33", "4.6e33", False),
        ("-5", "-5", True),
        ("0", "0", True),
        ("0", "1e-12", False),
        ("1e-10", "1.005e-10", True),
        ("1e-10", "2e-10", False),
        ("1.6", r"1.6 \mathrm{~cm}", True),
        ("1.6", "1.601", False),
        ("3", "300", False),
        ("x^2+y=1", "y+x^2=1", True),
        ("x^2+y=1", "x^2+y=2", False),
        ("m_{p} c^{2}", "m_{p}c^{2}", True),
        ("m_{p} c^{2}", "c^{2} m_{p}", False),
    ],
)
def test_ocw(gold: str, answer: str, expected: bool) -> None:
    assert grade(gold, answer, OCW).correct is expected


def test_closeness_for_ocw_is_symmetric_and_reflexive() -> None:
    values = [0.0, 1e-30, -1e-30, 1e-9, -1e-9, 1.0, -1.0, 4.5e33, -4.5e33]
    assert all(close(value, value) for value in values)
    assert all(close(a, b) == close(b, a) for a in values for b in values)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("1, 2", ["1", "2"]),
        ("1;2；3", ["1", "2", "3"]),
        ("(1, 2), (3, 4)", ["(1, 2)", "(3, 4)"]),
        ("]0, 1[, 2", ["]0, 1[", "2"]),
        ("(0, 1", ["(0, 1"]),
        ("70,000", ["70000"]),
        ("", []),
    ],
)
def test_lists_are_split_outside_of_brackets(text: str, parts: list[str]) -> None:
    assert split_list(text) == parts


@pytest.mark.parametrize(
    ("text", "new"),
    [
        (r"$\dfrac 12$", r"\frac{1}{2}"),
        (r"\frac1{72}", r"\frac{1}{72}"),
        ("3/4", r"\frac{3}{4}"),
        (r"\sqrt3", r"\sqrt{3}"),
        (r"5 \text{ miles}", "5"),
        (r"\text{Monday}", "Monday"),
        (r"\left( 1, 2 \right)", "(1,2)"),
        (".5", "0.5"),
        ("7.00", "7"),
        (r"45^{\circ}", "45"),
        (r"30\%", "30%"),
        ("12.", "12"),
    ],
)
def test_rewriting(text: str, new: str) -> None:
    assert rewritten(text) == new
    assert rewritten(new) == new


def test_squeezing_for_ocw() -> None:
    assert squeezed(r"E = \frac12 m \text{ J}") == r"\frac{1}{2}mJ"
    assert squeezed("1,000") == "1000"


@pytest.mark.parametrize("rules", [MATH, OCW], ids=["math", "ocw"])
def test_text_is_never_run(rules: GraderConfig, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    for payload in (
        f"__import__('os').system('touch {mark}')",
        f"open('{mark}', 'w')",
        f"exec(\"open('{mark}', 'w')\")",
        f"[c for c in ().__class__.__base__.__subclasses__()][0](open('{mark}', 'w'))",
        f"x = (lambda: open('{mark}', 'w'))()",
    ):
        for gold in ("1", "x+1", "y=x", payload):
            grade(gold, payload, rules)
            grade(payload, gold, rules)
    assert not mark.exists()
