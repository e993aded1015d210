"""Which source each sequence comes from: exact shares after every prefix, found without counting up to it.

Let E_s(n) be source s's exact share of the first n sequences: a broken line with slope w_s, the weight of the moment,
so sum_s E_s(n) = n even where weights change. The order below keeps every source's realised count x_s(n) within

    |x_s(n) - E_s(n)| <= 1 - d,   d = 1 / (2S - 2),   S > 1 sources,   for every n,

which is the best bound there is for S sources (R. Tijdeman, "The chairman assignment problem", 1980).

The bound as deadlines. Source s's sequence k (from 0) keeps it if it comes at a place n, counted from 1, with

    E_s(n) >= k + d  ("released": the count does not run ahead)   and   E_s(n - 1) <= k + 1 - d  ("in time"),

a window of whole places that depends on E_s alone. Whenever some assignment of one place to each meets all windows,
so does the greedy one, which takes among the released the one whose window closes first (Glover 1967; "earliest
deadline first"). By Hall's theorem there is one if no stretch of L = b - a + 1 places a..b holds more than L windows.
Suppose that in it lie windows of m sources, c_s >= 1 of source s, the first of its sequence p_s. Then
E_s(a - 1) < p_s + d and E_s(b) > p_s + c_s - d.
  m < S: so c_s < E_s(b) - E_s(a - 1) + 2d; summed, sum c_s < L + 2dm <= L + 1, and as both are whole sum c_s <= L.
  m = S: summed, a - 1 < sum p_s + dS and b > sum p_s + sum c_s - dS; as dS <= 1 and all are whole, a - 1 <= sum p_s
  and b >= sum p_s + sum c_s, so again sum c_s <= L.
Nor is a place ever empty: more than E_s(n) - d sequences of s are released by n, together more than n - dS >= n - 1, so
at least n. Nothing here needs weights that stay: credits pass through a change as E does, and a window that spans one
closes where the new weights say. (A source that drops out with a credit may still come once.)

Speed. While weights w_s = W_s / D hold, windows repeat every D places, so the order repeats too as soon as the counts'
differences from E do; that is observed, usually at once. A stretch is then one table of D entries. Where it ends,
windows that close after the change differ, and the few places from the first such choice on have a table of their own.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import lcm

import numpy as np
from numpy.typing import NDArray

from dsm.config.mix import Segment, expected

_NEVER = 2**50  # beyond every place; times the number of sources it still fits 64 bits


@dataclass(frozen=True)
class _Span:
    """Places that a table describes, over and over.

    Attributes:
        first: its first place, from 0.
        before: (S,) sequences of each source before it.
        table: (D,) sources in their order.
    """

    first: int
    before: NDArray[np.int64]
    table: NDArray[np.uint16]

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """(S,) sequences of each source in one table."""
        return np.bincount(self.table, minlength=len(self.before)).astype(np.int64)

    @cached_property
    def ranks(self) -> NDArray[np.int32]:
        """(D,) how many of its own source come before each entry."""
        order = np.argsort(self.table, kind="stable")
        starts = np.cumsum(self.counts) - self.counts
        ranks = np.empty(len(order), dtype=np.int32)
        ranks[order] = np.arange(len(order)) - np.repeat(starts, self.counts)
        return ranks

    def counts_at(self, place: int) -> NDArray[np.int64]:
        """(S,) sequences of each source before a place."""
        laps, rest = divmod(place - self.first, len(self.table))
        return self.before + laps * self.counts + np.bincount(self.table[:rest], minlength=len(self.before))


class Schedule:
    """The source of every sequence of a run, and which of that source's own sequences it is."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        """`segments`: weights from the first sequence on; the last ones hold for ever."""
        self.segments = list(segments)
        self._spans = list(_spans(self.segments))
        self._firsts = np.asarray([span.first for span in self._spans], dtype=np.int64)

    def locate(self, places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(N,) source of each place, and (N,) how many sequences of that source come before it."""
        which = np.searchsorted(self._firsts, places, side="right") - 1
        sources, numbers = np.empty_like(places), np.empty_like(places)
        for number in np.unique(which):
            span, here = self._spans[number], which == number
            laps, entries = np.divmod(places[here] - span.first, len(span.table))
            source = span.table[entries].astype(np.int64)
            sources[here] = source
            numbers[here] = span.before[source] + laps * span.counts[source] + span.ranks[entries]
        return sources, numbers

    def counts(self, places: int) -> NDArray[np.int64]:
        """(S,) sequences of each source among the first so many."""
        span = self._spans[bisect_right(self._firsts, places) - 1]
        return span.counts_at(places)

    def expected(self, places: int) -> list[Fraction]:
        """(S,) the exact shares that `counts` keeps to."""
        return expected(self.segments, places)


def _spans(segments: Sequence[Segment]) -> Iterator[_Span]:
    """Tables for the whole run."""
    windows = _Windows(segments)
    counts = [0] * len(segments[0].weights)
    for number, segment in enumerate(segments):
        end = segments[number + 1].first if number + 1 < len(segments) else None
        while sum(counts) != end:
            spans, counts = _repeating(windows.held(number), segment, counts, end)
            yield from spans
            if end is None:
                return
            if (done := sum(counts)) < end:  # the next choice depends on weights after `end`
                lap = _Lap.run(windows.known(number), counts, done, min(segment.period, end - done), None)
                yield lap.span()
                counts = lap.after


def _repeating(windows: _View, segment: Segment, counts: list[int], end: int | None) -> tuple[list[_Span], list[int]]:
    """Tables from where the counts are up to the first choice whose window closes after `end`; the counts there."""
    first, period = sum(counts), segment.period
    laps: list[_Lap] = []
    seen: dict[tuple[int, ...], int] = {}
    while (state := _offsets(counts, segment, len(laps))) not in seen:
        seen[state] = len(laps)
        start = first + len(laps) * period
        length = period if end is None else min(period, end - start)
        laps.append(lap := _Lap.run(windows, counts, start, length, end))
        counts = lap.after
        if len(lap.table) < period:
            return [lap.span() for lap in laps if len(lap.table)], counts
    before, cycle = laps[: seen[state]], laps[seen[state] :]
    table, slack = (np.concatenate([getattr(lap, part) for lap in cycle]) for part in ("table", "slack"))
    span = _Span(cycle[0].first, np.asarray(cycle[0].before), table)
    if end is not None:
        counts = span.counts_at(_first_late_choice(slack, laps[-1].first + period, end)).tolist()
    return [*(lap.span() for lap in before), span], counts


def _offsets(counts: Sequence[int], segment: Segment, laps: int) -> tuple[int, ...]:
    """Counts without what whole laps of the segment's weights bring: equal ones have equal futures."""
    return tuple(count - laps * weight for count, weight in zip(counts, segment.weights, strict=True))


def _first_late_choice(slack: NDArray[np.int64], start: int, end: int) -> int:
    """The first place from `start` (where the cycle begins anew) whose choice has its window close after `end`."""
    first = max(start, end - int(slack.max()) - 1)
    places = np.arange(first, end)
    late = np.flatnonzero(places + 1 + slack[(places - start) % len(slack)] > end)
    return int(places[late[0]]) if len(late) else max(start, end)


class _Line:
    """E of one source over one segment, which reaches v at first + (v - E(first)) / w; in whole numbers throughout."""

    def __init__(self, first: int, reached: Fraction, weight: int, period: int, apart: int) -> None:
        scale = lcm(reached.denominator, apart)
        self.first, self.period, self.slope = first, period, scale * weight
        self.reached, self.one, self.margin = int(reached * scale), scale, scale // apart  # E(first), 1, d

    def released(self, numbers: range) -> list[int]:
        """For each number the first place with E >= number + d, `first` where that is past."""
        if not self.slope:
            return [self.first if number * self.one + self.margin <= self.reached else _NEVER for number in numbers]
        one, offset = self.one * self.period, (self.margin - self.reached) * self.period
        return [max(self.first, self.first - (-(number * one + offset) // self.slope)) for number in numbers]

    def closes(self, numbers: range) -> list[int]:
        """For each number the first place with E > number + 1 - d."""
        if not self.slope:
            return [_NEVER] * len(numbers)
        one, offset = self.one * self.period, (self.one - self.margin - self.reached) * self.period
        return [self.first + 1 + (number * one + offset) // self.slope for number in numbers]

    def released_by(self, place: int) -> int:
        """How many numbers are released at a place."""
        reached = self.reached * self.period + (place - self.first) * self.slope
        return (reached - self.margin * self.period) // (self.one * self.period) + 1


class _Windows:
    """When each sequence of each source is released, and when its window closes."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        sources = range(len(segments[0].weights))
        apart = 2 * max(len(sources) - 1, 1)  # 1 / d
        self._ends = [*(segment.first for segment in segments[1:]), _NEVER]
        self._lines: list[list[_Line]] = []  # by segment, by source
        reached = [Fraction(0) for _ in sources]
        for segment, end in zip(segments, self._ends, strict=True):
            weights, period = segment.weights, segment.period
            self._lines.append([_Line(segment.first, reached[s], weights[s], period, apart) for s in sources])
            reached = [reached[s] + Fraction((end - segment.first) * weights[s], period) for s in sources]

    def held(self, segment: int) -> _View:
        """As if the weights of a segment held for ever."""
        return _View([_NEVER], [self._lines[segment]])

    def known(self, segment: int) -> _View:
        """As they will be, seen from a segment on."""
        return _View(self._ends[segment:], self._lines[segment:])


@dataclass(frozen=True)
class _View:
    """Windows over segments in turn.

    Attributes:
        ends: of each segment.
        lines: of each segment, by source.
    """

    ends: list[int]
    lines: list[list[_Line]]

    def released(self, source: int, numbers: range) -> list[int]:
        """The first place at which each of a source's sequences may come."""
        return self._places(source, numbers, _Line.released)

    def closes(self, source: int, numbers: range) -> list[int]:
        """The last place at which it may."""
        return self._places(source, numbers, _Line.closes)

    def _places(self, source: int, numbers: range, border: Callable[[_Line, range], list[int]]) -> list[int]:
        found: list[int] = []
        for end, lines in zip(self.ends, self.lines, strict=True):
            places = border(lines[source], numbers[len(found) :])
            found += places[: bisect_right(places, end)]  # both borders rise with the number
            if len(found) == len(numbers):
                break
        return found

    def released_by(self, source: int, place: int) -> int:
        """How many of a source's sequences are released at a place."""
        return self.lines[bisect_left(self.ends, place)][source].released_by(place)


@dataclass(frozen=True)
class _Lap:
    """Consecutive choices.

    Attributes:
        first: the first place, from 0.
        before, after: (S,) counts on both sides.
        table: (L,) the sources chosen.
        slack: (L,) places from each choice to where its window closes.
    """

    first: int
    before: list[int]
    after: list[int]
    table: NDArray[np.uint16]
    slack: NDArray[np.int64]

    @classmethod
    def run(cls, windows: _View, counts: list[int], first: int, length: int, end: int | None) -> _Lap:
        """Choose for places [first, first + length), or up to the first choice whose window closes after `end`."""
        sources, last = len(counts), first + length
        waiting: list[tuple[int, int]] = []  # where it is released; where its window closes, and its source
        for source, count in enumerate(counts):
            numbers = range(count, max(count, windows.released_by(source, last)))
            closes = windows.closes(source, numbers)
            codes = [place * sources + source for place in closes]
            waiting += zip(windows.released(source, numbers), codes, strict=True)
        waiting.sort()
        late = _NEVER * sources if end is None else (end + 1) * sources
        ready: list[int] = []
        chosen: list[int] = []
        taken = 0
        for place in range(first + 1, last + 1):
            while taken < len(waiting) and waiting[taken][0] <= place:
                heapq.heappush(ready, waiting[taken][1])
                taken += 1
            if ready[0] >= late and end is not None:
                break
            chosen.append(heapq.heappop(ready))
        closing, table = np.divmod(np.asarray(chosen, dtype=np.int64), sources)
        after = [count + int(more) for count, more in zip(counts, np.bincount(table, minlength=sources), strict=True)]
        slack = closing - np.arange(first + 1, first + 1 + len(table))
        return cls(first, counts, after, table.astype(np.uint16), slack)

    def span(self) -> _Span:
        """The choices as a table."""
        return _Span(self.first, np.asarray(self.before), self.table)
