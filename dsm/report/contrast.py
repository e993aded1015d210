"""Two sides of several evaluations on the same items: how far they are apart, and how sure that is.

A side is the seeds of one method: its score of an item is their mean. The interval is a bootstrap over items, drawn
within each benchmark; where a side has several seeds these are drawn too, since another seed would have given another
model. With one run on each side it says what other items would have shown, not what another training would have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsm.config.listing import closest
from dsm.errors import UserError
from dsm.evaluation.intervals import DRAWS, LEVEL, Interval
from dsm.evaluation.loading import Record
from dsm.evaluation.metrics import maj_at_k, pass_at_k
from dsm.report.compare import Benchmark, Comparison

_COUNTS_PER_CHUNK = 1 << 22

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Contrast:
    """One side against another.

    Attributes:
        benchmarks: the names of those that both sides were asked; each has the same weight.
        items: in all of them together.
        first: the first side's mean score.
        second: the second side's.
        difference: first minus second.
    """

    benchmarks: tuple[str, ...]
    items: int
    first: float
    second: float
    difference: Interval


def contrast(
    comparison: Comparison,
    first: Sequence[int],
    second: Sequence[int],
    *,
    benchmarks: Sequence[str] | None = None,
    metric: str = "accuracy",
    seed: int = 0,
    key: str = "",
) -> Contrast:
    """The evaluations `first` against `second` (indices) on the items that all of them have.

    Args:
        benchmarks: their names; None takes all that every evaluation has with the same items and enough samples.
        metric: accuracy | pass@K | maj@K.
        key: the setting that errors name.

    Raises:
        UserError: an unknown benchmark, other items on the two sides, fewer than K samples.
    """
    sides = [*first, *second]
    names = [benchmark.name for benchmark in comparison.benchmarks]
    for name in benchmarks or ():
        if name not in names:
            raise UserError(f"{key}.benchmarks={name}: was not run; there are {', '.join(names)}{closest(name, names)}")
    found = []
    for benchmark in comparison.benchmarks:
        if benchmarks is None or benchmark.name in benchmarks:
            why = unlike(benchmark, sides, comparison.labels)
            if why is None and (benchmarks is not None or _enough(benchmark, sides, metric)):
                found.append(benchmark)
            elif benchmarks is not None and why is not None:
                raise UserError(f"{key}.benchmarks={benchmark.name}: {why}")
    if not found:
        who = ", ".join(comparison.labels[index] for index in sides)
        needed = "" if metric == "accuracy" else f" and the samples for {metric}"
        raise UserError(f"{key}: {who} share no benchmark with the same items{needed}; there are {', '.join(names)}")
    pairs = [
        (_scores(b, first, sides, metric, key, comparison), _scores(b, second, sides, metric, key, comparison))
        for b in found
    ]
    means = [float(np.mean([scores[side].mean() for scores in pairs])) for side in (0, 1)]
    items = sum(scores[0].shape[1] for scores in pairs)
    value = means[0] - means[1]
    low, high = bounds(pairs, seed=seed)
    difference = Interval(value, min(low, value), max(high, value))
    return Contrast(tuple(b.name for b in found), items, means[0], means[1], difference)


def _enough(benchmark: Benchmark, sides: Sequence[int], metric: str) -> bool:
    """Has every item so many samples as the metric needs?"""
    k = int(metric.partition("@")[2] or 1)
    return all(len(record.samples) >= k for index in sides for record in _records(benchmark, index).values())


def unlike(benchmark: Benchmark, indices: Sequence[int], labels: Sequence[str]) -> str | None:
    """Why these evaluations cannot be compared item by item on this benchmark; None where they can."""
    base: dict[str, Record] = {}
    for index in indices:
        records = benchmark.items[index]
        if benchmark.entries[index] is None:
            return f"{labels[index]} did not run it"
        if not records:
            return f"{labels[index]} has no items of it beside its results.json"
        base = base or records
        if records is not base and (
            records.keys() != base.keys()
            or any((r.question, r.gold) != (base[i].question, base[i].gold) for i, r in records.items())
        ):
            return f"{labels[index]} did not have the items of {labels[indices[0]]}"
    return None


def _scores(
    benchmark: Benchmark, side: Sequence[int], sides: Sequence[int], metric: str, key: str, comparison: Comparison
) -> Scores:
    """(evaluations of this side, items), the items in the order of the first evaluation of all that take part."""
    order = list(_records(benchmark, min(sides)))
    rows = []
    for index in side:
        records = _records(benchmark, index)
        try:
            rows.append([score(records[item], metric) for item in order])
        except ValueError as error:
            who = comparison.labels[index]
            raise UserError(f"{key}.metric={metric}: {who}, {benchmark.name}: {error}") from None
    return np.asarray(rows, dtype=np.float64)


def _records(benchmark: Benchmark, index: int) -> dict[str, Record]:
    records = benchmark.items[index]
    assert records is not None  # `unlike` has seen to it
    return records


def score(record: Record, metric: str) -> float:
    """An item's score in [0, 1].

    Raises:
        ValueError: fewer samples than the metric needs, or no classes of answers for a vote.
    """
    if metric == "accuracy":
        return record.accuracy
    name, _, text = metric.partition("@")
    k, n = int(text), len(record.samples)
    if k > n:
        raise ValueError(f"each item has {n} samples; allowed are K up to that")
    if name == "pass":
        return pass_at_k(n, record.right, k)
    right = [sample.verdict == "correct" for sample in record.samples]
    classes = [sample.answer_class for sample in record.samples]
    if any(good and label is None for good, label in zip(right, classes, strict=True)):
        raise ValueError("the records do not say which answers mean the same; measure again")
    return maj_at_k(classes, right, [k])[0]


def bounds(pairs: Sequence[tuple[Scores, Scores]], *, draws: int = DRAWS, seed: int = 0) -> tuple[float, float]:
    """The percentile bootstrap of the mean over benchmarks of mean(first) - mean(second).

    Args:
        pairs: for each benchmark (seeds, items) of the first and of the second side, on the same items.
    """
    items, seeds = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    totals = [np.zeros((draws, len(side))) for side in pairs[0]]
    for pair in pairs:
        n = pair[0].shape[1]
        chunk = max(1, _COUNTS_PER_CHUNK // n)
        for start in range(0, draws, chunk):
            rows = min(chunk, draws - start)
            picks = items.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
            counts = np.bincount(picks.ravel(), minlength=rows * n).reshape(rows, n)
            for total, side in zip(totals, pair, strict=True):
                total[start : start + rows] += counts @ side.T / (n * len(pairs))
    means = []
    for total in totals:
        number = total.shape[1]
        picks = seeds.integers(number, size=(draws, number)) if number > 1 else np.zeros((draws, 1), dtype=np.int64)
        means.append(np.take_along_axis(total, picks, axis=1).mean(axis=1))
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(means[0] - means[1], [tail, 100 - tail])
    return float(low), float(high)


def mean_bounds(scores: Sequence[Scores], *, seed: int = 0) -> tuple[float, float]:
    """The same for one side alone, between 0 and 1."""
    nothing = [(side, np.zeros((1, side.shape[1]))) for side in scores]
    low, high = bounds(nothing, seed=seed)
    return max(0.0, low), min(1.0, high)


def side_mean(comparison: Comparison, side: Sequence[int], benchmarks: Sequence[str], seed: int = 0) -> Interval:
    """A side's mean accuracy over benchmarks, each with the same weight, with its interval.

    One evaluation on one benchmark has the interval of its own results (Wilson's where each item has one answer).
    """
    asked = [benchmark for benchmark in comparison.benchmarks if benchmark.name in benchmarks]
    if len(asked) == len(side) == 1:
        entry = asked[0].entries[side[0]]
        assert entry is not None
        accuracy = entry.metrics.accuracy
        return Interval(accuracy.value, accuracy.low, accuracy.high)
    scores = [_scores(benchmark, side, side, "accuracy", "", comparison) for benchmark in asked]
    value = math.fsum(float(each.mean()) for each in scores) / len(scores)
    low, high = mean_bounds(scores, seed=seed)
    return Interval(value, min(low, value), max(high, value))
