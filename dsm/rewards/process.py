"""A reward function in a process of its own, seen from the trainer: started, asked with a deadline, killed.

A fresh interpreter, not a fork: the trainer has threads, and a GPU. A hang inside C code, a crash, a closed socket:
whatever becomes of the process, the trainer sees a reason within the deadline, and the next call has a new process.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from dsm.rewards.worker import LENGTH

_BOOT = "import sys, json; sys.path[:] = json.loads(sys.argv.pop()); from dsm.rewards.worker import main; main()"
_LARGEST_REPLY = 1 << 28


class LostError(Exception):
    """The process is gone, and the text says why; another one may do better."""


class LoadError(Exception):
    """The function cannot be loaded, and the text says why."""


@dataclass(frozen=True)
class FunctionProcess:
    """What a process is started with: see `FunctionPart`."""

    function: str
    arguments: Mapping[str, Any] | None
    start_s: float
    memory_mb: int

    def start(self) -> Worker:
        """A process that has loaded the function.

        Raises:
            LoadError: if it cannot.
        """
        return Worker(self)


class Worker:
    """One such process. Belongs to the thread that has made it, with which it ends."""

    def __init__(self, start: FunctionProcess) -> None:
        ours, theirs = socket.socketpair()
        settings = {
            "function": start.function,
            "arguments": start.arguments,
            "memory_mb": start.memory_mb,
            "parent": os.getpid(),
        }
        here = os.getcwd()
        path = [folder or here for folder in sys.path]
        arguments = [str(theirs.fileno()), json.dumps(settings), json.dumps([*path, here])]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, *arguments],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is the trainer's affair; and its children can be killed with it
            )
        self._link = ours
        self.kill = weakref.finalize(self, _kill, self._process)  # from any thread; at the latest at the very end
        try:
            reply = self._reply(start.start_s)
        except LostError as lost:
            raise LoadError(str(lost).replace("the call", "loading it").replace("timeout_s", "start_s")) from None
        if "error" in reply:
            self._end()
            raise LoadError(reply["error"])

    def ask(self, request: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """One call of `worker.call`.

        Raises:
            LostError: if no answer came in time or the process ended; it is dead now.
        """
        data = pickle.dumps(dict(request))
        try:
            self._link.settimeout(timeout_s)
            self._link.sendall(LENGTH.pack(len(data)) + data)
        except OSError:
            raise self._lost() from None
        return self._reply(timeout_s)

    def _reply(self, timeout_s: float) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        try:
            size = LENGTH.unpack(self._read(LENGTH.size, deadline))[0]
            if size > _LARGEST_REPLY:
                raise OSError
            reply: dict[str, Any] = json.loads(self._read(size, deadline))
        except TimeoutError:
            self._end()
            raise LostError(f"the call took longer than timeout_s={timeout_s:g}") from None
        except (OSError, ValueError):
            raise self._lost() from None
        return reply

    def _read(self, size: int, deadline: float) -> bytes:
        parts: list[bytes] = []
        while size:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._link.settimeout(left)
            part = self._link.recv(min(size, 1 << 20))
            if not part:
                raise ConnectionError
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _lost(self) -> LostError:
        """How the process ended; if it goes on without us, it ends now."""
        status: int | None = None
        with suppress(subprocess.TimeoutExpired):
            status = self._process.wait(1.0)
        self._end()
        if status is None:
            return LostError("the call closed its process's files")
        if status < 0:
            return LostError(f"the call ended its process: {signal.Signals(-status).name}")
        return LostError(f"the call ended its process: exit status {status}")

    def _end(self) -> None:
        self.kill()
        self._link.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and those it has started, at once."""
    if process.poll() is None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
