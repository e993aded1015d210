"""WARC records made by hand, packed in every way, and damaged."""

from __future__ import annotations

import gzip
import io
import random
from collections.abc import Callable

import zstandard
from fastwarc.stream_io import Lz4Writer

WORDS = ["alpha", "beta", "gamma", "delta", "<b>epsilon</b>", "é", "中文"]


def warc_record(number: int, block: bytes, kind: str = "response", **headers: str) -> bytes:
    """One record; `headers` with underscores replace or add to the usual ones."""
    fields = {
        "WARC-Type": kind,
        "WARC-Record-ID": f"<urn:uuid:{number:032d}>",
        "WARC-Target-URI": f"http://example.org/{number}",
        "WARC-Date": "2020-01-01T00:00:00Z",
        "Content-Type": "application/http; msgtype=response",
        "Content-Length": str(len(block)),
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"WARC/1.0\r\n{head}\r\n".encode() + block + b"\r\n\r\n"


def http(body: bytes, status: str = "200 OK", content_type: str | None = "text/html", **headers: str) -> bytes:
    """An HTTP response."""
    fields = {"Content-Type": content_type} | {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value is not None)
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def page(number: int) -> bytes:
    """HTML of its own."""
    rng = random.Random(number)
    words = " ".join(rng.choice(WORDS) + str(rng.random()) for _ in range(rng.randint(5, 60)))
    return f"<html><body><p>page {number} {words}</p></body></html>".encode()


def _lz4(data: bytes) -> bytes:
    out = io.BytesIO()
    writer = Lz4Writer(out)
    writer.write(data)
    writer.close()
    return out.getvalue()


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".zst": lambda data: zstandard.ZstdCompressor(write_checksum=True).compress(data),
    ".lz4": _lz4,
}


def damaged(data: bytes, how: str, rng: random.Random) -> bytes:
    """The bytes after an accident of some kind."""
    at, size = rng.randrange(len(data)), rng.randint(1, 60)
    return {
        "a flipped bit": lambda: data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :],
        "zeros": lambda: data[:at] + bytes(len(data[at : at + size])) + data[at + size :],
        "no end": lambda: data[:at],
        "no beginning": lambda: data[at + 1 :],
        "more": lambda: data[:at] + rng.randbytes(size) + data[at:],
        "junk": lambda: rng.randbytes(size),
    }[how]()


ACCIDENTS = ("a flipped bit", "zeros", "no end", "no beginning", "more", "junk")
