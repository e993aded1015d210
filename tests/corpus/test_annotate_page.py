"""The page: what its server answers and refuses, and the whole of it in a real browser."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from annotation_runs import Page, made_pages, write_run
from headless import Browser, find_chromium

from dsm.corpus.annotate.server import Server
from dsm.corpus.annotate.stage import make_desk
from dsm.corpus.annotations import Decision


@pytest.fixture(scope="module")
def mined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("mined") / "mine", made_pages())


@pytest.fixture
def server(tmp_path: Path, mined: Path) -> Iterator[Server]:
    desk = make_desk(mined, tmp_path / "annotations", "ada", 1, 3)
    with Server(desk, title="mine <1>", samples=2) as made:
        threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield made
        made.shutdown()


def talk(server: Server, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, None if body is None else json.dumps(body), named)
    answer = connection.getresponse()
    found = answer.status, answer.read().decode(), dict(answer.getheaders())
    connection.close()
    return found


DECISION = {"domain": "math.org", "prefix": "/", "verdict": "accept"}


def test_nothing_is_answered_without_the_token(server: Server) -> None:
    asked = [("GET", "/"), ("GET", "/?token="), ("GET", f"/?token={server.token[:-1]}"), ("GET", "/nothing")]
    asked += [("GET", f"/api/{name}") for name in ("overview", "look", "samples", "text", "preview", "csv")]
    asked += [("GET", f"/api/overview?token={server.token}")]  # of the page only: others must send a header
    asked += [("POST", f"/api/{name}") for name in ("decide", "undo", "finish")]
    for method, path in asked:
        for headers in (
            {},
            {"X_Token": "x" * len(server.token)},
            {"X_Token": "é"},
            {"Cookie": f"token={server.token}"},
        ):
            status, text, _ = talk(server, method, path, DECISION if method == "POST" else None, **headers)
            assert (status, text) == (403, "Forbidden\n")
    assert not server.desk.file.exists()
    assert talk(server, "GET", f"/?token={server.token}")[0] == 200
    assert talk(server, "GET", "/api/overview", X_Token=server.token)[0] == 200


def test_foreign_hosts_and_origins_get_nothing(server: Server) -> None:
    token, port = {"X_Token": server.token}, server.server_port
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1",
        "127.0.0.1:1",
        f"127.0.0.1.evil.example:{port}",
        "",
    ):
        assert talk(server, "GET", "/api/overview", Host=host, **token)[0] == 421
        assert talk(server, "GET", f"/?token={server.token}", Host=host)[0] == 421
    assert talk(server, "GET", "/api/overview", Host=f"localhost:{port}", **token)[0] == 200
    for origin in ("http://evil.example", "null", f"https://127.0.0.1:{port}"):
        assert talk(server, "POST", "/api/decide", DECISION, Origin=origin, **token)[0] == 403
    assert not server.desk.file.exists()
    assert talk(server, "POST", "/api/decide", DECISION, Origin=f"http://127.0.0.1:{port}", **token)[0] == 200
    assert server.desk.file.exists()


def test_the_server_listens_on_this_machine_only(server: Server) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.server_port}/?token={server.token}"
    assert len(server.token) >= 32


def test_bad_requests_are_answered_in_one_line(server: Server) -> None:
    token = {"X_Token": server.token}
    for body in (DECISION | {"verdict": "maybe"}, {}, [1], DECISION | {"prefix": "/nothing"}):
        status, text, _ = talk(server, "POST", "/api/decide", body, **token)
        assert status == 400
        assert "\n" not in json.loads(text)["error"]
    assert talk(server, "GET", "/api/text?row=999", **token)[0] == 400
    assert talk(server, "GET", "/etc/passwd", **token)[0] == 404
    assert talk(server, "POST", "/api/undo", "x" * 70_000, **token)[0] == 413
    assert not server.desk.file.exists()


def test_the_page_needs_nothing_from_outside_and_runs_nothing_but_its_own(server: Server) -> None:
    status, page, headers = talk(server, "GET", f"/?token={server.token}")
    assert status == 200
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    nonce = policy.partition("script-src 'nonce-")[2].partition("'")[0]
    assert page.count(f'nonce="{nonce}"') == 2
    assert nonce not in talk(server, "GET", f"/?token={server.token}")[2]["Content-Security-Policy"]  # new each time
    assert "mine &lt;1&gt;" in page
    links = [part.partition('"')[0] for part in page.replace("'http://www.w3.org/", "'").split("http")[1:]]
    assert all(link.startswith(("s?:", "://${", "://www.w3.org/2000/svg")) for link in links), links
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"


# ---------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium on this machine")
    made = Browser(program)
    yield made
    made.close()


def rows_of(server: Server) -> list[tuple[str, str, str, bool]]:
    lines = server.desk.file.read_text().splitlines() if server.desk.file.exists() else []
    rows = [Decision.from_row(json.loads(line)) for line in lines]
    return [(row.domain, row.prefix, row.verdict, row.undo) for row in rows]


def settled(browser: Browser) -> str:
    """Wait until the page has done what it was told; what is selected then."""
    browser.js("(async () => { let last; do { last = work; await last } while (last !== work) })()")
    return str(browser.js("state.selected ? state.selected.domain + state.selected.prefix : 'nothing'"))


def test_in_a_browser_by_keys_alone(server: Server, browser: Browser) -> None:
    browser.requests.clear()
    browser.problems.clear()
    browser.open(server.url)
    browser.wait("document.documentElement.dataset.ready === 'yes'")
    assert settled(browser) == "math.org/"

    # Formulas are drawn: <math> elements that take up room, fractions higher than a line.
    browser.wait("document.querySelectorAll('.text math').length > 3")
    boxes = "[...document.querySelectorAll('.text math')].map((one) => one.getBoundingClientRect())"
    sizes = browser.js(f"{boxes}.flatMap((box) => [box.width, box.height])")
    assert min(sizes) > 0
    assert (
        browser.js("Math.max(...[...document.querySelectorAll('mfrac')].map((m) => m.getBoundingClientRect().height))")
        > 20
    )
    assert "It costs $5." in browser.js("document.querySelector('.samples').innerText")
    assert browser.js("document.querySelectorAll('.chart rect.collected').length") > 0

    steps = [
        ("s", ("math.org", "/", "split", False), "math.org/q"),
        ("a", ("math.org", "/q", "accept", False), "puzzles.org/"),
        ("r", ("puzzles.org", "/", "reject", False), "math.org/users"),
        ("z", ("puzzles.org", "/", "reject", True), "puzzles.org/"),
        ("u", ("puzzles.org", "/", "unsure", False), "math.org/users"),
        ("r", ("math.org", "/users", "reject", False), "small.org/"),
        ("s", None, "small.org/"),  # there is nothing to split
        ("a", ("small.org", "/", "accept", False), "nothing"),
    ]
    wanted = []
    for key, row, selected in steps:
        browser.press(key)
        assert settled(browser) == selected
        wanted += [row] if row else []
        assert rows_of(server) == wanted
    assert browser.js("document.getElementById('decided').textContent") == "3 of 3 domains"
    assert browser.js("document.getElementById('gained').textContent") == "+61 pages"
    assert "Everything is decided" in browser.js("document.getElementById('main').innerText")

    # Up and down through the list of all domains, which unfolds by keys too.
    browser.press("f")
    browser.press("f")
    seen = []
    for key in ("j", "j", "k", "ArrowLeft", "ArrowRight", "ArrowDown"):
        browser.press(key)
        seen.append(settled(browser))
    assert seen[0] == "math.org/"
    assert seen[-1] == "math.org/q"
    browser.press("t")
    themes = {settled(browser) and browser.js("document.documentElement.dataset.theme") for _ in range(2)}
    assert themes <= {"dark", "light"}

    # The preview, then the end: the server stops.
    browser.press("?")
    settled(browser)
    assert "How to annotate" in browser.js("document.getElementById('dialog').innerText")
    browser.press("Escape")
    browser.wait("!document.getElementById('dialog').open")
    browser.press("p")
    browser.wait("document.getElementById('dialog').open")
    settled(browser)
    assert "math.org/q" in browser.js("document.getElementById('dialog').innerText")
    browser.js("[...document.querySelectorAll('dialog button')].find((b) => b.textContent === 'Finish').click()")
    browser.wait("document.body.innerText.includes('Your decisions are in')")
    assert server.finished

    outside = [url for url in browser.requests if not url.startswith((server.url.partition("?")[0], "data:"))]
    assert outside == []
    assert [text for text in browser.problems if "400" not in text] == []


def test_a_hostile_page_is_only_text(tmp_path: Path, browser: Browser) -> None:
    evil = (
        "<script>document.title='gone'</script><img src=http://127.0.0.1:9/x onerror=document.title='gone'>"
        " $\\href{javascript:document.title='gone'}{x}$ $<img src=x onerror=document.title='gone'>$"
        " $\\text{<script>document.title='gone'</script>}$ $\\color{red;background:url(http://127.0.0.1:9/y)}{x}$"
    )
    url = "http://evil.org/<script>document.title='gone'<!--/a\"onclick='alert(1)'"
    run = write_run(tmp_path / "mine", [Page(f"{url}{n}", evil, 0.5, collected=n < 3, language="zh") for n in range(6)])
    desk = make_desk(run, run / "annotations", "ada", 1, 1)
    with Server(desk, title="</title><script>document.title='gone'</script>", samples=4) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        browser.requests.clear()
        browser.open(server.url)
        browser.wait("document.documentElement.dataset.ready === 'yes'")
        assert settled(browser) == "evil.org/"
        assert browser.js("document.querySelectorAll('.page').length") == 6
        assert browser.js("document.querySelectorAll('.text script, .text img, .page img').length") == 0
        assert browser.js("document.title").startswith("Annotate · </title>")
        assert [asked for asked in browser.requests if ":9/" in asked or "javascript" in asked] == []
        server.shutdown()
