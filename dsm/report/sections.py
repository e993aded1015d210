"""What a chapter of the report is made of; `html.py` writes it as HTML, `markdown.py` as Markdown.

A chapter's module gathers numbers and says what is to be shown; how it looks is decided in one place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Tone = Literal["plain", "good", "bad", "open", "muted", "strong"]
"""How a cell is coloured: as said for good, for bad, as undecided, quietly, in bold."""


@dataclass(frozen=True)
class Cell:
    """A table's cell: `text`, and a smaller `note` under it.

    A share `heat` in [0, 1] tints it, an interval is drawn, `code` keeps its lines.
    """

    text: str
    note: str = ""
    tone: Tone = "plain"
    heat: float | None = None
    interval: Span | None = None
    code: bool = False


@dataclass(frozen=True)
class Span:
    """An interval to be drawn as a bar with its value as a dot, on an axis from -reach to reach through zero."""

    value: float
    low: float
    high: float
    reach: float
    tone: Tone = "plain"


@dataclass(frozen=True)
class Table:
    """Rows under a header; the first `left` columns are text. With `folded` the reader opens it under that title."""

    header: Sequence[str]
    rows: Sequence[Sequence[Cell | str]]
    note: str = ""
    left: int = 1
    folded: str = ""
    title: str = ""


@dataclass(frozen=True)
class Fact:
    """A number that stands out."""

    value: str
    label: str
    note: str = ""
    tone: Tone = "plain"


@dataclass(frozen=True)
class Facts:
    """Some of them in a row."""

    facts: Sequence[Fact]


@dataclass(frozen=True)
class Chart:
    """A figure: its file name without suffix, and its SVG. Small ones stand side by side."""

    name: str
    svg: str


@dataclass(frozen=True)
class Charts:
    """Charts of one size: small panels that flow, or full width."""

    charts: Sequence[Chart]
    size: Literal["small", "panel", "wide"] = "panel"
    title: str = ""
    note: str = ""


@dataclass(frozen=True)
class Answer:
    """What one model answered: the verdict of the text that is shown, and how many of its samples were right."""

    label: str
    colour: int
    verdict: Literal["correct", "wrong", "ungradable"]
    output: str
    answer: str | None
    right: int
    samples: int


@dataclass(frozen=True)
class Sample:
    """One problem and the answers to it, in the order of the phases."""

    benchmark: str
    question: str
    gold: str
    answers: Sequence[Answer]


@dataclass(frozen=True)
class Samples:
    """Problems with their answers side by side."""

    samples: Sequence[Sample]


Block = Table | Facts | Charts | Samples


@dataclass(frozen=True)
class Section:
    """A chapter: its anchor, its title, a sentence or two, and what follows."""

    anchor: str
    title: str
    lead: str = ""
    blocks: Sequence[Block] = ()
