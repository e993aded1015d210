"""Messages on the socket between the client and the server in the jail: a length, then JSON."""

from __future__ import annotations

import json
import socket
import struct
import time
from typing import Any

_LENGTH = struct.Struct("!I")


def send(channel: socket.socket, message: dict[str, Any]) -> None:
    """Write one message. Text may hold anything a `str` can, lone surrogates too."""
    data = json.dumps(message).encode()
    channel.sendall(_LENGTH.pack(len(data)) + data)


def receive(channel: socket.socket, timeout: float | None = None) -> dict[str, Any]:
    """Read one message.

    Raises:
        EOFError: if the other side is gone.
        TimeoutError: if the message is not complete after `timeout` seconds.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    (length,) = _LENGTH.unpack(_read(channel, _LENGTH.size, deadline))
    message: dict[str, Any] = json.loads(_read(channel, length, deadline))
    return message


def _read(channel: socket.socket, count: int, deadline: float | None) -> bytes:
    parts = []
    while count:
        if deadline is not None:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise TimeoutError
            channel.settimeout(remaining)
        part = channel.recv(min(count, 1 << 16))
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
