"""The records of a WARC, whatever became of their neighbours.

`split` cuts the unpacked bytes into records and believes a Content-Length only if a record, or the end, follows the
place where it says the block ends. Where it lies, whatever next looks like a record is the next record. So one bad
record costs itself alone, and each loss is one `Lost` with its reason. What a record says, FastWARC reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dsm.corpus.members import Damage, End, Piece, Salvaged, Start

MAX_RECORD_BYTES = 1 << 26
"""Longer records are films and archives: passed over without being held in memory."""
_MAX_HEADER_BYTES = 1 << 17

_LENGTH = re.compile(rb"\ncontent-length:[ \t]*(\d{1,18})[ \t]*\r?\n")
_NEXT = re.compile(rb"WARC/\d\.\d+[ \t]*\r?\n[A-Za-z-]+:")
_NEWLINES = re.compile(rb"[\r\n]+")
_MARK, _SEPARATOR = b"WARC/", b"\r\n\r\n"
_LOOKAHEAD = 64  # bytes behind a block that show whether its length is right


@dataclass(frozen=True, slots=True)
class RawRecord:
    """One record: where it is in the file (packed bytes), its headers and its block, as they lie there.

    `length` is 0 where a member holds several records: they have no packed length of their own.
    """

    offset: int
    length: int
    head: bytes
    block: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """A record that could not be had: where, why."""

    offset: int
    reason: str


def split(pieces: Iterable[Piece]) -> Iterator[RawRecord | Lost]:
    """Cut the members of a WARC into records, in their order; each record that was begun comes out once."""
    splitter = _Splitter()
    for piece in pieces:
        if isinstance(piece, bytes):
            for item in splitter.feed(piece):
                if isinstance(item, RawRecord) or not isinstance(piece, Salvaged):
                    splitter.told = splitter.told or isinstance(item, Lost)
                    yield item
        elif isinstance(piece, Start):
            splitter.start(piece)
        elif isinstance(piece, End):
            yield from splitter.end(piece)
        else:
            yield from splitter.damage(piece)
    yield from splitter.finish()


class _Splitter:
    """The bytes that wait to become records.

    A record may go on in the next member (some packers cut anywhere), so what is incomplete at the end of a member
    waits until the next one shows how it begins.
    """

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.need = 0  # bytes in it before it is worth looking again
        self.adrift = False  # looking for a record after a loss that has been told
        self.told = False  # has a loss been told since the last member began?
        self.packed = False
        self.member = 0  # where the member began in which the buffer's first record begins
        self.crossed: int | None = None  # where the last member began, if that record goes on in it
        self.records = 0  # of the member so far
        self.passed = 0  # bytes of the member before the buffer
        self.waiting: int | None = None  # a member began behind `boundary` bytes of the buffer; whether a record too?
        self.boundary = 0

    def start(self, start: Start) -> None:
        """A member begins."""
        self.packed, self.told = start.packed, False
        self._drop_newlines()
        if self.buffer:
            self.waiting, self.boundary = start.offset, len(self.buffer)
        else:
            self._begin(start.offset)

    def feed(self, data: bytes) -> Iterator[RawRecord | Lost]:
        """More bytes of it."""
        self.buffer += data
        if self.waiting is not None:
            if len(self.buffer) - self.boundary < len(_MARK):
                return
            if self.buffer.startswith(_MARK, self.boundary):
                yield from self._close()
            else:
                self.crossed, self.waiting = self.waiting, None
        if len(self.buffer) >= self.need:
            yield from self._records()

    def end(self, end: End) -> Iterator[RawRecord | Lost]:
        """The member was whole."""
        self.waiting = None  # still waiting here, it was shorter than any record
        yield from self._records(end=end.offset)

    def damage(self, damage: Damage) -> Iterator[RawRecord | Lost]:
        """The member was not: what is incomplete in it is lost."""
        if self.waiting is not None:
            yield from self._close()
        self.buffer.clear()
        self.need = 0
        self.adrift = True
        if not self.told:
            yield Lost(damage.offset, damage.reason)

    def finish(self) -> Iterator[RawRecord | Lost]:
        """The file is at its end."""
        yield from self._records(final=True)

    def _begin(self, member: int) -> None:
        self.member, self.crossed, self.records, self.passed, self.need = member, None, 0, 0, 0

    def _close(self) -> Iterator[RawRecord | Lost]:
        """A record begins at the boundary, so what is before it has no more to come."""
        member, rest = self.waiting, self.buffer[self.boundary :]
        del self.buffer[self.boundary :]
        yield from self._records(final=True)
        self.waiting, self.buffer = None, rest
        self._begin(member or 0)

    def _records(self, *, end: int | None = None, final: bool = False) -> Iterator[RawRecord | Lost]:
        """What is complete in the buffer.

        Args:
            end: where the member ends, if the buffer is the last of it.
            final: nothing follows, so what is incomplete is lost.
        """
        buffer, self.need = self.buffer, 0
        while self._at_something(final):
            where = self.member if self.packed else self.passed
            if not buffer.startswith(_MARK):
                if not self.adrift:
                    yield Lost(where, "not_a_record")
                if not self._drift(0, final):
                    return
                continue
            begin = _header_end(buffer)
            length = _LENGTH.search(bytes(buffer[:begin]).lower())
            if length is None or _NEXT.search(buffer, len(_MARK), begin):  # or a header cut off by the next
                if begin == 0 and not final and len(buffer) < _MAX_HEADER_BYTES:
                    return
                yield Lost(where, "truncated" if begin == 0 and final and not self.packed else "bad_header")
                if not self._drift(len(_MARK), final):
                    return
                continue
            stop = begin + int(length[1])
            if stop - begin > MAX_RECORD_BYTES:
                yield Lost(where, "too_large")
                if not self._drift(begin, final):  # its length is not believed: it may be a slip of a digit
                    return
                continue
            behind = bytes(buffer[stop : stop + _LOOKAHEAD]).lstrip(b"\r\n")
            follows = stop <= len(buffer) and (behind.startswith(_MARK) or _MARK.startswith(behind))
            follows = follows or buffer.startswith(_SEPARATOR, stop)  # then junk, which is no fault of the record
            sure = final or (end is not None and follows and not behind) or len(buffer) >= stop + _LOOKAHEAD
            if not sure and (stop > len(buffer) or (follows and len(behind) < len(_MARK))):
                self.need = stop + _LOOKAHEAD
                return
            if follows:
                yield self._record(begin, stop, None if behind else end)
                continue
            cut = stop > len(buffer) and not self.packed and _NEXT.search(buffer, begin) is None
            yield Lost(where, "truncated" if cut else "wrong_length")
            if not self._drift(begin, final):
                return

    def _at_something(self, final: bool) -> bool:
        """Is there more in the buffer than newlines and the beginning of a mark?"""
        self._drop_newlines()
        return bool(self.buffer) and (final or len(self.buffer) >= len(_MARK) or not _MARK.startswith(self.buffer))

    def _record(self, begin: int, stop: int, end: int | None) -> RawRecord:
        """The record at the front of the buffer; `end`: of the member, if it is the last there."""
        if self.packed:
            alone = end is not None and self.records == 0 and self.crossed is None
            offset, length = self.member, (end or 0) - self.member if alone else 0
        else:
            offset, length = self.passed, stop
        record = RawRecord(offset, length, bytes(self.buffer[:begin]), bytes(self.buffer[begin:stop]))
        self._drop(stop)
        self.records, self.adrift = self.records + 1, False
        if self.crossed is not None:
            self.member, self.crossed = self.crossed, None
        return record

    def _drift(self, start: int, final: bool) -> bool:
        """Go to the next beginning of a record from `start` on; False if there is none yet."""
        self.adrift = True
        self._drop(start)
        if self.buffer.startswith(_MARK):
            return True
        found = _NEXT.search(self.buffer)
        if found is None:  # the end of the buffer may hold the beginning of one
            self._drop(len(self.buffer) if final else max(0, len(self.buffer) - _LOOKAHEAD))
            return False
        self._drop(found.start())
        return True

    def _drop(self, size: int) -> None:
        del self.buffer[:size]
        self.passed += size

    def _drop_newlines(self) -> None:
        found = _NEWLINES.match(self.buffer)
        if found is not None:
            self._drop(found.end())


def _header_end(buffer: bytearray) -> int:
    """Where the block begins, behind the first empty line; 0 if there is none."""
    usual = buffer.find(b"\n\r\n", 0, _MAX_HEADER_BYTES)
    bare = buffer.find(b"\n\n", 0, usual if usual >= 0 else _MAX_HEADER_BYTES)
    return bare + 2 if bare >= 0 else usual + 3 if usual >= 0 else 0
