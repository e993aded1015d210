"""One run folder, one run: a lock file that names its holder, renews itself and outlives no process for long.

The file is made with O_EXCL, which is atomic on NFS too, and touched every few seconds. On the same machine the process
itself can be looked at, so what a killed run left is taken over at once; so it is by the same Slurm job, which comes
back from the queue on another node. Elsewhere the file's age tells, by the clock of the file server: whoever finds a
lock that is young waits to see whether it is renewed. A holder that was stopped so long that it lost its lock ends
itself.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dsm.errors import LOST_RANK, UserError
from dsm.runtime.process import ProcessId
from dsm.runtime.slurm import job_id

NAME = ".lock"
RENEW_S = 5.0
STALE_S = 60.0


class RunLock:
    """The lock of the folder that a process writes to; take it, then `release` it."""

    def __init__(self, renew_s: float = RENEW_S, stale_s: float = STALE_S) -> None:
        self.renew_s = renew_s
        self.stale_s = stale_s
        self.token = secrets.token_hex(8)
        self.file: Path | None = None
        self._released = threading.Event()

    def take(self, folder: Path) -> None:
        """Lock an existing folder.

        Raises:
            UserError: another run is at work in it.
        """
        file = folder / NAME
        card = asdict(ProcessId.own()) | {"job": job_id(os.environ), "token": self.token}
        watched: tuple[str, float] | None = None  # a lock of another machine, and when it was last renewed
        while not _create(file, json.dumps(card)):
            holder, renewed = _read(file)
            if holder is None:
                continue  # it has just gone
            token = holder.get("token", "")
            if watched is None or watched[0] != token:
                watched = token, renewed
            if self._abandoned(holder, renewed, _server_time(folder)):
                _remove(file, token)
            elif _process(holder).local or renewed != watched[1]:
                raise UserError(
                    f"{folder}: another run is at work here ({_process(holder)}); wait for it or stop it, or give this"
                    " one another name=... or resume=never"
                )
            else:
                time.sleep(min(1.0, self.renew_s / 2))
        self.file = file
        threading.Thread(target=self._renew, daemon=True).start()

    def release(self) -> None:
        """Let others in."""
        self._released.set()
        if self.file is not None:
            _remove(self.file, self.token)
            self.file = None

    def _abandoned(self, holder: dict[str, Any], renewed: float, now: float) -> bool:
        process, own_job = _process(holder), job_id(os.environ)
        if process.local:
            return process.state() == "gone"
        return (own_job is not None and holder.get("job") == own_job) or now - renewed > self.stale_s

    def _renew(self) -> None:
        assert self.file is not None
        file = self.file
        while not self._released.wait(self.renew_s):
            holder, _ = _read(file)
            if self._released.is_set():
                return
            if holder is not None and holder.get("token") not in (self.token, None):
                message = f"{file.parent}: this run was stopped so long that another took its folder; it ends"
                os.write(2, f"\ndsm: {message}\n".encode())
                os._exit(LOST_RANK)
            with suppress(OSError):  # a file server that is away for a while
                os.utime(file)


@contextmanager
def run_lock() -> Iterator[RunLock]:
    """A lock that is released at the end, if it was taken."""
    lock = RunLock()
    try:
        yield lock
    finally:
        lock.release()


def _create(file: Path, text: str) -> bool:
    """Make the file whole or not at all: written under another name, then linked."""
    own = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
    own.write_text(text)
    try:
        os.link(own, file)
        return True
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        with suppress(FileExistsError), os.fdopen(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY), "w") as made:
            made.write(text)
            return True
        return False
    finally:
        own.unlink()


def _read(file: Path) -> tuple[dict[str, Any] | None, float]:
    """What a lock says and when it was renewed; None where there is none."""
    try:
        renewed, text = file.stat().st_mtime, file.read_text()
    except OSError:
        return None, 0.0
    with suppress(ValueError):
        found = json.loads(text)
        if isinstance(found, dict):
            return found, renewed
    return {}, renewed  # not ours, or half written where there are no links


def _process(holder: dict[str, Any]) -> ProcessId:
    return ProcessId(
        str(holder.get("host", "an unknown machine")),
        str(holder.get("machine", "")),
        int(holder.get("pid", 0)),
        int(holder.get("started", 0)),
    )


def _remove(file: Path, token: str) -> None:
    """Remove the lock that bears a token, and never one that has taken its place since it was read."""
    with _alone(file.parent):
        holder, _ = _read(file)
        if holder is not None and holder.get("token", "") == token:
            file.unlink(missing_ok=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time looks and removes; the kernel lets go of a folder whose process dies.

    A file server that cannot lock a folder (NFS) leaves an instant between look and removal; the loser of that race
    ends itself at its next renewal.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _server_time(folder: Path) -> float:
    """Now, by the clock that dates the files of a folder."""
    probe = folder / f"{NAME}.{secrets.token_hex(8)}"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink()
