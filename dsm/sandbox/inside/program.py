"""The life of one program, in its own process: bind it, run it, leave its result where the server finds it.

From `run` on everything here is in the program's hands: it may replace any module or builtin of this process, and it
may write a result of its own invention. That harms nobody else: the process has no descriptor but 0, 1 and 2, and the
memory that takes its result holds this result only.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import linecache
import mmap
import os
import random
import re
import struct
import sys
import threading
import traceback
import types
from typing import NoReturn

from .limits import set_limits, use_reserve
from .seccomp import install, program_filter

_HEAD = struct.Struct("=BI")  # what became of the program, and how many bytes of value follow
_OK, _NO_VALUE, _ERROR, _MEMORY = 1, 2, 3, 4
_STATUS = {_OK: "ok", _NO_VALUE: "ok", _ERROR: "error", _MEMORY: "memory"}
_NAME = re.compile(r"\s*([^\W\d]\w*)")
_FILE, _RESULT = "<program>", "<result>"


class ResultSlot:
    """Memory shared by the server and the one program that runs: its status and value, `size` bytes at most."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._memory = mmap.mmap(-1, _HEAD.size + size)

    def clear(self) -> None:
        """Forget the last program's."""
        self._memory[: _HEAD.size] = bytes(_HEAD.size)

    def put(self, code: int, value: str | None = None) -> None:
        """Say how the program ended. Only as much of the value as fits, cut between characters."""
        data = (value or "").encode(errors="replace")[: self._size].decode(errors="ignore").encode()
        self._memory[_HEAD.size : _HEAD.size + len(data)] = data
        self._memory[: _HEAD.size] = _HEAD.pack(code, len(data))

    def take(self) -> tuple[str, str | None] | None:
        """Status and value, or None if the program left nothing sensible. Never raises, whatever was written."""
        code, length = _HEAD.unpack(self._memory[: _HEAD.size])
        if code not in _STATUS or length > self._size:
            return None
        text = self._memory[_HEAD.size : _HEAD.size + length].decode(errors="replace")
        return _STATUS[code], text if code == _OK else None


class Stage:
    """What is made once so that no run has to make it: streams on descriptors 0, 1 and 2, and the filter."""

    def __init__(self) -> None:
        self.stdin = open(0, closefd=False)  # noqa: SIM115
        self.stdout, self.stderr = _writer(1), _writer(2)
        self.filter = program_filter(os.uname().machine)
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed(0)


def _writer(descriptor: int) -> io.TextIOWrapper:
    """Line by line, so that what was printed before a program is stopped is not lost."""
    return open(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def run(
    code: str, result: str | None, slot: ResultSlot, stage: Stage, *, timeout_s: float, memory: int, threads: int
) -> NoReturn:
    """Bind the calling process, which writes to descriptors 1 and 2, then run `code` in it, look at `result`, end it.

    The same program gives the same result each time: its random numbers start from seed 0.
    """
    leave = os._exit
    try:
        os.closerange(3, 1 << 16)
        sys.stdin = stage.stdin
        sys.stdout = stage.stdout
        sys.stderr = stage.stderr
        random.seed(0)
        sys.set_int_max_str_digits(0)  # the limit of time does
        set_limits(memory=memory, cpu_s=timeout_s, threads=threads)
        install(stage.filter)
    except BaseException as error:
        os.write(2, f"the sandbox could not start the program: {error!r}\n".encode())
        leave(70)
    try:
        try:
            status, value = _execute(code, result)
        except BaseException as error:  # of the program's; SystemExit and KeyboardInterrupt too
            status, value = _report(error), None
        for stream in (stage.stdout, stage.stderr, sys.stdout, sys.stderr):  # the last two are the program's choice
            with contextlib.suppress(BaseException):
                stream.flush()
        slot.put(status, value)
    finally:
        leave(0)  # whatever the program has made of the lines above


def _execute(code: str, result: str | None) -> tuple[int, str | None]:
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    namespace = module.__dict__
    namespace["__builtins__"] = builtins
    linecache.cache[_FILE] = (len(code), None, code.splitlines(keepends=True), _FILE)  # lines for tracebacks
    try:
        exec(compile(code, _FILE, "exec", dont_inherit=True), namespace)
    except SystemExit as leaving:
        if leaving.code not in (None, 0):
            raise
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    if result is None:
        return _NO_VALUE, None
    name = _NAME.match(result)
    if name is not None and name[1] not in namespace and not hasattr(builtins, name[1]):
        return _NO_VALUE, None  # the program does not define it
    value = eval(compile(result.strip(), _RESULT, "eval", dont_inherit=True), namespace)
    return _OK, str(_plain(value))


def _plain(value: object) -> object:
    """NumPy's numbers and arrays as Python's, inside lists too: `[0.5]`, not `[np.float64(0.5)]`."""
    kind = type(value)
    if kind.__module__ == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    if kind in (list, tuple, set):
        return kind(_plain(part) for part in value)  # type: ignore[attr-defined]
    if kind is dict:
        return {_plain(key): _plain(part) for key, part in value.items()}  # type: ignore[attr-defined]
    return value


def _report(error: BaseException) -> int:
    """Write the traceback as Python would, without our frames; the last line names the error."""
    status = _ERROR
    try:
        if isinstance(error, MemoryError):
            status = _MEMORY
            use_reserve()
        if isinstance(error, SystemExit):
            if not isinstance(error.code, int):
                print(error.code, file=sys.stderr)
            return status
        frames = error.__traceback__
        while frames is not None and frames.tb_frame.f_code.co_filename not in (_FILE, _RESULT):
            frames = frames.tb_next
        traceback.print_exception(type(error), error, frames)
    except BaseException:  # the program's exception, or what it made of our modules, cannot even be printed
        with contextlib.suppress(BaseException):
            os.write(2, f"{type(error).__name__}\n".encode(errors="replace"))
    return status
