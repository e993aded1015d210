"""Units: which words are one, what they measure, and how much of it.

A unit text ("cm^2", "square centimetres", "km/h", "apples") becomes a `Unit`: a factor to SI and powers of base
dimensions. Words that are no unit of measure count things; they have no dimension and are compared with nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

_PREFIXES = {"k": 1000, "c": Fraction(1, 100), "m": Fraction(1, 1000), "d": Fraction(1, 10), "u": Fraction(1, 10**6), "n": Fraction(1, 10**9),
             "M": 10**6, "G": 10**9, "T": 10**12}  # fmt: skip
_BASE: dict[str, tuple[Fraction | int, str]] = {
    "m": (1, "L"), "g": (Fraction(1, 1000), "M"), "s": (1, "T"), "L": (Fraction(1, 1000), "LLL"), "l": (Fraction(1, 1000), "LLL"),
    "J": (1, "energy"), "W": (1, "power"), "N": (1, "force"), "Pa": (1, "pressure"), "V": (1, "voltage"), "A": (1, "current"),
    "Hz": (1, "frequency"), "mol": (1, "amount"), "eV": (1, "electronvolt"), "K": (1, "kelvin"), "C": (1, "charge"), "F": (1, "farad"),
}  # fmt: skip
_TABLE: dict[str, tuple[Fraction | int, str]] = {
    "min": (60, "T"), "h": (3600, "T"), "hr": (3600, "T"), "day": (86400, "T"), "week": (604800, "T"), "month": (1, "month"), "year": (12, "month"),
    "in": (Fraction(254, 10000), "L"), "ft": (Fraction(3048, 10000), "L"), "yd": (Fraction(9144, 10000), "L"), "mi": (Fraction(1609344, 1000), "L"),
    "lb": (Fraction(45359237, 10**8), "M"), "oz": (Fraction(45359237, 16 * 10**8), "M"), "ton": (1000, "M"), "t": (1000, "M"),
    "mph": (Fraction(1609344, 3600000), "L-T"), "kph": (Fraction(1000, 3600), "L-T"), "gal": (1, "gallon"), "acre": (1, "acre"), "ha": (10**4, "LL"),
    "usd": (1, "usd"), "cent": (Fraction(1, 100), "usd"), "dime": (Fraction(1, 10), "usd"), "eur": (1, "eur"), "gbp": (1, "gbp"),
    "cny": (1, "cny"), "jiao": (Fraction(1, 10), "cny"), "inr": (1, "inr"), "rad": (1, "angle"), "%": (1, "percent"), "cal": (1, "calorie"),
    "deg": (1, "degree"), "degC": (1, "celsius"), "degF": (1, "fahrenheit"), "amu": (1, "amu"), "bit": (1, "bit"), "byte": (8, "bit"),
}  # fmt: skip
_NAMES: dict[str, str] = {
    "meter": "m", "metre": "m", "gram": "g", "gramme": "g", "second": "s", "sec": "s", "liter": "L", "litre": "L", "joule": "J", "watt": "W",
    "newton": "N", "pascal": "Pa", "volt": "V", "ampere": "A", "amp": "A", "hertz": "Hz", "mole": "mol", "kelvin": "K", "coulomb": "C",
    "minute": "min", "mins": "min", "hour": "h", "hrs": "h", "secs": "s", "days": "day", "yr": "year", "inch": "in", "inches": "in", "foot": "ft",
    "feet": "ft", "yard": "yd", "mile": "mi", "pound": "lb", "lbs": "lb", "ounce": "oz", "tonne": "ton", "gallon": "gal", "hectare": "ha",
    "dollar": "usd", "buck": "usd", "euro": "eur", "yuan": "cny", "rupee": "inr", "radian": "rad", "percent": "%", "percentage": "%", "pct": "%",
    "degree": "deg", "celsius": "degC", "fahrenheit": "degF", "kmh": "kph", "calorie": "cal", "cc": "cm^3", "¢": "cent", "sq": "square",
    "元": "cny", "块": "cny", "人民币": "cny", "角": "jiao", "米": "m", "厘米": "cm", "分米": "dm", "毫米": "mm", "千米": "km", "公里": "km",
    "克": "g", "千克": "kg", "公斤": "kg", "吨": "ton", "升": "L", "毫升": "mL", "秒": "s", "分钟": "min", "小时": "h", "天": "day", "度": "deg",
    "平方厘米": "cm^2", "平方米": "m^2", "平方千米": "km^2", "平方分米": "dm^2", "立方厘米": "cm^3", "立方米": "m^3", "立方分米": "dm^3",
    "美元": "usd", "年": "year", "月": "month", "周": "week", "星期": "week", "公顷": "ha", "micro": "u",
}  # fmt: skip
_LONG_PREFIXES = {"kilo": "k", "centi": "c", "milli": "m", "deci": "d", "micro": "u", "nano": "n", "mega": "M", "giga": "G"}
_COUNTERS = frozenset(["个", "只", "人", "页", "本", "颗", "件", "张", "条", "支", "辆", "棵", "次", "种", "名", "位", "袋", "箱", "瓶", "岁", "块钱", "units", "unit"])
_WORD = re.compile(r"[A-Za-z%¢°]+|[\u3400-\u9fff]+|\^?\{?-?\d+\}?|[/*]|\bper\b")
_SINGLE = frozenset("mgshLlNJWVAKCFt")
"""One-letter units; after a number they may as well be variables."""


@dataclass(frozen=True, slots=True)
class Unit:
    """`factor` of SI units with these powers of dimensions; no dimensions: it counts things."""

    factor: Fraction
    dimensions: tuple[tuple[str, int], ...]


def is_unit(word: str) -> bool:
    """Whether a word, as it stands, is a unit of more than one letter."""
    return len(word) > 1 and _lookup(word) is not None


def is_letter_unit(word: str) -> bool:
    """Whether a single letter is the symbol of a unit."""
    return word in _SINGLE


@lru_cache(maxsize=4096)
def parse_unit(text: str) -> Unit:
    """The unit that a text names; words that are none make it one that counts things."""
    factor, powers = Fraction(1), dict[str, int]()
    sign, power, last = 1, 1, None
    for word in _WORD.findall(text.replace("\\cdot", "*").replace("·", "*").replace(".", "")):
        low = word.lower()
        if word == "/" or low == "per":
            sign, last = -1, None
        elif low in ("square", "sq", "squared", "cubic", "cubed", "cu"):
            exponent = 2 if low[:2] == "sq" else 3
            if low in ("squared", "cubed") and last is not None:
                factor = _raise(factor, powers, last, sign * (exponent - 1))
            else:
                power = exponent
        elif re.fullmatch(r"\^?\{?-?\d+\}?", word):
            exponent = int(word.strip("^{}"))
            if last is not None and abs(exponent) <= 6:
                factor = _raise(factor, powers, last, sign * exponent - sign)
            last = None
        elif (found := _lookup(word)) is not None:
            factor = _raise(factor, powers, found, sign * power)
            last, power = found, 1
    dimensions = tuple(sorted((name, exponent) for name, exponent in powers.items() if exponent))
    return Unit(factor if dimensions else Fraction(1), dimensions)


def _raise(factor: Fraction, powers: dict[str, int], found: Unit, exponent: int) -> Fraction:
    for name, times in found.dimensions:
        powers[name] = powers.get(name, 0) + times * exponent
    return factor * found.factor**exponent


@lru_cache(maxsize=4096)
def _lookup(word: str) -> Unit | None:
    if word in _COUNTERS:
        return None
    for candidate in (word, word.lower(), *_singular(word.lower())):
        if candidate in _NAMES:
            target = _NAMES[candidate]
            return parse_unit(target) if "^" in target else _symbol(target)
        if len(candidate) > 1 and (unit := _symbol(candidate)) is not None:
            return unit
        for prefix, symbol in _LONG_PREFIXES.items():
            rest = candidate.removeprefix(prefix)
            if rest != candidate and rest in _NAMES:
                return _symbol(symbol + _NAMES[rest])
    return _symbol(word) if word in _SINGLE or word == "%" else None


def _singular(word: str) -> Mapping[str, None]:
    return dict.fromkeys([word.removesuffix("s"), word.removesuffix("es")])


def _symbol(text: str) -> Unit | None:
    if text in _TABLE:
        factor, dimension = _TABLE[text]
        return Unit(Fraction(factor), (("L", 1), ("T", -1)) if dimension == "L-T" else _powers(dimension))
    if text in _BASE:
        factor, dimension = _BASE[text]
        return Unit(Fraction(factor), _powers(dimension))
    if len(text) > 1 and text[0] in _PREFIXES and text[1:] in _BASE:
        factor, dimension = _BASE[text[1:]]
        return Unit(Fraction(factor) * Fraction(_PREFIXES[text[0]]), _powers(dimension))
    return None


def _powers(dimension: str) -> tuple[tuple[str, int], ...]:
    return (("L", len(dimension)),) if set(dimension) == {"L"} else ((dimension, 1),)
