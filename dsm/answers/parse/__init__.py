"""Reading answers: `parse` turns text into a tree, `to_sympy` turns a tree into SymPy objects. Text is never evaluated.

    text --normalise--> one spelling --lexer--> tokens --structures, calls, expressions--> tree (nodes)

LaTeX, unicode, plain text and Python's notation are one language here: `\\frac{1}{2}`, `½`, `1/2`, `Rational(1, 2)`.
"""

from __future__ import annotations

from functools import lru_cache

from dsm.answers.nodes import (
    Based,
    Call,
    Clock,
    Const,
    Interval,
    Matrix,
    Node,
    Num,
    ParseError,
    Quantity,
    Relation,
    Seq,
    Sym,
    TooLargeError,
    Words,
)
from dsm.answers.normalise import normalise
from dsm.answers.parse.lexer import tokenise
from dsm.answers.parse.structures import Parser
from dsm.answers.parse.sympy import to_sympy

__all__ = [
    "Based",
    "Call",
    "Clock",
    "Const",
    "Interval",
    "Matrix",
    "Node",
    "Num",
    "ParseError",
    "Quantity",
    "Relation",
    "Seq",
    "Sym",
    "TooLargeError",
    "Words",
    "parse",
    "parse_normalised",
    "to_sympy",
]


def parse(text: str) -> Node:
    """The tree of an answer or formula: `x**2 + 2*x - 3 = 0`, `\\frac{\\sqrt{2}}{2}`, `[0, 1)`, `5 \\text{ cm}`.

    Raises:
        ParseError: if the text is no mathematics that we read, or is over a limit of size (`TooLargeError`).
    """
    return parse_normalised(normalise(text))


@lru_cache(maxsize=8192)
def parse_normalised(text: str, thousands: bool = True) -> Node:
    """`parse` of text that `normalise` has been through; `thousands=False` reads every comma as a separator."""
    return Parser(tokenise(text, thousands=thousands)).answer()
