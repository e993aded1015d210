"""Parts become a store, in the order of the input, on files that a kill cannot harm.

Everything grows at its end: shards, indices, documents that may be held out, rejected rows. A commit has all of it
reach the disk and then replaces `progress.json`, which says how long each file is and which slice comes next. Whoever
starts again cuts the files back to those lengths and goes on there; what was written later is made once more.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from dsm.config.base import Schema
from dsm.data.store.documents import Aside, kind_of
from dsm.data.store.manifest import (
    REJECTED,
    SOURCES,
    VALIDATION,
    Manifest,
    StoreTokenizer,
    TokenType,
    file_type,
)
from dsm.data.store.reader import mapped
from dsm.data.store.slices import Position, Source
from dsm.data.store.worker import HELD_OUT_DTYPE, Part
from dsm.data.store.writer import AppendedFile, StoreWriter, WriterState, as_bytes
from dsm.errors import UserError
from dsm.files import atomic_write_text

COMMIT_S = 5.0
_HOPELESS_ROWS, _BLOCK_DOCUMENTS = 1_000, 10_000
_PROGRESS, _STORE, _HELD_TOKENS, _HELD = "progress.json", "store", "held_out.tokens", "held_out.documents"


class Progress(Schema):
    """How far the assembly has come; the length of every file that grows is `files`."""

    plan: str
    file: int = 0
    number: int = 0
    lines: int = 0
    weight: int = 0
    text_bytes: int = 0
    rejected: dict[str, int] = Field(default_factory=dict)
    files: dict[str, int] = Field(default_factory=dict)
    writer: WriterState = Field(default_factory=WriterState)


class Assembly:
    """The store of one source while it is made, in a folder of its own.

    Attributes:
        position: the slice that comes next.
        weight: bytes of the input that are in, as its slices count them.
        documents, tokens: in the store so far, those that may be held out not among them.
    """

    def __init__(self, folder: Path, source: Source, plan: str, dtype: TokenType, shard_tokens: int) -> None:
        """Go on with what `folder` holds if `plan`, a hash of all that makes the result, is the same as then."""
        self.folder, self.source, self.plan = folder, source, plan
        found = _read_progress(folder / _PROGRESS)
        if found is None or found.plan != plan:
            shutil.rmtree(folder, ignore_errors=True)
            found = Progress(plan=plan)
        self.position: Position = (found.file, found.number)
        self.weight, self.text_bytes = found.weight, found.text_bytes
        self._lines, self._reasons, self._first = found.lines, Counter(found.rejected), ""
        store = folder / _STORE
        self._writer = StoreWriter(store, dtype, shard_tokens=shard_tokens, state=found.writer)
        paths = {SOURCES: store, REJECTED: store, _HELD_TOKENS: folder, _HELD: folder}
        self._files = {name: AppendedFile(at / name, found.files.get(name, 0)) for name, at in paths.items()}
        self._committed = time.monotonic()

    @property
    def documents(self) -> int:
        """Documents to train on so far."""
        state = self._writer.state
        return state.documents + sum(shard.documents for shard in state.shards)

    @property
    def tokens(self) -> int:
        """Their tokens."""
        state = self._writer.state
        return state.tokens + sum(shard.tokens for shard in state.shards)

    def add(self, part: Part) -> None:
        """The part that the next slice became."""
        piece = part.slice
        assert (piece.file, piece.number) == self.position
        if piece.number == 0:
            self._lines = 0
        self._writer.append(part.tokens, part.lengths)
        self._files[_HELD_TOKENS].append(as_bytes(part.held_tokens))
        self._files[_HELD].append(as_bytes(part.held))
        for aside in part.rejected:
            self._set_aside(aside)
        for file, checksum in enumerate(part.checksums, start=piece.file):
            facts = {"file": self.source.shown(file), "bytes": self.source.sizes[file], "sha256": checksum}
            self._files[SOURCES].append(_line(facts))
        self.position = piece.next
        self.weight += piece.weight
        self.text_bytes += part.text_bytes
        self._lines += part.lines
        if self._reasons.total() >= _HOPELESS_ROWS and not self.documents + self._files[_HELD].size:
            raise self._no_document()
        if time.monotonic() - self._committed > COMMIT_S:
            self.commit()

    def commit(self) -> None:
        """Have everything that is in survive whatever comes."""
        self._writer.sync()
        for file in self._files.values():
            file.sync()
        progress = Progress(
            plan=self.plan,
            file=self.position[0],
            number=self.position[1],
            lines=self._lines,
            weight=self.weight,
            text_bytes=self.text_bytes,
            rejected=dict(self._reasons),
            files={name: file.size for name, file in self._files.items()},
            writer=self._writer.state,
        )
        atomic_write_text(self.folder / _PROGRESS, progress.model_dump_json())
        self._committed = time.monotonic()

    def _set_aside(self, aside: Aside) -> None:
        path, row = self.source.files[aside.place.file], aside.place.row
        location = f"{path}:{row + self._lines}" if row else str(path)
        self._files[REJECTED].append(_line({"location": location, "reason": aside.reason, "raw": aside.raw}))
        self._reasons[kind_of(aside.reason)] += 1
        self._first = self._first or aside.raw

    def finish(self, target: Path, tokenizer: StoreTokenizer, max_held_out: int) -> Manifest:
        """Divide the documents that may be held out, and make the whole `target`.

        Held out are the documents of smallest hashes, all of one text or none, at most `max_held_out`; the others
        follow those that were never candidates. Nothing is held out if no document would be left to train on.

        Raises:
            UserError: there is not one document.
        """
        self.commit()
        held = np.fromfile(self.folder / _HELD, HELD_OUT_DTYPE)
        tokens = mapped(self.folder / _HELD_TOKENS, file_type(self._writer.dtype))
        chosen = _smallest(held["hash"], max_held_out)
        if not self.documents and chosen.all():
            chosen[:] = False
        if not self.documents + len(held):
            raise self._no_document()
        validation = self.folder / _STORE / VALIDATION
        shutil.rmtree(validation, ignore_errors=True)
        if chosen.any():
            apart = StoreWriter(validation, self._writer.dtype, shard_tokens=self._writer.shard_tokens)
            _append(apart, tokens, held["tokens"], chosen)
            apart.finish(tokenizer, text_bytes=int(held["bytes"][chosen].sum()))
        _append(self._writer, tokens, held["tokens"], ~chosen)
        manifest = self._writer.finish(
            tokenizer,
            text_bytes=self.text_bytes + int(held["bytes"][~chosen].sum()),
            rejected=dict(sorted(self._reasons.items())),
        )
        for file in self._files.values():
            file.close()
        if not self._reasons:
            (self.folder / _STORE / REJECTED).unlink()
        target.parent.mkdir(parents=True, exist_ok=True)
        (self.folder / _STORE).rename(target)
        shutil.rmtree(self.folder)
        return manifest

    def _no_document(self) -> UserError:
        rows = f"none of its first {self._reasons.total():,} rows makes a document"
        common = ", ".join(f"{count:,}: {reason}" for reason, count in self._reasons.most_common(3))
        return UserError(f"{self.source.name}: {rows} ({common or 'it has none'}); one of them: {self._first[:100]}")


def _read_progress(path: Path) -> Progress | None:
    try:
        return Progress.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):  # none yet, or of another version
        return None


def _smallest(hashes: NDArray[np.uint64], most: int) -> NDArray[np.bool_]:
    """(D,) which documents have the smallest hashes, at most so many, equal ones all or not at all."""
    values, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    taken, total = np.zeros(len(values), bool), 0
    for i, count in enumerate(counts.tolist()):
        if total + count <= most:
            taken[i], total = True, total + count
        if total == most:
            break
    return taken[inverse]


def _append(
    writer: StoreWriter, tokens: NDArray[np.unsignedinteger], lengths: NDArray[np.int64], chosen: NDArray[np.bool_]
) -> None:
    """The chosen ones of documents that lie end to end, a block at a time: `tokens` may be larger than the memory."""
    start = 0
    for first in range(0, len(lengths), _BLOCK_DOCUMENTS):
        these, wanted = lengths[first : first + _BLOCK_DOCUMENTS], chosen[first : first + _BLOCK_DOCUMENTS]
        stop = start + int(these.sum())
        writer.append(tokens[start:stop][np.repeat(wanted, these)], these[wanted])
        start = stop


def _line(row: dict[str, object]) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode("utf-8", errors="replace") + b"\n"
