r"""The official comparison for OCWCourses: numbers to five digits, equations side by side, other answers as strings.

The protocol is Minerva's (Lewkowycz et al. 2022, appendix D). Repaired, so that every reference answer equals itself:
a number that is close to 0 or negative is compared by the size of the mean, not by the signed mean. Numbers and
equations are parsed by `dsm.answers.parse` instead of `eval` and SymPy; expressions are compared as strings alone, as
the original does (it returns before its SymPy branch).
"""

from __future__ import annotations

import re

from dsm.answers.equality import Undecided, same_value
from dsm.answers.exact import Irrational, Undefined
from dsm.answers.nodes import walk
from dsm.answers.numeric import Numeric
from dsm.answers.parse import Call, Node, ParseError, Quantity, Relation, parse
from dsm.answers.verdict import Verdict, correct, ungradable, wrong
from dsm.config.answers import GraderConfig

_PLAIN = re.compile(r"\s*[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\s*")
_TINY, _RELATIVE, _NEAR_ZERO = 1e-8, 1e-5, 0.01

_WRAPPED = re.compile(r"\\(?:text|textbf|mathrm|mbox|overline|boxed)\{([^{}]*)\}")
_ARTICLES = re.compile(r"\ban? ")
_SPACES = re.compile(r"\\[ ;!]|\{,\}|[\s$\"]|\\[lc]?dots|\^\{?\\circ\}?|(?<=,)(?:\\text\{and\}|and)|\\\$")
_UNITS = re.compile(
    "square|ways|integers|dollars|mph|inches|ft|hours|km|units|points|feet|minutes|digits|cents|degrees|cm|gm|pounds|meters|edges|students"
)
_SHORT_FRACTION = re.compile(r"frac([^{\\])([^{\\])")
_SHORT_ROOT = re.compile(r"sqrt([^{\[])")


def grade_ocw(gold: str, answer: str, rules: GraderConfig) -> Verdict:
    """The verdict on one answer; the gold's form decides how they are compared."""
    if _PLAIN.fullmatch(gold):
        first, second = _value(gold), _value(answer)
        if first is None:
            return ungradable("gold too large")
        if second is None:
            return wrong("not a number")
        return correct("number") if close(first, second) else wrong("number")
    if "=" in gold:
        same = gold.strip() == answer.strip() or _same_equation(gold, answer, rules)
        return correct("equation") if same else wrong("equation")
    return correct("string") if squeezed(gold) == squeezed(answer) else wrong("string")


def close(first: float, second: float) -> bool:
    """Equal to five digits; near zero within 1% of the mean size."""
    difference = abs(first - second)
    if min(abs(first), abs(second), difference) <= _TINY:
        return difference <= _NEAR_ZERO * (abs(first) + abs(second)) / 2
    return difference <= _TINY + _RELATIVE * abs(second)


def squeezed(text: str) -> str:
    """An expression without what the protocol ignores: the name before `=`, spaces, styles, units, short LaTeX."""
    text = text.rsplit("=", 1)[-1]
    text = _SPACES.sub("", _ARTICLES.sub("", text))
    text = _UNITS.sub("", _WRAPPED.sub(r"\1", text))
    text = _SHORT_ROOT.sub(r"sqrt{\1}", _SHORT_FRACTION.sub(r"frac{\1}{\2}", text))
    plain = text.replace(",", "")
    return plain if plain.isdecimal() else text


def _value(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        tree = parse(text)
        while isinstance(tree, Relation):
            tree = tree.sides[-1]
        if any(isinstance(part, Call) and part.name == "pct" for part in walk(tree)):
            return None
        value = Numeric(30).value(tree.value if isinstance(tree, Quantity) else tree)
        return float(value)
    except (ParseError, Irrational, Undefined, OverflowError, TypeError):
        return None


def _same_equation(gold: str, answer: str, rules: GraderConfig) -> bool:
    try:
        ours, theirs = _sides(gold), _sides(answer)
        return len(ours) == len(theirs) and all(same_value(g, a, rules) for g, a in zip(ours, theirs, strict=True))
    except (ParseError, Undecided):
        return False


def _sides(text: str) -> tuple[Node, ...]:
    tree = parse(text)
    if not isinstance(tree, Relation) or set(tree.ops) != {"="}:
        raise ParseError("no equation")
    return tree.sides
