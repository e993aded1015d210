"""The strict grader on our own pairs, by category; its layers, house rules and symmetry; the public pairs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dsm.answers.strict import grade
from dsm.config.answers import GraderConfig

RULES = GraderConfig(fallback=False)  # what these tests show is our own work
HERE = Path(__file__).parent


def _pairs(name: str) -> list[tuple[str, str, str]]:
    """(category, gold, answer) of every line of a file of pairs."""
    rows, category = [], ""
    for line in (HERE / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            category = line[3:]
        elif " ||| " in line:
            gold, answer = line.replace("␌", "\f").replace("␣", "\u202f").split(" ||| ")
            rows.append((category, gold, answer))
    return rows


EQUAL, UNEQUAL = _pairs("equal.txt"), _pairs("unequal.txt")
# An answer may leave out what the gold says, a base or that m stands for metres; it may not bring it along.
ONE_WAY = {"204_5", "2m", "1000.99"}


@pytest.mark.parametrize("category", sorted({category for category, _, _ in EQUAL}))
def test_equal(category: str) -> None:
    failed = [
        (g, a, grade(g, a, RULES).reason) for of, g, a in EQUAL if of == category and not grade(g, a, RULES).correct
    ]
    assert not failed


@pytest.mark.parametrize("category", sorted({category for category, _, _ in UNEQUAL}))
def test_unequal(category: str) -> None:
    failed = [
        (g, a, grade(g, a, RULES).reason) for of, g, a in UNEQUAL if of == category and grade(g, a, RULES).correct
    ]
    assert not failed


def test_symmetric() -> None:
    for _, gold, answer in (*EQUAL, *UNEQUAL):
        if not {gold, answer} & ONE_WAY:
            assert grade(gold, answer, RULES).correct == grade(answer, gold, RULES).correct, (gold, answer)


@pytest.mark.parametrize(
    ("gold", "answer", "layer"),
    [
        ("12", "12", "text"),
        ("12", "12.0", "number"),
        (r"\frac12", "1/2", "tree"),
        (r"\frac12", "0.5", "value"),
        ("[0,1)", "0<=x<1", "interval"),
        ("x+y=1", "2x+2y=2", "equation"),
        ("Monday", "monday.", "words"),
        ("(B)", "B", "choice"),
        ("1 m", "100 cm", "unit"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", "(1,2)", "matrix"),
    ],
)
def test_layer_that_decides(gold: str, answer: str, layer: str) -> None:
    assert grade(gold, answer, RULES).reason == layer


@pytest.mark.parametrize(
    ("gold", "answer", "rule"),
    [
        ("28", "0.28", {"percent_scale": True}),
        ("1/3", "0.333", {"decimal_digits": 3}),
        ("2.50", "2.51", {"relative_tolerance": 0.01}),
    ],
)
def test_rules_that_allow(gold: str, answer: str, rule: dict[str, object]) -> None:
    assert not grade(gold, answer, RULES).correct
    assert grade(gold, answer, RULES.model_copy(update=rule)).correct


@pytest.mark.parametrize(
    ("gold", "answer", "rule"),
    [
        ("28%", "28", {"percent_as_number": False}),
        ("150 cm", "1.5 m", {"convert_units": False}),
        ("5 cm", "5", {"units": "required"}),
        ("1,2", "2,1", {"ordered_lists": True}),
        ("1.22", "1,22", {"european_numbers": False}),
        ("B", "(B) 12", {"choice_text": False}),
    ],
)
def test_rules_that_forbid(gold: str, answer: str, rule: dict[str, object]) -> None:
    assert grade(gold, answer, RULES).correct
    assert not grade(gold, answer, RULES.model_copy(update=rule)).correct


@pytest.mark.parametrize(
    ("gold", "answer", "outcome"),
    [
        ("", "5", "ungradable"),
        ("5", "  ", "ungradable"),
        ("1e99999", "5", "ungradable"),  # a gold over a limit
        ("5", "1e99999", "wrong"),  # an answer over a limit
        (r"\foo{1}", "5", "ungradable"),  # a gold that no one can read
        ("10^{10^{10}}", "5", "ungradable"),
        ("5", "10^{10^{10}}", "wrong"),
        ("Monday", "5", "wrong"),  # but words are a gold like any other
        (r"\foo{1}", r"\foo{1}", "correct"),  # no one can read it, but it is the same
        ("5", r"\foo{1}", "wrong"),
    ],
)
def test_what_cannot_be_read(gold: str, answer: str, outcome: str) -> None:
    assert grade(gold, answer, RULES).outcome == outcome


def test_public_pairs(shared_data: Path) -> None:
    """At least 97 % of the pairs that do not hang on a convention, at most 1 % false positives among them."""
    path = shared_data / "answers" / "equivalence.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    core = [row for row in rows if not row["convention"]]
    correct = [grade(row["gold"], row["pred"], GraderConfig()).correct for row in core]
    agreed = sum(verdict == row["equal"] for verdict, row in zip(correct, core, strict=True))
    unequal = [verdict for verdict, row in zip(correct, core, strict=True) if not row["equal"]]
    assert agreed / len(core) >= 0.97
    assert sum(unequal) / len(unequal) <= 0.01
