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

_PREFIXES = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "c": Fraction(1, 100),
    "d": Fraction(1, 10),
    "k": Fraction(1000),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
}


def _table(text: str) -> dict[str, tuple[Fraction, str]]:
    """symbol factor dimension, three words each."""
    words = text.split()
    return {
        symbol: (Fraction(factor), of) for symbol, factor, of in zip(words[::3], words[1::3], words[2::3], strict=True)
    }


_PREFIXED = _table("""
    m 1 L    g 1/1000 M    s 1 T    L 1/1000 LLL    l 1/1000 LLL    J 1 energy    W 1 power    N 1 force
    Pa 1 pressure    F 1 farad
    V 1 voltage    A 1 current    Hz 1 frequency    mol 1 amount    eV 1 electronvolt    K 1 kelvin    C 1 charge
""")
"""Units that take prefixes. A dimension L, LL or LLL is a length to that power."""
_PLAIN = _table("""
    min 60 T    h 3600 T    hr 3600 T    day 86400 T    week 604800 T    month 1 month    year 12 month
    in 0.0254 L    ft 0.3048 L    yd 0.9144 L    mi 1609.344 L    ha 10000 LL    acre 1 acre    gal 1 gallon
    lb 0.45359237 M    oz 0.028349523125 M    ton 1000 M    t 1000 M    amu 1 amu    mph 0.44704 speed    kph 5/18 speed
    usd 1 usd    cent 1/100 usd    dime 1/10 usd    eur 1 eur    gbp 1 gbp    cny 1 cny    jiao 1/10 cny    inr 1 inr
    rad 1 angle    deg 1 degree    % 1 percent    degC 1 celsius    degF 1 fahrenheit    cal 1 calorie
    bit 1 bit    byte 8 bit
""")


def _names(text: str) -> dict[str, str]:
    """symbol: its names, on one line."""
    return {
        name: line.split(":")[0].strip() for line in text.strip().splitlines() for name in line.split(":")[1].split()
    }


_NAMES = _names("""
    m: meter metre 米
    cm: 厘米
    dm: 分米
    mm: 毫米
    km: 千米 公里
    cm^2: 平方厘米
    dm^2: 平方分米
    m^2: 平方米
    km^2: 平方千米
    cm^3: 立方厘米 cc
    dm^3: 立方分米
    m^3: 立方米
    in: inch inches
    ft: foot feet
    yd: yard
    mi: mile
    ha: hectare 公顷
    g: gram gramme gm 克
    kg: 千克 公斤
    ton: tonne 吨
    lb: pound lbs
    oz: ounce
    L: liter litre 升
    mL: 毫升
    gal: gallon
    s: second sec secs 秒
    min: minute mins 分钟
    h: hour hrs 小时
    day: days 天
    week: 周 星期
    month: 月
    year: yr 年
    kph: kmh
    J: joule
    W: watt
    N: newton
    Pa: pascal
    V: volt
    A: ampere amp
    Hz: hertz
    mol: mole
    K: kelvin
    C: coulomb
    degC: celsius
    degF: fahrenheit
    cal: calorie
    usd: dollar buck 美元
    cent: ¢
    eur: euro
    cny: yuan 元 块 块钱 人民币
    jiao: 角
    inr: rupee
    rad: radian
    deg: degree 度
    %: percent percentage pct
    square: sq
""")
_LONG_PREFIXES = {
    "kilo": "k",
    "centi": "c",
    "milli": "m",
    "deci": "d",
    "micro": "u",
    "nano": "n",
    "mega": "M",
    "giga": "G",
}
_COUNTERS = frozenset(("unit", "units"))
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
    factor, found = Fraction(1), _PLAIN.get(text) or _PREFIXED.get(text)
    if found is None and text[:1] in _PREFIXES:
        factor, found = _PREFIXES[text[0]], _PREFIXED.get(text[1:])
    return Unit(factor * found[0], _powers(found[1])) if found else None


def _powers(dimension: str) -> tuple[tuple[str, int], ...]:
    if dimension == "speed":
        return ("L", 1), ("T", -1)
    return (("L", len(dimension)),) if set(dimension) == {"L"} else ((dimension, 1),)
