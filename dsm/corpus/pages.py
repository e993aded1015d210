"""The page table: one row per page, its columns written by one step after another.

The step `pages` fixes the shards, their rows and their order; every later step adds columns in files of its own, row by
row beside them. To read is to put the asked-for columns of one shard side by side; text is a column like any other, so
a table without it stays small.

    RUN/steps/pages/<shard>/pages.parquet            PAGE_SCHEMA
    RUN/steps/urls/<shard>/columns.parquet           duplicate_url
    RUN/steps/near/<shard>/columns.parquet           duplicate_of
    RUN/steps/round-K/score/<shard>/columns.parquet  score
    RUN/steps/round-K/cut/<shard>/columns.parquet    collected
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dsm.corpus.steps import Manifest, Shard
from dsm.errors import UserError

PAGES, COLUMNS = "pages.parquet", "columns.parquet"

PAGE_SCHEMA = pa.schema(
    [
        pa.field("url_hash", pa.uint64(), nullable=False),  # xxh3_64 of the canonical address
        pa.field("url", pa.string(), nullable=False),  # as found
        pa.field("domain", pa.string(), nullable=False),  # host without www.
        pa.field("path", pa.string(), nullable=False),  # canonical, without the query
        pa.field("source", pa.string(), nullable=False),  # input file, relative to what was asked for
        pa.field("offset", pa.int64(), nullable=False),  # of the (packed) record there; a row's or line's number
        pa.field("length", pa.int64(), nullable=False),  # bytes there; 0 where unknown
        pa.field("digest", pa.uint64(), nullable=False),  # xxh3_64 of the payload
        pa.field("date", pa.string(), nullable=False),  # when it was fetched, ISO 8601 UTC; '' where unknown
        pa.field("language", pa.string(), nullable=False),  # en | zh | other
        pa.field("words", pa.int32(), nullable=False),
        pa.field("tokens", pa.int32(), nullable=False),  # an estimate, or a tokenizer's count
        pa.field("formulas", pa.int32(), nullable=False),
        pa.field("extractor", pa.string(), nullable=False),  # its version; '' where the text came as text
        pa.field("text", pa.string(), nullable=False),
    ]
)

SIDE_COLUMNS = {
    "duplicate_url": ("urls", pa.bool_()),  # another page of the same address is kept
    "duplicate_of": ("near", pa.uint64()),  # url_hash of the near-duplicate that is kept; 0: kept itself
    "score": ("round-{round}/score", pa.float32()),  # NaN where the page is a duplicate
    "collected": ("round-{round}/cut", pa.bool_()),
}
"""Column -> the step that writes it, its type."""

ROW_GROUP = 1 << 14
PARQUET = {"compression": "zstd", "compression_level": 3, "write_page_checksum": True}
"""How every table of a run is written."""


def write_table(table: pa.Table, path: Path) -> None:
    """Parquet, the same bytes for the same table."""
    pq.write_table(table, path, row_group_size=ROW_GROUP, **PARQUET)


def write_columns(columns: dict[str, pa.Array], out: Path) -> None:
    """A step's columns of a shard, as `PageTable` finds them: `columns.parquet` in the folder that `run` was given."""
    fields = [(name, SIDE_COLUMNS[name][1]) for name in columns]
    write_table(pa.table(list(columns.values()), schema=pa.schema(fields)), out / COLUMNS)


class PageTable:
    """The pages of a run; read shard by shard."""

    def __init__(self, run: Path) -> None:
        """`run`: the run's folder, whose step `pages` is finished."""
        self.steps = run / "steps"

    @cached_property
    def manifest(self) -> Manifest:
        """Of the step `pages`."""
        return Manifest.load(self.steps / "pages")

    @property
    def shards(self) -> list[str]:
        """Their names, in order."""
        return list(self.manifest.shards)

    def shard(self, name: str) -> Shard:
        """One shard of the step `pages`."""
        return self.manifest.shards[name]

    def pages_file(self, shard: str) -> Path:
        """Where a shard's pages are: an input of steps that read them."""
        return self.steps / "pages" / shard / PAGES

    def column_file(self, shard: str, column: str, round: int | None = None) -> Path:
        """Where a shard's side column is: an input of steps that read it."""
        step, _ = SIDE_COLUMNS[column]
        if "{round}" in step and round is None:
            raise ValueError(f"{column} belongs to a round; say which")
        return self.steps / step.format(round=round) / shard / COLUMNS

    def read(self, shard: str, columns: Sequence[str], round: int | None = None) -> pa.Table:
        """Columns of one shard side by side, in the order asked for.

        Args:
            shard: its name.
            columns: of `PAGE_SCHEMA` and `SIDE_COLUMNS`.
            round: whose `score` and `collected`.

        Raises:
            UserError: a step that writes one of them is not finished, or a file is damaged.
        """
        files: dict[Path, list[str]] = {}
        for column in columns:
            path = self.column_file(shard, column, round) if column in SIDE_COLUMNS else self.pages_file(shard)
            files.setdefault(path, []).append(column)
        found: dict[str, pa.ChunkedArray] = {}
        for path, names in files.items():
            table = read_parquet(path, names)
            found |= {name: table.column(name) for name in names}
        if len({len(array) for array in found.values()}) > 1:
            rows = ", ".join(f"{name} {len(array)}" for name, array in found.items())
            raise UserError(f"{self.steps}: shard {shard} has columns of different lengths ({rows}); run mine again")
        return pa.table({column: found[column] for column in columns})

    def tables(self, columns: Sequence[str], round: int | None = None) -> Iterator[tuple[str, pa.Table]]:
        """All shards, one after the other, each with its name."""
        for shard in self.shards:
            yield shard, self.read(shard, columns, round)


def read_parquet(path: Path, columns: Sequence[str]) -> pa.Table:
    """Columns of one file, in one thread (whoever wants more takes more workers).

    Raises:
        UserError: it cannot be read, or is not what was written.
    """
    try:
        with open_parquet(path) as file:
            return file.read(columns=list(columns), use_threads=False)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: cannot be read ({reason}); run the same command again to make it anew") from error


def open_parquet(path: Path) -> pq.ParquetFile:
    """A file whose reading fails (OSError) where a page of it is not what was written."""
    return pq.ParquetFile(path, page_checksum_verification=True)
