"""What a pipeline says last: what each step took, what reports measured and found, where things lie, what to try."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from dsm.config.pipeline import EndingConfig
from dsm.config.plan.table import Rows, columns, duration
from dsm.config.references import Step
from dsm.config.report import ReportStageConfig
from dsm.pipeline.journal import Journal, covered
from dsm.pipeline.progress import finished

log = logging.getLogger("dsm")

_REPORT = "report/"  # stage=report's metrics that name its files; the one called txt is meant for a terminal


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
    rows = columns(["stage", "took", "of CPU"], {step.name: _took(step, journal) for step in steps})
    yield from _block(f"done: {len(steps)} steps in {duration(covered(journal.entries))}", rows)
    places: dict[str, str] = {}
    for step in steps:
        if not isinstance(step.config, ReportStageConfig):
            continue
        metrics = finished(step) or {}
        files = {key.removeprefix(_REPORT): path for key, path in metrics.items() if key.startswith(_REPORT)}
        if (text := Path(files.pop("txt", ""))).is_file():
            yield from _block(step.name, [])
            yield from (f"  {line}".rstrip() for line in text.read_text(encoding="utf-8").splitlines())
        places |= {f"{step.name}, {suffix}": path for suffix, path in files.items()}
    places |= ending.places | {"all steps": f"{folder}/steps"}
    yield from _block("where it lies", list(places.items()))
    if ending.next:
        yield from _block("to try next", [])
        yield from (f"  {command}" for command in ending.next)


def _took(step: Step, journal: Journal) -> list[str]:
    seconds, used = journal.seconds(step.name), journal.cpu_seconds(step.name)
    times = ["before" if seconds is None else duration(seconds), "" if used is None else duration(used)]
    return [step.config.stage, *times]


def _block(title: str, rows: Rows) -> Iterator[str]:
    """An empty line, a title, its rows in columns."""
    width = max((len(label) for label, _ in rows), default=0)
    yield from ("", title)
    yield from (f"  {label:<{width}}  {text}".rstrip() for label, text in rows)
