"""The server inside the jail, its first process: warm once, then one fork for each program.

It reads programs from the socket it was given as stdin, one at a time. The forked process has no way back to it: the
socket is closed, memory is a copy, signals are filtered, and output comes through pipes made for this run.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import select
import signal
import socket
import sys
import time
from typing import Any

from . import frames
from .landlock import restrict_to_reading
from .program import ResultSlot, Stage, run
from .seccomp import install, server_filter

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_STOP_AFTER = 64  # times the output that is kept

# Half of SymPy is built when it is first used; programs then find it in memory that they share.
_EXERCISE = {
    "numpy": "import numpy as np; a = np.array([[2.0, 1.0], [1.0, 3.0]]); np.linalg.solve(a, a @ a).round(3).tolist()",
    "sympy": """
from sympy import *
x, y = symbols("x y"); n = symbols("n", integer=True, positive=True)
str([solve(x**2 - 3*x + 2, x), solve([x + y - 3, x - y - 1], [x, y]), solveset(x**3 - x, x), solve(x**2 + 1 > 2, x)])
str([simplify((x**2 - 1) / (x - 1)), factor(x**3 - 1), expand((x + 1)**3), integrate(x * exp(x), x), diff(sin(x), x)])
str([limit(sin(x) / x, x, 0), summation(n, (n, 1, 10)), sqrt(8), Rational(1, 3) + pi, N(pi, 20), nsimplify("0.25")])
str([Matrix([[1, 2], [3, 4]]).inv(), trigsimp(sin(x)**2 + cos(x)**2), binomial(5, 2), factorint(360), gcd(4, 6)])
latex(sqrt(x) / 2); parse_expr("2*x + 1"); lambdify(x, x**2)(3)
""",
}


def main() -> None:
    """Serve until the client closes its end of the socket."""
    channel = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    settings = frames.receive(channel)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_DUMPABLE, 0)  # nobody traces us or reads our memory; forks inherit it
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if settings["readable"]:
        restrict_to_reading(settings["readable"])
    _warm_up(settings)
    slot, stage = ResultSlot(settings["output_bytes"]), Stage()
    install(server_filter(os.uname().machine))
    frames.send(channel, {"ready": True})
    while True:
        try:
            request = frames.receive(channel)
        except EOFError:
            return
        frames.send(channel, _serve(request, settings, slot, stage))


_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, *map(ctypes.c_ulong, (value, 0, 0, 0))) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}, {value})")


def _warm_up(settings: dict[str, Any]) -> None:
    import site

    sys.path[:] = [path for path in sys.path if path != settings["home"]] + settings["paths"]
    site.setquit()  # `exit()`, which programs call; the interpreter was started without `site`
    for name in settings["preload"]:
        importlib.import_module(name)
        exec(_EXERCISE.get(name, ""), {})
    gc.collect()
    gc.freeze()  # a collection in a fork would touch, and so copy, every page


def _serve(request: dict[str, Any], settings: dict[str, Any], slot: ResultSlot, stage: Stage) -> dict[str, Any]:
    slot.clear()
    out, err = os.pipe(), os.pipe()
    start = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.dup2(out[1], 1)
        os.dup2(err[1], 2)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        run(
            request["code"],
            request["result"],
            slot,
            stage,
            timeout_s=request["timeout_s"],
            memory=settings["memory_bytes"],
            threads=settings["threads"],
        )
    os.close(out[1])
    os.close(err[1])
    kept = settings["output_bytes"]
    captured = {out[0]: Capture(kept), err[0]: Capture(kept)}
    stopped = _watch(pid, captured, start + request["timeout_s"], kept * _STOP_AFTER)
    _, ending, usage = os.wait4(pid, 0)
    seconds = time.monotonic() - start
    for descriptor in captured:
        os.close(descriptor)
    if os.getpid() == 1:
        _kill_all()
    value = None
    if stopped is not None:
        status = stopped
    elif os.WIFSIGNALED(ending):
        late = usage.ru_utime + usage.ru_stime >= request["timeout_s"] - 0.1
        by_force = os.WTERMSIG(ending) in (signal.SIGKILL, signal.SIGXCPU)
        status = ("timeout" if late else "killed") if by_force else "crashed"
    else:
        left = slot.take() if os.WEXITSTATUS(ending) == 0 else None
        status, value = left if left is not None else ("crashed", None)
    texts = [capture.text() for capture in captured.values()]
    return {"status": status, "stdout": texts[0], "stderr": texts[1], "value": value, "seconds": seconds}


def _watch(pid: int, captured: dict[int, Capture], deadline: float, most: int) -> str | None:
    """Read output until the process has ended; kill it when it is late or writes too much, and say so."""
    stopped = None
    ended = os.pidfd_open(pid)
    poll = select.poll()
    for descriptor in (ended, *captured):
        poll.register(descriptor, select.POLLIN)
    try:
        running, waiting = True, len(captured)
        while running or waiting:
            remaining = deadline - time.monotonic()
            if stopped is None and remaining <= 0:
                stopped = "timeout"
                os.kill(pid, signal.SIGKILL)
            for descriptor, _ in poll.poll(max(remaining, 0) * 1000 if stopped is None else None):
                if descriptor == ended:
                    running = False
                    poll.unregister(ended)
                    continue
                data = os.read(descriptor, 1 << 16)
                if not data:
                    waiting -= 1
                    poll.unregister(descriptor)
                    continue
                captured[descriptor].add(data)
                if stopped is None and captured[descriptor].total > most:
                    stopped = "output"
                    os.kill(pid, signal.SIGKILL)
    finally:
        os.close(ended)
    return stopped


def _kill_all() -> None:
    """As the first process of our own process namespace: no program leaves another behind. (None can; this is sure.)"""
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(-1, signal.SIGKILL)
        while True:
            os.waitpid(-1, 0)


class Capture:
    """The first three quarters of `limit` bytes, and the last quarter of what follows; the rest is counted."""

    def __init__(self, limit: int) -> None:
        self._room = limit * 3 // 4
        self._last = limit - self._room
        self._head = bytearray()
        self._tail = bytearray()
        self.total = 0

    def add(self, data: bytes) -> None:
        """Take the next bytes."""
        self.total += len(data)
        free = self._room - len(self._head)
        self._head += data[:free]
        self._tail += data[free:]
        if len(self._tail) > 4 * self._last:
            del self._tail[: -self._last]

    def text(self) -> str:
        """What was kept, with a line between head and tail that says how many bytes are missing there."""
        tail = self._tail[-self._last :]
        missing = self.total - len(self._head) - len(tail)
        gap = f"\n[... {missing} bytes left out ...]\n".encode() if missing else b""
        return (self._head + gap + tail).decode(errors="replace")
