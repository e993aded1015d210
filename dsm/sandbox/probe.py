"""Can programs be shut in here? Asked once, by building a jail and trying to get out of it.

The answer is yes, or an error that says what is missing and which command brings it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Literal

from dsm.config.sandbox import SandboxConfig
from dsm.errors import UserError
from dsm.sandbox.inside import landlock, seccomp
from dsm.sandbox.jail import Jail, JailError, Program

Isolation = Literal["jail", "weaker"]

_ESCAPES = """
import ctypes, json, os, socket
def can(attempt):
    try:
        attempt()
    except (OSError, MemoryError):
        return False
    return True
def connect():
    socket.create_connection(("127.0.0.1", 9), 1)
def unix():
    socket.socket(socket.AF_UNIX)
def fork():
    if os.fork() == 0:
        os._exit(0)
found = {
    "the network": can(connect), "Unix sockets": can(unix), "other processes": can(fork),
    "signals to others": can(lambda: os.kill(os.getppid(), 0)), "files outside": can(lambda: open(SECRET)),
    "the list of processes": can(lambda: os.listdir("/proc/1")), "writing": can(lambda: open("/tmp/file", "w")),
}
escapes = json.dumps([name for name, reached in found.items() if reached])
"""
_WEAKER_LACKS = ("files outside", "the list of processes")  # where the kernel has no Landlock


def probe(config: SandboxConfig) -> Isolation:
    """How programs will be shut in: in a jail, or, where that cannot be and `allow_weaker` is set, by filter alone.

    Raises:
        UserError: if there can be no jail, or if a program can get out of it.
    """
    if sys.platform != "linux" or not seccomp.supported(os.uname().machine):
        raise UserError(
            f"sandbox: model-written programs run on Linux on x86_64 or aarch64 only, this is {sys.platform} on "
            f"{os.uname().machine}"
        )
    problem = _try("jail", config.uid)
    if problem is None:
        return "jail"
    if not config.allow_weaker:
        raise UserError(
            f"sandbox: model-written programs cannot be isolated here: {problem}; or set sandbox.allow_weaker=true to "
            "run them under a system-call filter and limits alone"
        )
    weaker = _try("weaker", config.uid)
    if weaker is not None:
        raise UserError(f"sandbox.allow_weaker=true: not even that works here: {weaker}")
    _warn(problem)
    return "weaker"


@cache
def _warn(problem: str) -> None:
    files = "opens files of the interpreter only" if landlock.available() else "can read every file this user can"
    warnings.warn(
        f"sandbox.allow_weaker=true: model-written programs run without a jail ({problem}). A system-call filter still "
        f"denies them the network, other processes and writing; a program {files}.",
        stacklevel=4,
    )


@cache
def _try(isolation: Isolation, uid: int) -> str | None:
    """Build one and attack it: what is wrong with it, or None."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        secret = Path(folder) / "secret"
        secret.write_text("secret")
        secret.chmod(0o644)
        try:
            jail = Jail(SandboxConfig(uid=uid, preload=[]), weaker=isolation == "weaker")
        except JailError as error:
            return _advice(str(error))
        try:
            execution, _ = jail.run(Program(f"SECRET = {str(secret)!r}{_ESCAPES}", "escapes"))
        finally:
            jail.close()
    if execution.value is None:
        return f"a first program came to '{execution.status}': {execution.stderr.strip()[-500:]!r}"
    escapes = json.loads(execution.value)
    if isolation == "weaker" and not landlock.available():
        escapes = [name for name in escapes if name not in _WEAKER_LACKS]
    return f"a program gets at {', '.join(escapes)}" if escapes else None


# ---------------------------------------------------------------- what to do about it

_KERNEL = Path("/proc/sys")
_CONTAINERS = (Path("/.dockerenv"), Path("/run/.containerenv"))
_INSTALLERS = {
    "apt-get": "apt-get install bubblewrap",
    "dnf": "dnf install bubblewrap",
    "yum": "yum install bubblewrap",
    "zypper": "zypper install bubblewrap",
    "pacman": "pacman -S bubblewrap",
    "apk": "apk add bubblewrap",
}
# settings of the kernel that keep ordinary users from making namespaces: its file, the value that does, the cure
_SWITCHES = (
    ("kernel/unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
    ("user/max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=15000"),
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"),
)


def _advice(said: str) -> str:
    """What the jail's start-up said, on one line, and the command that helps."""
    said = " ".join(said.split())[-500:]
    sudo = "" if os.getuid() == 0 else "sudo "
    if shutil.which("bwrap") is None:
        command = next((command for tool, command in _INSTALLERS.items() if shutil.which(tool)), None)
        how = f"install it: {sudo}{command}" if command else "install the package bubblewrap"
        return f"bubblewrap (bwrap) is missing; {how}"
    if "cannot be read by user" in said:
        return f"{said}; give others the right to read it (chmod -R o+rX), or use an interpreter they may read"
    for file, value, command in _SWITCHES:
        path = _KERNEL / file
        if path.is_file() and path.read_text().strip() == value:
            return f"the kernel forbids it ({said}); allow it: {sudo}{command}"
    if any(mark.exists() for mark in _CONTAINERS) or "KUBERNETES_SERVICE_HOST" in os.environ:
        return (
            f"this container forbids it ({said}); start it with: docker run --security-opt seccomp=unconfined "
            "--security-opt apparmor=unconfined"
        )
    return f"bwrap says: {said}"
