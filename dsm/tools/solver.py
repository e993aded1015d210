"""An exact solver of equations that are given as text: `solve("x**2 + 2*x - 3 = 0")` is `[-3, 1]`.

Text, also a model's, is only ever parsed, never evaluated. SymPy works in a process of its own that is killed when the
time is up; the next equations get a new one.
"""

from __future__ import annotations

import atexit
import json
import os
import pickle
import select
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

from dsm.tools.equations import Problem, SolveError, read_problem, solve_problem

__all__ = ["SolveError", "Solver", "solve"]

_LENGTH = struct.Struct("!I")
_START_S = 120.0  # importing SymPy takes seconds on a busy machine
_MEMORY_BYTES = 2 << 30


class Solver:
    """A warm solving process, started with the first equations. Any thread; one problem at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def solve(
        self, equations: str | Sequence[str], unknowns: str | Sequence[str] | None = None, *, timeout_s: float = 5.0
    ) -> list[Any]:
        """See `solve`."""
        problem = read_problem(equations, unknowns)
        with self._lock:
            try:
                if self._process is None or self._process.poll() is not None or self._owner != os.getpid():
                    self._start()
                assert self._process is not None
                assert self._process.stdin is not None
                self._process.stdin.write(_framed((problem, timeout_s)))
                self._process.stdin.flush()
                solved, answer = self._receive(timeout_s)
            except TimeoutError:
                self._end()
                raise SolveError(f"equations: not solved within {timeout_s:g} s") from None
            except (OSError, EOFError):
                self._end()
                raise SolveError("equations: the solver's process ended, for want of memory perhaps") from None
            except BaseException:  # Ctrl-C: what comes out of the process next would be another problem's answer
                self._end()
                raise
        if not solved:
            raise SolveError(answer)
        return cast("list[Any]", answer)

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def _start(self) -> None:
        boot = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from dsm.tools.solver import main; main()"
        path = json.dumps([folder or os.getcwd() for folder in sys.path])
        self._process = subprocess.Popen(
            [sys.executable, "-c", boot, path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ.get("PATH", ""), "PYTHONHASHSEED": "0"},  # SymPy's results can hang on set order
            start_new_session=True,  # Ctrl-C at the terminal is ours to handle
        )
        self._owner = os.getpid()
        self._receive(_START_S)

    def _receive(self, timeout_s: float) -> tuple[bool, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        descriptor, deadline = self._process.stdout.fileno(), time.monotonic() + timeout_s

        def read(count: int) -> bytes:
            data = b""
            while len(data) < count:
                if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
                    raise TimeoutError
                part = os.read(descriptor, count - len(data))
                if not part:
                    raise EOFError
                data += part
            return data

        (length,) = _LENGTH.unpack(read(_LENGTH.size))
        # Ours to trust: the process runs our code and SymPy's alone, on trees that were checked.
        return cast("tuple[bool, Any]", pickle.loads(read(length)))

    def _end(self) -> None:
        if self._process is None or self._owner != os.getpid():
            self._process = None
            return
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        self._process.wait()
        self._process = None


_shared = Solver()
atexit.register(_shared.close)


def solve(
    equations: str | Sequence[str], unknowns: str | Sequence[str] | None = None, *, timeout_s: float = 5.0
) -> list[Any]:
    """Solve equations exactly.

    `equations` is one text (several separated by `;`, commas or line ends) or a list of texts, in Python's notation or
    LaTeX; decimals are read as exact fractions. `unknowns` are the variables to solve for ("x", "x, y", ["x", "y"]);
    None is all there are, in alphabetical order. Other variables are parameters, taken to be in general position:
    `a*x = b` has the solution `b/a`.

    Returns:
        For one unknown a list of SymPy expressions: numbers in ascending order (of real parts, then imaginary parts),
        then expressions in parameters. For several, a list of dictionaries from every unknown's name to its value, in
        the same order. No solution is `[]`. Where there are infinitely many, free unknowns stand for themselves:
        `x = x` gives `[x]`, `x + y = 3` gives `[{"x": 3 - y, "y": y}]`, `tan(x) = 1` the family `pi*n + pi/4` with an
        integer `n`.
        Algebraic equations in one unknown are solved over the complex numbers; others, as those with exponentials or
        absolute values of it, over the real numbers, as far as there are closed forms.

    Raises:
        SolveError: a ValueError of one line: text that is no equation, over a limit of size, no exact solution found,
            or not solved within `timeout_s` seconds.
    """
    return _shared.solve(equations, unknowns, timeout_s=timeout_s)


# ---------------------------------------------------------------- in the process


def _framed(message: object) -> bytes:
    data = pickle.dumps(message)
    return _LENGTH.pack(len(data)) + data


def main() -> None:
    """Solve what comes on standard input until it ends; a problem that outlives its solver is ended by an alarm."""
    import resource
    import signal

    import sympy  # noqa: F401  # so that the first problem's time is its own

    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    most = _MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(_MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints, prints elsewhere
    sink.write(_framed((True, None)))
    sink.flush()
    while head := source.read(_LENGTH.size):
        problem, timeout_s = pickle.loads(source.read(*_LENGTH.unpack(head)))
        signal.setitimer(signal.ITIMER_REAL, timeout_s + 1)
        sink.write(_framed(_answer(problem)))
        sink.flush()
        signal.setitimer(signal.ITIMER_REAL, 0)


def _answer(problem: Problem) -> tuple[bool, Any]:
    try:
        return True, solve_problem(problem)
    except SolveError as error:
        return False, str(error)
    except MemoryError:
        return False, "equations: too large to be solved"
    except Exception as error:  # SymPy's own: a defect of its algorithms, not of the text
        return False, f"equations: no exact solution found ({type(error).__name__})"
