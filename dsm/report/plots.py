"""The figures of evaluations side by side: accuracy, gaps to the baseline, votes over k, accuracy over training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dsm.evaluation.loading import Bounds
from dsm.report.charts import INK, MARKERS, MUTED, WIDE, Line, colour, line_chart, svg_figure
from dsm.report.compare import CURVES, Benchmark, Comparison
from dsm.report.learning import Learning
from dsm.report.seeds import averaged, tints

REFERENCE_MARKERS = "Ds^v"


def evaluation_figures(comparison: Comparison, learnt: Sequence[Learning] = ()) -> dict[str, str]:
    """All of them by name: accuracy, differences, samples-BENCHMARK, learning-BENCHMARK; those that there are."""
    drawn = {"accuracy": accuracy_bars(comparison), "differences": differences(comparison)}
    drawn |= {f"samples-{benchmark.name}": curves(comparison, benchmark) for benchmark in comparison.benchmarks}
    drawn |= {f"learning-{one.benchmark}": learning(comparison, one) for one in learnt}
    return {name: svg for name, svg in drawn.items() if svg}


def accuracy_bars(comparison: Comparison) -> str:
    """Accuracy of every model on every benchmark with 95 % intervals, and the references beside them."""
    models, benchmarks = len(comparison.labels), comparison.benchmarks
    thickness = 0.8 / models
    with svg_figure(WIDE, 0.9 + len(benchmarks) * (0.22 + 0.2 * max(models, 2))) as (figure, drawn):
        axes = figure.subplots()
        for index, label in enumerate(comparison.labels):
            cells = [benchmark.rows[0].cells[index] for benchmark in benchmarks]
            known = [(place, cell) for place, cell in enumerate(cells) if cell is not None and cell.value is not None]
            places = [place - 0.4 + (index + 0.5) * thickness for place, _ in known]
            values = [_points(cell)[0] for _, cell in known]
            tint = colour(comparison.tints[index])
            bars = axes.barh(places, values, 0.9 * thickness, color=tint, label=label)
            for bar, (place, _) in zip(bars, known, strict=True):
                if index in benchmarks[place].foreign:
                    bar.set(hatch="////", facecolor="none", edgecolor=tint)  # hollow: not to be compared
            axes.errorbar(values, places, xerr=_errors([cell for _, cell in known]), fmt="none", ecolor=INK, lw=1)
            for height, (_, cell) in zip(places, known, strict=True):
                value, _, high = _points(cell)
                axes.annotate(f"{value:.1f}", (high, height), (4, 0), textcoords="offset points", va="center", size=8)
        for marker, name in zip(REFERENCE_MARKERS, comparison.references(), strict=False):
            found = [(100 * b.reference[name], place) for place, b in enumerate(benchmarks) if name in b.reference]
            x, y = zip(*found, strict=True)
            top, bottom = [place - 0.46 for place in y], [place + 0.4 for place in y]
            axes.vlines(x, top, bottom, color=MUTED, lw=0.8, ls=(0, (2, 2)))
            axes.plot(x, top, marker, color=MUTED, mfc="none", ms=5.5, mew=1.3, ls="none", label=name)
        axes.set_yticks(range(len(benchmarks)), [benchmark.title for benchmark in benchmarks])
        axes.tick_params("y", length=0)
        axes.set_ylim(len(benchmarks) - 0.4, -0.62)
        axes.set_xlim(0, 107)
        axes.set_xticks(range(0, 101, 20))
        axes.set_xlabel("accuracy, %")
        axes.grid(visible=False, axis="y")
        _legend(figure, axes)
    return drawn[0]


def differences(comparison: Comparison) -> str | None:
    """Every model's gap to the baseline, in points, on the same items with 95 % intervals; None without pairs."""
    rows = [
        (benchmark.title, index, pair.difference)
        for benchmark in comparison.benchmarks
        for index, pair in enumerate(benchmark.pairs)
        if pair is not None and pair.difference.value is not None
    ]
    if not rows:
        return None
    titles = list(dict.fromkeys(title for title, _, _ in rows))
    others = sorted({index for _, index, _ in rows})
    step = 0.7 / len(others)
    with svg_figure(WIDE, 0.9 + len(titles) * (0.24 + 0.17 * len(others))) as (figure, drawn):
        axes = figure.subplots()
        axes.axvline(0, color=INK, lw=1)
        for rank, index in enumerate(others):
            mine = [(titles.index(title), gap) for title, other, gap in rows if other == index]
            places = [place - 0.35 + (rank + 0.5) * step for place, _ in mine]
            values = [100 * (gap.value or 0.0) for _, gap in mine]
            errors = [
                [value - 100 * gap.low for value, (_, gap) in zip(values, mine, strict=True)],
                [100 * gap.high - value for value, (_, gap) in zip(values, mine, strict=True)],
            ]
            marker = MARKERS[comparison.tints[index] % len(MARKERS)]
            label = comparison.labels[index]
            tint = colour(comparison.tints[index])
            axes.errorbar(values, places, xerr=errors, fmt=marker, color=tint, ms=6, lw=1.8, label=label)
            for place, value, (_, gap) in zip(places, values, mine, strict=True):
                axes.annotate(
                    f"{value:+.1f}", (100 * gap.high, place), (5, 0), textcoords="offset points", va="center", size=8
                )
        axes.set_yticks(range(len(titles)), titles)
        axes.tick_params("y", length=0)
        axes.set_ylim(len(titles) - 0.5, -0.5)
        axes.margins(x=0.12)
        axes.set_xlabel(f"points above {comparison.labels[comparison.baseline]}")
        axes.grid(visible=False, axis="y")
        _legend(figure, axes)
    return drawn[0]


def curves(comparison: Comparison, benchmark: Benchmark) -> str | None:
    """pass@k beside the votes over k, with 95 % bands; None where every model gave one answer an item."""
    panels = [
        ("pass@k: any of k is correct", ["pass"]),
        ("maj@k: the vote of k is correct", ["maj", "weighted", "best"]),
    ]
    found = [(title, [name for name in names if _curves(benchmark, name)]) for title, names in panels]
    found = [(title, names) for title, names in found if names]
    if not found:
        return None
    with svg_figure(WIDE, 3.3) as (figure, drawn):
        grid = figure.subplots(1, 2, sharey=True)
        ks: set[int] = set()
        for axes, (title, names) in zip(grid, found, strict=False):
            for name in names:
                for index, curve in _curves(benchmark, name).items():
                    x = sorted(map(int, curve))
                    value, low, high = zip(*(_points(curve[str(k)]) for k in x), strict=True)
                    suffix = {"weighted": ", weighted", "best": ", best score"}.get(name, "")
                    axes.fill_between(x, low, high, color=colour(comparison.tints[index]), alpha=0.16, lw=0)
                    axes.plot(
                        x,
                        value,
                        marker=MARKERS[comparison.tints[index] % len(MARKERS)],
                        ls={"weighted": ":", "best": "--"}.get(name, "-"),
                        color=colour(comparison.tints[index]),
                        label=f"{comparison.labels[index]}{suffix}",
                        ms=5,
                        lw=1.8,
                    )
                    ks |= set(x)
            axes.set_title(title)
            axes.set_xscale("log", base=2)
            axes.set_xlabel("k, samples")
            axes.yaxis.set_tick_params(labelleft=True)
        for axes in grid[: len(found)]:
            axes.set_xticks(sorted(ks), [str(k) for k in sorted(ks)])
            axes.minorticks_off()
        for axes in grid[len(found) :]:
            axes.set_visible(False)
        grid[0].set_ylabel("% of items")
        _legend(figure, grid[len(found) - 1])
    return drawn[0]


def learning(comparison: Comparison, curves: Learning) -> str:
    """Accuracy over training; a run that bears the name of an evaluated model has its colour, seeds are averaged."""
    labels = [*comparison.labels, *(label for label in curves.lines if label not in comparison.labels)]
    numbers = dict(zip(labels, tints(labels), strict=True))
    title = next((b.title for b in comparison.benchmarks if b.name == curves.benchmark), curves.benchmark)
    lines = [
        Line(label, numbers[label], [x for x, _ in points], [100 * y for _, y in points], dots=True)
        for label, points in curves.lines.items()
    ]
    return line_chart(
        title, averaged(lines), xlabel=f"{curves.unit} seen", ylabel="accuracy, %", width=WIDE, height=4.2
    )


def _curves(benchmark: Benchmark, name: str) -> dict[int, dict[str, Bounds]]:
    found = {
        index: getattr(entry.metrics, CURVES[name])
        for index, entry in enumerate(benchmark.entries)
        if entry is not None and entry.n
    }
    return {index: curve for index, curve in found.items() if len(curve) > 1}


def _points(cell: Bounds) -> tuple[float, float, float]:
    """Value and bounds in percent."""
    return 100 * (cell.value or 0.0), 100 * cell.low, 100 * cell.high


def _errors(cells: Sequence[Bounds]) -> list[list[float]]:
    points = [_points(cell) for cell in cells]
    return [[value - low for value, low, _ in points], [high - value for value, _, high in points]]


def _legend(figure: Any, axes: Any) -> None:
    found = sorted(
        zip(*axes.get_legend_handles_labels(), strict=True), key=lambda pair: type(pair[0]).__name__ == "Line2D"
    )
    handles, labels = zip(*found, strict=True)
    figure.legend(handles, labels, loc="outside upper left", ncols=5, handlelength=1.4, columnspacing=1.6)
