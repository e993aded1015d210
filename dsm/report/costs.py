"""Chapter: where the time went, of the runs that say how long they took."""

from __future__ import annotations

from collections.abc import Sequence

from dsm.report.charts import WIDE, bar_chart
from dsm.report.runs import Run
from dsm.report.sections import Chart, Charts, Section
from dsm.report.text import span


def section(runs: Sequence[Run]) -> Section | None:
    """The chapter; None where fewer than two runs tell."""
    told = [(run, run.seconds) for run in runs]
    known = [(run, seconds) for run, seconds in told if seconds is not None]
    if len(known) < 2:
        return None
    total = sum(seconds for _, seconds in known)
    silent = [run.label for run, seconds in told if seconds is None]
    lead = f"{span(total)} in {len(known)} runs."
    if silent:
        lead += f" Without a figure of their own: {', '.join(silent)}."
    names = [run.label if run.label == run.stage else f"{run.label} ({run.stage})" for run, _ in known]
    parts = [("seconds", 0, [seconds for _, seconds in known])]
    ends = [span(seconds) for _, seconds in known]
    svg = bar_chart("Seconds of each run", names, parts, xlabel="seconds", width=WIDE, ends=ends)
    return Section("costs", "Where the time went", lead, [Charts([Chart("costs", svg)], size="wide")])
