"""Values with something attached: units, percent, degrees; times of day, ratios, numbers in a base."""

from __future__ import annotations

import re
from collections.abc import Callable

from dsm.answers.equality import same_value
from dsm.answers.nodes import Based, Call, Clock, Const, Node, Num, Quantity, Seq, Sym, number, symbols, walk
from dsm.answers.units import Unit, is_letter_unit, parse_unit
from dsm.config.answers import GraderConfig

Layer = Callable[[Node, Node], str | None]
_DEGREE = (("degree", 1),)
_RADIAN = (("angle", 1),)


def is_quantity(node: Node) -> bool:
    """Whether a node is a value with a unit, a percent sign or a degree sign."""
    return isinstance(node, Quantity) or (isinstance(node, Call) and node.name in ("pct", "deg"))


def value_and_unit(node: Node) -> tuple[Node, str]:
    """The two parts of a quantity; anything else has the unit ""."""
    match node:
        case Quantity(value, unit):
            return value, unit
        case Call("pct", (value,)):
            return value, "%"
        case Call("deg", (value,)):
            return value, "deg"
    return node, ""


def same_quantity(gold: Node, answer: Node, same: Layer, rules: GraderConfig) -> str | None:
    """The layer that finds two quantities equal: one unit may be missing, of two one is converted."""
    (value, unit), (other, other_unit) = value_and_unit(gold), value_and_unit(answer)
    measure, other_measure = parse_unit(unit), parse_unit(other_unit)
    if measure.dimensions and other_measure.dimensions:
        return _same_measured(value, measure, other, other_measure, same, rules)
    if not measure.dimensions and not other_measure.dimensions:
        powers = _powers(unit), _powers(other_unit)
        return None if all(powers) and powers[0] != powers[1] else same(value, other)
    if "%" in (unit, other_unit):
        return _same_percent((value, unit), (other, other_unit), same, rules)
    if rules.units == "required":
        return None
    if (layer := same(value, other)) is not None:
        return layer
    if _DEGREE in (measure.dimensions, other_measure.dimensions) and Const("pi") in (*walk(value), *walk(other)):
        return "angle" if same_value(_radians(value, measure), _radians(other, other_measure), rules) else None
    return None


def _same_measured(
    value: Node, unit: Unit, other: Node, other_unit: Unit, same: Layer, rules: GraderConfig
) -> str | None:
    if unit == other_unit:
        return same(value, other)
    if {unit.dimensions, other_unit.dimensions} == {_DEGREE, _RADIAN}:
        return "angle" if same_value(_radians(value, unit), _radians(other, other_unit), rules) else None
    if (
        unit.dimensions != other_unit.dimensions
        or not rules.convert_units
        or isinstance(value, Seq)
        or isinstance(other, Seq)
    ):
        return None
    scaled = [Call("*", (node, number(part.factor))) for node, part in ((value, unit), (other, other_unit))]
    return "unit" if same_value(scaled[0], scaled[1], rules) else None


def _same_percent(gold: tuple[Node, str], answer: tuple[Node, str], same: Layer, rules: GraderConfig) -> str | None:
    if rules.percent_as_number and (layer := same(gold[0], answer[0])) is not None:
        return layer
    if isinstance(gold[0], Seq) or isinstance(answer[0], Seq):
        return None
    fractions = [Call("pct", (value,)) if unit == "%" else value for value, unit in (gold, answer)]
    return "percent" if same_value(fractions[0], fractions[1], rules) else None


def _radians(value: Node, unit: Unit) -> Node:
    return Call("deg", (value,)) if unit.dimensions == _DEGREE else value


def _powers(unit: str) -> set[str]:
    """The powers in words that are no unit of measure: units^2, square units."""
    return set(re.findall(r"\^(\d)", unit)) | {
        power for word, power in (("square", "2"), ("cubic", "3")) if word in unit
    }


def with_letter_unit(node: Node) -> Quantity | None:
    """5m and 5m^2 as metres, if the expression is a number times the symbol of a unit."""
    match node:
        case Call("*", (value, Sym(letter))):
            unit = letter
        case Call("*", (value, Call("^", (Sym(letter), Num(exponent, _, _, _))))):
            unit = f"{letter}^{exponent}"
        case _:
            return None
    return Quantity(value, unit) if is_letter_unit(letter) and not symbols(value) else None


# ---------------------------------------------------------------- times of day


def same_clock(gold: Node, answer: Node, rules: GraderConfig) -> bool:
    """Whether two times are the same; one without am or pm fits either. 7:32 is a ratio if the other side is."""
    if not (isinstance(gold, Clock) and isinstance(answer, Clock)):
        first, second = _as_ratio(gold), _as_ratio(answer)
        return first is not None and second is not None and same_ratio(first, second, rules)
    if _since_midnight(gold) == _since_midnight(answer):
        return True
    return (gold.half is None) != (answer.half is None) and gold.seconds == answer.seconds


def _since_midnight(time: Clock) -> int:
    """In seconds: 12 am is 0, 12 pm is noon."""
    if time.half is None:
        return time.seconds
    return time.seconds % 43200 + (43200 if time.half == "pm" else 0)


def _as_ratio(node: Node) -> Node | None:
    if not isinstance(node, Clock):
        return node
    minutes = node.seconds % 3600 // 60
    if node.half or node.seconds % 60 or not minutes:
        return None
    return Call("ratio", (number(node.seconds // 3600), number(minutes)))


# ---------------------------------------------------------------- ratios and bases


def is_ratio(node: Node) -> bool:
    return isinstance(node, Call) and node.name == "ratio"


def same_ratio(gold: Node, answer: Node, rules: GraderConfig) -> bool:
    """3:4 and 6:8, 1:2:3 and 2:4:6; a ratio of two is also its quotient."""
    first, second = (
        node.args if isinstance(node, Call) and node.name == "ratio" else (node,) for node in (gold, answer)
    )
    if len(first) == 1 or len(second) == 1:
        quotients = [Call("/", parts) if len(parts) == 2 else parts[0] for parts in (first, second)]
        return max(len(first), len(second)) == 2 and same_value(quotients[0], quotients[1], rules)
    if len(first) != len(second):
        return False
    crosswise = [
        (Call("*", (first[0], b)), Call("*", (second[0], a))) for a, b in zip(first[1:], second[1:], strict=True)
    ]
    return all(same_value(left, right, rules) for left, right in crosswise)


def same_in_base(gold: Node, answer: Node) -> bool:
    """Whether two numbers have the same digits in the same base; the answer may leave the gold's base out."""
    if isinstance(gold, Based) and isinstance(answer, Based):
        return gold.base == answer.base and gold.value == answer.value
    based, other = (gold, answer) if isinstance(gold, Based) else (answer, gold)
    if not (isinstance(based, Based) and isinstance(other, Num)) or not set(based.digits) <= set("0123456789."):
        return False
    as_written = Based(based.digits, 10).value == other.value
    return as_written and (based.base == 10 or isinstance(gold, Based))
