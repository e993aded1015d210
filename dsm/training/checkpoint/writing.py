"""All processes write a checkpoint together: aside, with checksums, and it gets its name when the last one is done.

They write into .step-00000100.partial. DCP tells the first process when all files are on the disk; that one adds
checkpoint.json, renames the folder, and lets the oldest go. What fails on one process is raised on all.
"""

from __future__ import annotations

import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import CheckpointException, FileSystemWriter, SavePlan, SavePlanner
from torch.distributed.checkpoint.filesystem import FileSystem
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from dsm.config.runs import checkpoints_in
from dsm.errors import StoppedError, UserError
from dsm.files import flush
from dsm.training.checkpoint.folder import Manifest
from dsm.training.checkpoint.pieces import Piece, PieceSaver

_BLOCK = 4 * 2**20
_PATIENCE_S = 60.0  # for a file that another machine wrote to show itself on this one


def write_checkpoint(
    folder: Path, pieces: Mapping[str, Piece], manifest: Manifest, group: dist.ProcessGroup | None, keep: int
) -> None:
    """Write folder/step-N, then drop the oldest beyond `keep`; all processes of the group must call this.

    It returns, or raises, on all of them alike: after the folder has its name, or where one of them has failed.

    Args:
        folder: of the run's checkpoints.
        pieces: what this process writes (`in_charge_of`).
        manifest: of the whole, on the first process; `files` is filled in here.
        group: gloo, used by nobody else at this time; None for a single process.

    Raises:
        UserError: a process could not write its file.
        StoppedError: a process was told to stop at once.
    """
    target = folder / f"step-{manifest.step:08d}"
    aside = folder / f".{target.name}.partial"

    def commit(files: dict[str, tuple[int, int]]) -> None:
        for name, (size, _) in files.items():
            _await_file(aside / name, size)
        replace(manifest, files=files).write(aside)
        _replace(target, aside)
        for old in checkpoints_in(folder)[:-keep]:
            _remove(old)

    writer = _Writer(aside, commit)
    try:
        dcp.save({}, storage_writer=writer, planner=PieceSaver(pieces), process_group=group, no_dist=group is None)
    except CheckpointException as error:
        raise _explained(error, target) from error


def _explained(error: CheckpointException, target: Path) -> Exception:
    """What went wrong on the first process where something did."""
    rank, (cause, _) = min(error.failures.items(), key=lambda failure: failure[0])
    if isinstance(cause, UserError | StoppedError):
        return cause
    if isinstance(cause, OSError):
        return UserError(
            f"checkpoint: {target} could not be written ({cause.strerror or cause}, rank {rank}); those before it are"
            " whole: make room or repair the disk, and the same command goes on from the newest"
        )
    return RuntimeError(f"checkpoint {target}: {error}")


def _await_file(file: Path, size: int) -> None:
    """Until a file is seen in full: over a network that takes a while, and without a shared disk for ever."""
    deadline = time.monotonic() + _PATIENCE_S
    while not file.is_file() or file.stat().st_size != size:
        if time.monotonic() > deadline:
            raise UserError(
                f"checkpoint: rank 0 does not see {file.name} in {file.parent}, which another rank has written;"
                " paths.runs must be a folder that all machines share"
            )
        time.sleep(0.2)


def _replace(target: Path, aside: Path) -> None:
    flush(aside)
    old = target.with_name(f".{target.name}.old.partial")
    if target.exists():
        target.rename(old)
    aside.rename(target)
    flush(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _remove(folder: Path) -> None:
    """Under another name first, for half of a checkpoint must not look like one."""
    doomed = folder.with_name(f".{folder.name}.partial")
    folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


class _Written(list[WriteResult]):
    """What DCP tells of a process's pieces, and size and checksum of the files they are in."""

    files: dict[str, tuple[int, int]]


class _Writer(FileSystemWriter):
    """Torch's, with a checksum of every file; the first process calls `commit` when all files are on the disk.

    What `commit` raises is raised by the saving of all processes.
    """

    def __init__(self, path: Path, commit: Callable[[dict[str, tuple[int, int]]], None]) -> None:
        super().__init__(path, per_thread_copy_ahead=0)
        self.fs: _ChecksummedFiles = _ChecksummedFiles()
        self.commit = commit

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Write this process's file and flush it to the disk."""
        written = _Written(super().write_data(plan, planner).value())
        written.files = self.fs.checks
        future: Future[list[WriteResult]] = Future()
        future.set_result(written)
        return future

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """All are done: on the first process alone."""
        super().finish(metadata, results)
        files = dict(self.fs.checks)
        for written in results:
            assert isinstance(written, _Written)
            files |= written.files
        self.commit(files)

    def storage_meta(self) -> StorageMeta:
        """Nothing that changes from one folder to another."""
        return StorageMeta()


class _ChecksummedFiles(FileSystem):
    """Torch's access to files; remembers size and CRC-32 of those that it has written, by name."""

    def __init__(self) -> None:
        self.checks: dict[str, tuple[int, int]] = {}

    @contextmanager
    def create_stream(self, path: str | os.PathLike[str], mode: str) -> Iterator[Any]:
        """Open a file."""
        with super().create_stream(path, mode) as stream:
            counted = _Counted(stream)
            yield counted
            counted.close()
        self.checks[Path(path).name] = counted.size, counted.crc32

    def rename(self, path: str | os.PathLike[str], new_path: str | os.PathLike[str]) -> None:
        """Give a file another name."""
        super().rename(path, new_path)
        self.checks[Path(new_path).name] = self.checks.pop(Path(path).name)


class _Counted:
    """A file that is written from its beginning to its end.

    Torch writes 64 KB at a time, and whoever writes or sums lets go of the interpreter; done in larger blocks, the
    thread that trains is held up less.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.size = self.crc32 = 0
        self._pending = bytearray()

    def write(self, data: Any) -> int:
        """Append."""
        before = len(self._pending)
        self._pending += data
        written = len(self._pending) - before
        self.size += written
        if len(self._pending) >= _BLOCK:
            self._pass_on()
        return written

    def _pass_on(self) -> None:
        self.crc32 = zlib.crc32(self._pending, self.crc32)
        self.stream.write(self._pending)
        self._pending = bytearray()

    def tell(self) -> int:
        """Bytes so far."""
        return self.size

    def flush(self) -> None:
        """Leave nothing to this process."""
        self._pass_on()
        self.stream.flush()

    def fileno(self) -> int:
        """For the kernel to flush to the disk."""
        self.flush()
        number: int = self.stream.fileno()
        return number

    def close(self) -> None:
        """Write the rest."""
        if not self.stream.closed:
            self.flush()
            self.stream.close()
