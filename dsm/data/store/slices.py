"""The input in slices of fixed borders: what one worker takes at a time.

A slice depends on the files alone, so whoever reads it, and whenever, the same rows come out. Plain lines are sliced by
byte offsets and Parquet by rows, which workers read themselves. A packed stream can only be read from its beginning:
whoever iterates over `slices` unpacks it, and hands out blocks of lines. JSON lists and texts are read whole, small
files together.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from dsm.config.store import DocumentDataConfig, DocumentSourceConfig
from dsm.data.records import SUFFIXES, DamagedStreamError, data_files, unpacked
from dsm.errors import UserError

SLICE_BYTES = 2 << 20
_SLICES_OF_A_GROUP = 64
LONGEST_LINE = 1 << 30
UTF8_BOM = b"\xef\xbb\xbf"
_PACKED = (".gz", ".zst")
_BATCH_ROWS, _BUFFER_BYTES = 64, 1 << 20

Position = tuple[int, int]
"""A file's number and a slice's number in it."""


@dataclass(frozen=True)
class Source:
    """One source as it is read, the same in every process.

    Attributes:
        name: how errors begin: the config key and the path.
        root: the folder that `shown` names files from.
        files: in the order in which their documents follow each other.
        sizes: bytes of each file when the run was planned.
        fields: columns of a row that make a document, joined by `separator`.
        text_suffixes: files with these suffixes are texts; a document is the whole of one, or with `text_lines` a line.
        slice_bytes: about so much text makes a slice.
    """

    name: str
    root: Path
    files: tuple[Path, ...]
    sizes: tuple[int, ...]
    fields: tuple[str, ...]
    separator: str = "\n"
    text_suffixes: tuple[str, ...] = ()
    text_lines: bool = False
    slice_bytes: int = SLICE_BYTES

    @classmethod
    def of(cls, name: str, config: DocumentSourceConfig, data: DocumentDataConfig) -> Source:
        """What `data.sources.<name>` names on this disk.

        Raises:
            UserError: nothing is there that can be read.
        """
        key = f"data.sources.{name}.path={config.path}"
        suffixes = (*SUFFIXES, *data.text_suffixes)
        path = Path(config.path).expanduser()
        files = data_files(path, config.split, key, suffixes)
        return cls(
            name=key,
            root=path if path.is_dir() else path.parent,
            files=tuple(files),
            sizes=tuple(file.stat().st_size for file in files),
            fields=tuple(config.fields or data.fields),
            separator=data.separator if config.separator is None else config.separator,
            text_suffixes=tuple(data.text_suffixes),
            text_lines=data.text_unit == "line",
        )

    def is_text(self, file: int) -> bool:
        """Is it a text itself, not rows that hold texts?"""
        return self.files[file].name.endswith(self.text_suffixes) if self.text_suffixes else False

    def is_whole(self, file: int) -> bool:
        """Is it read at once?"""
        if self.is_text(file):
            return not self.text_lines
        return self.files[file].suffix == ".json" and not _holds_lines(self.files[file])

    def shown(self, file: int) -> str:
        """A file's name below the source's folder."""
        return self.files[file].relative_to(self.root).as_posix()


@dataclass(frozen=True)
class Slice:
    """Rows of one file (of several where they are read whole). `weight` is its share of the files' bytes."""

    file: int
    number: int
    weight: int

    @property
    def next(self) -> Position:
        """Where the slice after it begins."""
        return self.file, self.number + 1


@dataclass(frozen=True)
class LineRange(Slice):
    """The lines that begin at bytes [start, stop) of a plain file."""

    start: int
    stop: int

    def lines(self, source: Source) -> Iterator[bytes]:
        """Each line with its line break."""
        with source.files[self.file].open("rb") as stream:
            if self.start:
                stream.seek(self.start - 1)
                self._line(stream, source)  # the end of the line before, which is another slice's
            while stream.tell() < self.stop and (line := self._line(stream, source)):
                yield line

    def _line(self, stream: BinaryIO, source: Source) -> bytes:
        line = stream.readline(LONGEST_LINE)
        if len(line) == LONGEST_LINE:
            raise _too_long(source, self.file)
        return line


@dataclass(frozen=True)
class LineBlock(Slice):
    """Whole lines out of a packed file; `damage` says why the last one, unfinished, is where the file breaks off."""

    content: bytes
    damage: str | None = None

    def lines(self, source: Source) -> Iterator[bytes]:
        """Each line with its line break."""
        return iter(io.BytesIO(self.content))


@dataclass(frozen=True)
class RowRange(Slice):
    """Rows [first, first + count) of a Parquet file's row group."""

    group: int
    first: int
    count: int
    row: int  # of the first one in the file, from 0

    def rows(self, source: Source) -> Iterator[dict[str, Any]]:
        """The rows, of the wanted columns.

        Raises:
            pyarrow.ArrowException, OSError or ValueError: the row group is damaged; rows before the damage have come.
        """
        import pyarrow.parquet

        with pyarrow.parquet.ParquetFile(source.files[self.file], buffer_size=_BUFFER_BYTES) as table:
            wanted = [name for name in source.fields if name in table.schema_arrow.names]
            batches = table.iter_batches(_BATCH_ROWS, row_groups=[self.group], columns=wanted, use_threads=False)
            rows = (row for batch in batches for row in batch.to_pylist())
            yield from islice(rows, self.first, self.first + self.count)


@dataclass(frozen=True)
class WholeFiles(Slice):
    """`count` consecutive files, each read at once."""

    count: int

    @property
    def next(self) -> Position:
        """Where the slice after it begins."""
        return self.file + self.count, 0


@dataclass(frozen=True)
class FileEnd(Slice):
    """Nothing more of a file that was read in slices: its checksum is due."""

    @property
    def next(self) -> Position:
        """Where the slice after it begins."""
        return self.file + 1, 0


def slices(source: Source, start: Position = (0, 0)) -> Iterator[Slice]:
    """All slices from a position on, in order; every file ends in `WholeFiles` or `FileEnd`.

    Raises:
        UserError: a file cannot be opened, or a packed line is longer than 1 GiB.
    """
    file, number = start
    while file < len(source.files):
        try:
            if source.is_whole(file):
                if source.files[file].suffix == ".json" and source.sizes[file] > LONGEST_LINE:
                    raise UserError(
                        f"{source.name}: {source.shown(file)} is over 1 GiB of one JSON value; save JSON lines"
                    )
                whole = _whole_files(source, file)
                yield whole
                file, number = whole.next
                continue
            for piece in _pieces(source, file, number):
                yield piece
                number = piece.next[1]
            yield FileEnd(file, number, 0)
        except OSError as error:
            reason = error.strerror or str(error)
            raise UserError(f"{source.name}: {source.shown(file)} cannot be read ({reason})") from error
        file, number = file + 1, 0


def _pieces(source: Source, file: int, skipped: int) -> Iterator[Slice]:
    """The slices of a file, without the first few."""
    path = source.files[file]
    if path.suffix in _PACKED:
        return _line_blocks(source, file, skipped)
    return islice(_row_ranges(source, file) if path.suffix == ".parquet" else _line_ranges(source, file), skipped, None)


def _whole_files(source: Source, file: int) -> WholeFiles:
    weight, last = source.sizes[file], file + 1
    while last < len(source.files) and source.is_whole(last) and weight + source.sizes[last] <= source.slice_bytes:
        weight += source.sizes[last]
        last += 1
    return WholeFiles(file, 0, weight, last - file)


def _line_ranges(source: Source, file: int) -> Iterator[LineRange]:
    size = source.sizes[file]
    for number, start in enumerate(range(0, size, source.slice_bytes)):
        stop = min(start + source.slice_bytes, size)
        yield LineRange(file, number, stop - start, start, stop)


def _row_ranges(source: Source, file: int) -> Iterator[RowRange]:
    import pyarrow
    import pyarrow.parquet

    try:
        metadata = pyarrow.parquet.read_metadata(source.files[file])
    except (pyarrow.ArrowException, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{source.name}: {source.shown(file)} is not a readable Parquet file ({reason})") from error
    number = row = 0
    for group in range(metadata.num_row_groups):
        facts = metadata.row_group(group)
        columns = [facts.column(i) for i in range(facts.num_columns)]
        size = sum(c.total_uncompressed_size for c in columns if c.path_in_schema.split(".")[0] in source.fields)
        rows = facts.num_rows
        # Rows can only be reached from the start of their group: the more slices, the more is decoded again and again.
        count = max(1, rows * source.slice_bytes // max(size, 1), rows // _SLICES_OF_A_GROUP)
        for first in range(0, rows, count):
            taken = min(count, rows - first)
            yield RowRange(file, number, source.sizes[file] * taken // metadata.num_rows, group, first, taken, row)
            number, row = number + 1, row + taken


def _line_blocks(source: Source, file: int, skipped: int) -> Iterator[LineBlock]:
    """Blocks of whole lines, cut at the first line break at or after `slice_bytes` of unpacked text."""
    path, least = source.files[file], source.slice_bytes - 1
    number, told, searched, damage = 0, 0, least, None
    waiting = bytearray()
    with path.open("rb") as raw:
        pieces = unpacked(raw, path.suffix)
        while True:
            try:
                piece = next(pieces, b"")
            except DamagedStreamError as error:
                piece, damage = b"", error.reason
            if not piece:
                break
            waiting += piece
            while cut := waiting.find(b"\n", searched) + 1:
                if number >= skipped:
                    yield LineBlock(file, number, raw.tell() - told, bytes(waiting[:cut]))
                number, told, searched = number + 1, raw.tell(), least
                del waiting[:cut]
            searched = max(least, len(waiting))
            if len(waiting) > LONGEST_LINE:
                raise _too_long(source, file)
    if number >= skipped and (waiting or damage):
        yield LineBlock(file, number, source.sizes[file] - told, bytes(waiting), damage)


def _holds_lines(path: Path) -> bool:
    """Does a `.json` file begin with a whole object on a line, as JSON lines do?"""
    with path.open("rb") as file:
        first = file.readline(LONGEST_LINE).removeprefix(UTF8_BOM).strip()
    return first.startswith(b"{") and first.endswith(b"}")


def _too_long(source: Source, file: int) -> UserError:
    line = f"{source.shown(file)} has a line of over {LONGEST_LINE >> 30} GiB"
    return UserError(f"{source.name}: {line}; each line must hold one document")
