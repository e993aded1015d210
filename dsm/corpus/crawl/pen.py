"""What writes the texts: draws words and formulas, fills templates, and keeps the formulas beside the text.

A text holds its formulas as marks (`\\x02` number `\\x03`); whoever shows it, as HTML or as plain text, puts them in.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import NamedTuple

from dsm.corpus.crawl.formulas import DISPLAYED, SCHOOL, Node, inline_formula, latex, science_formula

MARK = re.compile("\x02(\\d+)\x03")
_SLOT = re.compile(r"\{(\w+)\}")
_SYLLABLES = re.findall("..", "babedadofagahakakolalelimamimonanenopararirosasotatetivavoza")
_ENDS = ["n", "r", "s", "l", "th", "ck", "m", "nd", "x"]

Slots = Mapping[str, Callable[[], str]]


def words(*lines: str) -> list[str]:
    """Lists of words, or of groups of words, written as text."""
    return "|".join(lines).split("|")


class Formula(NamedTuple):
    """A formula, and how it is written in LaTeX."""

    node: Node
    latex: str


class Block(NamedTuple):
    """A piece of a page: kind is h2, p, math (a formula on a line of its own), li or pre."""

    kind: str
    text: str


@dataclass
class Document:
    """The content of a page, without its design.

    Attributes:
        register: what kind of mathematics it is, empty where it is none.
        formulas: what the marks in its texts stand for.
        planted: names of the texts of benchmarks in it, as "planted_en 17 question".
    """

    title: str
    blocks: list[Block]
    language: str
    register: str = ""
    formulas: list[Formula] = field(default_factory=list)
    planted: list[str] = field(default_factory=list)

    def plain(self) -> str:
        """As good extraction leaves it: formulas as LaTeX between dollars."""
        texts = [self.title, *(block.text for block in self.blocks)]
        return MARK.sub(lambda found: f"${self.formulas[int(found[1])].latex}$", "\n\n".join(texts))


@lru_cache(4)
def formula_pool(seed: int) -> dict[str, list[Formula]]:
    """Formulas to draw from: drawing afresh would take most of the time of a page."""
    rng = random.Random(f"formulas {seed}")
    makers: dict[str, list[Callable[[random.Random], Node]]]
    makers = {"inline": [inline_formula], "display": DISPLAYED, "school": SCHOOL, "science": [science_formula]}
    pool = {}
    for name, choices in makers.items():
        nodes = [rng.choice(choices)(rng) for _ in range(1500)]
        pool[name] = [Formula(node, latex(node)) for node in nodes]
    return pool


@cache
def _pieces(template: str) -> list[str]:
    return _SLOT.split(template)


class Pen:
    """Draws for one page; everything follows from `rng`."""

    def __init__(self, rng: random.Random, seed: int) -> None:
        self.rng = rng
        self.formulas: list[Formula] = []
        self._pool = formula_pool(seed)

    def pick(self, words: list[str]) -> str:
        """Any of them; quicker than `random.choice`."""
        return words[int(self.rng.random() * len(words))]

    def fill(self, template: str, slots: Slots) -> str:
        """The template with `{name}` replaced by what `slots[name]()` draws."""
        pieces = _pieces(template)
        return "".join([slots[piece]() if place % 2 else piece for place, piece in enumerate(pieces)])

    def math(self, kind: str = "inline") -> str:
        """The mark of a formula."""
        pool = self._pool[kind]
        return self.keep(pool[int(self.rng.random() * len(pool))])

    def keep(self, formula: Formula) -> str:
        """The mark of this formula."""
        self.formulas.append(formula)
        return f"\x02{len(self.formulas) - 1}\x03"

    def number(self) -> str:
        """A small number mostly, as texts have them."""
        return str(self.rng.randint(2, 20 if self.rng.random() < 0.6 else 400))

    def year(self) -> str:
        """Of our time."""
        return str(self.rng.randint(1985, 2024))

    def name(self) -> str:
        """A made-up name, rarely met twice."""
        parts = [self.pick(_SYLLABLES) for _ in range(2 if self.rng.random() < 0.6 else 3)]
        return ("".join(parts) + (self.pick(_ENDS) if self.rng.random() < 0.5 else "")).capitalize()
