"""Around a stage that needs neither torch nor other ranks: its folder (locked) and its log."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm import tqdm

from dsm.config.run import RunConfig
from dsm.config.runs import RunFolder, open_run
from dsm.errors import UserError
from dsm.runtime.lock import run_lock

log = logging.getLogger("dsm")


@contextmanager
def light_session(config: RunConfig) -> Iterator[RunFolder]:
    """Open the run's folder, write messages to the terminal and to run.log.

    Raises:
        UserError: another run is at work in the folder; or this is one of several processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(f"stage={config.stage}: runs in one process; start it without torchrun")
    with run_lock() as lock:
        run = open_run(config, lock.take)
        with messages(run):
            yield run


def announce(run: RunFolder) -> None:
    """Say where the run lives, or that it has ended before and its result is returned."""
    if run.finished is None:
        log.info("run folder: %s", run.path)
    else:
        log.info("finished before: %s (resume=never makes it anew)", run.path)


class _Terminal(logging.Handler):
    """Lines on the terminal that leave an open progress bar whole."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print above the bar, if there is one."""
        tqdm.write(self.format(record), file=sys.stderr)


@contextmanager
def messages(run: RunFolder, *, first: bool = True) -> Iterator[None]:
    """Where the log goes for the time of a run: rank 0's all of it, to run.log too; other ranks' errors."""
    log.setLevel(logging.INFO if first else logging.ERROR)
    log.propagate = False
    handlers: list[logging.Handler] = [_Terminal()]
    if first:
        file = logging.FileHandler(run.path / "run.log")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        handlers.append(file)
    for handler in handlers:
        log.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            log.removeHandler(handler)
            handler.close()
