"""Plain texts out of rows: what a tokenizer is learnt from."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from dsm.config.data import TextDataConfig
from dsm.data.records import Rejected, read_records
from dsm.errors import UserError


def read_texts(data: TextDataConfig) -> Iterator[str]:
    """Every text of the rows that `every` leaves, up to `max_bytes`; those inside lists and messages are found too.

    Raises:
        UserError: a source cannot be read, or has no row with one of `fields`.
    """
    room = data.max_bytes if data.max_bytes is not None else float("inf")
    for name, source in data.sources.items():
        key = f"data.sources.{name}"
        found, seen = False, ""
        for row in islice(read_records(source.path, split=source.split, key=f"{key}.path"), 0, None, data.every):
            if isinstance(row, Rejected):
                continue
            seen = ", ".join(row.row)
            values = [row.row[field] for field in data.fields if field in row.row] if data.fields else [row.row]
            for text in _texts(values):
                found = True
                room -= len(text.encode())
                if room < 0:
                    return
                yield text
        if not found:
            wanted = f"none of data.fields={data.fields}" if data.fields else "no text"
            raise UserError(f"{key}.path={source.path}: its rows have {wanted}; their keys are {seen or 'none'}")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if value:
            yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
