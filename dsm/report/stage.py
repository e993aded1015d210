"""`stage=report`: evaluations side by side and the runs that led to them, as HTML and Markdown.

The same evaluations and runs give the same files, byte for byte: nothing of the clock or the machine goes in.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from dsm.config.report import ReportConfig, ReportStageConfig
from dsm.evaluation.loading import Bounds, load_evaluation
from dsm.evaluation.table import align, percent, width
from dsm.files import atomic_write_text
from dsm.report import findings, phases
from dsm.report.compare import Comparison, compare
from dsm.report.learning import load_learning
from dsm.report.plots import evaluation_figures
from dsm.report.story import Story, tell
from dsm.runtime.light import light_session

log = logging.getLogger("dsm")
WIDTH = 120
"""Columns of a terminal."""


def make_report(config: ReportStageConfig) -> dict[str, Any]:
    """`stage=report`: read, compare, write; returns the paths, the number of warnings and every accuracy and gap.

    A report that is there already is made anew: the evaluations may have changed.

    Raises:
        UserError: an evaluation that is missing, unfinished or broken.
    """
    names = list(config.evaluations)
    evaluations = [
        load_evaluation(path, config.label(name), f"evaluations.{name}") for name, path in config.evaluations.items()
    ]
    baseline = 0 if config.baseline is None else names.index(config.baseline)
    comparison = compare(evaluations, baseline, seed=config.seed)
    learning = load_learning({config.label(name): folder for name, folder in config.curves.items()})
    story = tell(config, comparison, learning)

    with light_session(config) as run:
        log.info("run folder: %s", run.path)
        for where, text in comparison.warnings():
            log.warning("%s: %s", where, text)
        written = write_report(comparison, config.report, run.path, story)
        final: dict[str, Any] = {f"report/{file.suffix[1:]}": str(file) for file in written}
        final |= {"warnings": len(comparison.warnings()), **_numbers(comparison, names)}
        final |= findings.numbers(story.findings)
        if story.phases is not None:
            final |= phases.numbers(story.phases)
        for line in terminal(comparison, story).splitlines():
            log.info("%s", line)
        for file in written:
            log.info("report: %s", file)
        atomic_write_text(run.path / "metrics.json", json.dumps(final, indent=2, ensure_ascii=False) + "\n")
        return final


def write_report(comparison: Comparison, config: ReportConfig, folder: Path, story: Story | None = None) -> list[Path]:
    """Write `report.html`, `report.md` with `plots/*.svg`, as asked, and `report.txt`; returns the reports' paths."""
    story = story or Story()
    drawn = evaluation_figures(comparison, story.learning)
    written = []
    if "html" in config.formats:
        from dsm.report.html import render_html

        text = render_html(
            comparison,
            title=config.title,
            items=config.items,
            output_chars=config.output_chars,
            story=story,
            drawn=drawn,
        )
        written.append(folder / "report.html")
        atomic_write_text(written[-1], text)
    if "markdown" in config.formats:
        from dsm.report.markdown import figures, render_markdown

        for name, svg in figures(comparison, story, drawn).items():
            atomic_write_text(folder / "plots" / name, svg + "\n")
        written.append(folder / "report.md")
        atomic_write_text(written[-1], render_markdown(comparison, title=config.title, story=story, drawn=drawn))
    written.append(folder / "report.txt")
    atomic_write_text(written[-1], terminal(comparison, story))
    return written


def terminal(comparison: Comparison, story: Story) -> str:
    """What the terminal shows: accuracies, a line for each evaluation, and the findings."""
    parts = results(comparison)
    if story.findings:
        parts.append(findings.terminal(story.findings, WIDTH))
    return "\n\n".join(parts) + "\n"


def results(comparison: Comparison) -> list[str]:
    """Accuracy in percent, evaluations by benchmarks; so many benchmarks a table as `WIDTH` has room for."""
    tables: list[list[list[str]]] = []
    first = max(len("accuracy, %"), *(map(width, comparison.labels)))
    room = 0
    for benchmark in comparison.benchmarks:
        row = benchmark.rows[0]
        cells = [_accuracy(cell) for cell in row.cells]
        wide = 2 + max(map(width, (benchmark.name, *cells)))
        if wide > room:
            tables.append([["accuracy, %"], *([label] for label in comparison.labels)])
            room = WIDTH - first
        room -= wide
        for line, cell in zip(tables[-1], (benchmark.name, *cells), strict=True):
            line.append(cell)
    return [align(table) for table in tables]


def _accuracy(cell: Bounds | None) -> str:
    if cell is None or cell.value is None:
        return "–"
    return f"{percent(cell.value)} ({percent(cell.low, 0)}–{percent(cell.high, 0)})"


def _numbers(comparison: Comparison, names: list[str]) -> dict[str, float]:
    """{"gsm8k/rl/accuracy": .., "gsm8k/rl/gap": ..}: shares; the gap is to the baseline."""
    numbers: dict[str, float] = {}
    for benchmark in comparison.benchmarks:
        for name, cell, pair in zip(names, benchmark.rows[0].cells, benchmark.pairs, strict=True):
            if cell is not None and cell.value is not None:
                numbers[f"{benchmark.name}/{name}/accuracy"] = cell.value
            if pair is not None and pair.difference.value is not None:
                numbers[f"{benchmark.name}/{name}/gap"] = pair.difference.value
    return numbers
