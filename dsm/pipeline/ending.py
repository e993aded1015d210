"""What a pipeline says last: what each step took, what reports measured and found, where things lie, what to try."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dsm.config.pipeline import EndingConfig
from dsm.config.plan.table import columns, duration
from dsm.config.references import Step
from dsm.config.report import ReportStageConfig
from dsm.pipeline.journal import Journal, covered
from dsm.pipeline.progress import finished

log = logging.getLogger("dsm")

_ACCURACY = re.compile(r"([^/]+)/(.+)/accuracy")  # as stage=report names it: BENCHMARK/EVALUATION/accuracy
_FINDING = "finding/"


def show_ending(steps: Sequence[Step], journal: Journal, folder: Path, ending: EndingConfig) -> None:
    """Say it.

    Args:
        steps: all of the pipeline, ended.
        journal: of their starts.
        folder: the pipeline's.
        ending: places and commands.
    """
    for line in ending_lines(steps, journal, folder, ending):
        log.info("%s", line)


def ending_lines(steps: Sequence[Step], journal: Journal, folder: Path, ending: EndingConfig) -> Iterator[str]:
    """The lines of `show_ending`."""
    yield ""
    yield f"done: {len(steps)} steps in {duration(covered(journal.entries))}"
    yield from _aligned("", columns(["took", "of CPU", "stage"], {step.name: _took(step, journal) for step in steps}))
    reports = {step.name: (step, finished(step) or {}) for step in steps if isinstance(step.config, ReportStageConfig)}
    places: dict[str, str] = {}
    for name, (step, metrics) in reports.items():
        title = name if len(reports) > 1 else ""
        yield from _results(title, step.config, metrics)
        yield from _findings(metrics)
        places |= {
            f"{name} ({key.removeprefix('report/')})": value
            for key, value in metrics.items()
            if key.startswith("report/")
        }
    places |= ending.places | {"all steps": f"{folder}/steps"}
    yield from _aligned("where it lies", list(places.items()))
    if ending.next:
        yield from ("", "to try next", *(f"  {command}" for command in ending.next))


def _took(step: Step, journal: Journal) -> list[str]:
    seconds, used = journal.seconds(step.name), journal.cpu_seconds(step.name)
    times = ["before" if seconds is None else duration(seconds), "" if used is None else duration(used)]
    return [*times, step.config.stage]


def _results(title: str, config: Any, metrics: Mapping[str, Any]) -> Iterator[str]:
    """A line an evaluation, a column a benchmark: the share of right answers."""
    shares: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        if found := _ACCURACY.fullmatch(key):
            shares.setdefault(found[1], {})[found[2]] = value
    if not shares:
        return
    rows = {
        config.label(name): [f"{100 * row[name]:.1f} %" if name in row else "" for row in shares.values()]
        for name in config.evaluations
    }
    yield from _aligned(f"right answers{f' ({title})' if title else ''}", columns(list(shares), rows))


def _findings(metrics: Mapping[str, Any]) -> Iterator[str]:
    """What a report says of the claims it was asked about."""
    found = [(key.removeprefix(_FINDING), value) for key, value in metrics.items() if key.startswith(_FINDING)]
    if found:
        yield from _aligned("findings", [(name, str(value)) for name, value in found])


def _aligned(title: str, rows: Sequence[tuple[str, str]]) -> Iterator[str]:
    width = max(len(label) for label, _ in rows)
    if title:
        yield from ("", title)
    yield from (f"  {label:<{width}}  {text}".rstrip() for label, text in rows)
