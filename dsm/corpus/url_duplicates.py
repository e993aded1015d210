"""Pages of one address: all but one are marked.

The one that stays was fetched first; among those of one date it is the first by the name of the shard, then by its
place there. The memory needed does not grow with the crawl: hashes are sorted shard by shard, then met by bucket.

    steps/urls-keys/<shard>/keys.npy       (hash, date, row) of the shard's pages, by hash
    steps/urls-buckets/<bucket>/losers.npy (shard, row) of the bucket's duplicates, by shard
    steps/urls/<shard>/columns.parquet     duplicate_url
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from dsm.corpus.executors import Executor
from dsm.corpus.pages import PAGES, read_parquet, write_columns
from dsm.corpus.steps import Manifest, Task, run_step

PAGES_PER_BUCKET = 1 << 22
"""Pages that one process holds at once: some 40 bytes each."""

_KEYS, _LOSERS = "keys.npy", "losers.npy"
_KEY = np.dtype([("hash", "<u8"), ("date", "<i8"), ("row", "<u4")])
_LOSER = np.dtype([("shard", "<u8"), ("row", "<u4")])
_NEVER = np.iinfo(np.int64).max  # a page of unknown date loses to any other


def run_urls(pages: Manifest, folder: Path, executor: Executor, pages_per_bucket: int = PAGES_PER_BUCKET) -> Manifest:
    """Mark the duplicates among the pages of all shards.

    Args:
        pages: the finished step `pages`.
        folder: of the step `urls`; its helpers' lie beside it.
    """
    tasks = [Task(name, (shard.path(PAGES),)) for name, shard in pages.shards.items()]
    keys = run_step(KeysStep(), tasks, folder.with_name("urls-keys"), executor)
    buckets = max(1, -(-keys.total()["in"] // pages_per_bucket))
    files = tuple(keys.files(_KEYS))
    tasks = [Task(f"{number:06d}-of-{buckets:06d}", files) for number in range(buckets)]
    losers = run_step(BucketsStep(), tasks, folder.with_name("urls-buckets"), executor)
    found = tuple(losers.files(_LOSERS))
    tasks = [Task(name, (shard.path(PAGES), *found)) for name, shard in pages.shards.items()]
    return run_step(MarkStep(), tasks, folder, executor)


@dataclass(frozen=True)
class KeysStep:
    """What decides about each page of a shard, sorted by the hash of its address."""

    name: str = "urls-keys"
    version: str = "1"

    def settings(self) -> dict[str, Any]:
        """None."""
        return {}

    def run(self, task: Task, out: Path) -> dict[str, int]:
        """Write keys.npy."""
        table = read_parquet(task.inputs[0], ["url_hash", "date"])
        keys = np.empty(len(table), _KEY)
        keys["hash"] = table.column("url_hash").to_numpy()
        keys["date"] = _seconds(table.column("date").to_pylist())
        keys["row"] = np.arange(len(table))
        np.save(out / _KEYS, keys[np.argsort(keys["hash"], kind="stable")])
        return {"in": len(keys), "out": len(keys)}


@dataclass(frozen=True)
class BucketsStep:
    """The duplicates among all pages whose hash lies in one part of the range; the task's name says which."""

    name: str = "urls-buckets"
    version: str = "1"

    def settings(self) -> dict[str, Any]:
        """None: how many buckets there are, the tasks say."""
        return {}

    def run(self, task: Task, out: Path) -> dict[str, int]:
        """Write losers.npy."""
        number, buckets = (int(part) for part in task.name.split("-of-"))
        low, high = (np.uint64(min((part << 64) // buckets, (1 << 64) - 1)) for part in (number, number + 1))
        names: list[int] = []
        parts: list[NDArray[np.void]] = []
        for path in sorted(task.inputs, key=lambda path: path.parent.name):
            keys = np.load(path, mmap_mode="r")
            hashes = keys["hash"]
            begin = int(np.searchsorted(hashes, low))
            end = len(keys) if number + 1 == buckets else int(np.searchsorted(hashes, high))
            parts.append(np.array(keys[begin:end]))
            names.append(_shard_key(path.parent.name))
        pages = np.concatenate([np.empty(0, _KEY), *parts])
        shards = np.repeat(np.arange(len(parts), dtype=np.uint32), [len(part) for part in parts])
        order = np.lexsort((pages["row"], shards, pages["date"], pages["hash"]))
        hashes = pages["hash"][order]
        lost = order[1:][hashes[1:] == hashes[:-1]]
        losers = np.empty(len(lost), _LOSER)
        losers["shard"] = np.array(names, np.uint64)[shards[lost]] if len(lost) else 0
        losers["row"] = pages["row"][lost]
        losers.sort()
        np.save(out / _LOSERS, losers)
        return {"in": len(pages), "out": len(pages) - len(losers), "duplicate_url": len(losers)}


@dataclass(frozen=True)
class MarkStep:
    """The column `duplicate_url` of a shard."""

    name: str = "urls"
    version: str = "1"

    def settings(self) -> dict[str, Any]:
        """None."""
        return {}

    def run(self, task: Task, out: Path) -> dict[str, int]:
        """Write columns.parquet."""
        import pyarrow as pa

        marks = np.zeros(len(read_parquet(task.inputs[0], ["url_hash"])), bool)
        shard = np.uint64(_shard_key(task.name))
        for path in task.inputs[1:]:
            losers = np.load(path, mmap_mode="r")
            begin, end = (
                np.searchsorted(losers["shard"], shard, "left"),
                np.searchsorted(losers["shard"], shard, "right"),
            )
            marks[losers["row"][begin:end]] = True
        write_columns({"duplicate_url": pa.array(marks)}, out)
        duplicates = int(marks.sum())
        return {"in": len(marks), "out": len(marks) - duplicates, "duplicate_url": duplicates}


def _shard_key(name: str) -> int:
    return xxhash.xxh3_64_intdigest(name.encode())


def _seconds(dates: Sequence[str]) -> NDArray[np.int64]:
    """Seconds since 1970 of dates as the page table has them; zones are undone, what cannot be read is never."""
    import datetime

    known: dict[str, int] = {}
    for date in set(dates):
        try:
            when = datetime.datetime.fromisoformat(date)
            when = when if when.tzinfo else when.replace(tzinfo=datetime.UTC)
            known[date] = int(when.timestamp())
        except (ValueError, OverflowError):
            known[date] = _NEVER
    return np.array([known[date] for date in dates], np.int64)
