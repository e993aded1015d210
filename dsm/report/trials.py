"""Runs that differ in a few settings: what came of them against each setting, and over training.

A line joins runs that differ in one setting alone: the ones of a grid, or those of one factor around a centre; runs
that no other is like in all other settings, as those of a random search, are points. Runs that differ only by their
seed are one point, their mean, with a bar from the least to the most.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from dsm.report.charts import COLOURS, INK, MARKERS, MUTED, WIDE, colour, svg_figure

SEED = "seed"
_PANELS = 3  # in a row
_HEIGHT = 2.75
_NAMED_LINES = 7
_DECADE = 8.0  # largest / smallest from which on magnitudes are shown


@dataclass(frozen=True)
class Trial:
    """One run.

    Attributes:
        name: what it is called.
        values: factor -> its value here: a number, or anything that is printed.
        metrics: metric -> its value; without those that the run has not.
    """

    name: str
    values: Mapping[str, Any]
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class _Point:
    """Trials that differ by their seed at most: their mean and their range."""

    x: Any
    mean: float
    low: float
    high: float


def factors_of(trials: Sequence[Trial]) -> list[str]:
    """The settings in which the trials differ, seeds apart."""
    names = dict.fromkeys(name for trial in trials for name in trial.values)
    return [name for name in names if name != SEED and len({str(trial.values.get(name)) for trial in trials}) > 1]


def factor_figure(trials: Sequence[Trial], metric: str, *, maximise: bool, log: Collection[str] = ()) -> str | None:
    """The metric against each factor, a panel each, as SVG; None where there is nothing to draw.

    Args:
        maximise: whether more is better; a star marks the best.
        log: factors that are drawn by their magnitude in any case; others are where they span a factor of eight.
    """
    factors = factors_of(trials)
    drawn_trials = [trial for trial in trials if math.isfinite(trial.metrics.get(metric, math.nan))]
    if not factors or not drawn_trials:
        return None
    best = (max if maximise else min)(drawn_trials, key=lambda trial: trial.metrics[metric])
    columns = 2 if len(factors) == 4 else min(_PANELS, len(factors))
    rows = math.ceil(len(factors) / columns)
    with svg_figure(WIDE, _HEIGHT * rows + 0.3) as (figure, drawn):
        panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
        for panel, factor in zip(panels, factors, strict=False):
            _panel(panel, drawn_trials, metric, factor, [name for name in factors if name != factor], log)
            x = _place(best.values.get(factor), [trial.values.get(factor) for trial in drawn_trials])
            panel.plot([x], [best.metrics[metric]], "*", color=INK, ms=11, zorder=5)
            panel.yaxis.set_tick_params(labelleft=True)
        for panel in panels[len(factors) :]:
            panel.set_visible(False)
        for panel in panels[::columns]:
            panel.set_ylabel(metric)
    return drawn[0]


def curve_figure(curves: Mapping[str, Sequence[tuple[float, float]]], metric: str) -> str | None:
    """The metric over steps of each run, the best runs first, as SVG; None where no run has two points."""
    lines = {name: points for name, points in curves.items() if len(points) > 1}
    if not lines:
        return None
    few = len(lines) <= _NAMED_LINES
    with svg_figure(WIDE, 3.6) as (figure, drawn):
        axes = figure.subplots()
        for index, (name, points) in reversed(list(enumerate(lines.items()))):
            x, y = zip(*points, strict=True)
            named = few or index == 0
            axes.plot(
                x,
                y,
                color=colour(index) if named else MUTED,
                lw=2.0 if index == 0 else 1.5 if few else 0.8,
                alpha=1.0 if named else 0.45,
                zorder=3 if index == 0 else 2,
                label=name if named else None,
            )
        axes.set_xlabel("step")
        axes.set_ylabel(metric)
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(handles[::-1], labels[::-1], fontsize=8, ncols=1 if few else 2)
    return drawn[0]


def _panel(
    axes: Any, trials: Sequence[Trial], metric: str, factor: str, others: list[str], log: Collection[str]
) -> None:
    """One factor: lines through trials that agree in all others, and the points that stand alone."""
    values = [trial.values.get(factor) for trial in trials]
    groups: dict[tuple[Any, ...], list[Trial]] = {}
    for trial in trials:
        groups.setdefault(tuple(trial.values.get(name) for name in others), []).append(trial)
    points = {key: _points(group, metric, factor, values) for key, group in groups.items()}
    lines = {key: found for key, found in points.items() if len(found) > 1}
    alone = [point for key, found in points.items() if key not in lines for point in found]
    varying = [place for place in range(len(others)) if len({key[place] for key in lines}) > 1]
    for index, (key, found) in enumerate(sorted(lines.items(), key=lambda line: [*map(in_order, line[0])])):
        label = ", ".join(f"{short(others[place])}={_brief(key[place])}" for place in varying)
        _draw(axes, found, index if len(lines) <= _NAMED_LINES else 0, label if len(lines) <= _NAMED_LINES else "")
    if alone:
        quiet = {"color": MUTED, "alpha": 0.5} if lines else {"color": COLOURS[0], "alpha": 0.85}
        axes.plot([point.x for point in alone], [point.mean for point in alone], "o", ms=4.5, mec="none", **quiet)
    axes.set_xlabel(factor)
    numbers = [float(value) for value in values if value is not None and _is_number(value)]
    if len(numbers) < len(values):
        names = [*map(str, sorted(dict.fromkeys(values), key=in_order))]
        axes.set_xticks(range(len(names)), names, rotation=20 if max(map(len, names)) > 8 else 0)
        axes.set_xlim(-0.5, len(names) - 0.5)
    else:
        _magnitudes(axes, numbers, always=factor in log)
        _few_ticks(axes, sorted(set(numbers)))
    if any(label for label in axes.get_legend_handles_labels()[1]):
        axes.legend(fontsize=7.5, handlelength=1.4)


def _magnitudes(axes: Any, numbers: Sequence[float], *, always: bool) -> None:
    """A logarithmic axis where numbers are magnitudes; zero, as of a coefficient that is off, stands before it."""
    least, most = min((number for number in numbers if number > 0), default=0.0), max(numbers)
    if min(numbers) < 0 or least == 0 or (most / least < _DECADE and not always):
        return
    if min(numbers) > 0:
        axes.set_xscale("log", subs=(2, 5))
    else:
        axes.set_xscale("symlog", linthresh=least, linscale=0.4)


def _few_ticks(axes: Any, numbers: list[float]) -> None:
    """The values themselves, where they are few; plain numbers in any case."""
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}" if numbers[0] > 0 and numbers[-1] / numbers[0] < 30 else lambda *_: "")
    if len(numbers) <= 5:
        axes.set_xticks(numbers, [f"{number:g}" for number in numbers])
        axes.minorticks_off()


def _points(group: Sequence[Trial], metric: str, factor: str, values: Sequence[Any]) -> list[_Point]:
    """The group's trials by their place on the axis."""
    at: dict[Any, list[float]] = {}
    for trial in group:
        at.setdefault(_place(trial.values.get(factor), values), []).append(trial.metrics[metric])
    return [_Point(x, fmean(found), min(found), max(found)) for x, found in sorted(at.items())]


def _draw(axes: Any, points: Sequence[_Point], index: int, label: str) -> None:
    mean = [point.mean for point in points]
    below = [point.mean - point.low for point in points]
    above = [point.high - point.mean for point in points]
    axes.errorbar(
        [point.x for point in points],
        mean,
        yerr=[below, above] if any(below) or any(above) else None,
        marker=MARKERS[index % len(MARKERS)],
        color=colour(index),
        label=label,
        ms=4.5,
        lw=1.6,
        elinewidth=1.0,
    )


def _place(value: Any, values: Sequence[Any]) -> float:
    """Where a value stands on the axis: numbers where they are, names in their order."""
    if all(_is_number(one) for one in values):
        return float(value)
    return float(sorted(dict.fromkeys(values), key=in_order).index(value))


def in_order(value: Any) -> tuple[bool, float, str]:
    """Sorts numbers by size, and other values behind them by name."""
    return (False, value, "") if _is_number(value) else (True, 0.0, str(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def short(factor: str) -> str:
    """The end of a dotted key (or of that of key=value), where there is room for no more."""
    key, equals, value = factor.partition("=")
    return key.rpartition(".")[2] + equals + value


def _brief(value: Any) -> str:
    """A number in few digits."""
    return f"{value:.3g}" if _is_number(value) else str(value)
