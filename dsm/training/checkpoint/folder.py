"""A checkpoint on the disk: the folder step-00000100, complete from the moment it bears that name.

    __0_0.distcp, __1_0.distcp, ...   each process's pieces, as torch.distributed.checkpoint writes them
    .metadata                         where each piece lies in them
    checkpoint.json                   where the run stood, the callbacks' state, what the data was, and the size and
                                      checksum of every file

All processes write into .step-00000100.partial. When the last of them is done the first one adds checkpoint.json and
renames the folder. Nothing that is read back can run code: pieces are tensors, checkpoint.json is JSON, and of
.metadata, which torch pickles, only the classes of its own bookkeeping are let in. Any tool for torch's distributed
checkpoints opens the folder.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import CheckpointException, FileSystemReader, FileSystemWriter, SavePlan, SavePlanner
from torch.distributed.checkpoint.filesystem import FileSystem
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from dsm.config.runs import MANIFEST, checkpoints_in
from dsm.errors import UserError
from dsm.files import atomic_write_text, flush
from dsm.training.checkpoint.pieces import Piece, PieceLoader, PieceSaver

FORMAT = 1
_BLOCK = 16 * 2**20
_PATIENCE_S = 60.0  # for a file that another machine wrote to show itself on this one
_METADATA = ".metadata"
_OF_METADATA = {
    "torch": {"Size"},
    "torch.serialization": {"_get_layout"},
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.distributed.checkpoint.metadata": {
        "Metadata", "MetadataIndex", "StorageMeta", "TensorStorageMetadata", "TensorProperties", "ChunkStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    },
}  # fmt: skip


@dataclass(frozen=True)
class Manifest:
    """checkpoint.json.

    Attributes:
        step: optimiser steps made.
        progress: `dsm.training.step.Progress`.
        data: what the data was, by name.
        callbacks: their state, by their keys.
        made_by: layout of the processes and versions, for a person to read.
        files: size in bytes and CRC-32 of every other file.
    """

    step: int
    progress: dict[str, Any]
    data: dict[str, str]
    callbacks: dict[str, Any]
    made_by: dict[str, str]
    files: dict[str, tuple[int, int]] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """To checkpoint.json."""
        text = json.dumps(asdict(self))
        atomic_write_text(folder / MANIFEST, json.dumps({"format": FORMAT, "crc32": _crc32(text), "checkpoint": text}))


def read_manifest(folder: Path) -> Manifest:
    """Of a checkpoint.

    Raises:
        UserError: it is damaged, or no checkpoint of ours.
    """
    with _readable(folder):
        if not (folder / MANIFEST).is_file():
            raise UserError(f"resume: {folder} is no checkpoint of dsm's; give a folder step-* or the folder of a run")
        content = json.loads((folder / MANIFEST).read_text())
        if content["format"] != FORMAT:
            raise UserError(
                f"resume: {folder} is a checkpoint of format {content['format']}, this version of dsm reads {FORMAT};"
                " go on with the version that wrote it, or start anew with resume=never"
            )
        if content["crc32"] != _crc32(content["checkpoint"]):
            raise ValueError(f"{MANIFEST} has another checksum")
        return Manifest(**json.loads(content["checkpoint"]))


def _crc32(text: str) -> int:
    return zlib.crc32(text.encode())


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """A damaged file fails in as many ways as there are bytes; to the user they are one."""
    try:
        yield
    except UserError:
        raise
    except (Exception, CheckpointException) as error:
        cause: BaseException = error
        if isinstance(error, CheckpointException):
            cause = next(iter(error.failures.values()))[0]
        reason = " ".join(f"{type(cause).__name__}: {cause}".split())
        reason = reason if len(reason) <= 150 else f"{reason[:146]} ..."
        raise UserError(
            f"resume: {folder} cannot be read ({reason}); if it is damaged, delete it to go on from the one before it,"
            " or start anew with resume=never"
        ) from error


# -- writing ----------------------------------------------------------------------------------------------------------


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
    """
    target = folder / f"step-{manifest.step:08d}"
    aside = folder / f".{target.name}.partial"

    def commit(files: dict[str, tuple[int, int]]) -> None:
        for name, (size, _) in files.items():
            _await_file(aside / name, size)
        Manifest(**{**vars(manifest), "files": files}).write(aside)
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
    if isinstance(cause, UserError):
        return cause
    if isinstance(cause, OSError):
        return UserError(
            f"checkpoint: {target} could not be written ({cause.strerror or cause}, rank {rank}); the checkpoints before"
            " it are whole: make room or repair the disk, and the same command goes on from the newest"
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
        files = {name: check for written in results if isinstance(written, _Written) for name, check in written.files.items()}
        self.commit(files | self.fs.checks)

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
        self.checks[Path(path).name] = counted.size, counted.crc32

    def rename(self, path: str | os.PathLike[str], new_path: str | os.PathLike[str]) -> None:
        """Give a file another name."""
        super().rename(path, new_path)
        self.checks[Path(new_path).name] = self.checks.pop(Path(path).name)


class _Counted:
    """A file that is written from its beginning to its end."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.size = self.crc32 = 0

    def write(self, data: Any) -> int:
        """Append."""
        view = memoryview(data).cast("B")
        self.crc32 = zlib.crc32(view, self.crc32)
        self.size += len(view)
        self.stream.write(view)
        return len(view)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


# -- reading ----------------------------------------------------------------------------------------------------------


def check_files(folder: Path, manifest: Manifest, names: Sequence[str]) -> None:
    """Compare files with size and checksum.

    Raises:
        UserError: one of them is damaged or gone.
    """
    with _readable(folder):
        for name in names:
            with (folder / name).open("rb") as file:
                found = os.fstat(file.fileno()).st_size, _checksum(file)
            if found != tuple(manifest.files[name]):
                raise ValueError(f"{name} has another size or checksum")


def _checksum(file: BinaryIO) -> int:
    crc32 = 0
    while block := file.read(_BLOCK):
        crc32 = zlib.crc32(block, crc32)
    return crc32


def read_metadata(folder: Path) -> Metadata:
    """Which tensors there are, their shapes and pieces.

    Raises:
        UserError: it is damaged, or holds what is no bookkeeping of torch's.
    """
    with _readable(folder), (folder / _METADATA).open("rb") as file:
        metadata = _Unpickler(file).load()
        if not isinstance(metadata, Metadata):
            raise ValueError(f"{_METADATA} holds something else")
        return metadata


class _Unpickler(pickle.Unpickler):
    """Of .metadata: a pickle can name any function there is, this one only what belongs there."""

    def find_class(self, module: str, name: str) -> Any:
        """What a name in it stands for."""
        if name in _OF_METADATA.get(module, ()) or (module == "torch" and isinstance(getattr(torch, name), torch.dtype)):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} does not belong into {_METADATA}")


def shapes(metadata: Metadata) -> dict[str, torch.Size]:
    """Of every tensor."""
    tensors = metadata.state_dict_metadata.items()
    return {name: stored.size for name, stored in tensors if isinstance(stored, TensorStorageMetadata)}


def read_pieces(folder: Path, metadata: Metadata, pieces: Mapping[str, Piece]) -> None:
    """Fill pieces from whatever pieces were written; each process for itself.

    Raises:
        UserError: a file is damaged.
    """
    with _readable(folder):
        dcp.load({}, storage_reader=_Reader(folder, metadata), planner=PieceLoader(pieces), no_dist=True)


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint, whole, on the CPU: to look at, or to turn into something else.

    Weights are named `model.NAME`, the optimiser's state `optimizer.NAME.KEY`, the ranks' random states `random`.

    Raises:
        UserError: a file is damaged.
    """
    manifest, metadata = read_manifest(folder), read_metadata(folder)
    check_files(folder, manifest, list(manifest.files))
    tensors = {
        name: torch.empty(stored.size, dtype=stored.properties.dtype)
        for name, stored in metadata.state_dict_metadata.items()
        if isinstance(stored, TensorStorageMetadata)
    }
    whole = {name: Piece(tensor, tensor.shape, torch.Size([0] * tensor.ndim)) for name, tensor in tensors.items()}
    read_pieces(folder, metadata, whole)
    return tensors


class _Reader(FileSystemReader):
    """Torch's, with metadata that has been read safely."""

    def __init__(self, path: Path, metadata: Metadata) -> None:
        super().__init__(path)
        self.metadata = metadata

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """What was given."""
        return self.metadata

