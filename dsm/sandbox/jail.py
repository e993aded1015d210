"""One jail: bubblewrap around a warm server that runs one program after another, each in a process of its own.

In the jail there are no network, no other processes, no /proc, no /sys, no environment, and no file that can be
written: only the interpreter, its packages and the system's libraries, read-only. So a program leaves nothing for the
next. A jail that stops answering is thrown away; the next program gets a new one.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from dsm.config.sandbox import SandboxConfig
from dsm.sandbox.inside import frames

Status = Literal["ok", "error", "timeout", "memory", "output", "killed", "crashed"]

_START_S = 120.0  # importing SymPy takes seconds on a busy machine
_GRACE_S = 5.0  # the server stops a late program; this much later the server itself counts as stuck
_SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/etc/alternatives")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")


@dataclass(frozen=True, slots=True)
class Program:
    """Python source to run as `__main__`.

    `result` is a name ("answer") or a call ("solution()") to look at after the code has run: its text is the value. A
    `timeout_s` of its own takes the place of the config's.
    """

    code: str
    result: str | None = None
    timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Execution:
    """How a program ended.

    Statuses: `ok`; `error`: an exception nobody caught, or `sys.exit` with an error; `timeout`: too long on the clock
    or the CPU; `memory`: MemoryError; `output`: wrote far too much; `killed`: by SIGKILL, not ours (the machine ran out
    of memory); `crashed`: died of another signal, or ended without coming to its end (`os._exit`).

    `value` is `str()` of what `Program.result` names, None if it names nothing the program defined or if the program
    did not end `ok`. `stderr` ends with the traceback of an `error`, without frames of ours. Of long texts the start
    and the end are kept, with a line between them that counts what is missing. `seconds` is time on the clock.

    All of it is what the program says of itself: code that runs in the program's process, tests appended to it too, can
    be deceived by it. No other program's execution is touched.
    """

    status: Status
    stdout: str = ""
    stderr: str = ""
    value: str | None = None
    seconds: float = 0.0


class JailError(Exception):
    """The jail did not come up; the text says what its processes said."""


class Jail:
    """A server behind bars, for one thread at a time.

    It lives no longer than the thread that made it: the kernel ends the jail with that thread.

    Raises:
        JailError: if it does not come up.
    """

    def __init__(self, config: SandboxConfig, *, weaker: bool = False, number: int = 0) -> None:
        self._config = config
        command = launch_command(config, weaker=weaker, number=number)
        ours, theirs = socket.socketpair()
        self._channel = ours
        self._process = subprocess.Popen(
            command,
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=_environment(),  # nothing of ours: even what a jail clears can be read back from /proc
            start_new_session=True,
        )
        theirs.close()
        try:
            frames.send(ours, _settings(config, weaker=weaker))
            frames.receive(ours, _START_S)
        except (OSError, EOFError, ValueError) as error:
            self._kill()
            assert self._process.stderr is not None
            said = self._process.stderr.read().decode(errors="replace").strip()
            self.close()
            late = f"no answer after {_START_S:.0f} s" if isinstance(error, TimeoutError) else ""
            raise JailError(said or late or "its server ended without a word") from error

    def run(self, program: Program) -> tuple[Execution, bool]:
        """Run one program. Also says whether the jail can take another; if not, close it."""
        timeout_s = program.timeout_s or self._config.timeout_s
        request = {"code": program.code, "result": program.result, "timeout_s": timeout_s}
        try:
            self._channel.settimeout(_GRACE_S)
            frames.send(self._channel, request)
            return Execution(**frames.receive(self._channel, timeout_s + _GRACE_S)), True
        except TimeoutError:
            return Execution("timeout", seconds=timeout_s), False
        except (OSError, EOFError, ValueError):
            return Execution("crashed"), False

    def close(self) -> None:
        """End every process of the jail."""
        self._kill()
        self._channel.close()
        assert self._process.stderr is not None
        self._process.stderr.close()

    def _kill(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)  # bubblewrap takes all it holds down with it
            self._process.wait()


def launch_command(config: SandboxConfig, *, weaker: bool, number: int) -> list[str]:
    """The command that starts worker `number`'s jail; `weaker` leaves the jail out and keeps all the rest."""
    home = "/jail" if not weaker else str(_inside().parent)
    main = f"import sys; sys.path.insert(0, {home!r}); from inside.server import main; main()"
    command = [_python(), "-s", "-S", "-P", "-B", "-c", main]
    uid = config.uid + number if os.getuid() == 0 and _is_mapped(config.uid + number) else None
    if not weaker:
        command = [*bwrap_command(config.uid), *command]
    plan = {"uid": uid, "reads": [command[0], *readable_paths()], "command": command, "environment": _environment()}
    return [sys.executable, "-I", "-S", "-B", str(Path(__file__).with_name("launch.py")), json.dumps(plan)]


def _is_mapped(uid: int) -> bool:
    """Whether our user namespace has this user; if not, its root is an ordinary user outside, and stays what it is."""
    lines = Path("/proc/self/uid_map").read_text().splitlines()
    ranges = [(int(first), int(count)) for first, _, count in map(str.split, lines)]
    return any(first <= uid < first + count for first, count in ranges)


def _environment() -> dict[str, str]:
    environment = {
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",  # sets print in the same order each time
        "MALLOC_ARENA_MAX": "2",  # an arena takes 64 MiB of address space, which is limited
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
    if sysconfig.get_config_var("Py_ENABLE_SHARED"):  # where LD_LIBRARY_PATH, which we leave behind, may have led to it
        environment["LD_LIBRARY_PATH"] = str(sysconfig.get_config_var("LIBDIR"))
    return environment


def bwrap_command(uid: int) -> list[str]:
    """bubblewrap and its options, up to where the command in the jail follows."""
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise JailError("bwrap: not found")
    command = [os.path.realpath(bwrap), "--unshare-all", "--unshare-user", "--die-with-parent", "--new-session"]
    command += ["--as-pid-1", "--cap-drop", "ALL", "--uid", str(uid), "--gid", str(uid), "--hostname", "jail"]
    if "--disable-userns" in _bwrap_help(bwrap):  # from 0.8 on; programs are kept from it by the filter as well
        command.append("--disable-userns")
    for path in readable_paths():
        command += ["--ro-bind", path, "/jail/inside" if path == str(_inside()) else path]
    for device in _DEVICES:  # no /dev of bubblewrap's making: it brings a /dev/shm that can be filled
        command += ["--dev-bind", device, device]
    return [*command, "--dir", "/tmp", "--remount-ro", "/", "--chdir", "/tmp", "--"]


@cache
def _bwrap_help(bwrap: str) -> str:
    return subprocess.run([bwrap, "--help"], capture_output=True, text=True, check=False, env={}).stdout


def _settings(config: SandboxConfig, *, weaker: bool) -> dict[str, Any]:
    return {
        "home": "/jail" if not weaker else str(_inside().parent),
        "paths": _packages(),
        "preload": config.preload,
        "memory_bytes": config.memory_mb << 20,
        "output_bytes": config.output_kb << 10,
        "threads": config.threads,
        "readable": [_python(), *readable_paths(), *_DEVICES] if weaker else None,
    }


def _inside() -> Path:
    return Path(__file__).resolve().with_name("inside")


def _python() -> str:
    """The interpreter itself, not a virtual environment's link to it."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def _packages() -> list[str]:
    """Folders of installed packages on our own path, the only ones that programs import from."""
    return [path for path in dict.fromkeys(sys.path) if Path(path).name in ("site-packages", "dist-packages")]


@cache
def readable_paths() -> tuple[str, ...]:
    """What a program may read: the system's libraries, the interpreter and its library, packages, the server."""
    base = os.path.realpath(sys.base_prefix)
    wanted = [*_SYSTEM, sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), *_packages(), str(_inside())]
    wanted.append(_python() if base == "/usr" else base)
    chosen: list[str] = []
    for path in sorted(dict.fromkeys(os.path.abspath(path) for path in wanted if os.path.exists(path)), key=len):
        if not any(path.startswith(f"{other}/") for other in chosen):
            chosen.append(path)
    return tuple(chosen)
