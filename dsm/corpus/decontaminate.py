"""`stage=decontaminate`: texts or instruction data without what benchmarks hold, and what was found.

export/NAME/...      the files of data.sources.NAME, cleaned, under their own names
hits.jsonl           every hit: where, which benchmark and item, what matched
rejected.jsonl       every row that could not be read, with the reason
contamination.json   the table, one entry a benchmark
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsm.config.decontaminate import DecontaminateConfig
from dsm.corpus.contamination import Coverage
from dsm.corpus.contamination_index import load_decontaminator, write_texts
from dsm.corpus.contamination_report import facts, summarise, table
from dsm.corpus.contamination_texts import benchmark_texts
from dsm.corpus.decontaminate_step import HITS, REJECTED, SUFFIXES, RowsStep, cleaned_name
from dsm.corpus.executors import make_executor
from dsm.corpus.steps import Manifest, Task, run_step
from dsm.data.records import data_files
from dsm.errors import UserError
from dsm.files import atomic_directory, atomic_file, atomic_write_text
from dsm.runtime.light import light_session

log = logging.getLogger("dsm")


@dataclass(frozen=True)
class _File:
    """An input file: its source, its name there, its task."""

    source: str
    name: str
    task: Task


def decontaminate(config: DecontaminateConfig) -> dict[str, Any]:
    """Clean every file of every source; returns the final metrics.

    Killed at any instant, the same command goes on where it stopped.

    Raises:
        UserError: a benchmark or a source cannot be read.
    """
    with light_session(config) as run:
        if run.finished is not None:
            log.info("finished before: %s (resume=never makes it anew)", run.path)
            return run.finished
        log.info("run folder: %s", run.path)
        texts, rejected = benchmark_texts(config.benchmarks, config.data_root)
        for name, rows in rejected.items():
            if rows:
                first = f"{rows[0].location}: {rows[0].reason}"
                log.warning(
                    "benchmarks.%s: %d rows cannot be read and are not searched for; %s", name, len(rows), first
                )
        file = run.path / "steps" / "benchmark-texts.jsonl"
        write_texts(texts, file)
        settings = config.decontamination
        coverage = load_decontaminator(file, settings.ngram, settings.min_ngram, settings.unit).coverage
        files, shards = list(_files(config, file)), {}
        executor = make_executor(config.executor, run.path / "logs")
        for source in config.data.sources:
            step = RowsStep(config.fields_of(source), settings.ngram, settings.min_ngram, settings.unit)
            tasks = [found.task for found in files if found.source == source]
            shards[source] = run_step(step, tasks, run.path / "steps" / f"decontaminate-{source}", executor)
            _refuse_if_nothing_can_be_read(source, shards[source])
        return _finish(run.path, run.export, files, shards, coverage)


def _files(config: DecontaminateConfig, texts: Path) -> Iterator[_File]:
    for source, asked in config.data.sources.items():
        root = Path(asked.path).expanduser()
        for number, path in enumerate(data_files(root, asked.split, f"data.sources.{source}.path={root}", SUFFIXES)):
            name = path.relative_to(root).as_posix() if root.is_dir() else path.name
            yield _File(source, name, Task(f"file-{number:05}", (path, texts)))


def _refuse_if_nothing_can_be_read(source: str, made: Manifest) -> None:
    """Raises UserError: the columns' names are wrong, or so is the file."""
    total = made.total()
    if total["broken"] == total["in"] > 0:
        first = next(line for path in made.files(REJECTED) for line in path.read_text(encoding="utf-8").splitlines())
        told = json.loads(first)
        raise UserError(
            f"data.sources.{source}: none of its {total['in']:,} rows can be used; the first: row {told['row']}"
            f" {told['reason']}: {told['raw'][:80]}"
        )


def _finish(
    run: Path, export: Path, files: list[_File], shards: dict[str, Manifest], coverage: dict[str, Coverage]
) -> dict[str, Any]:
    """The export, what was found, and last metrics.json, which says that the run has ended."""
    with atomic_directory(export) as folder:
        for file in files:
            target = folder / file.source / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            _link(shards[file.source].shards[file.task.name].path(cleaned_name(file.task.inputs[0])), target)
    for name in (HITS, REJECTED):
        with atomic_file(run / name) as out:
            for row in _rows(name, files, shards):
                out.write(json.dumps(row, ensure_ascii=False).encode("utf-8", errors="replace") + b"\n")
    found = summarise(_rows(HITS, files, shards))
    told = facts(coverage, found)
    atomic_write_text(run / "contamination.json", json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    for line in table(coverage, found).splitlines():
        log.info("%s", line)
    final: dict[str, Any] = {}
    for source, manifest in shards.items():
        total = manifest.total()
        log.info(
            "%s: %s rows, %s stay (%s lines taken out of them), %s removed, %s cannot be read",
            source,
            *(f"{total[name]:,}" for name in ("in", "out", "_segments_removed", "contaminated", "broken")),
        )
        names = {"in": "rows", "_segments_removed": "segments_removed", "_rows_hit": "rows_hit", "_hits": "hits"}
        final |= {f"{source}/{names.get(name, name)}": total[name] for name in sorted(total)}
    final |= {f"{name}/{key}": entry[key] for name, entry in told.items() for key in ("hits", "items")}
    final |= {"hits": sum(entry["hits"] for entry in told.values()), "export": str(export)}
    atomic_write_text(run / "metrics.json", json.dumps(final, indent=2) + "\n")
    return final


def _rows(name: str, files: list[_File], shards: dict[str, Manifest]) -> Iterator[dict[str, Any]]:
    """The rows of all tasks' files of one name, each with the input file that it tells of."""
    for file in files:
        with shards[file.source].shards[file.task.name].path(name).open(encoding="utf-8") as lines:
            for line in lines:
                yield {"source": file.source, "file": file.name, **json.loads(line)}


def _link(made: Path, target: Path) -> None:
    try:
        os.link(made, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(made, target)
