"""The step between us and the jail, a process of its own: `python launch.py PLAN`. Standard library only.

Started by root, it becomes an unprivileged user before anything else happens: limits bind that user, as they never bind
root, and a hole in the jail's wall would open onto that user's view. Folders that only root can reach on the way to the
interpreter (a virtual environment below /root) are opened for it in a mount namespace of this process alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import stat
import sys
from typing import Any

_CLONE_NEWNS = 0x20000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Carry out the plan, which ends with becoming the jail's server."""
    plan: dict[str, Any] = json.loads(sys.argv[1])
    _volunteer()
    os.chdir("/")
    os.umask(0o022)
    if plan["uid"] is not None:
        with contextlib.suppress(PermissionError):  # of a root without CAP_SYS_ADMIN; see the check below
            open_the_way(plan["reads"])
        become(plan["uid"])
    for path in plan["reads"]:
        if not os.access(path, os.R_OK):
            sys.exit(f"{path} cannot be read by user {os.getuid()}")
    os.execve(plan["command"][0], plan["command"], plan["environment"])


def become(uid: int) -> None:
    """Give up being root for good."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


def _volunteer() -> None:
    """When the machine runs out of memory, the kernel is to end a program of the model's, not the training run."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("500")


def open_the_way(paths: list[str]) -> None:
    """Let everybody reach these paths, and nothing beside them, in this process' view of the file system."""
    closed = sorted({folder for path in paths if (folder := _first_closed(path)) is not None})
    if not closed:
        return
    _check(_libc.unshare(_CLONE_NEWNS))
    _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    inside = [path for path in paths if _first_closed(path) is not None]
    held = {path: os.open(path, os.O_PATH) for path in inside}
    for folder in closed:
        _mount("tmpfs", folder, "tmpfs", 0, "mode=755,size=1m")
    for path in sorted(held, key=len):  # a folder before what is in it
        if os.path.exists(path):
            continue
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if stat.S_ISDIR(os.fstat(held[path]).st_mode):
            os.mkdir(path)
        else:
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        _mount(f"/proc/self/fd/{held[path]}", path, None, _MS_BIND | _MS_REC)


def _first_closed(path: str) -> str | None:
    """The topmost folder above `path` that others may not pass."""
    folders = []
    while (path := os.path.dirname(path)) != "/":
        folders.append(path)
    for folder in reversed(folders):
        if not os.stat(folder).st_mode & stat.S_IXOTH:
            return folder
    return None


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    encoded = [None if text is None else text.encode() for text in (source, target, kind, data)]
    _check(_libc.mount(*encoded[:3], ctypes.c_ulong(flags), encoded[3]))


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    main()
