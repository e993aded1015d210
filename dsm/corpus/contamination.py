"""Benchmark texts in other texts, found exactly and taken out (section 2.1 of the paper).

The paper's two rules, in the grams of dsm/corpus/grams.py:

- *run*: 10 grams in a row that a benchmark's text has too. What they stand in is removed: the segments (lines) that
  they touch, or the page.
- *whole*: a benchmark's text of 3 to 9 grams matches as a whole. The page is removed.

What the paper leaves open:

- A run that is mathematics more than language is common property: `= \\frac{1}{2} \\cdot \\frac{1}{2} = ` proves
  nothing. One of 10 grams needs three words (`Grams.words`), else it is as long as 20 grams, or as the whole text.
- So are short texts without a word, such as `x^2 + 3x + 2`, or an answer that is one formula. Answers of less than 3
  grams ("72", "x 5") are passed over, as are short questions about a figure ("what is the value of x in the diagram").
  What is passed over is counted.
- Runs go on over line breaks. After segments are removed the rest is searched again, so that a cleaned text is clean.

A page's runs are hashed as arrays, looked up in a table of bits, then in sorted hashes, and those few that are left are
compared as strings: nothing is removed by a collision.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from dsm.corpus.grams import Grams, UInt64, runs

VERSION = "1"
"""Raised when what is found or removed changes."""

ENOUGH_WORDS = 3
"""In a run; with fewer it is mathematics."""
_LONGER = 2  # a run that is not language must be so many times as long
_SLOTS_PER_RUN = 16
_BATCH_CHARS = 1 << 16
_SIDES: tuple[Literal["left"], Literal["right"]] = ("left", "right")

Kind = Literal["question", "answer"]
_Part: TypeAlias = tuple[UInt64, int, npt.NDArray[np.int64]]
"""Hashes of runs, the number of their text, their places in it."""


@dataclass(frozen=True, slots=True)
class BenchmarkText:
    """A text that must not be learnt.

    Attributes:
        benchmark: the benchmark's name.
        item: which of its items.
        kind: question | answer.
        text: the text itself.
        alone: whether it says enough to be searched for where it is short.
    """

    benchmark: str
    item: str
    kind: Kind
    text: str
    alone: bool = True


@dataclass(frozen=True, slots=True)
class Hit:
    """Grams that a page shares with a benchmark.

    Attributes:
        benchmark, item, kind: whose text; the first of them where several texts have it.
        texts: how many texts of the benchmark have (a part of) it.
        rule: run | whole.
        match: the longest stretch, in grams parted by blanks.
        grams: how many these are.
    """

    benchmark: str
    item: str
    kind: Kind
    texts: int
    rule: Literal["run", "whole"]
    match: str
    grams: int


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What is left of a page: None where nothing may be; the text itself, unchanged, where there are no hits."""

    text: str | None
    hits: tuple[Hit, ...] = ()
    segments_removed: int = 0


@dataclass
class Coverage:
    """What of a benchmark is searched for: its texts, and those passed over.

    Attributes:
        texts: distinct texts.
        runs: texts that are searched for run by run.
        whole: texts that are searched for as a whole.
        short: passed over, having too few grams.
        bare: passed over, being no evidence: short formulas, short questions about a figure.
    """

    texts: int = 0
    runs: int = 0
    whole: int = 0
    short: int = 0
    bare: int = 0


@dataclass(frozen=True)
class _Match:
    """Grams [first, stop) of a page are grams of text `text`."""

    first: int
    stop: int
    text: int
    whole: bool


class _Table:
    """Runs of one length: their hashes, sorted, each with its text and its place there."""

    def __init__(self, parts: Sequence[_Part]) -> None:
        hashes = np.concatenate([hashes for hashes, _, _ in parts])
        texts = np.concatenate([np.full(len(places), text, np.int32) for _, text, places in parts])
        places = np.concatenate([places for _, _, places in parts]).astype(np.int32)
        order = np.lexsort((places, texts, hashes))
        self.hashes, self.texts, self.places = hashes[order], texts[order], places[order]
        bits = max(10, (_SLOTS_PER_RUN * len(hashes)).bit_length())
        self.shift = np.uint64(64 - bits)
        self.slots = np.zeros(1 << bits, np.bool_)
        self.slots[self.hashes >> self.shift] = True

    def look_up(self, hashes: UInt64) -> Iterator[tuple[int, int, int]]:
        """(place in `hashes`, text, place in the text) of all equal hashes."""
        places = np.flatnonzero(self.slots[hashes >> self.shift])
        sought = hashes[places]
        first, stop = (np.searchsorted(self.hashes, sought, side) for side in _SIDES)
        there = first < stop
        for place, entry, end in zip(places[there].tolist(), first[there].tolist(), stop[there].tolist(), strict=True):
            for number in range(entry, end):
                yield place, int(self.texts[number]), int(self.places[number])


class Decontaminator:
    """Finds benchmark texts in pages, and removes them."""

    def __init__(
        self,
        texts: Iterable[BenchmarkText],
        *,
        ngram: int = 10,
        min_ngram: int = 3,
        unit: Literal["segment", "page"] = "segment",
    ) -> None:
        """Index the texts.

        Args:
            ngram: grams of a run.
            min_ngram: shorter texts than `ngram` are searched for as a whole, down to so many grams.
            unit: what a run removes: the lines that it touches, or the page.
        """
        self.unit = unit
        self.ngram = ngram
        self.coverage: dict[str, Coverage] = {}
        self._texts: list[BenchmarkText] = []
        self._grams: list[Grams] = []
        parts: dict[tuple[int, bool], list[_Part]] = {}
        for text in dict.fromkeys(texts):
            grams, coverage = Grams.of(text.text), self.coverage.setdefault(text.benchmark, Coverage())
            for length, places, whole in _wanted(grams, text, ngram, min_ngram, coverage):
                part = runs(grams.hashes, length)[places], len(self._texts), places
                parts.setdefault((length, whole), []).append(part)
            self._texts.append(text)
            self._grams.append(grams)
        self._tables = {key: _Table(found) for key, found in sorted(parts.items())}

    def clean(self, text: str) -> Cleaned:
        """Search a page and remove what must not be in it."""
        hits: list[Hit] = []
        removed = 0
        while True:
            grams = Grams.of(text)
            matches = self._matches(grams)
            if not matches:
                return Cleaned(text, tuple(hits), removed)
            hits += self._hits(matches, grams)
            if self.unit == "page" or any(match.whole for match in matches):
                return Cleaned(None, tuple(hits), removed)
            lines = text.split("\n")
            touched = {line for match in matches for line in grams.lines(match.first, match.stop)}
            removed += len(touched)
            text = "\n".join(line for number, line in enumerate(lines) if number not in touched)
            if not text.strip():
                return Cleaned(None, tuple(hits), removed)

    def clean_all(self, texts: Sequence[str]) -> Iterator[Cleaned]:
        """`clean` of each text, in order; many times quicker where few have hits."""
        for text, suspect in zip(texts, self.suspects(texts), strict=True):
            yield self.clean(text) if suspect else Cleaned(text)

    def suspects(self, texts: Sequence[str]) -> list[bool]:
        """Which texts `clean` would change: the only ones that it has to see.

        They are cut and looked up many at a time, which spares most of numpy's calls. A run from one text into the next
        makes a suspect too.
        """
        found = [False] * len(texts)
        first, size = 0, 0
        for number, text in enumerate(texts, start=1):
            size += len(text)
            if size >= _BATCH_CHARS or number == len(texts):
                for suspect in self._suspects(texts[first:number]):
                    found[first + suspect] = True
                first, size = number, 0
        return found

    def _suspects(self, texts: Sequence[str]) -> set[int]:
        grams = Grams.of("\n\0\n".join(text.replace("\0", " ") for text in texts))
        ends = [sign.start() for sign in re.finditer("\0", grams.plain)]
        return {bisect(ends, int(grams.starts[match.first])) for match in self._matches(grams)}

    def hits(self, text: str) -> list[Hit]:
        """What a text shares with the benchmarks."""
        grams = Grams.of(text)
        return self._hits(self._matches(grams), grams)

    def _matches(self, grams: Grams) -> list[_Match]:
        matches = []
        for (length, whole), table in self._tables.items():
            for first, text, place in table.look_up(runs(grams.hashes, length)):
                there = self._grams[text]
                count = len(there) if whole else length
                if grams.equal(first, there, place, count):
                    matches.append(_Match(first, first + count, text, whole and count < self.ngram))
        return matches

    def _hits(self, matches: Sequence[_Match], grams: Grams) -> list[Hit]:
        """One hit for each benchmark and rule."""

        def key(match: _Match) -> tuple[str, bool]:
            return self._texts[match.text].benchmark, match.whole

        hits = []
        for (benchmark, whole), group in groupby(sorted(matches, key=key), key):
            parts = list(group)
            first, stop = max(_stretches(parts), key=lambda span: (span[1] - span[0], -span[0]))
            inside = Counter(match.text for match in parts if first <= match.first < stop)
            text = self._texts[min(inside, key=lambda number: (-inside[number], number))]
            shown = " ".join(grams.texts(first, stop))
            count = len({match.text for match in parts})
            hits.append(Hit(benchmark, text.item, text.kind, count, "whole" if whole else "run", shown, stop - first))
        return hits


def _wanted(
    grams: Grams, text: BenchmarkText, ngram: int, min_ngram: int, coverage: Coverage
) -> Iterator[tuple[int, npt.NDArray[np.int64], bool]]:
    """Which runs of a text are searched for: (length, their places, whether all of the text must follow)."""
    coverage.texts += 1
    n, whole = len(grams), (min_ngram, np.zeros(1, np.int64), True)
    if n < min_ngram:
        coverage.short += 1
        return
    words = grams.words()
    bare = not words.any() and n < (ngram if text.kind == "question" else _LONGER * ngram)
    if bare or (n < ngram and not text.alone):
        coverage.bare += 1
        return
    if n < ngram:
        coverage.whole += 1
        yield whole
        return
    coverage.runs += 1
    sums = np.concatenate(([0], np.cumsum(words)))
    places = np.arange(n - ngram + 1)
    spoken = sums[places + ngram] - sums[places] >= min(ENOUGH_WORDS, ngram)
    if spoken.any():
        yield ngram, places[spoken], False
    if n < _LONGER * ngram and not spoken.any():
        yield whole
    elif n >= _LONGER * ngram and not spoken.all():
        yield _LONGER * ngram, np.unique(np.minimum(places[~spoken], n - _LONGER * ngram)), False


def _stretches(matches: Sequence[_Match]) -> list[tuple[int, int]]:
    """The unions of overlapping or adjacent matches."""
    spans: list[tuple[int, int]] = []
    for first, stop in sorted((match.first, match.stop) for match in matches):
        if spans and first <= spans[-1][1]:
            spans[-1] = spans[-1][0], max(spans[-1][1], stop)
        else:
            spans.append((first, stop))
    return spans
