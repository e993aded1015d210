"""The processes behind a `GraderPool`: a nursery that has everything imported, and workers forked from it.

The nursery is a fresh interpreter with one thread that does nothing but fork: neither the trainer nor a process with
threads is ever copied, and a worker that had to be killed is replaced within milliseconds. It ends when the pool's
end of its socket closes, however that came about, and takes its workers along.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
from collections.abc import Callable
from typing import cast

from dsm.answers.verdict import Verdict, ungradable
from dsm.config.answers import GraderConfig

READY = b"+"
FORK, REAP = b"F", b"R"
REQUEST = struct.Struct("!cq")
PID = struct.Struct("!q")
CODES = {"correct": "c", "wrong": "w", "ungradable": "u"}

_ORPHAN_CHECK_S = 2.0
_MEMORY_SLACK_MB = 512  # of addresses: the interpreter and SymPy take up about 200
_PR_SET_PDEATHSIG = 1
# What makes the graders import and build all they ever need; the last pair is one that only the fallback reads.
_WARM_UP = (
    ("1/2", "0.5"),
    (r"\sqrt{2}+x", "x+2^{0.5}"),
    (r"\{1, 2\}", "2, 1"),
    (r"\int_0^1 x^2 dx", r"\oint_0^1 t dt"),
)

Grade = Callable[[str, str, GraderConfig], Verdict]


GRADERS = {"strict": "dsm.answers.strict:grade", "paper": "dsm.answers.paper:grade"}


def grader(path: str) -> Grade:
    """The function at `module:function`."""
    module, _, function = path.partition(":")
    return cast("Grade", getattr(importlib.import_module(module), function))


def checked(grade: Grade, gold: str, answer: str, config: GraderConfig) -> Verdict:
    """A verdict whatever happens: an exception of the grader is ungradable, with the exception's name."""
    try:
        return grade(gold, answer, config)
    except MemoryError:
        return ungradable("memory")
    except Exception as error:
        return ungradable(f"error: {type(error).__name__}")


# ---------------------------------------------------------------- the nursery


def nursery(control_fd: int, settings: str, path: str) -> None:
    """Serve fork requests until the pool goes away. Each comes with the socket that the new worker will use."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    config = GraderConfig.model_validate_json(settings)
    grade = grader(path)
    if path in GRADERS.values():
        for gold, answer in _WARM_UP:
            grade(gold, answer, config)
    gc.collect()
    gc.freeze()  # the collector of a worker leaves the shared pages alone
    control = socket.socket(fileno=control_fd)
    parent, workers = os.getppid(), set[int]()
    control.sendall(READY)
    try:
        while True:
            readable, _, _ = select.select([control], [], [], _ORPHAN_CHECK_S)
            if not readable:
                if os.getppid() != parent:  # a forked copy of the pool's process may hold its end open
                    return
                continue
            message, fds, _, _ = socket.recv_fds(control, REQUEST.size, 1)
            if len(message) < REQUEST.size:
                return
            request, pid = REQUEST.unpack(message)
            if request == FORK:
                pid = os.fork()
                if pid == 0:
                    control.close()
                    _become_worker(fds[0], grade, config)
                os.close(fds[0])
                workers.add(pid)
                control.sendall(PID.pack(pid))
            elif pid in workers:
                workers.discard(pid)
                os.waitpid(pid, 0)
    finally:
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


# ---------------------------------------------------------------- a worker


def _become_worker(fd: int, grade: Grade, config: GraderConfig) -> None:
    """Grade until the pool closes the socket; never returns."""
    try:
        _limit(config)
        with socket.socket(fileno=fd) as link, link.makefile("rb") as requests:
            for line in requests:
                for gold, answer in json.loads(line):
                    verdict = checked(grade, gold, answer, config)
                    link.sendall(json.dumps([CODES[verdict.outcome], verdict.reason]).encode() + b"\n")
                link.sendall(b"%d\n" % _peak_mb())
    except OSError:
        pass  # the pool is gone
    finally:
        os._exit(0)


def _limit(config: GraderConfig) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    limit = (config.memory_mb + _MEMORY_SLACK_MB) << 20
    with contextlib.suppress(ValueError, OSError):  # macOS knows no such limit
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # busy or not, a worker dies with the nursery
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _peak_mb() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> (20 if sys.platform == "darwin" else 10)
