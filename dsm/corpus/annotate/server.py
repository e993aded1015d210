"""The page's server: this machine only, for whoever holds the token, with nothing from anywhere else.

Every request must bear the token (the page itself in its address, all others in a header, which no other site can
send) and name this machine as its host, so that a foreign name that resolves to 127.0.0.1 gets nothing. The page is one
document whose style and script bear a nonce; its policy forbids everything else: what a crawled page holds is text.
"""

from __future__ import annotations

import hmac
import json
import logging
import secrets
import threading
from collections.abc import Callable
from functools import cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from dsm.corpus.annotate.desk import Desk
from dsm.corpus.annotate.tables import as_csv
from dsm.errors import UserError

log = logging.getLogger("dsm")

MAX_BODY = 1 << 16
_PAGE = Path(__file__).parent / "page"
_SCRIPTS = ("dom.js", "sidebar.js", "main.js", "dialogs.js", "app.js")
_IDLE_S = 60


class Server(ThreadingHTTPServer):
    """Serves one annotator's desk until somebody finishes or `shutdown` is called."""

    daemon_threads = True

    def __init__(self, desk: Desk, *, port: int = 0, title: str, samples: int) -> None:
        """`port`: 0 for any that is free.

        Raises:
            UserError: the port is taken.
        """
        try:
            super().__init__(("127.0.0.1", port), Handler)
        except OSError as error:
            raise UserError(f"port={port}: cannot be used ({error.strerror}); 0 takes any that is free") from None
        self.desk = desk
        self.title = title
        self.samples = samples
        self.token = secrets.token_urlsafe(24)
        self.finished = False

    @property
    def url(self) -> str:
        """Where the page is, with its token."""
        return f"http://127.0.0.1:{self.server_port}/?token={self.token}"

    def finish(self) -> None:
        """End `serve_forever`, once the answer to the present request is out."""
        self.finished = True
        threading.Thread(target=self.shutdown, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that hangs up in the middle is no error."""
        log.debug("annotate: a connection broke", exc_info=True)


class Refused(Exception):
    """A request that gets no answer but its status."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "dsm"
    sys_version = ""
    timeout = _IDLE_S

    def do_GET(self) -> None:
        """The page, or something it asks for."""
        self._answer({"/": self._page, **{path: self._api(make) for path, make in _LOOKS.items()}})

    def do_POST(self) -> None:
        """A decision."""
        self._answer({path: self._api(make) for path, make in _ACTS.items()})

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged: their addresses hold the token."""

    def _answer(self, routes: dict[str, Callable[[dict[str, str]], tuple[bytes, str]]]) -> None:
        address = urlsplit(self.path)
        headers: dict[str, str] = {}
        try:
            asked = {name: values[-1] for name, values in parse_qs(address.query).items()}
            self._check(asked.pop("token", "") if address.path == "/" else self.headers.get("X-Token", ""))
            asked |= self._body()
            make = routes.get(address.path)
            if make is None:
                raise Refused(HTTPStatus.NOT_FOUND)
            status = HTTPStatus.OK
            content, kind = make(asked)
            if address.path == "/":
                nonce = secrets.token_urlsafe(16)
                content = content.replace(b"NONCE", nonce.encode())
                headers["Content-Security-Policy"] = _policy(nonce)
        except Refused as refused:
            status, content, kind = refused.status, f"{refused}\n".encode(), "text/plain; charset=utf-8"
            headers["Connection"] = "close"
            self.close_connection = True
        except (UserError, KeyError, ValueError) as error:
            status, kind = HTTPStatus.BAD_REQUEST, "application/json"
            content = json.dumps({"error": " ".join(str(error).split())}).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def _check(self, token: str) -> None:
        """Raises Refused: a foreign host name or origin, or not the token."""
        here = {f"{name}:{self.server.server_port}" for name in ("127.0.0.1", "localhost")}
        if self.headers.get("Host", "") not in here or len(self.headers.get_all("Host", [])) != 1:
            raise Refused(HTTPStatus.MISDIRECTED_REQUEST)
        origin = self.headers.get("Origin")
        if origin is not None and origin not in {f"http://{name}" for name in here}:
            raise Refused(HTTPStatus.FORBIDDEN)
        if not hmac.compare_digest(token.encode(), self.server.token.encode()):
            raise Refused(HTTPStatus.FORBIDDEN)

    def _body(self) -> dict[str, str]:
        if self.headers.get("Transfer-Encoding"):
            raise Refused(HTTPStatus.LENGTH_REQUIRED)
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit():
            raise Refused(HTTPStatus.BAD_REQUEST)
        if int(length) > MAX_BODY:
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        if int(length) == 0:
            return {}
        read = json.loads(self.rfile.read(int(length)))
        if not isinstance(read, dict):
            raise ValueError("the body must be an object")
        return {str(name): str(value) for name, value in read.items()}

    def _page(self, asked: dict[str, str]) -> tuple[bytes, str]:
        return document(self.server.title).encode(), "text/html; charset=utf-8"

    def _api(
        self, make: Callable[[Server, dict[str, str]], dict[str, Any]]
    ) -> Callable[[dict[str, str]], tuple[bytes, str]]:
        def answer(asked: dict[str, str]) -> tuple[bytes, str]:
            return json.dumps(make(self.server, asked), ensure_ascii=False).encode(), "application/json; charset=utf-8"

        return answer


def _policy(nonce: str) -> str:
    return (
        f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self';"
        " img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


@cache
def document(title: str) -> str:
    """The page: its parts put into one document, with NONCE where the nonce goes."""
    from html import escape

    page = (_PAGE / "page.html").read_text(encoding="utf-8")
    script = "\n".join((_PAGE / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    style = (_PAGE / "style.css").read_text(encoding="utf-8")
    return page.replace("{{title}}", escape(title)).replace("{{style}}", style).replace("{{script}}", script)


def _overview(server: Server, asked: dict[str, str]) -> dict[str, Any]:
    return server.desk.overview() | {"title": server.title, "samples": server.samples}


def _samples(server: Server, asked: dict[str, str]) -> dict[str, Any]:
    return server.desk.samples(
        asked["domain"],
        asked["prefix"],
        collected=asked["collected"] == "1",
        start=max(0, int(asked.get("start", "0"))),
        count=server.samples,
    )


def _decide(server: Server, asked: dict[str, str]) -> dict[str, Any]:
    server.desk.decide(asked["domain"], asked["prefix"], asked["verdict"])
    return _overview(server, asked)


def _undo(server: Server, asked: dict[str, str]) -> dict[str, Any]:
    undone = server.desk.undo()
    return _overview(server, asked) | {"undone": undone.as_row() if undone else None}


def _finish(server: Server, asked: dict[str, str]) -> dict[str, Any]:
    server.finish()
    return {"file": str(server.desk.file)}


_LOOKS: dict[str, Callable[[Server, dict[str, str]], dict[str, Any]]] = {
    "/api/overview": _overview,
    "/api/look": lambda server, asked: server.desk.look(asked["domain"], asked["prefix"]),
    "/api/samples": _samples,
    "/api/text": lambda server, asked: server.desk.text(int(asked["row"])),
    "/api/preview": lambda server, asked: server.desk.preview(),
    "/api/csv": lambda server, asked: {"csv": as_csv(server.desk.everybody())},
}
_ACTS = {"/api/decide": _decide, "/api/undo": _undo, "/api/finish": _finish}
