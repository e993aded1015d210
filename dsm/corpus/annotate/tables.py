"""Decisions as CSV: what stands, one row a prefix and annotator, for spreadsheets and for other tools."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dsm.config.annotate import ANNOTATOR
from dsm.corpus.annotations import Decision, Decisions, append_rows
from dsm.errors import UserError
from dsm.files import atomic_write_text

COLUMNS = ("domain", "prefix", "verdict", "annotator", "at", "pages")


def as_csv(decisions: Decisions) -> str:
    """What stands, everybody's."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(decision.as_row() for decision in decisions.decisions())
    return text.getvalue()


def export_csv(decisions: Decisions, file: Path) -> int:
    """Write what stands; returns the number of rows."""
    atomic_write_text(file, as_csv(decisions))
    return len(decisions.decisions())


def read_csv(file: Path, annotator: str) -> list[Decision]:
    """The decisions of a CSV file with the columns domain, prefix, verdict and, if it likes, annotator, at, pages.

    Args:
        file: as `export_csv` writes it.
        annotator: whose the rows are that name none.

    Raises:
        UserError: naming the line; a file is taken whole or not at all.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")  # spreadsheets put a mark before it
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"import={file}: cannot be read ({error})") from None
    reader = csv.DictReader(io.StringIO(text), strict=True)
    missing = [name for name in COLUMNS[:3] if name not in (reader.fieldnames or ())]
    if missing:
        raise UserError(f"import={file}: no column {missing[0]}; wanted are {', '.join(COLUMNS)}")
    rows = []
    try:
        for row in reader:
            given = {name: row.get(name) or "" for name in COLUMNS}
            decision = Decision.from_row(given | {"annotator": given["annotator"].strip() or annotator})
            if not re.fullmatch(ANNOTATOR, decision.annotator):  # it is going to name a file
                raise ValueError(f"annotator={decision.annotator!r}: must be letters, digits, '.', '_' and '-'")
            rows.append(decision)
    except (ValueError, csv.Error) as error:
        raise UserError(f"import={file}: line {reader.line_num}: {error}") from None
    return rows


def add_rows(folder: Path, rows: Sequence[Decision]) -> Counter[str]:
    """Append decisions to their annotators' files, but for those that stand there already.

    Returns:
        annotator -> rows added.
    """
    standing = Decisions.load(sorted(folder.glob("*.jsonl")))
    added: dict[str, list[Decision]] = {}
    for row in rows:
        before = standing.of(row.annotator).get(row.key)
        if before is None or before.verdict != row.verdict:
            stamped = row if row.at else Decision.now(row.domain, row.prefix, row.verdict, row.annotator, row.pages)
            added.setdefault(row.annotator, []).append(stamped)
    for annotator, new in added.items():
        append_rows(folder / f"{annotator}.jsonl", new)
    return Counter({annotator: len(new) for annotator, new in added.items()})
