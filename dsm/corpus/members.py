"""A crawl file as it is packed: gzip members, zstd or lz4 frames, or plain bytes, each whole or known to be broken.

A WARC writer packs every record by itself, so that one bad sector costs one record. Readers that stop at the first bad
member throw that away; this one goes on at the next place that looks like the beginning of a member and unpacks like
one. What kind of file it is, its first bytes say rather than its name.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

_READ = 1 << 15  # what is read behind the end of a member is copied
_PROBE_BYTES = 1 << 18
_LZ4_BLOCK_SIZES = {4: 1 << 16, 5: 1 << 18, 6: 1 << 20, 7: 1 << 22}


@dataclass(frozen=True, slots=True)
class Start:
    """A member begins at this byte of the file; `packed`: not with it, for the whole is plain."""

    offset: int
    packed: bool = True


@dataclass(frozen=True, slots=True)
class End:
    """It ended before this byte, and was whole."""

    offset: int


@dataclass(frozen=True, slots=True)
class Damage:
    """It broke: what came since `Start` is not to be trusted beyond what is complete in itself."""

    offset: int
    reason: str


class Salvaged(bytes):
    """Bytes of a member right before it breaks: what is complete among them may be good, the rest tells nothing."""


Piece = Start | End | Damage | bytes


def members(file: BinaryIO, suffix: str = "") -> Iterator[Piece]:
    """The members of a file in their order, unpacked: `Start`, bytes, then `End` or `Damage`.

    `suffix`: of its name; believed where the beginning of the file is broken.
    """
    file.seek(0)
    head = file.read(6)
    read = next((read for magic, read in _KINDS.items() if head.startswith(magic)), None)
    if read is None and head and not head.lstrip().startswith(_PLAIN):
        read = _SUFFIXES.get(suffix.lower())
    if read is not None:
        yield from read(file)
        return
    file.seek(0)
    yield Start(0, packed=False)
    while chunk := file.read(_READ):
        yield chunk
    yield End(file.tell())


# ---------------------------------------------------------------- gzip and zstd, whose decoders say where a member ends


def _gzip(file: BinaryIO) -> Iterator[Piece]:
    return _decoded(file, 0, b"\x1f\x8b\x08", lambda: zlib.decompressobj(31))


def _zstd(file: BinaryIO) -> Iterator[Piece]:
    import zstandard

    start, dictionary = _zstd_dictionary(file)

    def decoder() -> Any:
        if dictionary is None:
            return zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj()
        return zstandard.ZstdDecompressor(dict_data=dictionary, max_window_size=1 << 31).decompressobj()

    return _decoded(file, start, b"\x28\xb5\x2f\xfd", decoder)


def _zstd_dictionary(file: BinaryIO) -> tuple[int, Any]:
    """Where the first record's frame is; the dictionary that a frame before it may hold (the WARC-Zstandard draft)."""
    import zstandard

    file.seek(0)
    head = file.read(8)
    if not head.startswith(b"\x5d\x2a\x4d\x18") or len(head) < 8:
        return 0, None
    content = file.read(struct.unpack("<I", head[4:])[0])
    start = file.tell()
    try:
        if content.startswith(b"\x28\xb5\x2f\xfd"):
            content = zstandard.ZstdDecompressor().decompress(content, max_output_size=1 << 26)
        return start, zstandard.ZstdCompressionDict(content)
    except zstandard.ZstdError:
        return start, None


def _decoded(file: BinaryIO, start: int, magic: bytes, decoder: Callable[[], Any]) -> Iterator[Piece]:
    """Members one after another; `file` is read once from front to back as long as nothing is broken."""
    at, data = start, b""  # `data` is read and not used yet, and begins at byte `at`
    file.seek(at)
    while True:
        if len(data) < len(magic):
            data += file.read(_READ)
        if data.startswith(b"\0"):  # padding
            at, data = at + len(data) - len(data.lstrip(b"\0")), data.lstrip(b"\0")
        if len(data) < len(magic):
            more = file.read(_READ)
            data += more
            if not data:
                return
            if more:
                continue
        yield Start(at)
        unpack, used, reason = decoder(), 0, "" if data.startswith(magic) else "not_a_member"
        while not reason and not unpack.eof:
            data = data or file.read(_READ)
            if not data:
                reason = "truncated"
                break
            before = unpack.copy() if hasattr(unpack, "copy") else None
            try:
                out = unpack.decompress(data)
            except Exception as error:  # zlib.error, ZstdError, MemoryError
                reason = type(error).__name__
                if before is not None:
                    yield from _salvaged(before, data)
                break
            used += len(data) - len(unpack.unused_data)
            data = unpack.unused_data
            if out:
                yield out
        if reason:
            found = _next_member(file, at + 1, magic, decoder)
            yield Damage(at, "truncated" if reason == "truncated" and found is None else "broken_compression")
            if found is None:
                return
            at, data = found, b""
            file.seek(at)
        else:
            at += used
            yield End(at)


def _salvaged(unpack: Any, data: bytes) -> Iterator[bytes]:
    """What the decoder gives before the byte at which it fails."""
    try:
        for start in range(0, len(data), 64):
            yield Salvaged(unpack.decompress(data[start : start + 64]))
    except zlib.error:
        return


def _next_member(file: BinaryIO, start: int, magic: bytes, decoder: Callable[[], Any]) -> int | None:
    """The first byte from `start` on at which something begins that unpacks."""
    for offset in _occurrences(file, start, magic):
        file.seek(offset)
        unpack = decoder()
        try:
            while not unpack.eof and file.tell() - offset < _PROBE_BYTES and (data := file.read(_READ)):
                unpack.decompress(data)
        except Exception:
            continue
        return offset  # whole, long and sound so far, or cut off by the end of the file
    return None


def _occurrences(file: BinaryIO, start: int, magic: bytes) -> Iterator[int]:
    """Bytes of the file at which `magic` stands; the reader may move the file meanwhile."""
    at = start
    while True:
        file.seek(at)
        data = file.read(1 << 20)
        if len(data) < len(magic):
            return
        found = data.find(magic)
        while found >= 0:
            yield at + found
            found = data.find(magic, found + 1)
        at += len(data) - len(magic) + 1


# ---------------------------------------------------------------- lz4, whose frames are walked block by block


def _lz4(file: BinaryIO) -> Iterator[Piece]:
    from fastwarc.stream_io import Lz4Reader

    magic = b"\x04\x22\x4d\x18"
    at = 0
    while True:
        file.seek(at)
        head = file.read(len(magic))
        if not head:
            return
        yield Start(at)
        end = _lz4_end(file, at) if head == magic else None
        reason = ""
        try:
            reader = Lz4Reader(_Part(file, at, end), fsspec_args=False)
            while head == magic and (chunk := reader.read(_READ)):
                yield chunk
        except OSError:
            reason = "broken_compression"
        if end is not None and not reason:
            at = end
            yield End(at)
            continue
        found = next((o for o in _occurrences(file, at + 1, magic) if _lz4_end(file, o) is not None), None)
        yield Damage(at, "truncated" if found is None and head == magic and not reason else "broken_compression")
        if found is None:
            return
        at = found


def _lz4_end(file: BinaryIO, start: int) -> int | None:
    """Where the frame that begins at `start` ends; None if it is cut off or no frame."""
    file.seek(start + 4)
    head = file.read(2)
    if len(head) < 2 or head[0] >> 6 != 1 or (limit := _LZ4_BLOCK_SIZES.get(head[1] >> 4 & 7)) is None:
        return None
    flags = head[0]
    file.seek((8 if flags & 0x08 else 0) + (4 if flags & 0x01 else 0) + 1, 1)
    while True:
        word = file.read(4)
        if len(word) < 4:
            return None
        size = struct.unpack("<I", word)[0] & 0x7FFFFFFF
        if size == 0:
            end = file.tell() + (4 if flags & 0x04 else 0)
            return end if file.seek(0, 2) >= end else None
        if size > limit:
            return None
        file.seek(size + (4 if flags & 0x10 else 0), 1)


class _Part:
    """Bytes [start, end) of a file as a file of their own, which does not mind that others move in it."""

    def __init__(self, file: BinaryIO, start: int, end: int | None) -> None:
        self.file, self.start, self.at = file, start, start
        self.end = end if end is not None else file.seek(0, 2)

    def read(self, size: int = -1) -> bytes:
        """The next bytes, `size` at most."""
        self.file.seek(self.at)
        data = self.file.read(min(self.end - self.at, size if size >= 0 else _READ))
        self.at += len(data)
        return data

    def close(self) -> None:
        """The file belongs to another."""

    def seek(self, offset: int, whence: int = 0) -> int:
        """As of any file; Lz4Reader asks where it stands."""
        self.at = offset + (self.start, self.at, self.end)[whence]
        return self.tell()

    def tell(self) -> int:
        """Bytes from the start."""
        return self.at - self.start


_KINDS: dict[bytes, Callable[[BinaryIO], Iterator[Piece]]] = {
    b"\x1f\x8b": _gzip,
    b"\x28\xb5\x2f\xfd": _zstd,
    b"\x5d\x2a\x4d\x18": _zstd,
    b"\x04\x22\x4d\x18": _lz4,
}
_SUFFIXES = {".gz": _gzip, ".zst": _zstd, ".lz4": _lz4}
_PLAIN = (b"WARC/", b"{")
