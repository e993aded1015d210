"""A checkpoint on the disk: the folder step-00000100, complete from the moment it bears that name.

    __0_0.distcp, __1_0.distcp, ...   each process's pieces, as torch.distributed.checkpoint writes them
    .metadata                         where each piece lies in them
    checkpoint.json                   where the run stood, the callbacks' state, what the data was, and the size and
                                      checksum of every file

Nothing that is read back can run code: pieces are tensors, checkpoint.json is JSON, and of .metadata, which torch
pickles, only the classes of its own bookkeeping are let in. Any tool for torch's distributed checkpoints opens the
folder.
"""

from __future__ import annotations

import json
import os
import pickle
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import CheckpointException, FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

from dsm.config.runs import MANIFEST
from dsm.errors import UserError
from dsm.files import atomic_write_text
from dsm.training.checkpoint.pieces import Piece, PieceLoader

FORMAT = 1
_BLOCK = 16 * 2**20
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
        known = name in _OF_METADATA.get(module, ())
        if known or (module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} does not belong into {_METADATA}")


def stored_tensors(metadata: Metadata) -> dict[str, TensorStorageMetadata]:
    """Shape, precision and pieces of every tensor."""
    entries = metadata.state_dict_metadata.items()
    return {name: stored for name, stored in entries if isinstance(stored, TensorStorageMetadata)}


def read_pieces(folder: Path, metadata: Metadata, pieces: Mapping[str, Piece]) -> None:
    """Fill pieces from whatever pieces were written; each process for itself.

    Raises:
        UserError: a file is damaged.
    """
    with _readable(folder), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch tells of a single process, which here is meant
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
        for name, stored in stored_tensors(metadata).items()
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
