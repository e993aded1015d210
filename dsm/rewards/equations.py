"""A rule for process supervision without a model: a step is right if all calculations in it are.

`3 * 4 = 12` is computed with fractions, by a parser of a few lines; nothing is evaluated. Runs where functions of the
user's do (`conf/reward/process_rule.yaml`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

_NUMBER = r"\d+(?:,\d{3})*(?:\.\d+)?(?![\d,.]*\d)"
_SIGN = r"(?:[-+*/×÷x−]|\\times|\\div|\\cdot)"
_EQUATION = re.compile(
    rf"(?<![\w.])(?P<left>\$?{_NUMBER}%?(?:\s*{_SIGN}\s*\$?{_NUMBER}%?)+)\s*=\s*(?P<right>-?\s*\$?{_NUMBER}%?)"
    rf"(?:\s*(?:,\s*)?(?:[Rr]emainder|R|余数?)\s*(?P<rest>{_NUMBER}))?"
)
_DIVISION = re.compile(rf"({_NUMBER})\s*(?:/|÷|\\div)\s*({_NUMBER})")
_TOKEN = re.compile(rf"{_NUMBER}%?|{_SIGN}")
_ROUNDING = Fraction(1, 200)  # a result with a decimal point may have been rounded to two digits


def steps_hold(steps: Sequence[Sequence[str]], **_: Any) -> list[list[float]]:
    """1 for each step whose calculations are right (or that has none), 0 for one with a mistake."""
    return [[float(holds(step)) for step in solution] for solution in steps]


def holds(text: str) -> bool:
    """Whether every `a op b op ... = c` in the text is true."""
    found = list(_EQUATION.finditer(text.replace("$", "")))
    return all(_true(match["left"], match["right"]) for match in found if match["rest"] is None) and all(
        _divides(match["left"], match["right"], match["rest"]) for match in found if match["rest"] is not None
    )


def _divides(left: str, right: str, rest: str) -> bool:
    """`20 / 9 = 2 remainder 2`."""
    division = _DIVISION.fullmatch(left)
    if division is None:
        return False
    number, by, times, over = map(_number, (division[1], division[2], right, rest))
    return number == by * times + over and over < by


def _true(left: str, right: str) -> bool:
    wanted = _number(re.sub(r"\s", "", right).lstrip("-"))
    wanted = -wanted if right.lstrip().startswith("-") else wanted
    found = _value(_TOKEN.findall(left))
    if found is None:
        return False
    return found == wanted or ("." in right and abs(found - wanted) <= _ROUNDING)


def _number(token: str) -> Fraction:
    value = Fraction(token.rstrip("%").replace(",", ""))
    return value / 100 if token.endswith("%") else value


def _value(tokens: Sequence[str]) -> Fraction | None:
    """Numbers with signs between them, times and divided by first; None for a division by 0."""
    terms = [_number(tokens[0])]
    for sign, token in zip(tokens[1::2], tokens[2::2], strict=True):
        number = _number(token)
        if sign in ("+", "-", "−"):
            terms.append(number if sign == "+" else -number)
        elif sign in ("/", "÷", "\\div"):
            if not number:
                return None
            terms[-1] /= number
        else:
            terms[-1] *= number
    return sum(terms, Fraction(0))
