"""Files that are either whole or not there: written aside, flushed to the disk, then renamed.

What is being written lies beside its target under a name that starts with a dot, so whoever looks for finished work
passes over it. A killed writer leaves such a file or folder behind; the next one clears it away.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write; when the block ends well it becomes `path`.

    Killed at any instant, or left by an exception, `path` holds its old content or all of the new.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.partial")
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    aside.replace(path)
    flush(path.parent)


def atomic_write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that, killed at any instant, it holds either its old content or all of the new."""
    with atomic_file(path) as file:
        file.write(content)


def atomic_write_text(path: Path, text: str) -> None:
    """`atomic_write_bytes` of UTF-8 text."""
    atomic_write_bytes(path, text.encode())


@contextmanager
def atomic_directory(folder: Path) -> Iterator[Path]:
    """Give an empty folder to fill; when the block ends well it becomes `folder`, whatever lay there before is gone.

    A block that raises leaves `folder` as it was. `folder` itself never holds a part of anything. Replacing takes two
    renames: a writer killed between them leaves the old content under `.<name>.old` and no `folder`; the next writer
    puts it back first. One writer at a time.
    """
    aside, old = (folder.with_name(f".{folder.name}.{suffix}") for suffix in ("partial", "old"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    if old.exists() and not folder.exists():
        old.rename(folder)
    for leftover in (aside, old):
        shutil.rmtree(leftover, ignore_errors=True)
    aside.mkdir()
    try:
        yield aside
        for parent, _, names in os.walk(aside):
            for name in names:
                flush(Path(parent, name))
            flush(Path(parent))
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    if folder.exists():
        folder.rename(old)
    aside.rename(folder)
    flush(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Where runs share what one of them makes: one process of this machine at a time; the others wait, then look again.

    The kernel lets go of the lock of a process that dies. A file system that cannot lock holds nobody up.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("wb") as lock:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def clear_partial_files(folder: Path) -> None:
    """Remove the files and folders that killed writers left in a folder."""
    for partial in folder.glob(".*.partial"):
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            partial.unlink()


def flush(path: Path) -> None:
    """Have the kernel write a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest(*parts: object) -> str:
    """A name for what settings and contents say: SHA-256 of their JSON, keys sorted, as hex digits."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
