"""The order of sources: Tijdeman's bound after every prefix, and the same order however it is reached."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsm.config.mix import Segment, expected
from dsm.data.mixture.schedule import Schedule

PAPER = (28, 2, 5, 10, 5)  # 56/4/10/20/10 in lowest terms


def bound(sources: int) -> Fraction:
    return 1 - Fraction(1, 2 * max(sources - 1, 1))


def plain_order(segments: list[Segment], length: int) -> list[int]:
    """Earliest deadline first by its definition: every place looks ahead as far as it must, in fractions."""
    sources = range(len(segments[0].weights))
    margin = 1 - bound(len(sources))
    shares = [expected(segments, n) for n in range(2 * length + 100)]
    counts, order = [0 for _ in sources], []
    for place in range(1, length + 1):
        limits = {s: counts[s] + 1 - margin for s in sources if shares[place][s] >= counts[s] + margin}
        ahead = range(place, len(shares))
        closes = {s: next((n for n in ahead if shares[n][s] > limit), len(shares)) for s, limit in limits.items()}
        chosen = min(closes, key=lambda source: (closes[source], source))
        assert closes[chosen] >= place
        order.append(chosen)
        counts[chosen] += 1
    return order


@st.composite
def plans(draw: st.DrawFn) -> list[Segment]:
    """Up to four segments of up to six sources; weights may be 0 and may come back."""
    count = draw(st.integers(1, 6))
    weights = st.lists(st.one_of(st.integers(0, 3), st.integers(0, 25)), min_size=count, max_size=count)
    segments, first = [], 0
    for drawn in draw(st.lists(weights.filter(any), min_size=1, max_size=4)):
        segments.append(Segment(first, tuple(weight // math.gcd(*drawn) for weight in drawn)))
        first += draw(st.integers(1, 90))
    return segments


def test_the_papers_mix_is_exact_at_every_one_of_10_000_prefixes():
    schedule = Schedule([Segment(0, PAPER)])
    sources, _ = schedule.locate(np.arange(10_000))
    realised = np.cumsum(sources[:, None] == np.arange(5), axis=0)
    exact = np.arange(1, 10_001)[:, None] * np.asarray(PAPER)
    assert 8 * np.abs(50 * realised - exact).max() <= 7 * 50  # 1 - 1 / (2 * 5 - 2)
    assert realised[3999].tolist() == [2240, 160, 400, 800, 400]
    assert [schedule.counts(n).tolist() for n in (1, 50, 77, 10_000)] == [
        realised[n - 1].tolist() for n in (1, 50, 77, 10_000)
    ]
    assert schedule.counts(0).tolist() == [0] * 5


@settings(max_examples=40, deadline=None)
@given(plans())
def test_every_prefix_keeps_tijdemans_bound_across_changes_of_weights(segments):
    length, count = segments[-1].first + 150, len(segments[0].weights)
    schedule = Schedule(segments)
    sources, numbers = schedule.locate(np.arange(length))
    counts = [0] * count
    for place, (source, number) in enumerate(zip(sources.tolist(), numbers.tolist(), strict=True), start=1):
        assert number == counts[source]
        counts[source] += 1
        assert max(abs(x - e) for x, e in zip(counts, schedule.expected(place), strict=True)) <= bound(count)
        if place % 13 == 0:
            assert schedule.counts(place).tolist() == counts


@settings(max_examples=15, deadline=None)
@given(plans())
def test_tables_give_the_order_that_the_definition_gives(segments):
    length = segments[-1].first + 60
    assert Schedule(segments).locate(np.arange(length))[0].tolist() == plain_order(segments, length)


def test_weights_that_make_sources_urgent_at_once_are_seen_ahead():
    """Ten sources share the first five places, then other ten the rest: without looking ahead they would be late."""
    schedule = Schedule([Segment(0, (1,) * 20), Segment(10, (0,) * 10 + (1,) * 10)])
    for n in range(60):
        assert max(abs(x - e) for x, e in zip(schedule.counts(n), schedule.expected(n), strict=True)) <= bound(20)


def test_far_places_are_found_without_counting_up_to_them():
    """Half a trillion tokens in, on both sides of a change that falls into the middle of a period."""
    change = 122_070_313
    schedule = Schedule([Segment(0, PAPER), Segment(change, (0, 0, 0, 3, 7)), Segment(10**12, (1, 1, 1, 1, 1))])
    for first in (change - 40, change + 10**7, 10**12 - 40, 10**12 + 10**9):
        counts = schedule.counts(first)
        sources, numbers = schedule.locate(np.arange(first, first + 120))
        for place, (source, number) in enumerate(zip(sources, numbers, strict=True), start=first + 1):
            assert number == counts[source]
            counts[source] += 1
            assert max(abs(int(x) - e) for x, e in zip(counts, schedule.expected(place), strict=True)) <= bound(5)
    assert sum(len(span.table) for span in schedule._spans) < 1000


def test_hundreds_of_changes_of_weights_are_no_trouble():
    schedule = Schedule([Segment(100 * i, (1 + i, 801 - i)) for i in range(400)])
    places = np.arange(0, 50_000, 997)
    for place in places.tolist():
        assert abs(int(schedule.counts(place)[0]) - schedule.expected(place)[0]) <= bound(2)


@pytest.mark.parametrize("weights", [(1,), (1, 0), (0, 1), (1, 999), (499, 501)])
def test_few_sources(weights):
    schedule = Schedule([Segment(0, weights)])
    period = sum(weights)
    assert schedule.counts(7 * period).tolist() == [7 * weight for weight in weights]
    sources, _ = schedule.locate(np.arange(2 * period))
    assert sources[:period].tolist() == sources[period:].tolist()
