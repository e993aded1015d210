"""Pipelines of toy steps, run by the real crew: in this process, or in one that can be killed.

a ---> c ---> e     (c needs a; d needs a and b; e needs c and d)
b ---> d --/
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from dsm.config.references import Step
from dsm.config.runs import RunFolder
from dsm.errors import StoppedError
from dsm.pipeline.crew import Crew
from dsm.pipeline.journal import Journal
from dsm.pipeline.process import wait_for_orphans
from dsm.pipeline.progress import Progress
from dsm.runtime.light import messages

GRAPH = {"a": "", "b": "", "c": "a", "d": "ab", "e": "cd"}
LONG = 1000
PROGRAM = Path(__file__).with_name("toy_step.py")


def toy_steps(
    folder: Path, graph: dict[str, str] = GRAPH, long: str = "", fails: dict[str, str] | None = None
) -> list[Step]:
    """A step for each letter; its folder is runs/LETTER. One of `long` counts for seconds, the others hardly at all."""
    config: Any = SimpleNamespace(stage="toy")
    return [
        Step(
            name=name,
            origin=name,
            values={},
            overrides=[
                name,
                f"{folder}/runs/{name}",
                str(LONG if name in long else 3),
                (fails or {}).get(name, "never"),
            ]
            + [f"{folder}/runs/{other}" for other in fed_by],
            config=config,
            folder=folder / "runs" / name,
            fed_by=tuple(fed_by),
            seconds=0.1,
        )
        for name, fed_by in graph.items()
    ]


def toy_command(step: Step) -> list[str]:
    """In the place of `dsm.pipeline.process.command`."""
    return [sys.executable, "-S", "-E", str(PROGRAM), *step.overrides]


def run_toys(folder: Path, steps: list[Step], at_once: int = 1, threads: int | None = None) -> Journal:
    """What `run_pipeline` does with steps."""
    folder.mkdir(exist_ok=True)
    (folder / "running").mkdir(exist_ok=True)
    journal = Journal(folder / "steps.jsonl")
    with messages(RunFolder(folder)):
        for entry in wait_for_orphans(folder / "running"):
            journal.add(entry)
        Crew(steps, folder, journal, Progress(steps, journal, at_once), at_once, threads).run()
    return journal


def start_toys(folder: Path, at_once: int, long: str) -> BaseProcess:
    """The same in a process of its own, forked: what it says goes to the end of FOLDER/said."""
    process = multiprocessing.get_context("fork").Process(target=_toys_alone, args=(folder, at_once, long))
    process.start()
    return process


def _toys_alone(folder: Path, at_once: int, long: str) -> None:
    sink = os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(sink, stream)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)  # pytest has another in its place
    try:
        run_toys(folder, toy_steps(folder, long=long), at_once)
    except StoppedError as stop:
        print(stop, file=sys.stderr)
        sys.exit(128 + stop.signal)


def outcome(folder: Path) -> dict[str, str]:
    """What the steps left."""
    return {path.parent.parent.name: path.read_text() for path in sorted(folder.glob("runs/*/export/out.txt"))}


def starts(folder: Path) -> list[tuple[str, int | None]]:
    """The journal: which step, and how it ended."""
    lines = (folder / "steps.jsonl").read_text().splitlines()
    return [(entry["step"], entry["status"]) for entry in map(json.loads, lines)]
