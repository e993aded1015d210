"""What the runs of a sweep came to: one file a run in the sweep's folder, and a table of them, the best first."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dsm.files import atomic_write_text


@dataclass(frozen=True)
class Goal:
    """A metric that counts, and which way."""

    metric: str
    maximise: bool = False

    @property
    def worst(self) -> float:
        """What a run counts as whose numbers are not finite."""
        return -math.inf if self.maximise else math.inf

    def loss(self, outcome: Outcome) -> float:
        """The less, the better; NaN, which compares with nothing, is the worst."""
        value = outcome.metrics[self.metric]
        return math.inf if math.isnan(value) else -value if self.maximise else value


@dataclass(frozen=True)
class Outcome:
    """One run of a sweep: its own settings as typed, the metrics that count, and what it left."""

    settings: list[str]
    metrics: dict[str, float]
    export: str


def write_outcome(outcome: Outcome, file: Path) -> None:
    """Keep one run's result."""
    atomic_write_text(file, json.dumps(asdict(outcome), indent=2) + "\n")


def read_outcomes(folder: Path) -> list[Outcome]:
    """The results that a sweep's folder holds, in the order in which the runs were started."""
    files = (file for file in folder.glob("*.json") if file.stem.isdecimal())
    return [Outcome(**json.loads(file.read_text())) for file in sorted(files, key=lambda file: int(file.stem))]


def clear_outcomes(folder: Path) -> None:
    """A sweep that is started again tells all of its results anew: those of finished runs at once."""
    for file in folder.glob("*.json"):
        file.unlink()


def ranked(outcomes: Sequence[Outcome], goals: Sequence[Goal]) -> list[Outcome]:
    """The best first, by the first metric; of several metrics, those that no other run beats in all come before."""
    best = {id(outcome) for outcome in unbeaten(outcomes, goals)}
    return sorted(
        outcomes,
        key=lambda outcome: (id(outcome) not in best, [goal.loss(outcome) for goal in goals], outcome.settings),
    )


def unbeaten(outcomes: Sequence[Outcome], goals: Sequence[Goal]) -> list[Outcome]:
    """The Pareto front: no other run is as good in every metric and better in one."""
    losses = [[goal.loss(outcome) for goal in goals] for outcome in outcomes]

    def beats(one: list[float], other: list[float]) -> bool:
        return one != other and all(a <= b for a, b in zip(one, other, strict=True))

    return [
        outcome for outcome, own in zip(outcomes, losses, strict=True) if not any(beats(one, own) for one in losses)
    ]


def own_settings(outcomes: Sequence[Outcome]) -> list[list[str]]:
    """Of each run what tells it from the others; all of it where there is one run."""
    shared = set.intersection(*(set(outcome.settings) for outcome in outcomes)) if len(outcomes) > 1 else set()
    return [[line for line in outcome.settings if line not in shared] for outcome in outcomes]


def outcome_table(outcomes: Sequence[Outcome], goals: Sequence[Goal]) -> str:
    """Runs with the settings that tell them apart, the best first; a star marks the front of several metrics."""
    outcomes = ranked(outcomes, goals)
    front = unbeaten(outcomes, goals) if len(goals) > 1 else []
    rows = [[*(goal.metric for goal in goals), "settings", "export"]]
    for outcome, own in zip(outcomes, own_settings(outcomes), strict=True):
        values = [f"{outcome.metrics[goal.metric]:.5g}" for goal in goals]
        values[-1] += "*" if outcome in front else " " if front else ""
        rows.append([*values, " ".join(own), outcome.export])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            f"{cell:>{width}}" if column < len(goals) else f"{cell:<{width}}"
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
