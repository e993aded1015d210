"""One source after another through a pool of processes, each source into a store."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dsm.config.store import StoreConfig
from dsm.data.store import worker
from dsm.data.store.assembly import Assembly
from dsm.data.store.manifest import MANIFEST, Manifest, StoreTokenizer, read_manifest
from dsm.data.store.slices import FileEnd, Source, WholeFiles, slices
from dsm.data.store.worker import Encoding, Part
from dsm.errors import UserError

log = logging.getLogger("dsm")

_FORMAT = 1  # another number: what older versions left unfinished is not gone on with
_AHEAD = 3  # slices given out for each process: enough that none waits while the oldest is late
_SECONDS_BETWEEN_LINES = 10.0

Waiting = tuple[FileEnd | None, Future[Any]]
"""What a slice becomes, a `Part`; beside the end of a file, its checksum."""


def usable_cores() -> int:
    """Cores that this process may use; containers and Slurm often give fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class TokeniseRun:
    """A run over named sources: what stands in `folder/NAME` in the end does not depend on workers or interruptions."""

    def __init__(
        self, sources: Mapping[str, Source], encoding: Encoding, tokenizer: StoreTokenizer, config: StoreConfig
    ) -> None:
        self.sources, self.encoding, self.tokenizer, self.config = sources, encoding, tokenizer, config
        slices_at_most = sum(len(source.files) + sum(source.sizes) // source.slice_bytes for source in sources.values())
        self.workers = min(config.workers or usable_cores(), max(slices_at_most, 1))
        self.tokens = 0  # made in this session

    def run(self, work: Path, export: Path) -> dict[str, Manifest]:
        """Make the stores that are not there yet, each in `work` first.

        Raises:
            UserError: a source cannot be read or changes meanwhile, or a process dies.
        """
        waiting = {name: source for name, source in self.sources.items() if not (export / name / MANIFEST).is_file()}
        if waiting:
            try:
                with self._pool(waiting) as pool:
                    for name, source in waiting.items():
                        self._source(pool, name, source, work / name, export / name)
            except BrokenProcessPool:
                raise UserError(
                    f"store.workers={self.workers}: one of them was killed, most often for want of memory; what is done"
                    " is kept: run the same command again, with fewer workers"
                ) from None
        shutil.rmtree(work, ignore_errors=True)
        return {name: read_manifest(export / name, str(export / name)) for name in self.sources}

    @contextmanager
    def _pool(self, sources: Mapping[str, Source]) -> Iterator[ProcessPoolExecutor]:
        """Fresh processes: a fork would copy this one's threads and everything it has imported."""
        pool = ProcessPoolExecutor(
            self.workers, get_context("spawn"), initializer=worker.start, initargs=(self.encoding, dict(sources))
        )
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)

    def _source(self, pool: ProcessPoolExecutor, name: str, source: Source, work: Path, target: Path) -> None:
        assembly = Assembly(work, source, self._plan(source), self.encoding.dtype, self.config.shard_tokens)
        if assembly.weight:
            log.info("%s: going on after %s tokens", name, f"{assembly.tokens:,}")
        before = assembly.tokens
        with _Bar(name, sum(source.sizes), assembly) as bar:
            for part in self._parts(pool, name, source, assembly):
                assembly.add(part)
                bar.update()
        for file, size in zip(source.files, source.sizes, strict=True):
            if file.stat().st_size != size:
                raise UserError(f"{source.name}: {file} changed while it was read; run again once it is complete")
        self.tokens += assembly.tokens - before
        manifest = assembly.finish(target, self.tokenizer, self.config.held_out.max_documents)
        for reason, count in manifest.rejected.items():
            log.warning("%s: %s rows set aside: %s", name, f"{count:,}", reason)

    def _parts(self, pool: ProcessPoolExecutor, name: str, source: Source, assembly: Assembly) -> Iterator[Part]:
        """What slices became, in the order of the input, while more of them are under way."""
        waiting: deque[Waiting] = deque()
        checksums: dict[int, Future[str]] = {}
        for piece in slices(source, assembly.position):
            if not isinstance(piece, WholeFiles) and piece.file not in checksums:
                checksums[piece.file] = pool.submit(worker.hash_file, name, piece.file)
            if isinstance(piece, FileEnd):
                waiting.append((piece, checksums.pop(piece.file)))
            else:
                waiting.append((None, pool.submit(worker.tokenise, name, piece)))
            while len(waiting) > _AHEAD * self.workers:
                yield self._oldest(waiting)
        while waiting:
            yield self._oldest(waiting)

    def _oldest(self, waiting: deque[Waiting]) -> Part:
        end, future = waiting.popleft()
        result = future.result()
        return result if end is None else Part.of_checksum(end, result, self.encoding.dtype)

    def _plan(self, source: Source) -> str:
        """A hash of all that makes the store of a source, the state of its files too."""
        files = [
            [str(file), size, file.stat().st_mtime_ns] for file, size in zip(source.files, source.sizes, strict=True)
        ]
        rules = [asdict(replace(source, files=(), sizes=(), root=Path())), asdict(self.encoding)]
        store = [self.tokenizer.fingerprint, self.config.shard_tokens, self.config.held_out.max_documents]
        return hashlib.sha256(json.dumps([_FORMAT, files, rules, store], default=str).encode()).hexdigest()


class _Bar:
    """A bar on a terminal, a line now and then elsewhere: bytes of the input, rate, time left, tokens."""

    def __init__(self, name: str, total: int, assembly: Assembly) -> None:
        self.name, self.total, self.assembly = name, max(total, 1), assembly
        self._began = self._told = time.monotonic()
        self._first, self._first_tokens = assembly.weight, assembly.tokens
        self._bar: tqdm[Any] | None = None

    def __enter__(self) -> _Bar:
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=self.total, initial=self._first, desc=self.name, unit="B", unit_scale=True, dynamic_ncols=True
            )
        return self

    def update(self) -> None:
        """Show where the assembly stands."""
        done, now = self.assembly.weight, time.monotonic()
        seconds = now - self._began
        speed = (self.assembly.tokens - self._first_tokens) / max(seconds, 1e-9)
        tokens = f"{self.assembly.tokens:,} tokens, {speed:,.0f} a second"
        if self._bar is not None:
            self._bar.set_postfix_str(tokens, refresh=False)
            self._bar.update(done - self._bar.n)
        elif now - self._told >= _SECONDS_BETWEEN_LINES:
            self._told = now
            left = (self.total - done) * seconds / max(done - self._first, 1)
            share = f"{done / self.total:.1%} of {self.total / 1e6:,.1f} MB"
            log.info("%s: %s, %s, %s left", self.name, share, tokens, tqdm.format_interval(left))

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.close()
