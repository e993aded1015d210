"""How every chart of a report is drawn: one style, SVG text, the same bytes for the same input.

Colours are Okabe and Ito's and two more, which stay apart for colour-blind readers, with a marker of its own for each
model so that print without colour reads too. A page gives each colour a second value for dark screens (`themed`). Text
stays text: it can be selected, searched, and shows any script that the reader's fonts have. Lines bear their names at
their ends; matplotlib is imported only when a chart is drawn.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#8c8c8c", "#6a3d9a", "#8c510a")
DARK_COLOURS = ("#4ba6e8", "#f2b23e", "#2fc79a", "#f58549", "#e29fc5", "#93d1f5", "#a9adb3", "#ab8fe8", "#cf9a5f")
MARKERS = "osD^vPX*p"
INK, MUTED, GRID, GOOD, BAD = "#1f2430", "#5c6370", "#d9dce1", "#00785a", "#b84a00"
WIDE, PANEL, SMALL = 9.2, 4.5, 3.1
"""Widths in inches."""
HEIGHT = 2.75
"""Of a panel: those that stand side by side are alike."""

_NAMES = {INK: "ink", MUTED: "muted", GRID: "grid", GOOD: "right", BAD: "wrong"}
_STYLE = {
    "svg.hashsalt": "dsm",
    "svg.fonttype": "none",
    "text.parse_math": False,  # a model's name may have dollar signs
    "font.family": "sans-serif",
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
_EDGE = 0.88
"""From this share of the axes' width on, a line ends at the right."""
MANY = 60
"""A line of more points is drawn faintly, with its running mean over it."""


def colour(index: int) -> str:
    """A model's colour, the same in every figure and table."""
    return COLOURS[index % len(COLOURS)]


def css_colour(index: int) -> str:
    """The same for a page's styles: another value on dark screens where the page has one."""
    return f"var(--c{index % len(COLOURS)}, {colour(index)})"


def palette(dark: bool) -> str:
    """The page's variables for the colours."""
    return " ".join(f"--c{index}: {value};" for index, value in enumerate(DARK_COLOURS if dark else COLOURS))


@contextmanager
def svg_figure(width: float, height: float) -> Iterator[tuple[Any, list[str]]]:
    """A figure, and a list that holds its SVG text once the block has ended; sizes in inches."""
    import matplotlib
    from matplotlib.figure import Figure

    drawn: list[str] = []
    with matplotlib.rc_context({**matplotlib.rcParamsDefault, **_STYLE}):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, drawn
        file = io.StringIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's fonts draw the text, not ours
            figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    drawn.append(_tidy(file.getvalue()))


def _tidy(svg: str) -> str:
    """Only the <svg> element, without the ids that would meet again in the next figure, but for what is referred to."""
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return re.sub(r"'DejaVu Sans', [^;\"]*", _FONTS, svg)


def themed(svg: str) -> str:
    """A figure to stand in a page whose CSS has the colours --ink, --muted, --grid and, if it likes, --c0, --c1, ..."""
    for value, name in _NAMES.items():
        svg = svg.replace(f": {value}", f": var(--{name})")
    for index, value in enumerate(COLOURS):
        svg = svg.replace(f": {value}", f": {css_colour(index)}")
    return svg


def on_white(svg: str) -> str:
    """A figure that can be placed anywhere."""
    return svg.replace("<svg ", '<svg style="background: white" ', 1)


_POINTS = 400
"""More than this cannot be told apart in a chart, and would make the page heavy."""


@dataclass(frozen=True)
class Line:
    """Points of one line, in the colour of that number; `low` and `high` make a band."""

    label: str
    colour: int
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    style: str = "-"
    dots: bool = False


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    xlabel: str,
    ylabel: str = "",
    width: float = PANEL,
    height: float = HEIGHT,
    log: bool = False,
    doubling: bool = False,
    whole: bool = False,
    zero: bool = False,
    top: float | None = None,
    many: int = MANY,
) -> str:
    """Lines with their names at their ends; the axes count in thousands and millions. A single line needs no name.

    Args:
        log: a logarithmic y axis.
        doubling: an x axis of powers of two, marked at the points.
        whole: the x axis is marked at the points, as for rounds.
        zero: the y axis begins at zero.
        top: where the y axis ends.
        many: lines of more points than this are drawn faintly, with their running means over them.
    """
    lines = [thinned(line) for line in lines]
    with svg_figure(width, height) as (figure, drawn):
        axes = figure.subplots()
        for line in lines:
            _draw(axes, line, many)
        axes.set_title(title)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        if log:
            axes.set_yscale("log")
        axes.margins(x=0.02, y=0.09)
        if zero:
            axes.set_ylim(bottom=0)
        if top is not None:
            axes.set_ylim(top=top)
        if doubling:
            axes.set_xscale("log", base=2)
        if doubling or whole:
            marks = sorted({value for line in lines for value in line.x})
            axes.set_xticks(marks, [count(value) for value in marks])
            axes.minorticks_off()
        else:
            axes.xaxis.set_major_formatter(lambda value, _: count(value))
            axes.locator_params(axis="x", nbins=6)
        if not log:
            axes.locator_params(axis="y", nbins=6)
        if len(lines) > 1:
            name_ends(
                axes,
                [
                    (line.label, line.colour, line.x[-1], (_smooth(line.y) if len(line.x) > many else line.y)[-1])
                    for line in lines
                ],
            )
    return drawn[0]


def thinned(line: Line) -> Line:
    """A line of very many points as the means of so many stretches as a chart can show; its end stays its end."""
    n = len(line.x)
    if n <= _POINTS:
        return line
    starts = np.linspace(0, n - 1, _POINTS).astype(int)[:-1]
    sizes = np.diff([*starts, n - 1])

    def means(values: Sequence[float]) -> list[float]:
        found = np.asarray(values, float)
        return [*map(float, np.add.reduceat(found[:-1], starts) / sizes), float(found[-1])] if len(found) else []

    return replace(line, x=means(line.x), y=means(line.y), low=means(line.low), high=means(line.high))


def _draw(axes: Any, line: Line, many: int) -> None:
    tint = colour(line.colour)
    if line.low:
        axes.fill_between(line.x, line.low, line.high, color=tint, alpha=0.15, lw=0)
    if len(line.x) > many:
        axes.plot(line.x, line.y, color=tint, lw=0.8, alpha=0.3)
        axes.plot(line.x, _smooth(line.y), color=tint, lw=1.8, ls=line.style)
        return
    marker = MARKERS[line.colour % len(MARKERS)] if line.dots or len(line.x) < 3 else None
    axes.plot(line.x, line.y, color=tint, lw=1.8, ls=line.style, marker=marker, ms=4.5)


def _smooth(values: Sequence[float]) -> list[float]:
    """The mean over a window around each point, cut off at the ends."""
    places, half = np.arange(len(values)), max(2, len(values) // 30)
    first, last = np.maximum(places - half, 0), np.minimum(places + half + 1, len(values))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return [float(value) for value in (sums[last] - sums[first]) / (last - first)]


def name_ends(axes: Any, ends: Sequence[tuple[str, int, float, float]], gap: float = 0.085) -> None:
    """Write names at the ends (label, colour, x, y) of lines: beside the axes, moved apart where they would touch.

    A line that ends well before the right edge has its name above its end.
    """
    axes.get_xlim(), axes.get_ylim()  # settles the limits, which the transformations below take as they are
    to_axes = axes.transData + axes.transAxes.inverted()
    places = [(float(x), float(y)) for x, y in (to_axes.transform((x, y)) for _, _, x, y in ends)]
    order = sorted((i for i, (x, _) in enumerate(places) if x > _EDGE), key=lambda i: places[i][1])
    heights = dict(zip(order, spread([places[i][1] for i in order], gap), strict=True))
    for index, (label, number, _, _) in enumerate(ends):
        beside = index in heights
        axes.annotate(
            label,
            (1.0, heights[index]) if beside else places[index],
            (5, 0) if beside else (0, 6),
            xycoords="axes fraction",
            textcoords="offset points",
            va="center" if beside else "bottom",
            ha="left" if beside else "center",
            size=8.5,
            color=colour(number),
            weight="bold",
            annotation_clip=False,
        )


def name_points(axes: Any, points: Sequence[tuple[str, float, float]]) -> None:
    """Write names above the right of points (label, x, y), moved up where they would lie on one another."""
    axes.get_xlim(), axes.get_ylim()
    to_axes = axes.transData + axes.transAxes.inverted()
    taken: list[tuple[float, float, float]] = []  # left and right end, height
    for label, x, y in points:
        left, height = map(float, to_axes.transform((x, y)))
        right = left + 0.03 + 0.009 * len(label)
        while any(left < end and right > start and abs(height - other) < 0.052 for start, end, other in taken):
            height += 0.01
        taken.append((left, right, height))
        axes.annotate(label, (left, height), (7, 2), xycoords="axes fraction", textcoords="offset points",
                      va="bottom", size=8)  # fmt: skip


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Positions in rising order, at least `gap` apart, as close to the wanted ones (rising too) as their sum allows."""
    groups: list[list[float]] = []  # of neighbours that touch: [sum of (wanted - rank * gap), members]
    for value in wanted:
        groups.append([value, 1.0])
        while len(groups) > 1 and _end(groups[-2], gap) > groups[-1][0] / groups[-1][1]:
            total, members = groups.pop()
            groups[-1] = [groups[-1][0] + total - members * groups[-1][1] * gap, groups[-1][1] + members]
    return [total / members + rank * gap for total, members in groups for rank in range(int(members))]


def _end(group: list[float], gap: float) -> float:
    return group[0] / group[1] + group[1] * gap


def bar_chart(
    title: str,
    rows: Sequence[str],
    parts: Sequence[tuple[str, int, Sequence[float]]],
    *,
    xlabel: str,
    width: float = PANEL,
    ends: Sequence[str] | None = None,
) -> str:
    """Horizontal bars, one a row, stacked of `parts` (label, colour, a length for each row), `ends` written behind."""
    height = 0.95 + 0.3 * len(rows) + (0.25 if len(parts) > 1 else 0)
    with svg_figure(width, max(height, HEIGHT) if width == PANEL else height) as (figure, drawn):
        axes = figure.subplots()
        left = np.zeros(len(rows))
        for label, number, lengths in parts:
            axes.barh(range(len(rows)), lengths, 0.62, left=left, color=colour(number), label=label)
            left += np.asarray(lengths, float)
        texts = ends if ends is not None else [count(value) for value in left]
        for place, (end, text) in enumerate(zip(left, texts, strict=True)):
            axes.annotate(text, (end, place), (4, 0), textcoords="offset points", va="center", size=8.5)
        axes.set_yticks(range(len(rows)), rows)
        axes.tick_params("y", length=0)
        axes.set_ylim(len(rows) - 0.45, -0.55)
        longest = float(left.max()) if len(left) else 0.0
        axes.set_xlim(0, max(1e-9, longest) * (1.1 + 0.02 * max(map(len, texts), default=0)))
        axes.xaxis.set_major_formatter(lambda value, _: count(value))
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel(xlabel)
        axes.set_title(title)
        axes.grid(visible=False, axis="y")
        if len(parts) > 1:
            widest = 0.45 + 0.07 * max(len(label) for label, _, _ in parts)  # inches, about
            columns = max(1, min(len(parts), int(width / widest)))
            figure.legend(loc="outside lower left", ncols=columns, handlelength=1.1, columnspacing=1.4, fontsize=8.5)
    return drawn[0]


def count(value: float) -> str:
    """1500 -> '1.5K', 2000000 -> '2M', 0.25 -> '0.25'."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.4g}"
