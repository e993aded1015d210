"""One annotator at work: what is decided, what comes next, what it adds up to. The page's server asks this.

The next thing to decide is the undecided prefix that would gain most: whole domains first, and below those that were
split their branches.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa

from dsm.corpus.annotate.agreement import Agreement, agreements, all_conflicts
from dsm.corpus.annotate.index import Index, Node
from dsm.corpus.annotate.render import excerpt, render
from dsm.corpus.annotations import CODES, VERDICTS, Decision, Decisions, append_rows, normal_prefix, read_rows
from dsm.errors import UserError

EXCERPT_CHARS = 900
_MAX_CHARS = 60_000


class Desk:
    """The state behind one annotator's page; safe to call from several threads."""

    def __init__(self, index: Index, folder: Path, annotator: str) -> None:
        """`folder`: RUN/annotations, with everybody's decisions."""
        self.index = index
        self.folder = folder
        self.annotator = annotator
        self.file = folder / f"{annotator}.jsonl"
        self._lock = threading.RLock()
        self._rows, self.broken = read_rows(self.file) if self.file.exists() else ([], [])
        self._own = Decisions.replay(self._rows)
        self._others = Decisions()
        self._others_seen: list[tuple[str, int, int]] = []
        self._gained: dict[str, tuple[int, int]] = {}
        for domain in {domain for domain, _ in self._own.of(annotator)}:
            self._measure(domain)

    # ------------------------------------------------------------ deciding

    def decide(self, domain: str, prefix: str, verdict: str) -> None:
        """Give a verdict; on return it is on the disk.

        Raises:
            UserError: no such verdict or prefix.
        """
        prefix = normal_prefix(prefix)
        if verdict not in VERDICTS:
            raise UserError(f"verdict={verdict}: must be one of {', '.join(VERDICTS)}")
        if not len(self.index.rows(domain, prefix)):
            raise UserError(f"{domain}{prefix}: no page of a candidate domain lies there")
        if verdict == "split" and not self.index.branches(domain, prefix).children:
            raise UserError(f"{domain}{prefix}: has no paths below it to decide on; accept, reject or leave it unsure")
        row = Decision.now(domain, prefix, verdict, self.annotator, self.index.digest)
        with self._lock:
            standing = self._own.of(self.annotator).get(row.key)
            if standing is None or standing.verdict != verdict:
                self._add(row)

    def undo(self) -> Decision | None:
        """Take back the newest verdict that stands; returns it."""
        with self._lock:
            history = list[Decision]()
            for row in self._rows:
                if not row.undo:
                    history.append(row)
                elif (at := _last(history, row.key)) is not None:
                    del history[at]
            if not history:
                return None
            last = history[-1]
            now = Decision.now(last.domain, last.prefix, last.verdict, self.annotator, self.index.digest)
            self._add(Decision(**{**asdict(now), "undo": True}))
            return last

    def _add(self, row: Decision) -> None:
        append_rows(self.file, [row])
        self._rows.append(row)
        self._own = Decisions.replay(self._rows)
        self._measure(row.domain)

    def _measure(self, domain: str) -> None:
        """Pages and tokens of a domain that this annotator's decisions add."""
        rows = self.index.rows(domain, "/")
        rows = rows[~self.index.collected[rows]]
        names = pa.array([domain], pa.large_string()).take(pa.array(np.zeros(rows.size, np.int64)))
        codes = self._own.codes(names, self.index.path.take(pa.array(rows)), self.annotator)
        accepted = rows[codes == CODES["accept"]]
        self._gained[domain] = accepted.size, int(self.index.tokens[accepted].sum(dtype=np.int64))

    # ------------------------------------------------------------ what comes next

    def queue(self) -> list[Node]:
        """What is undecided and would gain something, what gains most first."""
        with self._lock:
            waiting = [node for domain in self.index.names for node in self._undecided(domain, "/")]
        return sorted(waiting, key=lambda node: (-node.gain, node.domain, node.prefix))

    def _undecided(self, domain: str, prefix: str) -> Iterator[Node]:
        decision = self._own.of(self.annotator).get((domain, prefix))
        if decision is None:
            if (node := self.index.node(domain, prefix)).gain:
                yield node
        elif decision.verdict == "split":
            for child in self.index.branches(domain, prefix).children:
                yield from self._undecided(domain, child.prefix)

    def overview(self) -> dict[str, Any]:
        """Everything the page shows around the samples: domains, progress, agreement, what comes next."""
        with self._lock:
            queue = self.queue()
            left = {node.domain for node in queue}
            found = agreements(self.everybody())
            conflicts = all_conflicts(found)
            disputed = Counter(domain for domain, _ in conflicts)
            own = self._own.of(self.annotator)
            domains: list[dict[str, Any]] = []
            for domain in self.index.names:
                node = self.index.node(domain, "/")
                root = own.get((domain, "/"))
                domains.append(
                    {
                        "domain": domain,
                        "pages": node.pages,
                        "collected": node.collected,
                        "gain": node.gain,
                        "verdict": root.verdict if root else None,
                        "open": domain in left,
                        "gained": self._gained.get(domain, (0, 0))[0],
                        "conflicts": disputed[domain],
                    }
                )
            domains.sort(key=lambda row: (-row["gain"], row["domain"]))
            return {
                "annotator": self.annotator,
                "domains": domains,
                "progress": self._progress(sum(row["gain"] > 0 for row in domains), left, queue),
                "queue": [[node.domain, node.prefix] for node in queue[:200]],
                "agreement": [_plain(one) for one in found],
                "conflicts": [
                    {"domain": domain, "prefix": prefix, "verdicts": verdicts}
                    for (domain, prefix), verdicts in sorted(conflicts.items())
                ],
            }

    def _progress(self, total: int, left: set[str], queue: list[Node]) -> dict[str, int]:
        return {
            "decided": total - len(left),
            "candidates": total,
            "waiting": len(queue),
            "pages": sum(pages for pages, _ in self._gained.values()),
            "tokens": sum(tokens for _, tokens in self._gained.values()),
            "undecided_pages": sum(node.gain for node in queue),
        }

    # ------------------------------------------------------------ looking

    def look(self, domain: str, prefix: str) -> dict[str, Any]:
        """One prefix: counts, histogram, branches, verdicts."""
        prefix = normal_prefix(prefix)
        node, branches = self.index.node(domain, prefix), self.index.branches(domain, prefix)
        missed, collected = self.index.histogram(domain, prefix)
        everybody = self.everybody()
        return {
            **self._summary(node, everybody),
            "children": [self._summary(child, everybody) for child in branches.children],
            "rest": {"paths": branches.rest_paths, "pages": branches.rest_pages},
            "histogram": {"missed": missed, "collected": collected},
        }

    def _summary(self, node: Node, everybody: Decisions) -> dict[str, Any]:
        key = (node.domain, node.prefix)
        standing = self._own.of(self.annotator).get(key)
        obeyed = self._own.verdict(*key, self.annotator)
        others = {
            who: found.verdict
            for who in everybody.annotators
            if who != self.annotator and (found := everybody.verdict(*key, who)) is not None
        }
        return {
            **asdict(node),
            "gain": node.gain,
            "verdict": standing.verdict if standing else None,
            "inherited": obeyed.verdict if obeyed and not standing else None,
            "others": others,
        }

    def samples(self, domain: str, prefix: str, *, collected: bool, start: int, count: int) -> dict[str, Any]:
        """Some pages below a prefix, ready to be shown, and how many there are."""
        rows = self.index.rows(domain, normal_prefix(prefix))
        pages = self.index.samples(domain, normal_prefix(prefix), collected=collected, start=start, count=count)
        shown = []
        for page in pages:
            part = excerpt(page.text, EXCERPT_CHARS)
            facts = {name: value for name, value in asdict(page).items() if name != "text"}
            shown.append(facts | {"score": _number(page.score), "html": part.html, "more": part.more})
        return {"total": int((self.index.collected[rows] == collected).sum()), "start": start, "pages": shown}

    def text(self, row: int) -> dict[str, Any]:
        """All of a page's text (of a very long one its beginning)."""
        if not 0 <= row < len(self.index):
            raise UserError(f"row={row}: no such page")
        text = self.index.page(row).text
        return {"html": render(text[:_MAX_CHARS]), "more": max(0, len(text) - _MAX_CHARS)}

    def preview(self) -> dict[str, Any]:
        """What everybody's decisions together add: pages, tokens, by accepted prefix; what is disputed stays out."""
        everybody = self.everybody()
        wanted = sorted({row.key for row in everybody.decisions() if row.verdict == "accept"})
        listed, disputed = [], 0
        for domain in sorted({domain for domain, _ in wanted if domain in self.index.names}):
            rows = self.index.rows(domain, "/")
            rows = rows[~self.index.collected[rows]]
            names = pa.array([domain] * rows.size, pa.large_string())
            paths = self.index.path.take(pa.array(rows))
            accepted = everybody.accepts(names, paths)
            asked = np.zeros(rows.size, bool)
            by_prefix = np.full(rows.size, -1)
            prefixes = sorted((prefix for name, prefix in wanted if name == domain), key=len)
            for number, prefix in enumerate(prefixes):
                by_prefix[np.isin(rows, self.index.rows(domain, prefix))] = number
            for who in everybody.annotators:
                asked |= everybody.codes(names, paths, who) == CODES["accept"]
            disputed += int((asked & ~accepted).sum())
            for number, prefix in enumerate(prefixes):
                added = rows[accepted & (by_prefix == number)]
                tokens = int(self.index.tokens[added].sum(dtype=np.int64))
                by = [who for who in everybody.annotators if _accepts(everybody.of(who).get((domain, prefix)))]
                listed.append({"domain": domain, "prefix": prefix, "pages": added.size, "tokens": tokens, "by": by})
        listed.sort(key=lambda one: (-cast(int, one["pages"]), str(one["domain"]), str(one["prefix"])))
        return {
            "pages": sum(cast(int, one["pages"]) for one in listed),
            "tokens": sum(cast(int, one["tokens"]) for one in listed),
            "disputed": disputed,
            "list": listed,
            "annotators": everybody.annotators,
            "elsewhere": sum(domain not in self.index.names for domain, _ in wanted),
        }

    def everybody(self) -> Decisions:
        """All annotators' decisions; the others' files are read again when they have changed."""
        with self._lock:
            files = [file for file in sorted(self.folder.glob("*.jsonl")) if file != self.file]
            seen = [(file.name, stat.st_size, stat.st_mtime_ns) for file in files for stat in [file.stat()]]
            if seen != self._others_seen:
                self._others, self._others_seen = Decisions.load(files), seen
            others = {who: of for who, of in self._others.standing.items() if who != self.annotator}
            return Decisions({**others, self.annotator: self._own.of(self.annotator)}, self._others.broken)


def _accepts(decision: Decision | None) -> bool:
    return decision is not None and decision.verdict == "accept"


def _last(rows: list[Decision], key: tuple[str, str]) -> int | None:
    return next((at for at in range(len(rows) - 1, -1, -1) if rows[at].key == key), None)


def _number(score: float) -> float | None:
    return None if np.isnan(score) else round(score, 4)


def _plain(one: Agreement) -> dict[str, Any]:
    return {name: value for name, value in asdict(one).items() if name != "conflicts"}
