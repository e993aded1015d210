"""Chapter: what each phase of training gained. Accuracy with paired gains, and the paper's beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from dsm.errors import UserError
from dsm.evaluation.intervals import Interval
from dsm.evaluation.table import percent
from dsm.report.charts import BAD, GOOD, MUTED, SMALL, colour, svg_figure
from dsm.report.compare import Comparison
from dsm.report.contrast import contrast, side_mean, unlike
from dsm.report.paper import PaperModel
from dsm.report.sections import Block, Cell, Chart, Charts, Section, Table, Tone
from dsm.report.text import signed

MEAN = "mean"
"""The row of all benchmarks together, each with the same weight."""
_PAPER_COLOUR = 6
_PAPER_PANELS = 8


@dataclass(frozen=True)
class Course:
    """One benchmark, or the mean of all, from phase to phase; `gains[i]` is phase i + 1 above phase i."""

    name: str
    title: str
    items: int
    values: tuple[Interval, ...]
    gains: tuple[Interval, ...]


@dataclass(frozen=True)
class Phases:
    """The phases in order: labels, evaluations (indices; several are seeds), and the course of every benchmark."""

    labels: tuple[str, ...]
    sides: tuple[tuple[int, ...], ...]
    courses: tuple[Course, ...]

    @property
    def benchmarks(self) -> list[str]:
        """The benchmarks that all phases were asked with the same items."""
        return [course.name for course in self.courses if course.name != MEAN]


def follow(comparison: Comparison, labels: Sequence[str], sides: Sequence[Sequence[int]], seed: int) -> Phases:
    """Accuracy phase by phase on all benchmarks that every phase was asked.

    Raises:
        UserError: there is none.
    """
    everyone = [index for side in sides for index in side]
    shared = [b for b in comparison.benchmarks if unlike(b, everyone, comparison.labels) is None]
    if not shared:
        why = unlike(comparison.benchmarks[0], everyone, comparison.labels)
        raise UserError(f"phases: share no benchmark with the same items; {comparison.benchmarks[0].name}: {why}")
    asked = [(benchmark.name, benchmark.title, [benchmark.name]) for benchmark in shared]
    if len(shared) > 1:
        asked.insert(0, (MEAN, f"Mean of {len(shared)} benchmarks", [benchmark.name for benchmark in shared]))
    courses = []
    for name, title, names in asked:
        values = [side_mean(comparison, side, names, seed) for side in sides]
        pairs = [
            contrast(comparison, after, before, benchmarks=names, seed=seed, key="phases")
            for before, after in pairwise(sides)
        ]
        courses.append(Course(name, title, pairs[0].items, tuple(values), tuple(pair.difference for pair in pairs)))
    return Phases(tuple(labels), tuple(map(tuple, sides)), tuple(courses))


def numbers(phases: Phases) -> dict[str, float]:
    """{"phase/gsm8k/gain/1": second phase minus first, ...} as shares."""
    return {
        f"phase/{course.name}/gain/{number}": gain.value or 0.0
        for course in phases.courses
        for number, gain in enumerate(course.gains, start=1)
    }


def section(phases: Phases, paper: Sequence[PaperModel], tints: Sequence[int]) -> Section:
    """The chapter; `tints` are the colours of the evaluations."""
    top = max(interval.high for course in phases.courses for interval in course.values)
    charts = [
        Chart(
            f"phases-{course.name}",
            phase_chart(
                course.title,
                phases.labels,
                [(v.value or 0.0, v.low, v.high) for v in course.values],
                [(signed(gain.value or 0.0), tone(gain)) for gain in course.gains],
                tints=[tints[side[0]] for side in phases.sides],
                top=min(1.0, 1.25 * top),
            ),
        )
        for course in phases.courses
    ]
    note = "Percent of items; bars are 95 % intervals, the numbers between the points what the phase gained."
    blocks: list[Block] = [Charts(charts, size="small", note=note), _table(phases)]
    if paper:
        blocks += _paper(phases.labels, paper)
    best = ", ".join(
        f"{label} {percent(value.value)} %"
        for label, value in zip(phases.labels, phases.courses[0].values, strict=True)
    )
    lead = f"{phases.courses[0].title}: {best}."
    return Section("phases", "What each phase gained", lead, blocks)


def tone(gain: Interval) -> Tone:
    """Good or bad where the whole interval says so."""
    return "good" if gain.low > 0 else "bad" if gain.high < 0 else "open"


def _table(phases: Phases) -> Table:
    rows: list[list[Cell | str]] = []
    for course in phases.courses:
        values = [Cell(percent(v.value), f"{percent(v.low)}–{percent(v.high)}") for v in course.values]
        gains = [
            Cell(signed(gain.value or 0.0), f"{signed(gain.low)} to {signed(gain.high)}", tone=tone(gain))
            for gain in course.gains
        ]
        rows.append([course.title, f"{course.items:,}", *values, *gains])
    header = ["benchmark", "items", *phases.labels, *(f"gain: {label}" for label in phases.labels[1:])]
    note = "Gains in points with their 95 % intervals, paired over the same items; those that exclude zero stand out."
    return Table(header, rows, note=note)


def _paper(labels: Sequence[str], models: Sequence[PaperModel]) -> list[Block]:
    """The same of the paper's models, on the benchmarks that at least two of them have."""
    names = dict.fromkeys(name for model in models for name in model.numbers)
    shared = [name for name in names if sum(name in model.numbers for model in models) > 1]
    rows: list[list[Cell | str]] = []
    charts: list[Chart] = []
    for name in shared:
        values = [model.numbers.get(name) for model in models]
        gains = [None if a is None or b is None else b - a for a, b in pairwise(values)]
        cells = [Cell("–" if value is None else f"{value:.1f}") for value in values]
        written = [Cell("–" if gain is None else signed(gain / 100)) for gain in gains]
        rows.append([name, *cells, *written])
        if None not in values and len(charts) < _PAPER_PANELS:
            points = [(value / 100, value / 100, value / 100) for value in values if value is not None]
            told: list[tuple[str, Tone]] = [(signed(gain / 100), "muted") for gain in gains if gain is not None]
            drawn = phase_chart(name, labels, points, told, tints=[_PAPER_COLOUR] * len(points), top=1.0)
            charts.append(Chart(f"phases-paper-{name.replace(' + ', '-').lower()}", drawn))
    header = ["the paper's", *(model.name for model in models), *(f"gain: {model.name}" for model in models[1:])]
    note = f"{'; '.join(f'{model.name}: {model.sources}' for model in models)}. Base few-shot, the others zero-shot."
    blocks: list[Block] = []
    if charts:
        blocks.append(Charts(charts, size="small", title="The same phases in the paper, 7B"))
    return [*blocks, Table(header, rows, note=note)]


def phase_chart(
    title: str,
    labels: Sequence[str],
    values: Sequence[tuple[float, float, float]],
    gains: Sequence[tuple[str, Tone]],
    *,
    tints: Sequence[int],
    top: float,
) -> str:
    """Points with their intervals from phase to phase, their values above, the gains between."""
    ink = {"good": GOOD, "bad": BAD}
    with svg_figure(SMALL, 2.35) as (figure, drawn):
        axes = figure.subplots()
        heights = [100 * value for value, _, _ in values]
        axes.plot(range(len(values)), heights, color=MUTED, lw=1.2, zorder=1)
        for place, (value, low, high) in enumerate(values):
            errors = [[100 * (value - low)], [100 * (high - value)]]
            axes.errorbar([place], [100 * value], yerr=errors, fmt="o", color=colour(tints[place]), ms=6.5, lw=1.6)
            rises = place + 1 < len(values) and values[place + 1][0] > value  # the line leaves to the upper right
            axes.annotate(
                f"{100 * value:.1f}",
                (place, 100 * high),
                (-1 if rises else 0, 4),
                textcoords="offset points",
                ha="right" if rises else "center",
                size=9,
                weight="bold",
            )
        for place, (text, how) in enumerate(gains):
            middle = (place + 0.5, (heights[place] + heights[place + 1]) / 2)
            falls = heights[place + 1] < heights[place]
            axes.annotate(
                text, middle, (4, 3 if falls else -12), textcoords="offset points", size=8.5, color=ink.get(how, MUTED)
            )
        axes.set_xticks(range(len(labels)), [_short(label) for label in labels])
        axes.tick_params("x", length=0)
        axes.set_xlim(-0.55, len(values) - 0.6)
        axes.set_ylim(0, 100 * top)
        axes.locator_params(axis="y", nbins=5)
        axes.grid(visible=False, axis="x")
        axes.set_title(title if len(title) < 34 else f"{title[:32]}…")
        axes.set_ylabel("%")
    return drawn[0]


def _short(label: str) -> str:
    return label if len(label) < 15 else f"{label[:13]}…"
