"""A process by a name that no later process bears: machine, process id and the instant of its start.

Process ids come round again, hosts share names and containers share hosts; so a machine is named by the kernel's boot
and the namespace of process ids, and only a process of this machine is ever said to be gone.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

_PR_SET_PDEATHSIG = 1
State = Literal["gone", "stopped", "stuck", "alive"]


@dataclass(frozen=True)
class ProcessId:
    """One process among all that ever ran.

    Attributes:
        host: the machine's name, for people.
        machine: boot and namespace, for comparison; empty where there is no /proc.
        pid: the process id.
        started: clock ticks from the boot to the start of the process.
    """

    host: str
    machine: str
    pid: int
    started: int

    @classmethod
    def own(cls) -> ProcessId:
        """This process."""
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> ProcessId:
        """The process of this machine that has the id now."""
        found = _stat(pid)
        return cls(socket.gethostname(), _machine(), pid, found[1] if found else 0)

    @property
    def local(self) -> bool:
        """Does (or did) it run where its state can be read from here?"""
        return bool(self.machine) and self.machine == _machine()

    def state(self) -> State | None:
        """'gone', 'stopped' (by a signal), 'stuck' (in the kernel, as on a dead disk) or 'alive'; None: not to be told.

        A process that has ended and is not yet waited for is gone.
        """
        if not self.local:
            return None
        found = _stat(self.pid)
        if found is None or found[1] != self.started or found[0] in "ZX":
            return "gone"
        return "stopped" if found[0] in "Tt" else "stuck" if found[0] == "D" else "alive"

    def kill(self) -> None:
        """End it at once, stopped or not, if it is still there."""
        if self.state() not in (None, "gone"):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, signal.SIGKILL)

    def __str__(self) -> str:
        """As a person says it."""
        return f"process {self.pid} on {self.host}"


def end_with_parent() -> None:
    """Have the kernel send SIGTERM when the process that started this one dies, however it dies (Linux)."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@cache
def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _stat(pid: int) -> tuple[str, int] | None:
    """The kernel's letter for a process's state and when it started."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[19])
