"""The steps that run side by side: started when what feeds them has ended, told of signals, watched to their end.

A signal to the pipeline, or a step that fails, starts no further step; those that run are told to save where they are
and waited for. Whatever ends a pipeline, its next start goes on from there.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from dsm.config.graph import startable
from dsm.config.references import Step
from dsm.errors import LOST_RANK, LostRankError, StoppedError, UserError
from dsm.pipeline.journal import Entry, Journal
from dsm.pipeline.process import StepProcess, by_signal
from dsm.pipeline.progress import Progress, finished

log = logging.getLogger("dsm")

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
_POLL_S = 0.05
_USAGE_ERROR = 2
_AGAIN = "the same command goes on from there"


class Crew:
    """Runs steps.

    Args:
        steps: all of them, in their order; those that have ended before are passed over.
        folder: the pipeline's.
        at_once: how many may run at the same time; with one alone the terminal is its own.
        threads: of each, as OMP_NUM_THREADS; None leaves that as it is.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        folder: Path,
        journal: Journal,
        progress: Progress,
        at_once: int,
        threads: int | None,
    ) -> None:
        self.steps = steps
        self.journal = journal
        self.progress = progress
        self.at_once = at_once
        self.threads = threads
        self.cards, self.outputs = folder / "running", folder / "output"
        self.running: list[StepProcess] = []
        self.orders: list[int] = []
        self.failed: tuple[StepProcess, str] | None = None

    def run(self) -> None:
        """Run all that have not ended.

        Raises:
            UserError: a step said that something is wrong with its settings; or it left nothing.
            StoppedError: a signal ended the pipeline or a step.
            LostRankError: a step lost a rank.
            SystemExit: a step ended otherwise, with its status.
        """
        ended = self.progress.found_ended()
        waiting = [step for step in self.steps if step.name not in ended]
        with self._taking_orders():
            while True:
                if not self.orders:
                    for step in startable(waiting, ended, [process.step for process in self.running], self.at_once):
                        waiting.remove(step)
                        self._start(step)
                if not self.running:
                    break
                time.sleep(_POLL_S)
                for process in self.running:
                    process.obey(self.orders)
                if self.orders:
                    self.progress.stops(self.running)
                ended |= self._collect()
                self.progress.show(self.running)
        self.progress.close()
        if self.failed is not None:
            self._fail(*self.failed)
        if len(ended) < len(self.steps):
            order = signal.Signals(self.orders[0])
            raise StoppedError(
                order, f"stopped by {order.name}: {len(ended)} of {len(self.steps)} steps done; {_AGAIN}"
            )

    def _start(self, step: Step) -> None:
        output = None
        if self.at_once > 1:
            output = self.outputs / f"{step.name}.log"
            output.parent.mkdir(exist_ok=True)
        self.progress.starts(step, self.running)
        self.running.append(StepProcess.start(step, self.cards / f"{step.name}.json", output, self.threads))

    def _collect(self) -> set[str]:
        """The steps that have ended well since the last time."""
        done = set()
        for process in list(self.running):
            entry = process.poll()
            if entry is None:
                continue
            self.running.remove(process)
            self.journal.add(entry)
            process.card.unlink(missing_ok=True)
            problem = self._problem(process, entry)
            self.progress.ends(process, entry, self.running, problem)
            if not problem:
                done.add(entry.step)
            elif self.failed is None and not self.orders:
                self.failed = process, problem
                self.orders.append(signal.SIGTERM)
        return done

    def _problem(self, process: StepProcess, entry: Entry) -> str:
        """What is wrong with how a step ended; empty if nothing is."""
        if entry.status != 0:
            return f"ended with status {entry.status}"
        if finished(process.step) is not None:
            return ""
        folder = process.step.folder
        if (folder / "config.yaml").is_file() and (folder / "config.yaml").stat().st_mtime >= process.began - 1:
            return f"ended well, but there is more to do before the next step; {folder}/run.log says what"
        return f"ended well, but not in {folder}: conf/ has changed meanwhile; the same command composes all steps anew"

    def _fail(self, process: StepProcess, problem: str) -> NoReturn:
        """Say what the first step that failed has said, and end as it did."""
        entry = process.entry
        assert entry is not None
        for line in process.tail():
            log.error("  | %s", line)
        title = self.progress.title(process.step)
        if process.output is not None:
            log.error("  (all of it: %s)", process.output)
        if entry.status in (0, _USAGE_ERROR):
            own = "" if entry.status == 0 else "; its own message stands above"
            raise UserError(f"{title} {problem}{own}")
        message = f"{title} {problem}; {_AGAIN}"
        if entry.status == LOST_RANK:
            raise LostRankError(message)
        if (by := by_signal(entry.status)) is not None:
            raise StoppedError(by, message)
        log.error("%s", message)
        raise SystemExit(entry.status)

    @contextmanager
    def _taking_orders(self) -> Iterator[None]:
        """For the time of a block, signals are noted, to be passed on."""

        def note(number: int, frame: FrameType | None) -> None:
            self.orders.append(number)

        before = {number: signal.signal(number, note) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
