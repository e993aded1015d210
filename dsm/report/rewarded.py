"""Chapter: reinforcement learning. Reward, accuracy, KL, entropy, length and saturated groups over the samples seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate

from dsm.evaluation.table import percent
from dsm.report.charts import Line, count, line_chart
from dsm.report.runs import Run, of_stage
from dsm.report.sections import Block, Cell, Chart, Charts, Section, Table
from dsm.report.seeds import averaged, tints
from dsm.report.text import span

_MANY = 12
"""Explorations are few and noisy: running means from so many on."""
_EDGE = 10
"""Beginning and end in the table are means over so many explorations."""


def section(runs: Sequence[Run]) -> Section | None:
    """The chapter, of the runs of `stage=rl`."""
    found = of_stage(runs, "rl")
    if not found:
        return None
    charts = [chart for chart in (_chart(found, *panel) for panel in _PANELS) if chart is not None]
    blocks: list[Block] = [_table(found)]
    if charts:
        note = (
            "Over the answers that were sampled; where there are many explorations the line is a running mean, where a "
            "method has several seeds it is theirs, in a band from the least to the most."
        )
        blocks.append(Charts(charts, note=note))
    lead = (
        "The policy answers each question several times; answers are judged, each is held against the others of its "
        "group, and what was better than its group becomes more likely. A group whose answers all earned the same is "
        "saturated: it teaches nothing."
    )
    return Section("rl", "Reinforcement learning", lead, blocks)


def _share_of(part: str, whole: str) -> Callable[[Run], tuple[list[float], list[float]]]:
    def read(run: Run) -> tuple[list[float], list[float]]:
        found = [(_samples(row), float(row[part]) / row[whole]) for row in run.rows if part in row and row.get(whole)]
        return _over_samples(found, 100.0)

    return read


def _value_of(key: str, scale: float = 1.0) -> Callable[[Run], tuple[list[float], list[float]]]:
    def read(run: Run) -> tuple[list[float], list[float]]:
        return _over_samples([(_samples(row), float(row[key])) for row in run.rows if key in row], scale)

    return read


def _samples(row: dict[str, float]) -> float:
    """Answers that an exploration had; a step of training on answers that were there before counts as one."""
    return float(row.get("samples", 0))


def _over_samples(points: Sequence[tuple[float, float]], scale: float) -> tuple[list[float], list[float]]:
    """(samples seen so far, value) of the rows in order."""
    seen = list(accumulate(samples for samples, _ in points))
    if not any(seen):
        seen = [float(step) for step in range(1, len(points) + 1)]
    return seen, [scale * value for _, value in points]


_PANELS: tuple[tuple[str, str, str, Callable[[Run], tuple[list[float], list[float]]]], ...] = (
    ("reward", "Mean reward", "", _value_of("reward/mean")),
    ("accuracy", "Correct answers while sampling", "%", _value_of("rollout/accuracy", 100.0)),
    ("kl", "KL from the reference (k3)", "nats a token", _value_of("train/kl/k3")),
    ("entropy", "Entropy of the policy", "nats a token", _value_of("train/entropy")),
    ("length", "Length of answers", "tokens", _value_of("rollout/length")),
    ("saturated", "Saturated groups", "%", _share_of("groups/saturated", "groups")),
)


def _chart(
    runs: Sequence[Run], name: str, title: str, unit: str, read: Callable[[Run], tuple[list[float], list[float]]]
) -> Chart | None:
    tint = tints([run.label for run in runs])
    drawn = [Line(run.label, number, *read(run)) for number, run in zip(tint, runs, strict=True)]
    lines = averaged([line for line in drawn if len(line.x) > 1])
    if not lines:
        return None
    zero = name in ("kl", "entropy", "saturated")
    return Chart(f"rl-{name}", line_chart(title, lines, xlabel="answers sampled", ylabel=unit, zero=zero, many=_MANY))


def _table(runs: Sequence[Run]) -> Table:
    rows: list[list[Cell | str]] = []
    for run in runs:
        samples = sum(_samples(row) for row in run.rows)
        took = "" if run.seconds is None else f", {span(run.seconds)}"
        rows.append(
            [
                Cell(run.label, f"{count(samples)} answers{took}"),
                run.config["algorithm"]["name"],
                str(run.config["rollout"]["group_size"]),
                f"{run.config['optim']['lr']:g}",
                _change(run, "rollout/accuracy", lambda value: percent(value)),
                _change(run, "reward/mean", lambda value: f"{value:.3f}"),
                _change(run, "train/entropy", lambda value: f"{value:.3f}"),
                _change(run, "rollout/length", lambda value: f"{value:.0f}"),
                _last(run, "train/kl/k3"),
            ]
        )
    header = [
        "run",
        "algorithm",
        "group",
        "learning rate",
        "correct, %",
        "reward",
        "entropy",
        "length",
        "KL at the end",
    ]
    note = f"From → to: means over the first and the last {_EDGE} explorations, of the policy's own answers."
    return Table(header, rows, note=note, left=2)


def _change(run: Run, key: str, write: Callable[[float], str]) -> str:
    values = [float(row[key]) for row in run.rows if key in row]
    if not values:
        return "–"
    first, last = values[:_EDGE], values[-_EDGE:]
    return f"{write(sum(first) / len(first))} → {write(sum(last) / len(last))}"


def _last(run: Run, key: str) -> str:
    values = [float(row[key]) for row in run.rows if key in row][-_EDGE:]
    return f"{sum(values) / len(values):.4f}" if values else "–"
