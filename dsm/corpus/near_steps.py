"""Near-duplicates of a whole crawl, by steps whose memory is bounded.

    near-signatures   a shard of pages -> signatures, keys of their bands, what decides who is kept
    near-pairs        a band of all shards -> verified pairs of pages
    near-clusters     all pairs -> who is a duplicate of whom
    near              a shard of pages -> the column duplicate_of

Pages with equal keys in a band form a bucket. The page to keep (earliest date, then smallest url_hash) is compared with
the others by their signatures; those like it are paired with it, the rest form a bucket again. Pairs join pages to
clusters; in a cluster the page to keep is compared with all others, those like it are its duplicates, the rest go on
among themselves. So every duplicate has been compared with the page that stands for it: a chain of pages, each a little
different from the last, does not make its ends one. Only dates, addresses and texts decide, not shards or their order.

On disk a page takes 4 bytes a permutation, 8 a band and 24: 584 at 14 x 8. `near-pairs` holds 40 bytes of each page of
a part of the keys, some `PART_PAGES` pages, `near-clusters` about 100 bytes of each page that has a pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dsm.corpus.executors import Executor
from dsm.corpus.grams import UInt64
from dsm.corpus.near import VERSION, MinHash, UInt32, similarity
from dsm.corpus.pages import COLUMNS, PAGES, open_parquet, read_parquet, write_columns
from dsm.corpus.steps import MANIFEST, Manifest, Task, run_step

THRESHOLD = 0.7
"""Estimated Jaccard similarity from which on pages are near-duplicates."""
PART_PAGES = 1 << 26
"""Pages whose keys `near-pairs` sorts at a time, on average: 2.7 GB."""
MOST_KEPT = 64
"""Pages of one bucket that others are compared with; those like none of them are left to the other bands."""

_SIGNATURES, _KEYS, _ORDER, _PAIRS, _DUPLICATES = (
    f"{name}.npy" for name in ("signatures", "keys", "order", "pairs", "duplicates")
)
_BATCH_ROWS, _CHUNK_PAIRS = 1024, 1 << 14
_UNDATED = np.iinfo(np.int64).max
_ORDER_TYPE = np.dtype([("date", np.int64), ("url_hash", np.uint64), ("row", np.int64)])

Int64 = npt.NDArray[np.int64]


def run_near(
    pages: Manifest,
    urls: Manifest,
    steps: Path,
    executor: Executor,
    *,
    minhash: MinHash,
    threshold: float = THRESHOLD,
) -> Manifest:
    """Leave `near/<shard>/columns.parquet` below `steps`; returns the manifest of the step near.

    Args:
        pages: of the step that wrote pages.parquet.
        urls: of the step that wrote duplicate_url; these pages do not take part, and are 0 in duplicate_of.
        steps: RUN/steps.
        threshold: the least estimated similarity of near-duplicates.
    """
    shards = {name: (shard.path(PAGES), urls.shards[name].path(COLUMNS)) for name, shard in pages.shards.items()}
    tasks = [Task(name, files) for name, files in shards.items()]
    signed = run_step(SignatureStep(minhash), tasks, steps / "near-signatures", executor)
    tasks = [Task(f"band-{band:03}", (signed.folder / MANIFEST,)) for band in range(minhash.bands)]
    paired = run_step(PairStep(threshold, MOST_KEPT), tasks, steps / "near-pairs", executor)
    tasks = [Task("all", (signed.folder / MANIFEST, paired.folder / MANIFEST))]
    clustered = run_step(ClusterStep(threshold), tasks, steps / "near-clusters", executor)
    found = clustered.files(_DUPLICATES)
    tasks = [Task(name, (*files, signed.shards[name].path(_ORDER), *found)) for name, files in shards.items()]
    return run_step(NearStep(), tasks, steps / "near", executor)


@dataclass(frozen=True)
class SignatureStep:
    """signatures.npy (n, size) uint32, keys.npy (bands, n) uint64 and order.npy (n,) of the pages that take part."""

    minhash: MinHash
    name: ClassVar[str] = "near-signatures"
    version: ClassVar[str] = f"1.{VERSION}"

    def settings(self) -> dict[str, Any]:
        """The MinHash."""
        return asdict(self.minhash)

    def run(self, task: Task, out: Path) -> dict[str, int]:
        """Sign a shard's pages."""
        pages, urls = task.inputs
        repeated = _repeated(urls)
        facts = read_parquet(pages, ["url_hash", "date"])
        order = np.empty(len(facts), _ORDER_TYPE)
        order["date"], order["row"] = _date_numbers(facts.column("date")), np.arange(len(facts))
        order["url_hash"] = facts.column("url_hash").to_numpy()
        signatures = np.empty((len(facts), self.minhash.size), np.uint32)
        takes_part = ~repeated
        for row, text in enumerate(_texts(pages)):
            if takes_part[row]:
                signature = self.minhash.signature(text)
                takes_part[row] = signature is not None
                if signature is not None:
                    signatures[row] = signature
        signatures = signatures[takes_part]
        np.save(out / _SIGNATURES, signatures)
        np.save(out / _KEYS, self.minhash.keys(signatures))
        np.save(out / _ORDER, order[takes_part])
        counts = {"in": len(facts), "out": len(signatures), "duplicate_url": int(repeated.sum())}
        return counts | {"empty": len(facts) - counts["out"] - counts["duplicate_url"]}


@dataclass(frozen=True)
class PairStep:
    """pairs.npy (m, 2) int64 of one band: numbers of the pages that take part, counted over all shards."""

    threshold: float
    most_kept: int = MOST_KEPT
    part_pages: int = PART_PAGES
    name: ClassVar[str] = "near-pairs"
    version: ClassVar[str] = f"1.{VERSION}"

    def settings(self) -> dict[str, Any]:
        """All of it."""
        return {"threshold": self.threshold, "most_kept": self.most_kept, "part_pages": self.part_pages}

    def run(self, task: Task, out: Path) -> dict[str, int]:
        """Pair the pages that agree in a band; the band's number ends the task's name."""
        signed, band = Manifest.load(task.inputs[0].parent), int(task.name.rpartition("-")[2])
        files, pages = signed.files(_KEYS), _Pages(signed)
        parts = max(1, -(-len(pages) // self.part_pages))
        pairs = [np.empty((0, 2), np.int64)]
        for part in range(parts):
            keys, numbers = _part_of_band(files, band, part, parts)
            numbers, buckets = _sorted_buckets(keys, numbers, pages)
            for kept, others in _alike(buckets, numbers, pages, self.threshold, self.most_kept):
                pairs.append(np.stack([kept, others], axis=1))
        made = np.concatenate(pairs)
        np.save(out / _PAIRS, made)
        return {"in": len(pages), "out": len(pages), "_pairs": len(made)}


@dataclass(frozen=True)
class ClusterStep:
    """duplicates.npy: (url_hash, url_hash of the page that is kept) of every near-duplicate, in ascending order."""

    threshold: float
    name: ClassVar[str] = "near-clusters"
    version: ClassVar[str] = f"1.{VERSION}"

    def settings(self) -> dict[str, Any]:
        """The threshold."""
        return {"threshold": self.threshold}

    def run(self, task: Task, out: Path) -> dict[str, int]:
        """Join the pairs of all bands."""
        signed, paired = (Manifest.load(path.parent) for path in task.inputs)
        bands, pages = paired.files(_PAIRS), _Pages(signed)
        numbers = np.empty(0, np.int64)
        for path in bands:
            numbers = np.union1d(numbers, _open(path))
        clusters = np.arange(len(numbers))
        for path in bands:
            _join(clusters, np.searchsorted(numbers, _open(path)))
        numbers, clusters = _sorted_buckets(clusters, numbers, pages)
        found = [np.empty((0, 2), np.uint64)]
        for kept, others in _alike(clusters, numbers, pages, self.threshold, len(numbers)):
            hashes = [pages.facts(side)["url_hash"] for side in (others, kept)]
            found.append(np.stack(hashes, axis=1))
        duplicates = np.concatenate(found)
        np.save(out / _DUPLICATES, duplicates[np.argsort(duplicates[:, 0])])
        return {"in": len(pages), "out": len(pages) - len(duplicates), "near_duplicate": len(duplicates)}


@dataclass(frozen=True)
class NearStep:
    """columns.parquet: duplicate_of."""

    name: ClassVar[str] = "near"
    version: ClassVar[str] = "1"

    def settings(self) -> dict[str, Any]:
        """None: all is in the inputs."""
        return {}

    def run(self, task: Task, out: Path) -> dict[str, int]:
        """Give the pages of a shard their column."""
        _, urls, order_file, found = task.inputs
        order, duplicates, repeated = np.load(order_file), _open(found), _repeated(urls)
        column = np.zeros(len(repeated), np.uint64)
        if len(duplicates):
            at = np.minimum(np.searchsorted(duplicates[:, 0], order["url_hash"]), len(duplicates) - 1)
            same = duplicates[at, 0] == order["url_hash"]
            column[order["row"][same]] = duplicates[at[same], 1]
        write_columns({"duplicate_of": pa.array(column)}, out)
        alike, left = int(np.count_nonzero(column)), int(np.count_nonzero(~repeated & (column == 0)))
        return {"in": len(column), "out": left, "duplicate_url": int(repeated.sum()), "near_duplicate": alike}


# ---------------------------------------------------------------- the pages of all shards, by number


class _Pages:
    """Signatures and facts of the pages that take part, numbered over all shards; read where they are needed."""

    def __init__(self, signed: Manifest) -> None:
        self._signatures = [_open(path) for path in signed.files(_SIGNATURES)]
        self._order = [_open(path) for path in signed.files(_ORDER)]
        self._starts = np.cumsum([0, *(len(part) for part in self._order)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def signatures(self, numbers: Int64) -> UInt32:
        """(n, size) of these pages."""
        return self._take(self._signatures, numbers)

    def facts(self, numbers: Int64) -> npt.NDArray[Any]:
        """(n,) dates and url_hashes of these pages."""
        return self._take(self._order, numbers)

    def _take(self, parts: Sequence[npt.NDArray[Any]], numbers: Int64) -> npt.NDArray[Any]:
        found = np.empty((len(numbers), *parts[0].shape[1:]), parts[0].dtype)
        shards = np.searchsorted(self._starts, numbers, side="right") - 1
        for shard in np.unique(shards).tolist():
            here = shards == shard
            found[here] = parts[shard][numbers[here] - self._starts[shard]]
        return found


def _part_of_band(files: Sequence[Path], band: int, part: int, parts: int) -> tuple[UInt64, Int64]:
    """The keys of a band that belong to a part, where another page has the same; and their pages' numbers."""
    keys, numbers, start = [np.empty(0, np.uint64)], [np.empty(0, np.int64)], 0
    for path in files:
        there = _open(path)[band]
        here = np.flatnonzero((there >> np.uint64(32)) % np.uint64(parts) == part)
        keys.append(np.asarray(there[here]))
        numbers.append(here + start)
        start += len(there)
    found = np.concatenate(keys)
    keys.clear()  # memory is what this function is about
    order = np.argsort(found)
    found = found[order]
    same = found[1:] == found[:-1]
    shared = np.zeros(len(found), np.bool_)
    shared[1:] = same
    shared[:-1] |= same
    return found[shared], np.concatenate(numbers)[order[shared]]


def _sorted_buckets(buckets: npt.NDArray[Any], numbers: Int64, pages: _Pages) -> tuple[Int64, npt.NDArray[Any]]:
    """Numbers and buckets, bucket by bucket, in each the page to keep first."""
    facts = pages.facts(numbers)
    order = np.lexsort((facts["url_hash"], facts["date"], buckets))
    return numbers[order], buckets[order]


def _alike(
    buckets: npt.NDArray[Any], numbers: Int64, pages: _Pages, threshold: float, most_kept: int
) -> Iterator[tuple[Int64, Int64]]:
    """Of each bucket the first page and those like it; then of what is left of the bucket, `most_kept` times at most.

    Yields:
        (m,) pages that stand first, (m,) pages that are like them.
    """
    for _ in range(most_kept):
        if not len(numbers):
            return
        first = np.ones(len(numbers), np.bool_)
        first[1:] = buckets[1:] != buckets[:-1]
        kept = numbers[first][np.cumsum(first) - 1]
        alike = np.zeros(len(numbers), np.bool_)
        others = np.flatnonzero(~first)
        for start in range(0, len(others), _CHUNK_PAIRS):
            here = others[start : start + _CHUNK_PAIRS]
            alike[here] = similarity(pages.signatures(kept[here]), pages.signatures(numbers[here])) >= threshold
        if alike.any():
            yield kept[alike], numbers[alike]
        rest = ~first & ~alike
        buckets, numbers = buckets[rest], numbers[rest]


def _join(clusters: Int64, pairs: Int64) -> None:
    """Union-find on arrays: `clusters` maps each page to the first of its cluster, before and after."""
    while True:
        roots = clusters[pairs]
        low, high = roots.min(axis=1), roots.max(axis=1)
        apart = low < high
        if not apart.any():
            return
        np.minimum.at(clusters, high[apart], low[apart])
        while not np.array_equal(clusters, further := clusters[clusters]):
            clusters[:] = further


def _open(path: Path) -> npt.NDArray[Any]:
    """An array, mapped if it is large; numpy maps no empty ones."""
    array: npt.NDArray[Any] = np.load(path, mmap_mode="r" if path.stat().st_size > 1 << 20 else None)
    return array


def _repeated(urls: Path) -> npt.NDArray[np.bool_]:
    """(n,): which pages are out already, for another of the same address is kept."""
    repeated: npt.NDArray[np.bool_] = read_parquet(urls, ["duplicate_url"]).column(0).to_numpy(zero_copy_only=False)
    return repeated


def _texts(pages: Path) -> Iterator[str]:
    with open_parquet(pages) as file:
        for batch in file.iter_batches(_BATCH_ROWS, columns=["text"], use_threads=False):
            yield from batch.column(0).to_pylist()


def _date_numbers(dates: pa.ChunkedArray) -> Int64:
    """ISO dates as numbers in the same order, a day before all its seconds; unknown ones behind all others."""
    digits = pc.replace_substring_regex(dates, pattern="[^0-9]", replacement="")
    padded = pc.utf8_rpad(pc.utf8_slice_codeunits(digits, 0, 14), 14, "0")
    numbers: Int64 = pc.cast(padded, pa.int64()).to_numpy()
    return np.where(pc.equal(digits, "").to_numpy(), _UNDATED, numbers)
