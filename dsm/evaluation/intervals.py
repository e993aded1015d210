"""How far a measured number may be off: intervals over items, and two models compared on the same items.

The unit of chance is the item: a benchmark is a draw of problems, and the samples of one problem are no new problems.
Shares of yes and no get Wilson's interval, which stays honest where nothing or everything is correct and where there
are few items (SAT has 32: one item is 3.1 points). Means of per-item fractions get the percentile bootstrap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.95
DRAWS = 2000
_WEIGHTS_PER_CHUNK = 1 << 22


class Interval(NamedTuple):
    """A value and its interval at `LEVEL`. Of no items at all, `value` is None and the bounds say nothing: 0 to 1."""

    value: float | None
    low: float
    high: float


def wilson(successes: float, n: int, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927), (0, 1) for n = 0.

    `successes` may be a sum of fractions in [0, 1]: their variance is at most that of yes and no with the same mean,
    so the interval is then too wide, never too narrow.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes={successes}: must be between 0 and n={n}")
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = successes / n
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if successes == 0 else (centre - spread) / scale  # exact at the ends, where rounding would overshoot
    high = 1.0 if successes == n else (centre + spread) / scale
    return min(low, share), max(high, share)


def bootstrap(columns: ArrayLike, *, level: float = LEVEL, draws: int = DRAWS, seed: int = 0) -> NDArray[np.float64]:
    """Percentile bootstrap of the mean of each column (Efron 1979), resampling rows: (n, m) -> (m, 2).

    All columns see the same resamples, and the same seed gives the same bounds. At least one row.
    """
    values = np.asarray(columns, dtype=np.float64)
    n = len(values)
    if n == 0 or values.ndim != 2:
        raise ValueError(f"columns of shape {values.shape}: must be (n, m) with n > 0")
    rng = np.random.default_rng(seed)
    means = []
    chunk = max(1, _WEIGHTS_PER_CHUNK // n)
    for start in range(0, draws, chunk):
        rows = min(chunk, draws - start)
        picks = rng.integers(n, size=(rows, n)) + n * np.arange(rows)[:, None]
        weights = np.bincount(picks.ravel(), minlength=rows * n).reshape(rows, n)
        means.append(weights @ values / n)
    tail = 50 * (1 - level)
    bounds: NDArray[np.float64] = np.percentile(np.concatenate(means), [tail, 100 - tail], axis=0).T
    return bounds


def mean_intervals(
    columns: Sequence[ArrayLike], *, level: float = LEVEL, draws: int = DRAWS, seed: int = 0
) -> list[Interval]:
    """The mean of each column over items, values in [0, 1], each column (n,), with its interval.

    Wilson's where every value is 0 or 1, and where all values are equal (the bootstrap would claim certainty);
    the percentile bootstrap otherwise. The mean always lies within.
    """
    found: list[Interval | None] = []
    uncertain = []
    for column in columns:
        values = np.asarray(column, dtype=np.float64)
        n, total = len(values), math.fsum(values)
        if n == 0:
            found.append(Interval(None, 0.0, 1.0))
        elif np.isin(values, (0, 1)).all() or values.min() == values.max():
            found.append(Interval(min(total / n, 1.0), *wilson(min(total, n), n, level)))
        else:
            found.append(None)
            uncertain.append(values)
    if uncertain:
        bounds = iter(bootstrap(np.stack(uncertain, axis=1), level=level, draws=draws, seed=seed))
        for index, column in enumerate(columns):
            if found[index] is None:
                value = math.fsum(np.asarray(column, dtype=np.float64)) / len(np.asarray(column))
                low, high = map(float, next(bounds))
                found[index] = Interval(value, min(low, value), max(high, value))
    return [interval for interval in found if interval is not None]


def mean_interval(values: ArrayLike, *, level: float = LEVEL, draws: int = DRAWS, seed: int = 0) -> Interval:
    """`mean_intervals` of one column."""
    return mean_intervals([values], level=level, draws=draws, seed=seed)[0]


class Paired(NamedTuple):
    """Model B against model A on the same items.

    `difference` is mean(B) - mean(A) with a bootstrap interval over items; `better` and `worse` count the items where
    B scores above and below A; `p` is McNemar's exact two-sided p where all scores are 0 or 1, else None.
    """

    difference: Interval
    better: int
    worse: int
    p: float | None


def paired(a: ArrayLike, b: ArrayLike, *, level: float = LEVEL, draws: int = DRAWS, seed: int = 0) -> Paired:
    """Compare two models' per-item scores in [0, 1], in the same order of items, both (n,).

    Differences of the same items vary far less than the two means do, so this sees what two overlapping intervals hide.
    """
    before, after = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if before.shape != after.shape or before.ndim != 1:
        raise ValueError(f"scores of shapes {before.shape} and {after.shape}: must be the same (n,)")
    if not len(before):
        return Paired(Interval(None, -1.0, 1.0), 0, 0, None)
    change = after - before
    better, worse = int((change > 0).sum()), int((change < 0).sum())
    value = math.fsum(change) / len(change)
    low, high = map(float, bootstrap(change[:, None], level=level, draws=draws, seed=seed)[0])
    binary = bool(np.isin(before, (0, 1)).all() and np.isin(after, (0, 1)).all())
    difference = Interval(value, min(low, value), max(high, value))
    return Paired(difference, better, worse, mcnemar(better, worse) if binary else None)


def mcnemar(better: int, worse: int) -> float:
    """McNemar's exact two-sided p from the two discordant counts; 1.0 where there are none.

    Under the null each discordant item falls to either side with probability 1/2.
    """
    discordant = better + worse
    tail = sum(math.comb(discordant, i) for i in range(min(better, worse) + 1))
    return min(1.0, 2 * tail / 2**discordant)  # exact integers up to here: no count is too large


def relative_improvement(before: float | None, after: float | None) -> float | None:
    """(P2 - P1) / P1; None where P1 is zero or either is unknown, since there is nothing to be relative to."""
    if before is None or after is None or before == 0:
        return None
    return (after - before) / before
