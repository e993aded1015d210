"""Out of a slice: one text a document, and what is set aside on the way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dsm.data.records import (
    RAW_CHARS,
    DamagedStreamError,
    Record,
    Rejected,
    file_chunks,
    file_rows,
    parse_line,
    raw_row,
)
from dsm.data.store.slices import UTF8_BOM, LineBlock, LineRange, RowRange, Slice, Source, WholeFiles
from dsm.errors import UserError

LONGEST_DOCUMENT = 64 << 20
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Place:
    """The file's number and the row, from 1; 0 is a whole file. Lines are counted in their slice."""

    file: int
    row: int


@dataclass(frozen=True, slots=True)
class Text:
    """The text of one document."""

    place: Place
    text: str


@dataclass(frozen=True, slots=True)
class Aside:
    """A row that makes no document: why, and how it begins."""

    place: Place
    reason: str
    raw: str


Item = Text | Aside


def read_slice(source: Source, piece: Slice) -> Iterator[Item | None]:
    """The documents of a slice in order; None stands for a blank line.

    Raises:
        UserError: a file cannot be read at all.
    """
    try:
        if isinstance(piece, LineRange | LineBlock):
            yield from _from_lines(source, piece)
        elif isinstance(piece, RowRange):
            yield from _from_row_group(source, piece)
        elif isinstance(piece, WholeFiles):
            for file in range(piece.file, piece.file + piece.count):
                yield from _from_text(source, file) if source.is_text(file) else _from_list(source, file)
    except OSError as error:
        shown = error.filename or source.shown(piece.file)
        raise UserError(f"{source.name}: {shown} cannot be read ({error.strerror or error})") from error


def kind_of(reason: str) -> str:
    """The reason without what differs from row to row."""
    return reason.partition(" (")[0].partition(":")[0]


def _from_lines(source: Source, piece: LineRange | LineBlock) -> Iterator[Item | None]:
    is_text = source.is_text(piece.file)
    row, line = 0, b""
    for row, line in enumerate(piece.lines(source), start=1):
        if row == 1 and piece.number == 0:
            if line.startswith(_UTF16_BOMS):
                raise UserError(f"{source.name}: {source.shown(piece.file)} is UTF-16; save it as UTF-8")
            line = line.removeprefix(UTF8_BOM)
        place = Place(piece.file, row)
        if isinstance(piece, LineBlock) and piece.damage and not line.endswith(b"\n"):
            break
        if not line.strip():
            yield None
        elif is_text:
            yield _decoded(line.rstrip(b"\r\n"), place)
        else:
            yield _document(parse_line(line, "", True), source, place)
    else:
        row, line = row + 1, b""
    if isinstance(piece, LineBlock) and piece.damage:
        yield Aside(Place(piece.file, row), f"{piece.damage}; what follows is lost", _beginning(line))


def _from_row_group(source: Source, piece: RowRange) -> Iterator[Item]:
    import pyarrow

    row = piece.row + 1
    try:
        for row, values in enumerate(piece.rows(source), start=piece.row + 1):
            yield _document(Record(values, ""), source, Place(piece.file, row))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        lost = f"rows {row} to {piece.row + piece.count} are lost"
        yield Aside(Place(piece.file, row), f"row group {piece.group} is damaged: {lost} ({error})".splitlines()[0], "")


def _from_list(source: Source, file: int) -> Iterator[Item]:
    for row, record in enumerate(file_rows(source.files[file], source.name, True), start=1):
        yield _document(record, source, Place(file, row))


def _from_text(source: Source, file: int) -> Iterator[Item]:
    place, content = Place(file, 0), bytearray()
    try:
        for chunk in file_chunks(source.files[file]):
            content += chunk
            if len(content) > LONGEST_DOCUMENT:
                break
    except DamagedStreamError as damage:
        yield Aside(place, damage.reason, _beginning(content))
        return
    if content.startswith(_UTF16_BOMS):
        yield Aside(place, "is UTF-16", "")
    else:
        yield _decoded(bytes(content).removeprefix(UTF8_BOM), place)


def _decoded(content: bytes, place: Place) -> Item:
    try:
        return _checked(content.decode("utf-8"), place)
    except UnicodeDecodeError as error:
        return Aside(place, f"not valid UTF-8 (byte {error.start + 1})", _beginning(content))


def _document(record: Record | Rejected, source: Source, place: Place) -> Item:
    if isinstance(record, Rejected):
        return Aside(place, record.reason, record.raw)
    parts = []
    for name in source.fields:
        value = record.row.get(name)
        if not isinstance(value, str):
            kind = f"is {_KINDS.get(type(value), type(value).__name__)}, not text"
            reason = f"field {name!r} {kind}" if name in record.row else f"no field {name!r}"
            return Aside(place, reason, raw_row(record.row))
        parts.append(value)
    return _checked(source.separator.join(parts), place, record.row)


def _checked(text: str, place: Place, row: Mapping[str, Any] | None = None) -> Item:
    """A text that can be encoded."""
    raw = text[:RAW_CHARS] if row is None else ""
    if not text.strip():
        reason = "empty"
    elif len(text) > LONGEST_DOCUMENT:
        reason = f"longer than {LONGEST_DOCUMENT >> 20} Mi characters"
    elif (half := _lone_surrogate(text)) is not None:
        reason = f"not valid Unicode (half of a surrogate pair, character {half + 1})"
    else:
        return Text(place, text)
    return Aside(place, reason, raw if row is None else raw_row(row))


def _lone_surrogate(text: str) -> int | None:
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return error.start
    return None


def _beginning(content: bytes | bytearray) -> str:
    return bytes(content[: 4 * RAW_CHARS]).decode("utf-8", errors="replace").strip()[:RAW_CHARS]


_KINDS = {type(None): "null", list: "a list", dict: "an object", int: "a number", float: "a number", bool: "a boolean"}
