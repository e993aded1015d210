"""One file of rows without what benchmarks hold: the step of `stage=decontaminate`.

A row is a page. Its columns are searched each by itself. A column of text loses its segments; where texts lie deeper
(messages), or `unit` is page, a hit removes the row: half a dialogue is no example. Rows without a hit stay as they
are: the lines of JSONL byte for byte, the rows of Parquet in their schema.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from dsm.corpus import contamination, grams
from dsm.corpus.contamination import Decontaminator
from dsm.corpus.contamination_index import load_decontaminator
from dsm.corpus.pages import PARQUET, open_parquet
from dsm.corpus.steps import Task
from dsm.data.records import DamagedStreamError, Rejected, file_chunks, parse_line, raw_row
from dsm.errors import UserError
from dsm.evaluation.columns import at

SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet")
HITS, REJECTED = "hits.jsonl", "rejected.jsonl"
_BATCH_ROWS = 256
_GROUP_ROWS = 4096  # of a row group of Parquet
_BOM = b"\xef\xbb\xbf"

Row = dict[str, Any]


def cleaned_name(path: Path) -> str:
    """What the cleaned file is called in its task's folder."""
    return "cleaned" + next(suffix for suffix in SUFFIXES if path.name.endswith(suffix))


@dataclass(frozen=True)
class RowsStep:
    """Cleaned rows, hits.jsonl and rejected.jsonl. Inputs: a file of rows, the texts of the benchmarks.

    Attributes:
        fields: columns that are searched, or paths into them (messages.0.content).
        ngram, min_ngram, unit: see `Decontaminator`.
    """

    fields: tuple[str, ...]
    ngram: int
    min_ngram: int
    unit: Literal["segment", "page"]
    name: ClassVar[str] = "decontaminate"
    version: ClassVar[str] = f"1.{contamination.VERSION}.{grams.VERSION}"

    def settings(self) -> dict[str, Any]:
        """What is searched, and what a match removes."""
        return asdict(self)

    def run(self, task: Task, out: Path) -> dict[str, int]:
        """Clean one file."""
        path, texts = task.inputs
        cleaner = _Cleaner(self.fields, load_decontaminator(texts, self.ngram, self.min_ngram, self.unit))
        target = out / cleaned_name(path)
        with cleaner.reports(out):
            (_clean_parquet if path.suffix == ".parquet" else _clean_lines)(path, target, cleaner)
        counts = cleaner.counts
        counts["in"] = counts["out"] + counts["contaminated"] + counts["broken"]
        return dict(counts)


class _Cleaner:
    """Cleans rows in batches; writes down what it finds."""

    def __init__(self, fields: Sequence[str], finder: Decontaminator) -> None:
        self.fields, self.finder = fields, finder
        names = ("out", "contaminated", "broken", "_hits", "_rows_hit", "_segments_removed")
        self.counts: Counter[str] = Counter(dict.fromkeys(names, 0))

    @contextmanager
    def reports(self, out: Path) -> Iterator[None]:
        """Where hits and rejected rows go."""
        with (out / HITS).open("w", encoding="utf-8") as hits, (out / REJECTED).open("w", encoding="utf-8") as rejected:
            self._hits, self._rejected = hits, rejected
            yield

    def reject(self, number: int, reason: str, raw: str) -> None:
        """Set a row aside."""
        self.counts["broken"] += 1
        self._rejected.write(json.dumps({"row": number, "reason": reason, "raw": raw}) + "\n")

    def clean(self, rows: Sequence[tuple[int, Row]]) -> list[Row | None]:
        """Each row (with its number) as it may stay: itself where nothing is found; None where it must go."""
        found = [list(_texts(row, self.fields)) for _, row in rows]
        suspects = iter(self.finder.suspects([text for texts in found for _, text in texts]))
        left: list[Row | None] = []
        for (number, row), texts in zip(rows, found, strict=True):
            cleaned: Row | None = row
            if not texts:
                self.reject(number, f"has no text in {', '.join(self.fields)}", raw_row(row))
                cleaned = None
            elif suspicious := [part for part in texts if next(suspects)]:
                cleaned = self._clean(number, row, suspicious)
            self.counts["out"] += cleaned is not None
            left.append(cleaned)
        return left

    def _clean(self, number: int, row: Row, suspicious: Sequence[tuple[str, str]]) -> Row | None:
        """A row in whose texts something may be found."""
        left: Row | None = row
        hits = 0
        for field, text in suspicious:
            cleaned = self.finder.clean(text)
            hits += len(cleaned.hits)
            for hit in cleaned.hits:
                self._hits.write(json.dumps({"row": number, "field": field} | asdict(hit), ensure_ascii=False) + "\n")
            if cleaned.text is None or (cleaned.hits and row.get(field) != text):
                left = None
            elif left is not None and cleaned.hits:
                left = left | {field: cleaned.text}
                self.counts["_segments_removed"] += cleaned.segments_removed
        self.counts["_hits"] += hits
        self.counts["_rows_hit"] += hits > 0
        self.counts["contaminated"] += left is None
        return left


def _texts(row: Row, fields: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(column, text) of every text in these columns, however deep."""
    for field in fields:
        for text in _strings(at(row, field)):
            yield field, text


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from _strings(part)


# ---------------------------------------------------------------- JSONL


def _clean_lines(path: Path, target: Path, cleaner: _Cleaner) -> None:
    lines = _numbered_lines(path, cleaner)
    with _writer(target) as file:
        while batch := list(islice(lines, _BATCH_ROWS)):
            cleaned = cleaner.clean([(number, row) for number, row, _ in batch])
            for (_, row, line), left in zip(batch, cleaned, strict=True):
                if left is not None:
                    file.write(line if left is row else _as_line(left))


def _numbered_lines(path: Path, cleaner: _Cleaner) -> Iterator[tuple[int, Row, bytes]]:
    """Number (from 1), row and bytes of each line that can be read."""
    number = 0
    try:
        for number, line in enumerate(_lines(file_chunks(path)), start=1):
            line = line.removeprefix(_BOM) if number == 1 else line
            if line.strip():
                record = parse_line(line, "", allow_nan=True)
                if isinstance(record, Rejected):
                    cleaner.reject(number, record.reason, record.raw)
                else:
                    yield number, record.row, line.rstrip(b"\r\n") + b"\n"
    except DamagedStreamError as damage:
        cleaner.reject(number + 1, f"{damage.reason}; what follows is lost", "")


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    tail = b""
    for chunk in chunks:
        *lines, tail = (tail + chunk).split(b"\n")
        yield from lines
    if tail:
        yield tail


def _as_line(row: Row) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can only spell
        return json.dumps(row).encode() + b"\n"


@contextmanager
def _writer(target: Path) -> Iterator[Any]:
    """A file, packed as its name says; the same bytes for the same lines."""
    with target.open("wb") as raw:
        if target.suffix == ".gz":
            with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=6) as file:
                yield file
        elif target.suffix == ".zst":
            with zstandard.ZstdCompressor(level=3).stream_writer(raw) as file:
                yield file
        else:
            yield raw


# ---------------------------------------------------------------- Parquet


def _clean_parquet(path: Path, target: Path, cleaner: _Cleaner) -> None:
    batches = _batches(path)
    schema, number = next(batches).schema, 1  # the first is empty
    tops = {field if field in schema.names else field.partition(".")[0] for field in cleaner.fields}
    wanted = [name for name in schema.names if name in tops]
    with pq.ParquetWriter(target, schema, **PARQUET) as out:
        for batch in batches:
            rows = batch.select(wanted).to_pylist() if wanted else [{} for _ in range(len(batch))]
            out.write_batch(_left(batch, rows, cleaner.clean(list(enumerate(rows, start=number)))))
            number += len(batch)


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    """An empty batch, then all rows."""
    try:
        with open_parquet(path) as file:
            yield pa.RecordBatch.from_pylist([], schema=file.schema_arrow)
            yield from file.iter_batches(_GROUP_ROWS, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: is not a readable Parquet file ({str(error).splitlines()[0]})") from error


def _left(batch: pa.RecordBatch, rows: Sequence[Row], cleaned: Sequence[Row | None]) -> pa.RecordBatch:
    """The rows of a batch that may stay, with their texts as they are now."""
    both = list(zip(rows, cleaned, strict=True))
    changed = {name for before, after in both if after is not None for name in after if after[name] is not before[name]}
    for name in sorted(changed):
        place = batch.schema.get_field_index(name)
        field = batch.schema.field(place)
        values = [(before if after is None else after)[name] for before, after in both]
        batch = batch.set_column(place, field, pa.array(values, field.type))
    return batch.filter(pa.array([after is not None for after in cleaned], pa.bool_()))
