"""WARC files as crawlers write them: one gzip member a record, and some records that are damaged on purpose."""

from __future__ import annotations

import base64
import hashlib
import zlib
from typing import BinaryIO

_LEVEL = 6


class WarcWriter:
    """Writes records one after another. The same calls write the same bytes."""

    def __init__(self, file: BinaryIO, name: str, date: str) -> None:
        self._file = file
        self._name = name
        self._records = 0
        self._day = date
        self.offset = 0
        body = f"software: dsm stage=crawl\r\nformat: WARC File Format 1.1\r\ndescription: made-up pages, {name}\r\n"
        self._write(
            self._head("warcinfo", None, "application/warc-fields", body.encode()) + body.encode() + b"\r\n\r\n"
        )

    def response(
        self, url: str, body: bytes, *, status: str = "200 OK", content_type: str = "text/html", damage: str = ""
    ) -> int:
        """Write a request and its response; the offset of the response.

        Args:
            content_type: of the HTTP answer; empty for none.
            damage: "truncated" (the gzip member ends in its middle), "short" or "long" (a wrong Content-Length),
                "headless" (no HTTP header).
        """
        host = url.split("/")[2]
        request = f"GET / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: dsm\r\n\r\n".encode()
        head = self._head("request", url, "application/http; msgtype=request", request)
        self._write(head + request + b"\r\n\r\n")
        kind = f"Content-Type: {content_type}\r\n" if content_type else ""
        http = (
            b"" if damage == "headless" else f"HTTP/1.1 {status}\r\n{kind}Content-Length: {len(body)}\r\n\r\n".encode()
        )
        payload = http + body
        length = {"short": len(payload) // 2, "long": len(payload) * 3}.get(damage, len(payload))
        head = self._head("response", url, "application/http; msgtype=response", payload, body, length)
        offset = self.offset
        self._write(head + payload + b"\r\n\r\n", cut=damage == "truncated")
        return offset

    def _head(
        self,
        kind: str,
        url: str | None,
        content_type: str,
        payload: bytes,
        body: bytes | None = None,
        length: int | None = None,
    ) -> bytes:
        self._records += 1
        second = self._records % 86_400
        date = f"{self._day}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z"
        digest = hashlib.blake2b(f"{self._name} {self._records}".encode(), digest_size=16).hexdigest()
        lines = [
            "WARC/1.1",
            f"WARC-Type: {kind}",
            f"WARC-Date: {date}",
            f"WARC-Record-ID: <urn:uuid:{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:]}>",
            f"Content-Type: {content_type}",
            f"Content-Length: {len(payload) if length is None else length}",
        ]
        if url is not None:
            lines.append(f"WARC-Target-URI: {url}")
        else:
            lines.append(f"WARC-Filename: {self._name}")
        if body is not None:
            sha1 = base64.b32encode(hashlib.sha1(body, usedforsecurity=False).digest()).decode()
            lines.append(f"WARC-Payload-Digest: sha1:{sha1}")
        return "\r\n".join([*lines, "", ""]).encode()

    def _write(self, record: bytes, *, cut: bool = False) -> None:
        packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, 31)
        member = packer.compress(record) + packer.flush()
        if cut:
            member = member[: len(member) // 2]
        self._file.write(member)
        self.offset += len(member)
