"""In the sandbox, after a program that computes an answer: find its result and write it as a bare answer.

It is written here because here it is still an object: in text, the list of roots `[1, 2]` is an interval.
"""

from __future__ import annotations

import cmath
import inspect
import math
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

_NOISE = (1e-17, 1e-14)  # what a calculation in doubles leaves of a zero; physical constants lie below or above
_CLOSE = 1e-9  # relative distance at which a double counts as the whole number beside it
_DIGITS = 12  # that are kept of any other


def report(namespace: dict[str, Any], wanted: list[str]) -> str:
    """The first of `wanted`, names ("answer") or calls ("solution()"), that the program has and that is not None.

    Returns that name, a line break, and the answer's text; nothing if there is none.
    """
    for name in wanted:
        value = namespace.get(name.removesuffix("()"))
        if callable(value) != name.endswith("()") or (callable(value) and not _takes_nothing(value)):
            continue
        if callable(value):
            value = value()
        text = write(value)
        if text:
            return f"{name}\n{text}"
    return ""


def _takes_nothing(function: Any) -> bool:
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError):
        return False
    return True


def write(value: Any) -> str | None:
    """A value as the text of an answer; None where there is no answer in it (None, NaN, nothing).

    Floats keep 12 digits; within 1e-9 (relative) of a whole number, or within 1e-14 of zero unless below 1e-17, they
    are that number: 17.999999999 is `18`. Lists are written `a, b`, tuples `(a, b)`, sets `\\{a, b\\}`, dictionaries
    `x = 1, y = 2`, what SymPy made as LaTeX.
    """
    kind = type(value)
    module = kind.__module__.partition(".")[0]
    if value is None:
        return None
    if module == "numpy" and hasattr(value, "tolist"):
        return _matrix(value.tolist()) if getattr(value, "ndim", 0) == 2 else write(value.tolist())
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, (int, Fraction)):
        return str(value)
    if isinstance(value, (float, Decimal)):
        return _float(float(value)) if isinstance(value, float) else f"{value.normalize():f}"
    if isinstance(value, complex):
        return _complex(value)
    if isinstance(value, Mapping):
        return _joined([_pair(key, part) for key, part in value.items()])
    if isinstance(value, tuple):
        return f"({text})" if (text := _joined([write(part) for part in value])) else None
    if isinstance(value, (set, frozenset)):
        return _set([text for part in value if (text := write(part)) is not None])
    if isinstance(value, (list, range)) or hasattr(value, "__next__"):
        return _joined([write(part) for part in value])
    if module == "sympy":
        return _sympy(value)
    return str(value).strip() or None


def _set(parts: list[str]) -> str | None:
    return f"\\{{{', '.join(sorted(parts, key=_by_size))}\\}}" if parts else None


def _by_size(text: str) -> tuple[bool, float, str]:
    try:
        return (False, float(text), text)
    except ValueError:
        return (True, 0.0, text)


def _joined(parts: list[str | None]) -> str | None:
    return ", ".join(part for part in parts if part is not None) or None


def _pair(key: Any, value: Any) -> str | None:
    text = write(value)
    return None if text is None else f"{write(key)} = {text}"


def _float(value: float) -> str | None:
    if math.isnan(value):
        return None
    if math.isinf(value):
        return "\\infty" if value > 0 else "-\\infty"
    if _NOISE[0] < abs(value) < _NOISE[1]:
        return "0"
    whole = round(value)
    if abs(value) < 1e15 and abs(value - whole) <= _CLOSE * abs(value):
        return str(whole)
    return repr(float(f"{value:.{_DIGITS}g}"))


def _complex(value: complex) -> str | None:
    if cmath.isnan(value):
        return None
    real, imaginary = _float(value.real), _float(value.imag)
    if imaginary == "0":
        return real
    factor = {"1": "", "-1": "-"}.get(imaginary or "", imaginary)
    if real == "0":
        return f"{factor}i"
    return f"{real} {'' if str(imaginary).startswith('-') else '+ '}{factor}i"


def _matrix(rows: list[list[Any]]) -> str:
    lines = " \\\\ ".join(" & ".join(write(entry) or "" for entry in row) for row in rows)
    return f"\\begin{{pmatrix}} {lines} \\end{{pmatrix}}"


def _sympy(value: Any) -> str | None:
    import sympy

    if value is sympy.nan or value is sympy.S.EmptySet:
        return None if value is sympy.nan else "\\emptyset"
    if isinstance(value, sympy.Rational) or value is sympy.true or value is sympy.false:
        return str(value)
    if isinstance(value, sympy.Float):
        return _float(float(value))
    if isinstance(value, sympy.MatrixBase):
        return _matrix(value.tolist())
    if isinstance(value, sympy.Tuple):
        return write(tuple(value))
    if isinstance(value, sympy.FiniteSet):
        return write(frozenset(value))
    if isinstance(value, sympy.Expr) and value.has(sympy.Float):
        if value.is_number:
            return _complex(complex(value))
        value = value.xreplace({part: _cleaned(part) for part in value.atoms(sympy.Float)})
    return str(sympy.latex(value)).strip() or None


def _cleaned(value: Any) -> Any:
    """A SymPy float as the number that `_float` writes."""
    import sympy

    text = _float(float(value)) or "0"
    return sympy.Float(text, _DIGITS) if "." in text or "e" in text else sympy.Integer(text)
