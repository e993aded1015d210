"""The pages of candidate domains, in memory without their texts: counts of any path prefix at once.

Read once, column by column: a million pages take a few seconds and 300 MB while they are read. What a prefix holds is
worked out when somebody looks at it. Texts stay on the disk until a page is shown.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dsm.corpus.annotations import depth_of, prefixes_at
from dsm.corpus.domains import DOMAINS
from dsm.corpus.pages import PageTable, read_parquet
from dsm.corpus.steps import MANIFEST, Manifest
from dsm.errors import UserError

BINS = 24
"""Of the histogram of scores, which are in [0, 1]."""

_KEPT = ("url_hash", "domain", "path", "language", "tokens", "duplicate_url", "duplicate_of", "score", "collected")
_LANGUAGES = ("en", "zh", "other")
_MAX_CHILDREN = 400


@dataclass(frozen=True)
class Node:
    """A path prefix of a domain.

    Attributes:
        label: what it adds to its parent's prefix; several segments where there was no choice.
        pages: deduplicated pages at or below it.
        collected: those collected in the round.
        tokens: of the pages.
        tokens_gained: of the pages that are not collected.
    """

    domain: str
    prefix: str
    label: str
    pages: int
    collected: int
    tokens: int
    tokens_gained: int

    @property
    def gain(self) -> int:
        """Pages that accepting it would add."""
        return self.pages - self.collected


@dataclass(frozen=True)
class Branches:
    """What lies below a prefix: children by gain, and the pages of those too small to be listed."""

    children: tuple[Node, ...]
    rest_paths: int
    rest_pages: int


@dataclass(frozen=True)
class Page:
    """One page as it is shown; `row` is its position in the index."""

    row: int
    url: str
    path: str
    score: float
    tokens: int
    formulas: int
    language: str
    collected: bool
    text: str


class Index:
    """Pages of some domains of a mined run, by domain and path prefix."""

    def __init__(self, run: Path, round: int, domains: list[str], min_pages: int) -> None:
        """Read the page table.

        Args:
            run: the run's folder.
            round: whose scores and collected pages.
            domains: which are wanted.
            min_pages: a path with fewer pages is not listed.

        Raises:
            UserError: a step that writes one of the columns is not finished.
        """
        self.pages = PageTable(run)
        self.digest = self.pages.manifest.hash
        self.min_pages = min_pages
        self.names = {name: code for code, name in enumerate(domains)}
        tables = list(self._read(round, pa.array(domains, pa.string())))
        self.url_hash = _numbers(tables, "url_hash", np.uint64)
        self.tokens = _numbers(tables, "tokens", np.int32)
        self.score = _numbers(tables, "score", np.float32)
        self.collected = _numbers(tables, "collected", bool)
        self.shard = _numbers(tables, "shard", np.int32)
        self.row = _numbers(tables, "row", np.int32)
        self.language = _numbers(tables, "language", np.int8)
        code = _numbers(tables, "code", np.int32)
        paths = [chunk for table in tables for chunk in table["path"].chunks]
        self.path = pa.chunked_array(paths, pa.large_string()).combine_chunks()
        order = np.argsort(code, kind="stable")
        borders = np.searchsorted(code[order], np.arange(len(domains) + 1))
        self._of_domain = [order[borders[at] : borders[at + 1]] for at in range(len(domains))]
        self._rows: dict[tuple[str, str], np.ndarray] = {}
        self._nodes: dict[tuple[str, str], Node] = {}
        self._branches: dict[tuple[str, str], Branches] = {}
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self.url_hash)

    def _read(self, round: int, wanted: pa.Array) -> Iterator[dict[str, Any]]:
        for number, shard in enumerate(self.pages.shards):
            table = self.pages.read(shard, _KEPT, round)
            code = pc.index_in(table["domain"], value_set=wanted)
            kept = pc.and_(
                pc.equal(table["duplicate_of"], pa.scalar(0, pa.uint64())), pc.invert(table["duplicate_url"])
            )
            rows = np.flatnonzero(pc.and_(kept, pc.is_valid(code)).to_numpy())
            found = table.drop_columns(["domain", "duplicate_of", "duplicate_url"]).take(pa.array(rows))
            language = pc.fill_null(pc.index_in(found["language"], value_set=pa.array(_LANGUAGES)), 2)
            yield {
                **{name: found[name].to_numpy() for name in ("url_hash", "tokens", "score", "collected")},
                "path": found["path"].cast(pa.large_string()),
                "language": language.to_numpy(),
                "code": code.to_numpy()[rows],
                "row": rows,
                "shard": np.full(rows.size, number),
            }

    def rows(self, domain: str, prefix: str) -> np.ndarray:
        """The pages at or below a prefix, as positions in this index."""
        if domain not in self.names:
            return np.zeros(0, np.int64)
        whole = self._of_domain[self.names[domain]]
        if prefix == "/":
            return whole
        with self._lock:
            key = (domain, prefix)
            if key not in self._rows:
                parent = prefix.rpartition("/")[0] or "/"
                within = self._rows.get((domain, parent), whole)
                heads = prefixes_at(self.path.take(pa.array(within)), depth_of(prefix))
                self._rows[key] = within[pc.equal(heads, prefix).to_numpy(zero_copy_only=False)]
            return self._rows[key]

    def node(self, domain: str, prefix: str) -> Node:
        """The counts of a prefix."""
        with self._lock:
            key = (domain, prefix)
            if key not in self._nodes:
                self._nodes[key] = self._node(domain, prefix, prefix, self.rows(domain, prefix))
            return self._nodes[key]

    def branches(self, domain: str, prefix: str) -> Branches:
        """What lies below a prefix, by gain; chains without a choice are one step."""
        with self._lock:
            key = (domain, prefix)
            if key not in self._branches:
                self._branches[key] = self._branch(domain, prefix)
            return self._branches[key]

    def histogram(self, domain: str, prefix: str) -> tuple[list[int], list[int]]:
        """Pages by score in `BINS` equal bins of [0, 1]: not collected, collected."""
        rows = self.rows(domain, prefix)
        score = np.nan_to_num(self.score[rows], nan=0.0)
        bins = np.clip((score * BINS).astype(np.int64), 0, BINS - 1)
        collected = self.collected[rows]
        return (
            np.bincount(bins[~collected], minlength=BINS).tolist(),
            np.bincount(bins[collected], minlength=BINS).tolist(),
        )

    def samples(self, domain: str, prefix: str, *, collected: bool, start: int, count: int) -> list[Page]:
        """Pages drawn from a prefix: by a hash of their address, so the same ones whoever looks, in no order."""
        rows = self.rows(domain, prefix)
        rows = rows[self.collected[rows] == collected]
        drawn = np.argsort(self.url_hash[rows] * np.uint64(0x9E3779B97F4A7C15), kind="stable")
        return [self.page(int(row)) for row in rows[drawn[start : start + count]]]

    def page(self, row: int) -> Page:
        """One page with its text."""
        shard = self.pages.shards[int(self.shard[row])]
        found = _read_row(self.pages.pages_file(shard), int(self.row[row]), ("url", "formulas", "text"))
        return Page(
            row=row,
            url=found["url"],
            path=self.path[row].as_py(),
            score=float(self.score[row]),
            tokens=int(self.tokens[row]),
            formulas=found["formulas"],
            language=_LANGUAGES[self.language[row]],
            collected=bool(self.collected[row]),
            text=found["text"],
        )

    def _branch(self, domain: str, prefix: str) -> Branches:
        rows = self.rows(domain, prefix)
        heads = prefixes_at(self.path.take(pa.array(rows)), depth_of(prefix) + 1).dictionary_encode()
        codes, names = heads.indices.to_numpy(), heads.dictionary.to_pylist()
        pages = np.bincount(codes, minlength=len(names))
        gain = np.bincount(codes[~self.collected[rows]], minlength=len(names))
        own = {prefix, prefix.rstrip("/") + "/", ""}
        listed = [at for at, name in enumerate(names) if pages[at] >= self.min_pages and name not in own]
        listed = sorted(listed, key=lambda at: (-gain[at], -pages[at], names[at]))[:_MAX_CHILDREN]
        order = np.argsort(codes, kind="stable")
        borders = np.searchsorted(codes[order], np.arange(len(names) + 1))
        children = []
        for at in listed:
            self._rows[domain, names[at]] = rows[order[borders[at] : borders[at + 1]]]
            deepest = self._collapsed(domain, names[at])
            label = deepest.removeprefix(prefix).lstrip("/")
            children.append(self._node(domain, deepest, label, self.rows(domain, deepest)))
        if len(children) == 1 and children[0].pages == len(rows):  # no choice here: what lies below that child
            below = self.branches(domain, children[0].prefix)
            children = [replace(child, label=child.prefix.removeprefix(prefix).lstrip("/")) for child in below.children]
            return Branches(tuple(children), below.rest_paths, below.rest_pages)
        small = [at for at, name in enumerate(names) if at not in set(listed) and name not in own]
        return Branches(tuple(children), len(small), int(pages[small].sum()))

    def _collapsed(self, domain: str, prefix: str) -> str:
        """The deepest prefix that holds the same pages."""
        rows = self.rows(domain, prefix)
        while True:
            heads = pc.unique(prefixes_at(self.path.take(pa.array(rows)), depth_of(prefix) + 1))
            if len(heads) != 1 or heads[0].as_py().rstrip("/") == prefix:
                return prefix
            deeper = heads[0].as_py()
            # A single address under which several pages lie (by their queries) stays the leaf it is.
            self._rows[domain, deeper] = rows
            prefix = deeper

    def _node(self, domain: str, prefix: str, label: str, rows: np.ndarray) -> Node:
        collected, tokens = self.collected[rows], self.tokens[rows].astype(np.int64)
        return Node(
            domain=domain,
            prefix=prefix,
            label=label,
            pages=len(rows),
            collected=int(collected.sum()),
            tokens=int(tokens.sum()),
            tokens_gained=int(tokens[~collected].sum()),
        )


def last_round(run: Path) -> int:
    """The last round whose domains are known.

    Raises:
        UserError: there is none.
    """
    manifests = (run / "steps").glob(f"round-*/domains/{MANIFEST}")
    rounds = [int(name) for file in manifests if (name := file.parent.parent.name[6:]).isdigit()]
    if not rounds:
        raise UserError(f"run={run}: no finished round there; give the folder of a stage=mine run")
    return max(rounds)


def candidates(run: Path, round: int) -> list[str]:
    """The candidate domains of a round, by name.

    Raises:
        UserError: the round is not there, or its table cannot be read.
    """
    folder = run / "steps" / f"round-{round}" / "domains"
    if not (folder / MANIFEST).exists():
        raise UserError(f"round={round}: {run} has no such finished round; the last one is {last_round(run)}")
    tables = [read_parquet(file, ["domain", "candidate"]) for file in Manifest.load(folder).files(DOMAINS)]
    return sorted({name for table in tables for name in table.filter(table["candidate"])["domain"].to_pylist()})


def _numbers(tables: Iterable[dict[str, Any]], name: str, kind: type) -> np.ndarray:
    parts: list[np.ndarray] = [np.asarray(table[name], dtype=kind) for table in tables]
    return np.concatenate(parts) if parts else np.zeros(0, kind)


def _read_row(file: Path, row: int, columns: tuple[str, ...]) -> dict[str, Any]:
    """One row of a Parquet file; only its row group is read."""
    parquet = pq.ParquetFile(file)
    for group in range(parquet.num_row_groups):
        size = parquet.metadata.row_group(group).num_rows
        if row < size:
            found: dict[str, Any] = parquet.read_row_group(group, columns=list(columns)).slice(row, 1).to_pylist()[0]
            return found
        row -= size
    raise IndexError(f"{file} has no row {row}")
