"""Chapter: training runs that differ in a few settings (of their config.yaml), their quality and their time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsm.config.listing import closest
from dsm.errors import UserError
from dsm.evaluation.intervals import Interval
from dsm.evaluation.table import percent
from dsm.report.charts import MUTED, WIDE, colour, name_points, svg_figure
from dsm.report.compare import Comparison
from dsm.report.contrast import side_mean, unlike
from dsm.report.runs import Run
from dsm.report.sections import Block, Cell, Chart, Charts, Section, Table
from dsm.report.text import span
from dsm.report.trials import SEED, Trial, factor_figure

_MISSING = object()
QUALITY, SECONDS = "accuracy, %", "training seconds"


@dataclass(frozen=True)
class Measured:
    """A training run and what its model can do.

    Attributes:
        run: the run.
        values: setting -> its value there.
        quality: mean accuracy over the benchmarks that all models were asked.
        each: the accuracy on each of these.
    """

    run: Run
    values: dict[str, Any]
    quality: Interval
    each: tuple[Interval, ...]


def measure(
    factors: Sequence[str], runs: Sequence[Run], comparison: Comparison, evaluations: Mapping[str, str], seed: int
) -> tuple[list[str], list[Measured]]:
    """(names of the benchmarks, the training runs whose models were evaluated).

    Args:
        evaluations: name -> folder, in the comparison's order; results.json names the model that was asked.

    Raises:
        UserError: a setting that no run has, or no evaluation of any run's model.
    """
    pairs = [(run, index) for run in runs if (index := _evaluation_of(run, comparison, evaluations)) is not None]
    if not pairs:
        raise UserError("factors: no evaluation has the export of one of these runs as its model.path; check runs")
    for factor in factors:
        if all(_value(run.config, factor) is _MISSING for run, _ in pairs):
            names = list(_leaves(pairs[0][0].config))
            raise UserError(f"factors={factor}: no such setting of {pairs[0][0].label}{closest(factor, names)}")
    indices = [index for _, index in pairs]
    shared = [b.name for b in comparison.benchmarks if unlike(b, indices, comparison.labels) is None]
    if not shared:
        raise UserError("factors: the models share no benchmark with the same items")
    found = []
    for run, index in pairs:
        values = {factor: value for factor in factors if (value := _value(run.config, factor)) is not _MISSING}
        each = tuple(side_mean(comparison, [index], [name], seed) for name in shared)
        found.append(Measured(run, values, side_mean(comparison, [index], shared, seed), each))
    return shared, found


def _evaluation_of(run: Run, comparison: Comparison, evaluations: Mapping[str, str]) -> int | None:
    export = (run.folder / "export").resolve()
    for index, model in enumerate(comparison.models):
        if index < len(evaluations) and Path(model).expanduser().resolve() == export:
            return index
    return None


def _value(config: Mapping[str, Any], key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return _MISSING
        value = value[part]
    return value


def _leaves(config: Mapping[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in config.items():
        found += _leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [f"{prefix}{key}"]
    return found


def section(names: Sequence[str], found: Sequence[Measured], comparison: Comparison) -> Section:
    """The chapter: the table, quality against time, quality and time against each setting."""
    factors = list(dict.fromkeys(factor for one in found for factor in one.values))
    trials = [_trial(one) for one in found]
    timed = any(one.run.seconds is not None for one in found)
    charts = [Chart("factors-time", _against_time(found, factors))] if timed else []
    for metric, maximise in ((QUALITY, True), (SECONDS, False)):
        svg = factor_figure(trials, metric, maximise=maximise)
        if svg:
            charts.append(Chart(f"factors-{'quality' if maximise else 'seconds'}", svg))
    titles = [benchmark.title for benchmark in comparison.benchmarks if benchmark.name in names]
    best = max(found, key=lambda one: one.quality.value or 0.0)
    lead = (
        f"The best of {len(found)} runs is {best.run.label}: {percent(best.quality.value)} % "
        f"({percent(best.quality.low)}–{percent(best.quality.high)})"
    )
    lead += "." if best.run.seconds is None else f" after {span(best.run.seconds)} of training."
    blocks: list[Block] = [_table(found, factors, titles), Charts(charts, size="wide")]
    return Section("factors", "Settings against quality and time", lead, blocks)


def _trial(one: Measured) -> Trial:
    metrics = {QUALITY: 100 * (one.quality.value or 0.0)}
    if one.run.seconds is not None:
        metrics[SECONDS] = one.run.seconds
    return Trial(one.run.label, one.values | {SEED: one.run.config.get(SEED)}, metrics)


def _table(found: Sequence[Measured], factors: Sequence[str], titles: Sequence[str]) -> Table:
    best = max(one.quality.value or 0.0 for one in found)
    rows: list[list[Cell | str]] = []
    for one in found:
        value = one.quality.value or 0.0
        around = f"{percent(one.quality.low)}–{percent(one.quality.high)}"
        each = [Cell(percent(interval.value)) for interval in one.each] if len(titles) > 1 else []
        rows.append(
            [
                one.run.label,
                *(_written(one.values.get(factor)) for factor in factors),
                Cell(percent(value), around, tone="strong" if value == best else "plain"),
                *each,
                "–" if one.run.seconds is None else span(one.run.seconds),
            ]
        )
    mean = [f"mean of {len(titles)}", *titles] if len(titles) > 1 else list(titles)
    return Table(
        ["run", *factors, *mean, "training"], rows, note="Accuracy in percent with its 95 % interval over items."
    )


def _written(value: Any) -> str:
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _against_time(found: Sequence[Measured], factors: Sequence[str]) -> str:
    """Every run by its seconds and its accuracy; the line joins those that no quicker run beats."""
    timed = [(one.run.seconds, 100 * (one.quality.value or 0.0), one) for one in found if one.run.seconds is not None]
    points = sorted(timed, key=lambda point: (*point[:2], point[2].run.name))
    with svg_figure(WIDE, 3.8) as (figure, drawn):
        axes = figure.subplots()
        front: list[tuple[float, float]] = []
        for seconds, value, one in points:
            errors = [[value - 100 * one.quality.low], [100 * one.quality.high - value]]
            axes.errorbar([seconds], [value], yerr=errors, fmt="o", color=colour(0), ms=6, lw=1, alpha=0.85)
            if not front or value > front[-1][1]:
                front.append((seconds, value))
        axes.step(*zip(*front, strict=True), where="post", color=MUTED, lw=1, ls="--", zorder=0)
        axes.set_xlabel(SECONDS)
        axes.set_ylabel(QUALITY)
        axes.set_title("Quality against time; the dashed line is the best so far")
        axes.margins(x=0.14, y=0.1)
        names = _differences(found, factors)
        name_points(axes, [(names[one.run.name], seconds, value) for seconds, value, one in points])
    return drawn[0]


def _differences(found: Sequence[Measured], factors: Sequence[str]) -> dict[str, str]:
    """What tells a run from the usual: its settings that are not the most frequent ones; all of the usual run's."""
    values = {factor: [str(one.values.get(factor)) for one in found] for factor in factors}
    varied = [factor for factor in factors if len(set(values[factor])) > 1]
    usual = {factor: max(values[factor], key=values[factor].count) for factor in varied}
    names = {}
    for one in found:
        own = [factor for factor in varied if str(one.values.get(factor)) != usual[factor]] or varied
        told = [f"{factor.rsplit('.', 1)[-1]} {_written(one.values.get(factor))}" for factor in own]
        names[one.run.name] = ", ".join(told) or one.run.label
    return names
