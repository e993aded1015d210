"""Which source each sequence comes from: exact shares after every prefix, found without counting up to it.

Let E_s(n) be source s's exact share of the first n sequences: a broken line with slope w_s, the weight of the moment,
so sum_s E_s(n) = n even where weights change. The order below keeps every source's realised count x_s(n) within

    |x_s(n) - E_s(n)| <= 1 - d,   d = 1 / (2S - 2),   S sources,   for every n,

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
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import lcm

import numpy as np
from numpy.typing import NDArray

from dsm.config.mix import Segment, expected

_NEVER = 2**62


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
        laps: list[_Lap] = []
        seen: dict[tuple[int, ...], int] = {}
        while (state := _offsets(counts, segment, len(laps))) not in seen:
            seen[state] = len(laps)
            lap = _Lap.run(
                windows.held(number), counts, segment.first + len(laps) * segment.period, segment.period, end
            )
            laps.append(lap)
            counts = lap.after
            if len(lap.table) < segment.period:  # its next choice depends on the weights after `end`
                yield from (lap.span() for lap in laps if len(lap.table))
                break
        else:
            yield from (lap.span() for lap in laps[: seen[state]])
            cycle = laps[seen[state] :]
            table, slack = (np.concatenate([getattr(lap, part) for lap in cycle]) for part in ("table", "slack"))
            yield (span := _Span(cycle[0].first, np.asarray(cycle[0].before), table))
            if end is None:
                return
            counts = span.counts_at(_first_late_choice(slack, laps[-1].first + segment.period, end)).tolist()
        done = sum(counts)
        if end is not None and done < end:
            lap = _Lap.run(windows.known(number), counts, done, end - done, None)
            yield lap.span()
            counts = lap.after


def _offsets(counts: Sequence[int], segment: Segment, laps: int) -> tuple[int, ...]:
    """Counts without what whole laps of the segment's weights bring: equal ones have equal futures."""
    return tuple(count - laps * weight for count, weight in zip(counts, segment.weights, strict=True))


def _first_late_choice(slack: NDArray[np.int64], start: int, end: int) -> int:
    """The first place from `start` (where a lap begins) whose choice has its window close after `end`, else `end`."""
    first = max(start, end - int(slack.max()) - 1)
    places = np.arange(first, end)
    late = np.flatnonzero(places + 1 + slack[(places - start) % len(slack)] > end)
    return int(places[late[0]]) if len(late) else max(start, end)


class _Line:
    """E of one source over one segment; places counted from 1, all in integers.

    E(n) >= v is met first at n = first + ceil((v - E(first)) / w); with v = k + d or k + 1 - d everything is a whole
    number of 1 / divisor places.
    """

    def __init__(self, first: int, reached: Fraction, weight: int, period: int, apart: int) -> None:
        scale = lcm(reached.denominator, apart)
        self.first = first
        self.reached, self.one, self.margin = int(reached * scale), scale, scale // apart
        self.period, self.divisor = period, scale * weight

    def released(self, number: int) -> int | None:
        """The first place with E >= number + d, if it lies before an end that is not looked at; None: never."""
        missing = number * self.one + self.margin - self.reached
        if missing <= 0:
            return self.first
        return self.first - (-missing * self.period // self.divisor) if self.divisor else None

    def closes(self, number: int) -> int | None:
        """The first place with E > number + 1 - d; None: never."""
        missing = (number + 1) * self.one - self.margin - self.reached
        return self.first + missing * self.period // self.divisor + 1 if self.divisor else None


class _Windows:
    """When each sequence of each source is released, and when its window closes."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        sources = range(len(segments[0].weights))
        apart = 2 * max(len(sources) - 1, 1)  # 1 / d
        self._ends = [segment.first for segment in segments[1:]]
        self._lines: list[list[_Line]] = []  # by segment, by source
        reached = [Fraction(0) for _ in sources]
        for segment, end in zip(segments, [*self._ends, _NEVER], strict=True):
            weights, period = segment.weights, segment.period
            self._lines.append([_Line(segment.first, reached[s], weights[s], period, apart) for s in sources])
            reached = [reached[s] + Fraction((end - segment.first) * weights[s], period) for s in sources]

    def held(self, segment: int) -> _View:
        """As if the weights of a segment held for ever."""
        return _View([(_NEVER, self._lines[segment])])

    def known(self, segment: int) -> _View:
        """As they will be, seen from a segment on."""
        return _View(list(zip([*self._ends, _NEVER], self._lines, strict=True))[segment:])


@dataclass(frozen=True)
class _View:
    """Windows from some segment on: (its end, its lines by source) in turn."""

    segments: list[tuple[int, list[_Line]]]

    def released(self, source: int, number: int) -> int:
        """The first place at which a sequence may come."""
        return self._first(source, number, _Line.released)

    def closes(self, source: int, number: int) -> int:
        """The last place at which it may."""
        return self._first(source, number, _Line.closes)

    def _first(self, source: int, number: int, border: Callable[[_Line, int], int | None]) -> int:
        for end, lines in self.segments:
            place = border(lines[source], number)
            if place is not None and place <= end:
                return place
        return _NEVER


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
    def run(cls, windows: _View, counts: Sequence[int], first: int, length: int, end: int | None) -> _Lap:
        """Choose for places [first, first + length), or up to the first choice whose window closes after `end`."""
        after = list(counts)
        waiting = [(windows.released(source, after[source]), source) for source in range(len(after))]
        heapq.heapify(waiting)
        ready: list[tuple[int, int]] = []
        chosen, slack = [], []
        for place in range(first + 1, first + length + 1):
            while waiting and waiting[0][0] <= place:
                source = heapq.heappop(waiting)[1]
                heapq.heappush(ready, (windows.closes(source, after[source]), source))
            closes, source = ready[0]
            if end is not None and closes > end:
                break
            heapq.heappop(ready)
            chosen.append(source)
            slack.append(closes - place)
            after[source] += 1
            heapq.heappush(waiting, (windows.released(source, after[source]), source))
        return cls(first, list(counts), after, np.asarray(chosen, np.uint16), np.asarray(slack, np.int64))

    def span(self) -> _Span:
        """The choices as a table."""
        return _Span(self.first, np.asarray(self.before), self.table)
