"""`stage=annotate`: serve the page for one annotator, or carry decisions to and from a CSV file.

It works in the folder of the mined run, RUN/annotations, and makes no folder of its own. Several annotators may be at
work at once, each with a server of their own; one annotator has one server.
"""

from __future__ import annotations

import getpass
import logging
import os
import re
import sys
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dsm.config.annotate import AnnotateConfig
from dsm.corpus.annotate.desk import Desk
from dsm.corpus.annotate.index import Index, candidates, last_round
from dsm.corpus.annotate.server import Server
from dsm.corpus.annotate.tables import add_rows, export_csv, read_csv
from dsm.corpus.annotations import Decisions
from dsm.errors import UserError
from dsm.runtime.lock import run_lock

log = logging.getLogger("dsm")


def annotate(config: AnnotateConfig) -> dict[str, Any]:
    """Serve until the annotator finishes or interrupts, or export, or import; returns what stands then.

    Raises:
        UserError: no mined run there; the annotator is at work elsewhere; a CSV file that cannot be taken.
    """
    run = Path(config.run).expanduser()
    if not (run / "steps" / "pages").is_dir():
        raise UserError(f"run={config.run}: no mined pages there (steps/pages); give the folder of a stage=mine run")
    folder = run / "annotations"
    folder.mkdir(exist_ok=True)
    name = config.annotator or login_name()
    if config.export_csv is not None:
        count = export_csv(_everybody(folder), Path(config.export_csv).expanduser())
        _say(f"{count:,} decisions of {len(_everybody(folder).annotators)} annotators are in {config.export_csv}")
    elif config.import_csv is not None:
        _import(folder, Path(config.import_csv).expanduser(), name)
    else:
        with at_work(folder, name):
            _serve(config, run, folder, name)
    return {f"annotate/{key}": value for key, value in _counts(folder).items()}


def make_desk(run: Path, folder: Path, annotator: str, round: int, min_pages: int) -> Desk:
    """Read the candidate domains' pages, and those of domains somebody has decided on already."""
    decided = {row.domain for row in _everybody(folder).decisions()}
    domains = sorted({*candidates(run, round), *decided})
    return Desk(Index(run, round, domains, min_pages), folder, annotator)


@contextmanager
def at_work(folder: Path, annotator: str) -> Iterator[None]:
    """Hold an annotator's desk.

    Raises:
        UserError: another server holds it.
    """
    place = folder / ".at-work" / annotator
    place.mkdir(parents=True, exist_ok=True)
    with run_lock() as lock:
        try:
            lock.take(place)
        except UserError as error:
            holder = re.search(r"\((.*?)\)", str(error).removeprefix(str(place)))
            raise UserError(
                f"annotator={annotator}: is at work already ({holder[1] if holder else 'elsewhere'}); finish there, or"
                " give another annotator=NAME"
            ) from None
        yield


def login_name() -> str:
    """The login name, as far as it can name a file."""
    with suppress(OSError, KeyError):  # a container without a user data base
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", getpass.getuser()).strip("-.")
        if name:
            return name[:64]
    raise UserError("annotator=null: this machine does not know your name; give annotator=NAME")


def _serve(config: AnnotateConfig, run: Path, folder: Path, name: str) -> None:
    round = config.round or last_round(run)
    desk = make_desk(run, folder, name, round, config.min_pages)
    for broken in desk.broken:
        _say(f"{broken.file}: line {broken.line} cannot be read and is left out ({broken.reason})")
    if not desk.index.names:
        raise UserError(f"round={round}: has no candidate domains; there is nothing to decide")
    title = f"{run.resolve().name} · round {round}"
    with Server(desk, port=config.port, title=title, samples=config.samples) as server:
        _say(f"{len(desk.index.names):,} domains with {len(desk.index):,} pages; {name}'s page is at\n  {server.url}")
        if config.open:
            _open(server.url, folder / ".at-work" / name / "open.html")
        with suppress(KeyboardInterrupt):
            server.serve_forever(poll_interval=0.1)
    _say(f"{name}'s decisions are in {desk.file}")


def _open(url: str, file: Path) -> None:
    """Show the page in a browser with windows, by way of a file: a command line would show the token to everybody."""
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as page:
        page.write(
            f'<meta charset="utf-8"><meta http-equiv="refresh" content="0; url={url}"><a href="{url}">Annotate</a>'
        )
    webbrowser.open(file.resolve().as_uri())


def _import(folder: Path, file: Path, name: str) -> None:
    rows = read_csv(file, name)
    for annotator in sorted({row.annotator for row in rows}):
        with at_work(folder, annotator):
            added = add_rows(folder, [row for row in rows if row.annotator == annotator])
            _say(f"{annotator}: {added.total():,} decisions added; the others of the file stood already")


def _everybody(folder: Path) -> Decisions:
    return Decisions.load(sorted(folder.glob("*.jsonl")))


def _counts(folder: Path) -> dict[str, int]:
    decisions = _everybody(folder)
    verdicts = [row.verdict for row in decisions.decisions()]
    return {
        "annotators": len(decisions.annotators),
        "decided": len(verdicts),
        "accepted": verdicts.count("accept"),
        "rejected": verdicts.count("reject"),
        "broken_rows": len(decisions.broken),
    }


def _say(text: str) -> None:
    print(f"dsm: {text}", file=sys.stderr, flush=True)
