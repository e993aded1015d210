"""What a grader says about one answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["correct", "wrong", "ungradable"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reason` is the layer that decided ("string", "number", "interval", ...) or why the pair cannot be graded.

    Ungradable is no synonym of wrong: the gold could not be read, or a limit was hit. Metrics count it apart and never
    as correct.
    """

    outcome: Outcome
    reason: str

    @property
    def correct(self) -> bool:
        return self.outcome == "correct"


def correct(reason: str) -> Verdict:
    return Verdict("correct", reason)


def wrong(reason: str) -> Verdict:
    return Verdict("wrong", reason)


def ungradable(reason: str) -> Verdict:
    return Verdict("ungradable", reason)
