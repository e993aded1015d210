"""What a record of a WARC or WET says: a page, a text, or why it is neither."""

from __future__ import annotations

import codecs
import io
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from dsm.corpus.warc import RawRecord

MAX_PAYLOAD_BYTES = 1 << 25
"""A page that unpacks to more is a bomb or no page."""

_TYPE = re.compile(rb"\nwarc-type:[ \t]*([a-z]+)[ \t]*\r?\n")
_OTHER_TYPES = ("warcinfo", "request", "metadata", "revisit", "continuation")
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?")
_HTML = ("text/html", "application/xhtml")
_UNSURE = ("", "unk", "unknown", "text/xml", "application/xml", "application/unknown", "application/x-unknown")
_LOOKS_LIKE_HTML = re.compile(rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype\s+html|html|head|body)\b", re.I | re.S)
_CHUNK = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,8})[ \t]*(;[^\r\n]*)?\r?\n")


@dataclass(frozen=True, slots=True)
class Document:
    """What is to become a page: a payload with its HTTP encodings undone (bytes: the charset is not applied yet)."""

    url: str
    date: str
    payload: bytes | str
    kind: Literal["html", "text"]
    charset: str | None = None


def document_of(raw: RawRecord) -> Document | str:
    """The document in a record, or the reason why there is none."""
    found = _TYPE.search(raw.head.lower())
    kind = found[1].decode() if found else "none"
    if kind not in ("response", "resource", "conversion"):
        return f"type_{kind}" if kind in _OTHER_TYPES else "type_unknown"
    from fastwarc.warc import WarcRecord

    try:
        record = WarcRecord.from_reader(io.BytesIO(raw.head + raw.block), quirks_mode=True)
        url = (record.headers.get("WARC-Target-URI") or "").strip().removeprefix("<").removesuffix(">").strip()
        date = iso_date(record.headers.get("WARC-Date") or "")
        if not url:
            return "no_url"
        if kind == "conversion":
            text = raw.block.decode("utf-8", errors="replace")
            return Document(url, date, text, "text") if text.strip() else "empty"
        if kind == "resource" and not record.is_http:
            return _page(url, date, raw.block, record.headers.get("Content-Type") or "", None)
        return _response(record, url, date)
    except (OSError, ValueError, UnicodeError):
        return "bad_http"


def _response(record: Any, url: str, date: str) -> Document | str:
    if not record.is_http:
        return "not_html"
    record.parse_http(quirks_mode=True)
    headers = record.http_headers
    if headers is None or not headers.status_code:
        return "bad_http"
    if not 200 <= headers.status_code < 300:
        return "http_status"
    content_type = headers.get("Content-Type") or record.headers.get("WARC-Identified-Payload-Type") or ""
    body = record.reader.read()
    if "chunked" in (headers.get("Transfer-Encoding") or "").lower():
        body = dechunked(body)
    decoded = _decoded(body, headers.get("Content-Encoding") or "")
    if decoded is None:
        return "bad_encoding"
    return _page(url, date, decoded, content_type, record.http_charset)


def _page(url: str, date: str, payload: bytes, content_type: str, charset: str | None) -> Document | str:
    if not payload.strip(b" \t\r\n\0"):
        return "empty"
    if len(payload) > MAX_PAYLOAD_BYTES:
        return "too_large"
    media = content_type.partition(";")[0].strip().lower()
    if not media.startswith(_HTML) and not (media in _UNSURE and _LOOKS_LIKE_HTML.match(payload[:4096])):
        return "not_html"
    return Document(url, date, payload, "html", known_charset(charset))


def known_charset(name: str | None) -> str | None:
    """The name if Python has a text codec of that name."""
    try:
        return name if name and codecs.lookup(name)._is_text_encoding else None
    except (LookupError, ValueError):
        return None


def iso_date(text: str) -> str:
    """A date in one spelling, which sorts; '' for what is none."""
    found = _DATE.match(text.strip())
    return found[0].replace(" ", "T") if found else ""


# ---------------------------------------------------------------- HTTP encodings, in which servers and crawlers lie


def dechunked(body: bytes) -> bytes:
    """Without the lengths of a chunked transfer; what does not look chunked (any more) is taken as it is."""
    parts: list[bytes] = []
    at = 0
    while found := _CHUNK.match(body, at):
        size = int(found[1], 16)
        if size == 0:
            return b"".join(parts)
        parts.append(body[found.end() : found.end() + size])
        at = found.end() + size
        at += 2 if body.startswith(b"\r\n", at) else 1 if body.startswith(b"\n", at) else 0
    return b"".join([*parts, body[at:]])


def _decoded(body: bytes, encodings: str) -> bytes | None:
    """The payload itself; None if it is packed and cannot be had. Most crawlers unpack and keep the old header."""
    for name in reversed([part.strip().lower() for part in encodings.split(",")]):
        unpack = _DECODERS.get(name)
        if unpack is None or not body:
            continue
        try:
            unpacked = unpack(body)
        except Exception:  # each library has its own; Brotli's is an OSError
            unpacked = b""
        if unpacked:
            body = unpacked
        elif b"\0" in body[:1024] or b"<" not in body[:4096]:
            return None
    return body


def _inflated(body: bytes) -> bytes:
    """gzip or zlib, or bare deflate; as much as there is of what breaks off."""
    bits = 47 if body[:2] == b"\x1f\x8b" or (body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0) else -15
    return zlib.decompressobj(bits).decompress(body, MAX_PAYLOAD_BYTES + 1)


def _unbrotlied(body: bytes) -> bytes:
    from fastwarc.stream_io import BrotliReader

    reader, parts, size = BrotliReader(io.BytesIO(body)), [], 0
    while size <= MAX_PAYLOAD_BYTES and (chunk := reader.read(1 << 16)):
        parts.append(chunk)
        size += len(chunk)
    return b"".join(parts)


def _unzstd(body: bytes) -> bytes:
    import zstandard

    reader = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(io.BytesIO(body))
    return bytes(reader.read(MAX_PAYLOAD_BYTES + 1))


_DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": _inflated,
    "x-gzip": _inflated,
    "deflate": _inflated,
    "br": _unbrotlied,
    "zstd": _unzstd,
}
