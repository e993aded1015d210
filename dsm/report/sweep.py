"""A sweep's page: its table, the metrics against what was swept, the runs' curves; one file that needs nothing else."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from dsm.config.compose import parse
from dsm.config.outcomes import Goal, own_settings, ranked, read_outcomes, unbeaten
from dsm.errors import UserError
from dsm.files import atomic_write_text
from dsm.report.charts import themed
from dsm.report.html import templates
from dsm.report.trials import SEED, Trial, curve_figure, factor_figure, factors_of, in_order, short

PAGE = "summary.html"
_CURVES = 30  # runs whose curves are drawn, the best first


def write_page(folder: Path, goals: Sequence[Goal], log: Collection[str] = ()) -> Path:
    """Make the page of a sweep's folder out of the results that lie there.

    Args:
        goals: the metrics that count; the first one orders the table.
        log: swept keys that are drawn by their magnitude.

    Returns:
        the page's path.
    """
    outcomes = ranked(read_outcomes(folder), goals)
    own = own_settings(outcomes)
    trials = [
        Trial(", ".join(map(short, lines)), values_of(lines), outcome.metrics)
        for lines, outcome in zip(own, outcomes, strict=True)
    ]
    figures = []
    for goal in goals:
        figures.append((goal.metric, factor_figure(trials, goal.metric, maximise=goal.maximise, log=log)))
        lines = zip(trials[:_CURVES], outcomes, strict=False)
        curves = {trial.name: curve(outcome.export, goal.metric) for trial, outcome in lines}
        figures.append((f"{goal.metric} over training", curve_figure(curves, goal.metric)))
    template = templates().get_template("sweep.html")
    page = template.render(
        title=f"Sweep {folder.name}",
        goals=goals,
        columns=[*factors_of(trials), *([SEED] if any(SEED in trial.values for trial in trials) else [])],
        rows=list(zip(trials, outcomes, strict=True)),
        front=unbeaten(outcomes, goals) if len(goals) > 1 else outcomes[:1],
        shared=[line for line in outcomes[0].settings if line not in own[0]],
        lost=sum(not all(map(math.isfinite, outcome.metrics.values())) for outcome in outcomes),
        grid=cross(trials, goals[0]),
        figures=[(title, Markup(themed(svg))) for title, svg in figures if svg],
        number=lambda value: f"{value:.4g}" if isinstance(value, float) else str(value),
    )
    atomic_write_text(folder / PAGE, page)
    return folder / PAGE


def values_of(settings: Sequence[str]) -> dict[str, Any]:
    """key=value lines as values: numbers, truths, or the text that stands there."""
    values: dict[str, Any] = {}
    for line in settings:
        key, _, text = line.partition("=")
        try:
            value = parse([line])[0].value()
        except UserError:
            value = text
        values[key] = value if isinstance(value, int | float | bool) else text
    return values


def curve(export: str, metric: str) -> list[tuple[float, float]]:
    """(step, value) of a run's metric; of a pipeline's STEP/METRIC, that step's. Empty where it was not logged."""
    run = Path(export).parent
    step, _, rest = metric.partition("/")
    files = [
        (run / "metrics.jsonl", metric),
        *((file, rest) for file in run.glob(f"steps/[0-9]*-{step}/metrics.jsonl")),
    ]
    for file, name in files if export else ():
        if file.is_file():
            rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
            if points := {row["step"]: float(row[name]) for row in rows if math.isfinite(row.get(name, math.nan))}:
                return sorted(points.items())
    return []


def cross(trials: Sequence[Trial], goal: Goal) -> dict[str, Any] | None:
    """Two factors crossed: the mean of each pair's runs and how good it is from 0 to 1; None where it is no grid."""
    factors = factors_of(trials)
    if len(factors) != 2:
        return None
    found: dict[tuple[Any, Any], list[float]] = {}
    for trial in trials:
        pair = (trial.values.get(factors[0]), trial.values.get(factors[1]))
        found.setdefault(pair, []).append(trial.metrics[goal.metric])
    rows, columns = ([*dict.fromkeys(pair[place] for pair in found)] for place in (0, 1))
    if len(found) < len(rows) * len(columns):
        return None
    means = {pair: sum(values) / len(values) for pair, values in found.items()}
    finite = [value for value in means.values() if math.isfinite(value)] or [0.0]
    low, width = min(finite), (max(finite) - min(finite)) or 1.0
    heat = {pair: (value - low) / width if math.isfinite(value) else 0.0 for pair, value in means.items()}
    rows, columns = (sorted(names, key=in_order) for names in (rows, columns))
    return {
        "factors": factors,
        "rows": rows,
        "columns": columns,
        "means": means,
        "heat": {pair: share if goal.maximise else 1 - share for pair, share in heat.items()},
    }
