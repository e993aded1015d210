"""What was found of each benchmark: counted, and the matches that were found most often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from dsm.corpus.contamination import Coverage

_SHOWN, _SHOWN_CHARS = 5, 90


@dataclass
class Found:
    """Hits of one benchmark.

    Attributes:
        hits: their number; a page has one for each rule.
        items: whose texts they match.
        rules: hits by rule, run | whole.
        kinds: hits by the kind of text, question | answer | choice.
        matches: hits by the text that matched.
    """

    hits: int = 0
    items: set[str] = field(default_factory=set)
    rules: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    matches: Counter[str] = field(default_factory=Counter)


def summarise(hits: Iterable[Mapping[str, Any]]) -> dict[str, Found]:
    """Benchmark -> what was found of it; `hits` are dsm.corpus.contamination.Hit as dictionaries."""
    found: dict[str, Found] = {}
    for hit in hits:
        here = found.setdefault(hit["benchmark"], Found())
        here.hits += 1
        here.items.add(hit["item"])
        here.rules[hit["rule"]] += 1
        here.kinds[hit["kind"]] += 1
        here.matches[hit["match"]] += 1
    return found


def facts(coverage: Mapping[str, Coverage], found: Mapping[str, Found]) -> dict[str, dict[str, Any]]:
    """The same as JSON, with the texts that were searched for."""
    told: dict[str, dict[str, Any]] = {}
    for name, covered in coverage.items():
        here = found.get(name, Found())
        told[name] = {**asdict(covered), "hits": here.hits, "items": len(here.items)}
        told[name] |= {f"hits_{rule}": here.rules[rule] for rule in ("run", "whole")}
        told[name]["matches"] = here.matches.most_common(_SHOWN)
    return told


def table(coverage: Mapping[str, Coverage], found: Mapping[str, Found]) -> str:
    """A line a benchmark, and below it the matches that were found most often."""
    head = ("benchmark", "texts", "by runs", "whole", "too short", "no evidence", "hits", "of items", "most frequent")
    rows: list[tuple[str, ...]] = [head]
    for name, covered in coverage.items():
        here = found.get(name, Found())
        numbers = (covered.texts, covered.runs, covered.whole, covered.short, covered.bare, here.hits, len(here.items))
        matches = [f"{count:,}x {match[:_SHOWN_CHARS]}" for match, count in here.matches.most_common(_SHOWN)] or [""]
        rows.append((name, *(f"{number:,}" for number in numbers), matches[0]))
        rows += [("",) * (len(head) - 1) + (match,) for match in matches[1:]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = []
    for row in rows:
        first, *middle, last = (
            cell.ljust(width) if column in (0, len(head) - 1) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join((first, *middle, last)).rstrip())
    return "\n".join(lines)
