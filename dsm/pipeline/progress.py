"""What the terminal shows while steps run: which of how many, what they say, about how long it will take."""

from __future__ import annotations

import json
import logging
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from dsm.config.graph import time_left
from dsm.config.plan.table import duration
from dsm.config.references import Step
from dsm.pipeline.journal import Entry, Journal
from dsm.pipeline.process import StepProcess

log = logging.getLogger("dsm")

_LINE_S, _LIVE_S = 30.0, 0.5
"""Seconds between two lines on how far a step is: where lines stay, and where the last one is written over."""
_BETWEEN = " | "


class Progress:
    """Tells how far a pipeline is.

    Args:
        steps: all of them, in their order.
        at_once: how many may run at the same time. With one alone its own output shows how far it is.
    """

    def __init__(self, steps: Sequence[Step], journal: Journal, at_once: int) -> None:
        self.steps = steps
        self.journal = journal
        self.at_once = at_once
        self._ended: dict[str, float | None] = {}
        self._told: dict[str, tuple[float, str]] = {}
        self._live = tqdm(bar_format="{desc}", leave=False, file=sys.stderr) if self._has_live_line() else None
        self._shown = 0.0
        self._stopping = False

    def _has_live_line(self) -> bool:
        return self.at_once > 1 and sys.stderr.isatty()

    def title(self, step: Step) -> str:
        """Which step of how many."""
        return f"step {self.steps.index(step) + 1} of {len(self.steps)}: {step.name}"

    def found_ended(self) -> set[str]:
        """The names of the steps that have ended before, which is said."""
        for step in self.steps:
            if finished(step) is not None:
                self._ended[step.name] = self.journal.seconds(step.name)
                log.info("%s: finished before: %s", self.title(step), step.folder)
        return set(self._ended)

    def starts(self, step: Step, running: Sequence[StepProcess]) -> None:
        """A step is about to start beside those that run."""
        ranks = f", {step.ranks} ranks" if step.ranks > 1 else ""
        log.info("%s (stage=%s%s)%s", self.title(step), step.config.stage, ranks, self._left(running))
        if self.at_once == 1:  # else it is the first line of the step's own output
            log.info("  dsm %s", shlex.join(step.overrides))

    def ends(self, process: StepProcess, entry: Entry, running: Sequence[StepProcess], problem: str) -> None:
        """A step has ended."""
        self._told.pop(entry.step, None)
        took = f"{duration(entry.seconds)}, {duration(entry.cpu_seconds or 0.0)} of CPU"
        if problem:
            log.info("%s: %s after %s", self.title(process.step), problem.partition(";")[0], took)
            return
        self._ended[entry.step] = self.journal.seconds(entry.step)
        log.info("%s: done, %s%s", self.title(process.step), took, self._left(running))

    def stops(self, running: Sequence[StepProcess]) -> None:
        """No other step will start; said once, if there are any to wait for."""
        if running and not self._stopping:
            self._stopping = True
            log.info("told to save where they are: %s", ", ".join(process.step.name for process in running))

    def show(self, running: Sequence[StepProcess]) -> None:
        """Now and then, what the steps that run say."""
        now = time.monotonic()
        if self.at_once == 1 or now - self._shown < _LIVE_S:
            return
        self._shown = now
        if self._live is not None:
            whole = f"{len(self._ended)} of {len(self.steps)} done{self._left(running)}"
            parts = [f"{process.step.name} {duration(process.seconds)}: {process.newest_line()}" for process in running]
            room = shutil.get_terminal_size().columns - len(whole) - 1
            each = max(room // max(len(parts), 1) - len(_BETWEEN), 10)
            self._live.set_description_str(_BETWEEN.join([whole, *(part[:each] for part in parts)]))
            return
        for process in running:
            told, before = self._told.setdefault(process.step.name, (now, ""))
            line = process.newest_line() if now - told >= _LINE_S else before
            if line != before:
                self._told[process.step.name] = now, line
                log.info("%s: %s", self.title(process.step), line)

    def close(self) -> None:
        """Nothing runs any more."""
        if self._live is not None:
            self._live.close()

    def _left(self, running: Sequence[StepProcess]) -> str:
        before = {process.step.name: self.journal.seconds(process.step.name) or 0.0 for process in running}
        so_far = {process.step.name: before[process.step.name] + process.seconds for process in running}
        seconds = time_left(self.steps, self._ended, so_far, self.at_once)
        return f", {about(seconds)} left" if seconds else ""


def about(seconds: float) -> str:
    """A time that nobody should take for exact: to ten seconds, a minute, a tenth of an hour or of a day."""
    if seconds < 100:
        return f"about {max(round(seconds, -1), 10):.0f} s"
    return f"about {seconds / 60:.0f} min" if seconds < 7200 else f"about {duration(seconds)}"


def finished(step: Step) -> dict[str, Any] | None:
    """The metrics of a step that has ended; None where it has not."""
    try:
        metrics = json.loads((step.folder / "metrics.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    assert isinstance(metrics, dict)
    return metrics
