"""metrics.jsonl is the record of a run: one line a step, cut back on resume so that no step stands twice.

Nothing here needs Lightning, whose import takes seconds: stages that log once get by without it.
"""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dsm.config.training import LoggerConfig
from dsm.files import atomic_write_text

FILE = "metrics.jsonl"


def append(folder: Path, metrics: Mapping[str, float], step: int | None) -> None:
    """One line: step, seconds since the epoch, metrics."""
    with (folder / FILE).open("a") as file:
        file.write(json.dumps({"step": step, "time": round(time.time(), 3), **metrics}) + "\n")


def write_table(folder: Path) -> None:
    """All of them as metrics.csv, beside."""
    lines = read_lines(folder / FILE)
    columns = list(dict.fromkeys(key for line in lines for key in line))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(lines)
    atomic_write_text((folder / FILE).with_suffix(".csv"), text.getvalue())


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The lines of a JSONL file; a last one that was being written when the process was killed does not count."""
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines


def rewind(file: Path, step: int) -> None:
    """Drop the lines that a run which stands at `step` is about to write again; at step 0 it has written none."""
    if file.is_file():
        kept = [line for line in read_lines(file) if line["step"] <= step and step > 0]
        atomic_write_text(file, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))


def log_once(
    config: LoggerConfig,
    folder: Path,
    name: str,
    settings: dict[str, Any],
    metrics: dict[str, float],
    tables: Mapping[str, Sequence[Mapping[str, Any]]],
) -> None:
    """What a stage has to log that is done in one go: to metrics.jsonl, and wherever else `config` says.

    Args:
        config: which loggers there are.
        folder: the run's.
        name: the run's.
        settings: all of them, for W&B.
        metrics: the numbers.
        tables: name: rows with the same keys, for W&B.
    """
    if not config.tensorboard and config.wandb is None:
        append(folder, metrics, 0)
        if config.csv:
            write_table(folder)
        return
    from dsm.runtime.loggers import build_loggers, close, log_table

    loggers = build_loggers(config, folder, name, settings)
    try:
        for logger in loggers:
            logger.log_metrics(metrics, step=0)
        for title, rows in tables.items():
            log_table(loggers, title, rows)
        for logger in loggers:
            logger.finalize("success")
    finally:
        close(loggers)
