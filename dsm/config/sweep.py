"""What a sweep found, as a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dsm.errors import UserError


@dataclass(frozen=True)
class Outcome:
    """One run of a sweep: its own settings, its final metrics, and which of them counts."""

    overrides: list[str]
    metrics: dict[str, Any]
    metric: str

    @property
    def value(self) -> float | None:
        """The metric that the sweep is about; None in a plan."""
        if not self.metrics:
            return None
        if self.metric not in self.metrics:
            numbers = [key for key, value in self.metrics.items() if isinstance(value, int | float)]
            raise UserError(f"sweep_metric={self.metric}: the run has no such metric; it has {', '.join(numbers)}")
        return float(self.metrics[self.metric])


def outcome_table(outcomes: list[Outcome]) -> str:
    """Runs with their settings, the smallest value of the metric first."""
    shared = set.intersection(*(set(outcome.overrides) for outcome in outcomes)) if len(outcomes) > 1 else set()
    rows = sorted(outcomes, key=lambda outcome: float("inf") if outcome.value is None else outcome.value)
    lines = [f"{outcomes[0].metric:>20}  settings"]
    for row in rows:
        own = " ".join(override.lstrip("+") for override in row.overrides if override not in shared)
        value = "-" if row.value is None else f"{row.value:.5g}"
        lines.append(f"{value:>20}  {own}  {row.metrics.get('export', '')}")
    return "\n".join(lines)
