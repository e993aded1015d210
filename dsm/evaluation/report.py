"""`stage=report`: several evaluations side by side, as HTML and Markdown.

The same evaluations give the same files, byte for byte: nothing of the clock or the machine goes in.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dsm.config.report import ReportConfig, ReportStageConfig
from dsm.evaluation.compare import Comparison, compare
from dsm.evaluation.learning import Learning, load_learning
from dsm.evaluation.loading import load_evaluation
from dsm.files import atomic_write_text

log = logging.getLogger("dsm")


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

    from dsm.runtime.session import session  # brings torch; what is wrong with the paths has been said by now

    with session(config) as here:
        for where, text in comparison.warnings():
            log.warning("%s: %s", where, text)
        written = write_report(comparison, config.report, here.run.path, learning)
        final: dict[str, Any] = {f"report/{file.suffix[1:]}": str(file) for file in written}
        final |= {"warnings": len(comparison.warnings())} | _numbers(comparison, names)
        for file in written:
            log.info("report: %s", file)
        atomic_write_text(here.run.path / "metrics.json", json.dumps(final, indent=2, ensure_ascii=False) + "\n")
        return final


def write_report(
    comparison: Comparison, config: ReportConfig, folder: Path, learning: Sequence[Learning] = ()
) -> list[Path]:
    """Write `report.html`, and `report.md` with `plots/*.svg`, as asked; returns the reports' paths."""
    written = []
    if "html" in config.formats:
        from dsm.evaluation.html import render_html

        text = render_html(
            comparison, title=config.title, items=config.items, output_chars=config.output_chars, learning=learning
        )
        written.append(folder / "report.html")
        atomic_write_text(written[-1], text)
    if "markdown" in config.formats:
        from dsm.evaluation.markdown import figures, render_markdown

        drawn = figures(comparison, learning)
        for name, svg in drawn.items():
            atomic_write_text(folder / "plots" / name, svg + "\n")
        files = [f"plots/{name}" for name in drawn]
        written.append(folder / "report.md")
        atomic_write_text(written[-1], render_markdown(comparison, title=config.title, figure_files=files))
    return written


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
