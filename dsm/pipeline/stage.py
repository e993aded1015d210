"""`stage=pipeline`: all steps are composed and checked, then run in their order, each in a process of its own.

RUN/steps/NN-NAME is a link to each step's run folder, RUN/steps.jsonl says when which step ran and how it ended. A
pipeline that is started again passes over the steps that have ended; the one that was under way goes on by itself.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dsm.config.pipeline import PipelineConfig
from dsm.config.plan.table import duration
from dsm.config.runs import RunFolder
from dsm.config.steps import Step, pipeline_steps
from dsm.errors import LOST_RANK, LostRankError, StoppedError, UserError
from dsm.files import atomic_write_text
from dsm.pipeline.process import run_step, wait_for_orphan
from dsm.runtime.light import light_session

log = logging.getLogger("dsm")

_USAGE_ERROR = 2


def run_pipeline(config: PipelineConfig) -> dict[str, Any]:
    """Run every step; returns the numbers of all of them as NAME/METRIC, and `seconds`.

    Raises:
        UserError: a step's settings are wrong, found before the first one runs; or a step said so when it ran.
        StoppedError: a signal ended a step.
        LostRankError: a step lost a rank.
        SystemExit: a step ended otherwise, with its status.
    """
    steps = pipeline_steps(config)
    with light_session(config) as run:
        if config.resume == "never":
            steps = pipeline_steps(config, str(run.path / "runs"))
        log.info("run folder: %s (%d steps)", run.path, len(steps))
        if wait_for_orphan(_card(run)):
            log.info("waited for the step that a killed pipeline left behind")
        _link(run, steps)
        for number, step in enumerate(steps, start=1):
            _run(config, run, step, f"step {number} of {len(steps)}: {step.name}")
        return _finish(run, steps)


def _card(run: RunFolder) -> Path:
    return run.path / "step-process.json"


def _run(config: PipelineConfig, run: RunFolder, step: Step, title: str) -> None:
    """Run a step that has not ended before."""
    if finished(step) is not None:
        log.info("%s: finished before: %s", title, step.folder)
        return
    log.info("%s (stage=%s)", title, step.config.stage)
    log.info("  dsm %s", shlex.join(step.overrides))
    began = time.time()
    status = run_step(step.overrides, _card(run), config.threads)
    seconds = time.time() - began
    with (run.path / "steps.jsonl").open("a", encoding="utf-8") as journal:
        journal.write(json.dumps({"step": step.name, "began": began, "seconds": seconds, "status": status}) + "\n")
    if status == 0:
        if finished(step) is None:
            raise UserError(
                f"steps.{step.name}: it ended well, but not in {step.folder}: conf/ has changed meanwhile;"
                " the same command composes all steps anew"
            )
        log.info("%s: %s", title, duration(seconds))
        return
    message = f"{title} ended with status {status} after {duration(seconds)}"
    again = "the same command goes on with this step"
    if status == _USAGE_ERROR:
        raise UserError(f"{message}; its own message stands above")
    if status == LOST_RANK:
        raise LostRankError(f"{message}; {again}")
    if status - 128 in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        raise StoppedError(signal.Signals(status - 128), f"{message}; {again}")
    log.error("%s; %s", message, again)
    raise SystemExit(status)


def finished(step: Step) -> dict[str, Any] | None:
    """The metrics of a step that has ended; None where it has not."""
    try:
        metrics = json.loads((step.folder / "metrics.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    assert isinstance(metrics, dict)
    return metrics


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


def _seconds(run: RunFolder) -> dict[str, float]:
    """What each step took, over all its starts in this pipeline."""
    taken: dict[str, float] = {}
    journal = run.path / "steps.jsonl"
    for line in journal.read_text(encoding="utf-8").splitlines() if journal.is_file() else ():
        entry = json.loads(line)
        taken[entry["step"]] = taken.get(entry["step"], 0.0) + entry["seconds"]
    return taken


def _finish(run: RunFolder, steps: Sequence[Step]) -> dict[str, Any]:
    """metrics.json, and on the terminal where everything lies."""
    taken, final = _seconds(run), dict[str, Any]()
    for step in steps:
        final |= {f"{step.name}/{key}": value for key, value in (finished(step) or {}).items()}
        if step.name in taken:
            final[f"{step.name}/seconds"] = taken[step.name]
    final["seconds"] = sum(taken.values())
    final["export"] = str(run.path / "steps")
    atomic_write_text(run.path / "metrics.json", json.dumps(final, indent=2, ensure_ascii=False) + "\n")
    width = max(len(step.name) for step in steps)
    log.info("done: %d steps in %s; they lie in", len(steps), duration(final["seconds"]))
    for step in steps:
        time_taken = duration(taken[step.name]) if step.name in taken else "before"
        log.info("  %-*s  %8s  %s", width, step.name, time_taken, step.folder)
    for step in steps:
        for key, value in (finished(step) or {}).items():
            if key.startswith("report/"):
                log.info("%s: %s", step.name, value)
    return final
