"""What people said about URL paths: append-only, replayable, applied to millions of pages at once.

A decision is a verdict on a path prefix of a domain. Each annotator has one JSONL file; a row is added for every
verdict and for every verdict taken back, and none is ever changed, so the file replayed from its start gives what
stands, and how it came to be. A page obeys the longest prefix that has a verdict: accept `/` and reject `/users`, or
reject `/` and accept `/questions`. Only `accept` lets a page in; `split` (see the children) and `unsure` do not.

Of several annotators each has a say: a page is accepted when one of them accepts it and none rejects it, so what two
people disagree about stays out until they agree.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from dsm.corpus.urls import domain_of, path_of
from dsm.errors import UserError
from dsm.files import flush

Verdict = Literal["accept", "reject", "split", "unsure"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
CODES: dict[str, int] = {verdict: code for code, verdict in enumerate(VERDICTS, start=1)}
"""Verdicts as numbers; 0 is none."""

RULES = "rules"
"""The annotator whose decisions come from a file of rules."""

_RULE = re.compile(r"(?P<reject>!?)\s*(?:https?://)?(?P<domain>[\w.:-]+)(?P<prefix>/\S*)?")

Strings: TypeAlias = "pa.Array | pa.ChunkedArray | Sequence[str]"


def normal_domain(domain: str) -> str:
    """A host as the page table has it: lower case, without `www.`."""
    return domain_of(domain.strip()) or domain.strip().lower()


def normal_prefix(prefix: str) -> str:
    """`/` for the whole domain, else `/a/b`, spelled as in the page table: none at the end, no query."""
    segments = [segment for segment in path_of(f"http://host/{prefix.strip()}").split("/") if segment]
    return "/" + "/".join(segments)


def depth_of(prefix: str) -> int:
    """Segments of a normal prefix: 0 for `/`."""
    return prefix.count("/") if prefix != "/" else 0


def covers(prefix: str, path: str) -> bool:
    """Is a path (or a longer prefix) at or below a normal prefix?"""
    return prefix == "/" or path == prefix or path.startswith((f"{prefix}/", f"{prefix}?"))


def prefixes_at(path: pa.Array | pa.ChunkedArray, depth: int) -> pa.Array | pa.ChunkedArray:
    """The first `depth` segments of every path; a shorter path comes back as it is."""
    return pc.replace_substring_regex(path, pattern=rf"^((?:/[^/?]*){{{depth}}})[/?].*$", replacement=r"\1")


@dataclass(frozen=True)
class Decision:
    """One row: a verdict, or (with `undo`) that the last standing verdict on the prefix is taken back.

    Attributes:
        at: when, in UTC, as ISO 8601.
        pages: hash of the page table that was looked at.
    """

    domain: str
    prefix: str
    verdict: Verdict
    annotator: str
    at: str
    pages: str
    undo: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """What it is about."""
        return self.domain, self.prefix

    @classmethod
    def now(cls, domain: str, prefix: str, verdict: Verdict, annotator: str, pages: str = "") -> Decision:
        """A decision made at this moment."""
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return cls(normal_domain(domain), normal_prefix(prefix), verdict, annotator, at, pages)

    @classmethod
    def from_row(cls, row: Any) -> Decision:
        """A row as it was written.

        Raises:
            ValueError: saying what is wrong with it.
        """
        if not isinstance(row, Mapping):
            raise ValueError("not an object")
        texts = {name: row.get(name, "") for name in ("domain", "prefix", "verdict", "annotator", "at", "pages")}
        if wrong := [name for name, text in texts.items() if not isinstance(text, str)]:
            raise ValueError(f"{wrong[0]}={texts[wrong[0]]!r}: must be text")
        if missing := [name for name in ("domain", "prefix", "annotator") if not texts[name].strip()]:
            raise ValueError(f"{missing[0]}: missing")
        if texts["verdict"] not in VERDICTS:
            raise ValueError(f"verdict={texts['verdict']!r}: must be one of {', '.join(VERDICTS)}")
        texts |= {"domain": normal_domain(texts["domain"]), "prefix": normal_prefix(texts["prefix"])}
        return cls(**texts, undo=bool(row.get("undo", False)))

    def as_row(self) -> dict[str, Any]:
        """As it is written; `undo` only where it is one."""
        row = asdict(self)
        return row if self.undo else {name: value for name, value in row.items() if name != "undo"}


@dataclass(frozen=True)
class Broken:
    """A row that cannot be read, and why."""

    file: Path
    line: int
    reason: str


def read_rows(file: Path) -> tuple[list[Decision], list[Broken]]:
    """All rows of one annotator's file, oldest first, and those that cannot be read (a killed writer's last line)."""
    rows, broken = [], []
    for number, line in enumerate(file.read_bytes().split(b"\n"), start=1):
        if line.strip():
            try:
                rows.append(Decision.from_row(json.loads(line)))
            except ValueError as error:  # JSON's and Unicode's errors are ValueErrors too
                broken.append(Broken(file, number, str(error)))
    return rows, broken


def append_rows(file: Path, rows: Iterable[Decision]) -> None:
    """Add rows; on return they are on the disk. What a killed writer left half written stays a line of its own."""
    text = "".join(json.dumps(row.as_row(), ensure_ascii=False) + "\n" for row in rows)
    file.parent.mkdir(parents=True, exist_ok=True)
    new = not file.exists()
    with file.open("a+b") as journal:
        if journal.tell() > 0:
            journal.seek(-1, os.SEEK_END)
            text = text if journal.read(1) == b"\n" else "\n" + text
        journal.write(text.encode())
        journal.flush()
        os.fsync(journal.fileno())
    if new:
        flush(file.parent)


@dataclass
class Decisions:
    """What stands, by annotator, after all rows have been replayed.

    Attributes:
        standing: annotator -> (domain, prefix) -> the verdict that stands.
        broken: rows that could not be read.
    """

    standing: dict[str, dict[tuple[str, str], Decision]] = field(default_factory=dict)
    broken: list[Broken] = field(default_factory=list)

    @classmethod
    def load(cls, files: Iterable[Path]) -> Decisions:
        """Replay annotators' files."""
        rows: list[Decision] = []
        broken: list[Broken] = []
        for file in files:
            read, unread = read_rows(Path(file))
            rows += read
            broken += unread
        return cls.replay(rows, broken)

    @classmethod
    def replay(cls, rows: Iterable[Decision], broken: Iterable[Broken] = ()) -> Decisions:
        """What stands after these rows, in their order."""
        stacks: dict[str, dict[tuple[str, str], list[Decision]]] = {}
        for row in rows:
            stack = stacks.setdefault(row.annotator, {}).setdefault(row.key, [])
            if not row.undo:
                stack.append(row)
            elif stack:
                stack.pop()
        standing = {who: {key: stack[-1] for key, stack in of.items() if stack} for who, of in stacks.items()}
        return cls(standing, list(broken))

    @classmethod
    def from_rules(cls, file: Path) -> Decisions:
        """The decisions of a file of rules.

        Raises:
            UserError: a line that is no rule.
        """
        return cls.replay(read_rules(file))

    @property
    def annotators(self) -> list[str]:
        """Who has a verdict that stands, by name."""
        return sorted(who for who, of in self.standing.items() if of)

    def of(self, annotator: str) -> dict[tuple[str, str], Decision]:
        """(domain, prefix) -> what one annotator's verdict is."""
        return self.standing.get(annotator, {})

    def decisions(self) -> list[Decision]:
        """Everything that stands, by annotator, domain and prefix."""
        return [self.of(who)[key] for who in self.annotators for key in sorted(self.of(who))]

    def digest(self) -> str:
        """A hash of what stands: equal decisions of equal people, whenever and in whatever order they were made."""
        rows = [(row.annotator, row.domain, row.prefix, row.verdict) for row in self.decisions()]
        return xxhash.xxh3_128_hexdigest(json.dumps(rows).encode())

    def verdict(self, domain: str, path: str, annotator: str) -> Decision | None:
        """The decision of one annotator that a path obeys: the longest prefix's."""
        of = self.of(annotator)
        for prefix in _prefixes(path):
            if (domain, prefix) in of:
                return of[domain, prefix]
        return None

    def codes(self, domain: Strings, path: Strings, annotator: str) -> np.ndarray:
        """The verdict of one annotator that each page obeys.

        Args:
            domain: (n,) domains as the page table has them.
            path: (n,) paths, `/...`, with or without a query.

        Returns:
            (n,) int8: `CODES`, 0 where nothing is decided.
        """
        domain, path = _arrow(domain), _arrow(path)
        found = np.zeros(len(domain), np.int8)
        of = self.of(annotator)
        if not of:
            return found
        domains = pa.array(sorted({key[0] for key in of}), pa.large_string())
        rows = np.flatnonzero(pc.is_in(domain, value_set=domains).to_numpy(zero_copy_only=False))
        if not rows.size:
            return found
        domain, path = domain.take(pa.array(rows)), path.take(pa.array(rows))
        below = np.zeros(rows.size, np.int8)
        for depth in sorted({depth_of(prefix) for _, prefix in of}):
            keys = [key for key in of if depth_of(key[1]) == depth]
            decided = pa.array([name if depth == 0 else name + prefix for name, prefix in keys], pa.large_string())
            codes = np.array([CODES[of[key].verdict] for key in keys] + [0], np.int8)
            at_depth = domain if depth == 0 else _join(domain, prefixes_at(path, depth))
            where = pc.fill_null(pc.index_in(at_depth, value_set=decided), len(keys)).to_numpy(zero_copy_only=False)
            below = np.where(codes[where] > 0, codes[where], below)
        found[rows] = below
        return found

    def accepts(self, domain: Strings, path: Strings) -> np.ndarray:
        """Which pages join the seed: accepted by one annotator, rejected by none.

        Args:
            domain: (n,) domains.
            path: (n,) paths.

        Returns:
            (n,) bool.
        """
        domain, path = _arrow(domain), _arrow(path)
        wanted, refused = np.zeros(len(domain), bool), np.zeros(len(domain), bool)
        for annotator in self.annotators:
            codes = self.codes(domain, path, annotator)
            wanted |= codes == CODES["accept"]
            refused |= codes == CODES["reject"]
        return wanted & ~refused


def read_rules(file: Path) -> list[Decision]:
    """Rules of the form `domain/prefix`, one a line, `!` before those that are rejected, `#` before a comment.

    The lines may be a YAML list (`- mathoverflow.net/questions`), with quotes or without.

    Raises:
        UserError: naming the line.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read as rules ({error})") from None
    rows = []
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip().removeprefix("- ").strip().strip("'\"")
        if text in ("", "---"):
            continue
        rule = _RULE.fullmatch(text)
        if rule is None:
            raise UserError(
                f"{file}: line {number}, {text!r}: no rule; allowed is domain/prefix, with ! before what is rejected"
                " (mathoverflow.net/questions, !mathoverflow.net/users)"
            )
        verdict: Verdict = "reject" if rule["reject"] else "accept"
        domain, prefix = normal_domain(rule["domain"]), normal_prefix(rule["prefix"] or "/")
        rows.append(Decision(domain, prefix, verdict, RULES, "", ""))
    return rows


def _prefixes(path: str) -> Iterable[str]:
    """The normal prefixes of a path, the longest first, `/` last."""
    prefix = normal_prefix(path)
    while prefix != "/":
        yield prefix
        prefix = prefix.rpartition("/")[0] or "/"
    yield "/"


def _arrow(values: Strings) -> pa.Array | pa.ChunkedArray:
    array = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values, pa.large_string())
    return array if array.type == pa.large_string() else array.cast(pa.large_string())


def _join(domain: pa.Array | pa.ChunkedArray, prefix: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Domain and prefix in one text; as a domain has no slash, no two pairs share it."""
    return pc.binary_join_element_wise(domain, prefix, pa.scalar("", pa.large_string()))
