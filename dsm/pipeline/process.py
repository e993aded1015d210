"""One step in a process of its own: its memory is given back, its exit status is kept, it never outlives the pipeline.

A signal to the pipeline is passed on once, and the step is waited for: it saves a checkpoint. When the pipeline itself
is killed, the kernel sends the step SIGTERM, so it saves one too; the pipeline's next start waits for that.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import FrameType

from dsm.files import atomic_write_text
from dsm.runtime.process import ProcessId, end_with_parent

COMMAND = ("-m", "dsm")
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
_PATIENCE_S = 120.0  # with a step whose pipeline was killed: it is saving its checkpoint


def run_step(overrides: Sequence[str], card: Path, threads: int | None = None) -> int:
    """Run `dsm` with these overrides; its exit status, 128 + n where signal n killed it.

    Args:
        card: a file that says which process it is, for as long as it runs.
        threads: for its OMP_NUM_THREADS; None leaves that as it is.
    """
    environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads is not None else {})
    command = [sys.executable, *COMMAND, *overrides]
    with _Passing() as passing:
        # A session of its own: Ctrl-C reaches the pipeline alone, which passes it on once.
        child = subprocess.Popen(command, env=environment, start_new_session=True, preexec_fn=end_with_parent)
        passing.to(child)
        with suppress(OSError):  # it may have ended already
            atomic_write_text(card, json.dumps(asdict(ProcessId.of(child.pid))))
        status = child.wait()
    card.unlink(missing_ok=True)
    return status if status >= 0 else 128 - status


def wait_for_orphan(card: Path) -> bool:
    """Wait for the step of a pipeline that was killed; was there one?"""
    try:
        orphan = ProcessId(**json.loads(card.read_text()))
    except (OSError, ValueError, TypeError):
        return False
    end = time.monotonic() + _PATIENCE_S
    found = orphan.state() not in (None, "gone")
    while orphan.state() not in (None, "gone") and time.monotonic() < end:
        time.sleep(0.1)
    card.unlink(missing_ok=True)
    return found


class _Passing:
    """For the time of a block, signals go to a child; those that come before it is there, when it is."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._noted: list[int] = []

    def __enter__(self) -> _Passing:
        self._before = {number: signal.signal(number, self._pass_on) for number in _SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def to(self, child: subprocess.Popen[bytes]) -> None:
        """This is the child."""
        self._child = child
        for number in self._noted:
            child.send_signal(number)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        if self._child is None:
            self._noted.append(number)
        else:
            self._child.send_signal(number)
