"""Templates, choices and reference answers, each way of writing them to the text it means."""

from __future__ import annotations

from typing import Any

import pytest

from dsm.data.layouts import RowError
from dsm.evaluation.columns import fill, put, read_choices, read_gold


def test_templates_take_the_first_column_there_is_paths_and_lists() -> None:
    row = {"a": None, "b": " x ", "n": 72.0, "f": 0.5, "t": ["1", 2], "m": [{"content": "hi"}], "two words": "w"}
    assert fill("{a|b}/{n}/{f}/{two words}", row) == "x/72/0.5/w"
    assert fill("{m.0.content} {t}", row) == "hi 1\n2"
    assert fill("{b}", row, strip=False) == " x "
    assert fill(r"{b|a}: \frac12 {} \boxed{}", row) == r"x: \frac12 {} \boxed{}"
    with pytest.raises(RowError, match="has no column 'a' or 'c'; its keys are a, b"):
        fill("{a|c}", row)
    assert put("{question} {answer} {x}", question="{answer}", answer="{question}") == "{answer} {question} {x}"


@pytest.mark.parametrize(
    "value",
    [
        ["-10", "0", "10", "-10 and 10"],
        ["(A)-10", "(B) 0", "(C)10", "(D) -10 and 10"],
        ["A. -10", "B. 0", "C. 10", "D. -10 and 10"],
        "A) -10 B) 0 C) 10 D) -10 and 10",
        "(A) -10\n(B) 0\n(C) 10\n(D) -10 and 10",
        {"text": ["-10", "0", "10", "-10 and 10"], "label": ["A", "B", "C", "D"]},
    ],
)
def test_choices_lose_their_letters_whatever_way_they_are_written(value: Any) -> None:
    assert read_choices(value, "options") == ("-10", "0", "10", "-10 and 10")


def test_letters_that_are_no_labels_stay() -> None:
    assert read_choices(["A. Smith", "C. Jones"], "options") == ("A. Smith", "C. Jones")
    assert read_choices("A) f(A) B) a B) C) x", "options") == ("f(A)", "a B)", "x")
    assert read_choices(["(1)", "(2)"], "options") == ("(1)", "(2)")


@pytest.mark.parametrize(
    ("form", "text", "question", "gold"),
    [
        ("text", " 1,072 ", "", ("1,072",)),
        ("hashes", "a #### 3\nb\n#### 1,072,000", "", ("1072000",)),
        ("hashes", "#### -5", "", ("-5",)),
        ("boxed", r"$\boxed{1}$ so $\boxed{\frac{1}{2}}$", "Find x.", (r"\frac{1}{2}",)),
        ("boxed", r"\boxed{-2} and \boxed{1}", "Solutions, separated by commas.", ("-2", "1")),
        ("boxed", r"\boxed{1,2} or again \boxed{1, 2}", "Solutions, separated by commas.", ("1, 2",)),
        ("boxed", r"\boxed{5} hence \boxed{5}", "Solutions, separated by commas.", ("5",)),
        ("list", "1;$\\frac{8}{9}$", "", ("1", "\\frac{8}{9}")),
        ("list", "三；四", "", ("三", "四")),
        ("choice", "(C)", "", ("C",)),
        ("choice", "A C D", "", ("ACD",)),
        ("choice", "D,A", "", ("AD",)),
        ("choice", "3", "", ("D",)),
    ],
)
def test_reference_answers(form: str, text: str, question: str, gold: tuple[str, ...]) -> None:
    assert read_gold(form, text, question, ["w", "x", "y", "z"]) == gold
