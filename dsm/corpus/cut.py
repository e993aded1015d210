"""The best pages under a budget of tokens: exact, streaming, with ties that fall the same way every time.

The ranking is by score, then by url_hash. It is never made: a histogram over the margin (the logit of the score, so
that both ends are finely divided) tells in which bin the budget runs out, and only the pages of that bin are sorted.
Budgets are never exceeded: the first page that would do so ends the collection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

BINS = 4096
_SPAN = 20.0  # margins beyond it share the last bins
_NOTHING = 2.0  # no score is as high

Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Scores, url_hashes, tokens and languages of some pages."""


def bins_of(scores: np.ndarray) -> np.ndarray:
    """(n,) the bin of each score, 0 .. BINS - 1; -1 where the score is NaN, which means: not in the ranking."""
    exact = scores.astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        margins = np.log(exact) - np.log1p(-exact)
        places = np.floor((np.clip(margins, -_SPAN, _SPAN) + _SPAN) * (BINS / (2 * _SPAN)))
    return np.where(np.isnan(exact), -1, np.clip(np.nan_to_num(places), 0, BINS - 1)).astype(np.int32)


def score_of(bin_: float) -> float:
    """The score at the lower edge of a bin."""
    return float(1 / (1 + np.exp(_SPAN - bin_ * (2 * _SPAN / BINS))))


def histogram(scores: np.ndarray, tokens: np.ndarray, languages: np.ndarray) -> pa.Table:
    """(bin, language, pages, tokens) of the pages that are in the ranking, sorted."""
    bins = bins_of(scores)
    ranked = bins >= 0
    table = pa.table({"bin": bins[ranked], "language": languages[ranked], "tokens": tokens[ranked].astype(np.int64)})
    return _grouped(table.append_column("pages", pa.array(np.ones(len(table), np.int64))))


def merge_histograms(tables: Sequence[pa.Table]) -> pa.Table:
    """One histogram of several."""
    return _grouped(pa.concat_tables(tables))


def _grouped(table: pa.Table) -> pa.Table:
    sums = [("pages", "sum"), ("tokens", "sum")]
    grouped = table.group_by(["bin", "language"], use_threads=False).aggregate(sums)
    grouped = grouped.rename_columns({"pages_sum": "pages", "tokens_sum": "tokens"})
    return grouped.select(["bin", "language", "pages", "tokens"]).sort_by(
        [("bin", "ascending"), ("language", "ascending")]
    )


@dataclass(frozen=True)
class Cut:
    """Where a collection ends.

    Attributes:
        score: of the last page collected; `url_hash`, its hash, decides among pages of that score: the smaller ones.
        languages: language -> [pages, tokens].
    """

    score: float
    url_hash: int
    pages: int
    tokens: int
    languages: dict[str, list[int]]

    def collects(self, scores: np.ndarray, url_hashes: np.ndarray) -> np.ndarray:
        """(n,) bool: which pages are in; NaN is out."""
        exact = scores.astype(np.float64)
        tied = (exact == self.score) & (url_hashes <= np.uint64(self.url_hash))
        return (exact > self.score) | tied

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return {
            "score": self.score,
            "url_hash": self.url_hash,
            "pages": self.pages,
            "tokens": self.tokens,
            "languages": self.languages,
        }


class Ranking:
    """All pages by score, as far as anyone has to know."""

    def __init__(self, counts: pa.Table, rows_of: Callable[[int], Rows]) -> None:
        """`counts`: the histogram of all pages; `rows_of(bin)` fetches the pages of one bin, in any order."""
        self._bins = counts.column("bin").to_numpy()
        self._languages = np.array(counts.column("language").to_pylist(), str)
        self._pages, self._tokens = (counts.column(name).to_numpy() for name in ("pages", "tokens"))
        self._rows_of = rows_of
        self._cache: tuple[int, Rows] | None = None

    @property
    def tokens(self) -> int:
        """Of all pages in the ranking."""
        return int(self._tokens.sum())

    def at(self, budget: int | None, threshold: float | None = None) -> Cut:
        """The best pages whose tokens together are at most `budget` and whose score is at least `threshold`."""
        ends = -1 if budget is None else self._bin_where_it_ends(budget)
        least = -1 if threshold is None else int(bins_of(np.array([threshold], np.float32))[0])
        bin_ = max(ends, least)
        left = None
        if budget is not None and bin_ == ends:
            left = budget - int(self._tokens[self._bins > bin_].sum())
        return self._cut(bin_, left, threshold)

    def _bin_where_it_ends(self, budget: int) -> int:
        """The bin of the first page that is out; -1 if there is none."""
        each = np.zeros(BINS, np.int64)
        np.add.at(each, self._bins, self._tokens)
        over = np.flatnonzero(np.cumsum(each[::-1]) > budget)
        return BINS - 1 - int(over[0]) if over.size else -1

    def _cut(self, bin_: int, left: int | None, threshold: float | None) -> Cut:
        """All above a bin, and of its own pages the best whose tokens are at most `left`."""
        whole = self._bins > bin_
        languages = {
            name: [int(self._pages[whole & mine].sum()), int(self._tokens[whole & mine].sum())]
            for name in sorted(set(self._languages.tolist()))
            for mine in [self._languages == name]
        }
        scores, hashes, tokens, spoken = self._rows(bin_) if bin_ >= 0 else no_rows()
        if threshold is not None:
            good = scores >= np.float32(threshold)
            scores, hashes, tokens, spoken = scores[good], hashes[good], tokens[good], spoken[good]
        order = np.lexsort((hashes, -scores.astype(np.float64)))
        fitting = len(order) if left is None else int(np.searchsorted(np.cumsum(tokens[order]), left, side="right"))
        taken = order[:fitting]
        for name, number in zip(spoken[taken].tolist(), tokens[taken].tolist(), strict=True):
            entry = languages.setdefault(str(name), [0, 0])
            entry[0] += 1
            entry[1] += int(number)
        pages = int(self._pages[whole].sum()) + len(taken)
        total = int(self._tokens[whole].sum()) + int(tokens[taken].sum())
        if taken.size:
            score, last = float(scores[taken[-1]]), int(hashes[taken[-1]])
        else:
            score, last = self._lowest_above(bin_)
        return Cut(score, last, pages, total, {name: entry for name, entry in languages.items() if entry[0]})

    def _lowest_above(self, bin_: int) -> tuple[float, int]:
        """The last page of the bins above one."""
        above = self._bins[self._bins > bin_]
        if not above.size:
            return _NOTHING, 0
        scores, hashes, _, _ = self._rows(int(above.min()))
        lowest = scores.min()
        return float(lowest), int(hashes[scores == lowest].max())

    def _rows(self, bin_: int) -> Rows:
        if self._cache is None or self._cache[0] != bin_:
            self._cache = (bin_, self._rows_of(bin_))
        return self._cache[1]


def no_rows() -> Rows:
    """None."""
    return np.empty(0, np.float32), np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, str)
