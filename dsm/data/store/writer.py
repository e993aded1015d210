"""Writing a store: documents appended to shards, in files that can be cut back to where a killed writer last stood."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from dsm.config.base import Schema
from dsm.data.store.manifest import (
    ENDS,
    ENDS_DTYPE,
    INDEX_DTYPE,
    MANIFEST,
    TOKENS,
    Manifest,
    Shard,
    StoreTokenizer,
    TokenType,
    file_type,
    store_fingerprint,
    token_type,
)
from dsm.errors import UserError
from dsm.files import atomic_directory, atomic_file, atomic_write_text

SHARD_TOKENS = 1 << 30


class WriterState(Schema):
    """What a `StoreWriter` has written: whole shards, and so many documents and tokens of the open one."""

    shards: list[Shard] = Field(default_factory=list)
    documents: int = 0
    tokens: int = 0


class AppendedFile:
    """A file that grows at its end; opening it cuts off what was written after `size` bytes, and hashes the rest."""

    def __init__(self, path: Path, size: int = 0) -> None:
        self.path, self.size, self._hash = path, size, hashlib.sha256()
        self._file: BinaryIO = path.open("r+b" if path.exists() else "w+b")
        if self._file.seek(0, os.SEEK_END) < size:
            raise UserError(f"{path}: shorter than it was; remove {path.parent} and start anew")
        self._file.truncate(size)
        self._file.seek(0)
        while chunk := self._file.read(1 << 20):
            self._hash.update(chunk)

    def append(self, content: bytes | memoryview) -> None:
        """Write at the end."""
        self._file.write(content)
        self._hash.update(content)
        self.size += len(content)

    def sync(self) -> None:
        """Have everything reach the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> str:
        """SHA-256 (hex) of the whole file, which is on the disk then."""
        self.sync()
        self._file.close()
        return self._hash.hexdigest()


class StoreWriter:
    """Appends documents to the shards of a folder. A shard ends with the document that fills it.

    `state`, taken right after `sync`, is what a later writer needs to go on from there, whatever was written since.
    """

    def __init__(
        self, folder: Path, dtype: TokenType, *, shard_tokens: int = SHARD_TOKENS, state: WriterState | None = None
    ) -> None:
        state = state or WriterState()
        self.folder, self.dtype, self.shard_tokens = folder, dtype, shard_tokens
        self.shards = list(state.shards)
        self._type = file_type(dtype)
        folder.mkdir(parents=True, exist_ok=True)
        self._open(state.documents, state.tokens)

    @property
    def state(self) -> WriterState:
        """Where the writer stands."""
        return WriterState(shards=self.shards, documents=self._documents, tokens=self._ends)

    def append(self, tokens: NDArray[np.unsignedinteger], lengths: NDArray[np.int64]) -> None:
        """Add documents: `lengths` (D,) of each, `tokens` (sum of lengths,) of all end to end."""
        ends = np.cumsum(lengths)
        done = taken = 0  # documents and tokens that are in a shard
        while done < len(lengths):
            room = self.shard_tokens - self._ends
            until = min(int(np.searchsorted(ends, taken + room, side="left")) + 1, len(lengths))
            stop = int(ends[until - 1])
            self._tokens.append(as_bytes(tokens[taken:stop], self._type))
            self._index.append(as_bytes(ends[done:until] - taken + self._ends, INDEX_DTYPE))
            self._documents += until - done
            self._ends += stop - taken
            done, taken = until, stop
            if self._ends >= self.shard_tokens:
                self._close()
                self._open(0, 0)

    def sync(self) -> None:
        """Have everything reach the disk."""
        self._tokens.sync()
        self._index.sync()

    def finish(
        self,
        tokenizer: StoreTokenizer,
        *,
        text_bytes: int = 0,
        rejected: dict[str, int] | None = None,
    ) -> Manifest:
        """Close the last shard and write the document ends and the manifest, which makes the folder a store."""
        if self._documents:
            self._close()
        else:
            self._tokens.close()
            self._index.close()
            self._tokens.path.unlink()
            self._index.path.unlink()
        start = 0
        with atomic_file(self.folder / ENDS) as file:
            for shard in self.shards:
                ends = np.fromfile(self.folder / f"{shard.file}.index", INDEX_DTYPE).astype(ENDS_DTYPE) + start
                file.write(as_bytes(ends, ENDS_DTYPE))
                start += shard.tokens
        manifest = Manifest(
            fingerprint=store_fingerprint(self.dtype, tokenizer.fingerprint, self.shards),
            dtype=self.dtype,
            tokenizer=tokenizer,
            documents=sum(shard.documents for shard in self.shards),
            tokens=start,
            text_bytes=text_bytes,
            shards=self.shards,
            rejected=rejected or {},
        )
        atomic_write_text(self.folder / MANIFEST, manifest.model_dump_json(indent=1) + "\n")
        return manifest

    def _open(self, documents: int, tokens: int) -> None:
        self._documents, self._ends = documents, tokens
        file = self.folder / f"{len(self.shards):05d}{TOKENS}"
        self._tokens = AppendedFile(file, tokens * self._type.itemsize)
        self._index = AppendedFile(file.with_name(f"{file.name}.index"), documents * INDEX_DTYPE.itemsize)

    def _close(self) -> None:
        self.shards.append(
            Shard(
                file=self._tokens.path.name,
                documents=self._documents,
                tokens=self._ends,
                bytes=self._tokens.size,
                sha256=self._tokens.close(),
                index_sha256=self._index.close(),
            )
        )


def write_store(
    folder: Path,
    documents: Iterable[Sequence[int]],
    tokenizer: StoreTokenizer,
    *,
    shard_tokens: int = SHARD_TOKENS,
) -> Manifest:
    """A whole store from documents in memory, each at least one token long."""
    with atomic_directory(folder) as aside:
        writer = StoreWriter(aside, token_type(tokenizer.vocab_size), shard_tokens=shard_tokens)
        for ids in documents:
            writer.append(np.asarray(ids, file_type(writer.dtype)), np.array([len(ids)], np.int64))
        return writer.finish(tokenizer)


def as_bytes(values: NDArray[Any], dtype: np.dtype[Any] | None = None) -> memoryview:
    """Values as they lie on the disk, of another type if given; without a copy where they are of it."""
    return np.ascontiguousarray(values, dtype).view(np.uint8).data
