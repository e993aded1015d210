"""Numbers as they are written: thousands commas, decimals, exponents, repeating digits. All are exact."""

from __future__ import annotations

import re
from fractions import Fraction

from dsm.answers.nodes import Num, TooLargeError

_REPEATING = re.compile(r"(\d*)\.(\d*)\D+(\d+)\D*")


def read_number(text: str) -> Num:
    """A literal: thousands commas, a decimal point, an exponent. The exponent may not be over 10,000."""
    mantissa, _, exponent = text.replace(",", "").lower().partition("e")
    if len(mantissa) > 2_000:
        raise TooLargeError("a literal of more than 2,000 digits")
    whole, point, places = mantissa.partition(".")
    value = Fraction(int(whole + places or "0"), 10 ** len(places))
    if exponent:
        if len(exponent) > 5 or abs(int(exponent)) > 10_000:
            raise TooLargeError("an exponent over 10,000")
        value *= Fraction(10) ** int(exponent)
    if not (point and places) and not exponent:
        return Num(value)
    return Num(value, digits=max(len((whole + places).lstrip("0")), 1), places=len(places) - int(exponent or 0))


def read_repeating(text: str) -> Num:
    """0.1\\overline{6} and 0.(3), exactly."""
    match = _REPEATING.fullmatch(text)
    assert match is not None  # the lexer matched the same form
    whole, fixed, cycle = match.groups()
    if len(fixed) + len(cycle) > 200:
        raise TooLargeError("a repeating decimal of more than 200 digits")
    head = Fraction(int(whole + fixed or "0"), 10 ** len(fixed))
    return Num(head + Fraction(int(cycle), (10 ** len(cycle) - 1) * 10 ** len(fixed)))
