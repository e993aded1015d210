"""Equivalence classes: what a majority vote counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import pytest

from dsm.answers import GraderPool, Verdict, equivalence_classes
from dsm.config.answers import GraderConfig


@pytest.fixture(scope="module")
def pool() -> Iterator[GraderPool]:
    with GraderPool(GraderConfig(), 2) as pool:
        yield pool


class Counting:
    """Numbers are equal when they differ by less than 2; counts the pairs that are compared."""

    def __init__(self) -> None:
        self.pairs: list[tuple[str, str | None]] = []

    def grade(self, pairs: Sequence[tuple[str, str | None]]) -> list[Verdict]:
        self.pairs += pairs
        return [self.verdict(gold, answer or "") for gold, answer in pairs]

    def verdict(self, gold: str, answer: str) -> Verdict:
        if not (gold.isdigit() and answer.isdigit()):
            return Verdict("ungradable", "not a number")
        return Verdict("correct" if abs(int(gold) - int(answer)) < 2 else "wrong", "number")


def classes(answers: Sequence[str | None]) -> tuple[list[int | None], Counting]:
    counting = Counting()
    return equivalence_classes(answers, cast("GraderPool", counting)), counting


def test_answers_that_mean_the_same_are_one_class(pool: GraderPool) -> None:
    answers = ["1/2", "3", r"\frac{1}{2}", None, "0.5", "3.0", "x+1", "1+x", "4"]
    assert equivalence_classes(answers, pool) == [0, 1, 0, None, 0, 1, 2, 2, 3]


def test_classes_are_numbered_by_first_appearance() -> None:
    assert classes(["50", "10", "50", "30", "10"])[0] == [0, 1, 0, 2, 1]


def test_what_cannot_be_read_has_no_class() -> None:
    assert classes(["?", "7", None, "?"])[0] == [None, 0, None, None]
    assert classes([])[0] == []
    assert classes([None, None])[0] == [None, None]


def test_an_answer_joins_the_first_class_whose_first_member_it_equals() -> None:
    """Equality with a tolerance is not transitive: 1 = 2 and 2 = 3, yet 1 is not 3."""
    assert classes(["1", "2", "3"])[0] == [0, 0, 1]
    assert classes(["2", "1", "3"])[0] == [0, 0, 0]


def test_equal_texts_are_compared_once() -> None:
    result, counting = classes(["5"] * 60 + ["9"] * 4)
    assert result == [0] * 60 + [1] * 4
    assert len(counting.pairs) == 3  # each with itself, and the two
