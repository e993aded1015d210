"""Pages that come as rows: JSON lines and Parquet, of whatever columns the corpora of the field have."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dsm.corpus.members import Damage, Piece, members
from dsm.corpus.warc import MAX_RECORD_BYTES
from dsm.corpus.web import Document, iso_date

TEXT_FIELDS = ("text", "content", "raw_content", "body", "document")
HTML_FIELDS = ("html", "raw_html", "html_content", "content_html", "page_html")
URL_FIELDS = ("url", "uri", "target_uri", "warc_target_uri", "source_url", "link", "id")
DATE_FIELDS = ("date", "timestamp", "date_download", "fetch_time", "crawl_date", "created")
NESTED_FIELDS = ("metadata", "meta")
_BATCH_ROWS = 256

Row = tuple[int, int, Document | str]
"""Number (from 1), bytes (0 where there is no such thing), the document or why there is none."""


def json_rows(path: Path) -> Iterator[Row]:
    """The documents of a file of JSON lines, packed or not."""
    with path.open("rb") as file:
        for number, line in enumerate(_lines(members(file, path.suffix)), start=1):
            if isinstance(line, str):
                yield number, 0, line
            elif line.strip():
                yield number, len(line), _parsed(line)


def _lines(pieces: Iterable[Piece]) -> Iterator[bytes | str]:
    """Lines, and for each that is lost the reason."""
    tail, lost = bytearray(), ""  # `lost`: why what comes up to the next line's end is worth nothing
    for piece in pieces:
        if isinstance(piece, Damage):
            yield lost or piece.reason
            tail.clear()
            lost = ""
        elif isinstance(piece, bytes):
            *lines, rest = piece.split(b"\n")
            for line in lines:
                tail += line
                if lost:
                    yield lost
                else:
                    yield bytes(tail)
                tail.clear()
                lost = ""
            tail += rest
            if len(tail) > MAX_RECORD_BYTES:
                tail.clear()
                lost = "too_large"
    if tail or lost:
        yield lost or bytes(tail)


def _parsed(line: bytes) -> Document | str:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError):  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        return "bad_json"
    return document_of_row(row) if isinstance(row, dict) else "bad_json"


def parquet_rows(path: Path) -> Iterator[Row]:
    """The documents of a Parquet file; a row group that cannot be read is lost row by row."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError, ValueError):
        yield 1, 0, "unreadable_file"
        return
    wanted = {*TEXT_FIELDS, *HTML_FIELDS, *URL_FIELDS, *DATE_FIELDS, *NESTED_FIELDS}
    with file:
        columns = [name for name in file.schema_arrow.names if name in wanted]
        first = 1
        for group in range(file.num_row_groups):
            number, end = first, first + file.metadata.row_group(group).num_rows
            try:
                for batch in file.iter_batches(_BATCH_ROWS, row_groups=[group], columns=columns, use_threads=False):
                    for row in batch.to_pylist() if columns else [{}] * len(batch):
                        yield number, 0, document_of_row(row)
                        number += 1
            except (pa.ArrowException, OSError, ValueError):
                pass
            for lost in range(number, end):
                yield lost, 0, "broken_row_group" if columns else "no_text_field"
            first = end


def document_of_row(row: Mapping[str, Any]) -> Document | str:
    """The document in a row: its first column that holds HTML, or else text; address and date where they use to be."""
    nested = [found for name in NESTED_FIELDS if (found := _nested(row.get(name))) is not None]
    url = str(_first([row, *nested], URL_FIELDS, _is_address) or "").strip()
    date = iso_date(str(_first([row, *nested], DATE_FIELDS, _is_date) or ""))
    if (html := _first([row], HTML_FIELDS, bool)) is not None:
        payload = html if isinstance(html, bytes) else str(html)
        return Document(url, date, payload, "html") if payload.strip() else "empty"
    text = _first([row], TEXT_FIELDS, lambda value: isinstance(value, str | bytes))
    if text is None:
        return "no_text_field"
    text = text.decode("utf-8", errors="replace") if isinstance(text, bytes) else str(text)
    return Document(url, date, text, "text") if text.strip() else "empty"


def _first(rows: Iterable[Mapping[str, Any]], names: Iterable[str], fits: Any) -> Any:
    """The first value that fits, by row, then by name."""
    names = tuple(names)
    return next((row[name] for row in rows for name in names if row.get(name) is not None and fits(row[name])), None)


def _nested(value: Any) -> Mapping[str, Any] | None:
    if isinstance(value, str) and value.startswith("{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def _is_address(value: Any) -> bool:
    return isinstance(value, str) and "://" in value[:12]


def _is_date(value: Any) -> bool:
    return isinstance(value, datetime.date) or (isinstance(value, str) and bool(iso_date(value)))
