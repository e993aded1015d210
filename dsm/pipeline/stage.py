"""`stage=pipeline`: all steps are composed and checked, then run, each in a process of its own, side by side if asked.

RUN/steps/NN-NAME is a link to each step's run folder, RUN/steps.jsonl says when which step ran and how it ended. A
pipeline that is started again passes over the steps that have ended; those that were under way go on by themselves.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from typing import Any

from dsm.config.pipeline import PipelineConfig
from dsm.config.references import Step
from dsm.config.runs import RunFolder
from dsm.config.steps import pipeline_ending, pipeline_steps
from dsm.files import atomic_write_text
from dsm.pipeline.crew import Crew
from dsm.pipeline.ending import show_ending
from dsm.pipeline.journal import Journal, covered
from dsm.pipeline.process import wait_for_orphans
from dsm.pipeline.progress import Progress, finished
from dsm.runtime.light import light_session

log = logging.getLogger("dsm")


def run_pipeline(config: PipelineConfig) -> dict[str, Any]:
    """Run every step; returns the numbers of all of them as NAME/METRIC, and `seconds` in which any ran.

    Raises:
        UserError: a step's settings are wrong, found before the first one runs; or a step said so when it ran.
        StoppedError: a signal ended a step.
        LostRankError: a step lost a rank.
        SystemExit: a step ended otherwise, with its status.
    """
    steps = pipeline_steps(config)
    pipeline_ending(config, steps)  # what is wrong with it is said now, not in an hour
    with light_session(config) as run:
        if config.resume == "never":
            steps = pipeline_steps(config, str(run.path / "runs"))
        log.info("run folder: %s (%d steps)", run.path, len(steps))
        journal = Journal(run.path / "steps.jsonl")
        (run.path / "running").mkdir(exist_ok=True)
        for entry in wait_for_orphans(run.path / "running"):
            log.info("%s: a killed pipeline left it behind; it has ended by now", entry.step)
            journal.add(entry)
        _link(run, steps)
        progress = Progress(steps, journal, config.at_once)
        Crew(steps, run.path, journal, progress, config.at_once, config.threads).run()
        final = _numbers(run, steps, journal)
        atomic_write_text(run.path / "metrics.json", json.dumps(final, indent=2, ensure_ascii=False) + "\n")
        show_ending(steps, journal, run.path, pipeline_ending(config, steps))
        return final


def _link(run: RunFolder, steps: Sequence[Step]) -> None:
    """RUN/steps/NN-NAME -> the run's folder, there or not yet; links of an earlier make of the pipeline go."""
    folder = run.path / "steps"
    folder.mkdir(exist_ok=True)
    wanted = {f"{number:02}-{step.name}": step for number, step in enumerate(steps, start=1)}
    for link in folder.iterdir():
        if link.is_symlink():
            link.unlink()
    for name, step in wanted.items():
        (folder / name).symlink_to(os.path.relpath(step.folder, folder.resolve()))


def _numbers(run: RunFolder, steps: Sequence[Step], journal: Journal) -> dict[str, Any]:
    """What metrics.json holds: the metrics of all steps, what each took, all of it."""
    final: dict[str, Any] = {}
    for step in steps:
        final |= {f"{step.name}/{key}": value for key, value in (finished(step) or {}).items()}
        for key, value in (("seconds", journal.seconds(step.name)), ("cpu_seconds", journal.cpu_seconds(step.name))):
            if value is not None:
                final[f"{step.name}/{key}"] = value
    final["seconds"] = covered(journal.entries)
    final["cpu_seconds"] = sum(entry.cpu_seconds or 0.0 for entry in journal.entries)
    final["export"] = str(run.path / "steps")
    return final
