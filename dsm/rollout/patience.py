"""An end to waiting: work that shows no sign of progress for too long is given up, whatever it is stuck in."""

from __future__ import annotations

import _thread
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from dsm.errors import LOST_RANK, UserError

_GRACE_S = 20.0
"""Seconds that the main thread has to come out by itself; what hangs outside Python never does."""


@contextmanager
def patience(seconds: float, what: str, key: str) -> Iterator[Callable[[], None]]:
    """Give a function to be called at every sign of progress; without a call for `seconds` the block is ended.

    The main thread is interrupted as by Ctrl-C, also where that is ignored or means something else; if it does not come
    back to Python for that, the process ends with status 75, which says: try again. Outside the main thread nothing is
    watched. Time is counted in ticks, so that a job that was suspended finds nothing amiss when it wakes.

    Args:
        what: that did not happen, for the message.
        key: the setting that allows more time.

    Raises:
        UserError: the time is up.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    tick = min(1.0, seconds / 10)
    left, over, expired = [seconds], threading.Event(), threading.Event()
    message = f"{key}={seconds:g}: {what} within that time; raise it if the hardware is that slow, else it hangs"

    def watch() -> None:
        while left[0] > 0:
            if over.wait(tick):
                return
            left[0] -= tick
        expired.set()
        _thread.interrupt_main()
        if not over.wait(_GRACE_S):
            os.write(2, f"\ndsm: {message}\n".encode())
            os._exit(LOST_RANK)

    def progress() -> None:
        left[0] = seconds

    def interrupted(number: int, frame: FrameType | None) -> None:
        if expired.is_set():
            raise KeyboardInterrupt
        if callable(before):
            before(number, frame)

    before = signal.getsignal(signal.SIGINT)
    if before is not None:  # None: not Python's own, and could not be put back
        signal.signal(signal.SIGINT, interrupted)

    watcher = threading.Thread(target=watch, name="patience", daemon=True)
    watcher.start()
    try:
        yield progress
    except KeyboardInterrupt:
        if expired.is_set():
            raise UserError(message) from None
        raise
    finally:
        over.set()
        watcher.join()
        if before is not None:
            signal.signal(signal.SIGINT, before)
