"""From the samples of every item to a benchmark's numbers: pass@k, maj@k, mean@k, best-of-n, weighted vote, groups.

All is pure arithmetic on Python and NumPy values; nothing here knows a model. An item has n samples. Each sample has a
verdict and, for votes, the class of its answer: answers that mean the same share one integer, an answer that cannot be
read has None. `summarise` turns the records that an evaluation writes into one entry of its `results.json`.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsm.evaluation.intervals import Interval, mean_interval, mean_intervals

EXACT_SAMPLES = 256
"""Up to this many samples an item's maj@k is exact; beyond, it is the mean of `VOTE_DRAWS` seeded draws."""
EXACT_SUBSETS = 4096
"""Up to this many k-subsets the weighted vote is exact; beyond, it is the mean of `VOTE_DRAWS` seeded draws."""
VOTE_DRAWS = 2000
"""Draws of a Monte Carlo vote: the standard error of one item is at most 0.5 / sqrt(2000) = 0.011."""

Class = int | None


@lru_cache(maxsize=1 << 16)
def pass_at_k(n: int, correct: int, k: int) -> float:
    """Chance that at least one of k samples, drawn without replacement from n with `correct` correct, is correct.

    1 - C(n - correct, k) / C(n, k), the unbiased estimator of Chen et al. 2021 (arXiv:2107.03374, Eq. 1). It is
    computed in exact integers and rounded once, so no n is too large and pass@1 is exactly correct / n.
    """
    _check_k(n, k)
    if not 0 <= correct <= n:
        raise ValueError(f"correct={correct}: must be between 0 and n={n}")
    subsets = math.comb(n, k)
    return (subsets - math.comb(n - correct, k)) / subsets


def maj_at_k(classes: Sequence[Class], correct: Sequence[bool], ks: Sequence[int], *, seed: int = 0) -> list[float]:
    """Expected accuracy of the majority vote over a random k-subset of one item's n samples, for each k of `ks`.

    Args:
        classes: (n,) the class of each sample's answer. None has no vote: such samples never win, and a subset of
            nothing else is wrong.
        correct: (n,) whether each sample is correct. The winner scores the share of its class that is correct: 0 or 1
            where the grader is consistent.
        ks: subset sizes, 1 to n.
        seed: of the draws, used beyond `EXACT_SAMPLES` samples only.

    A tie is shared equally by the tied classes. That is also the expectation of "first to appear wins" over random
    orders, since tied classes are then equally likely to come first. maj@1 is the mean accuracy (of samples with a
    class); nothing makes maj@k rise with k where a wrong answer is the most common one.
    """
    n = _same_length(classes, correct)
    for k in ks:
        _check_k(n, k)
    votes: Counter[int] = Counter()
    hits: Counter[int] = Counter()
    for label, right in zip(classes, correct, strict=True):
        if label is not None:
            votes[label] += 1
            hits[label] += bool(right)
    if not ks:
        return []
    profile = tuple(sorted((votes[label], hits[label]) for label in votes))  # all that the expectation depends on
    silent = n - sum(votes.values())
    if n <= EXACT_SAMPLES:
        expected = _expected_votes(profile, silent, max(ks))
        return [float(expected[k]) for k in ks]
    return [_drawn_votes(profile, silent, k, seed) for k in ks]


def weighted_vote_at_k(
    classes: Sequence[Class], correct: Sequence[bool], scores: Sequence[float], k: int, *, seed: int = 0
) -> float:
    """As `maj_at_k` for one k, each sample's vote weighted by its score: the class with the largest sum wins.

    `scores` (n,) are a reward model's, finite and >= 0 (probabilities, not logits: a negative vote would punish an
    answer for being given often). Ties are shared equally. Exact up to `EXACT_SUBSETS` subsets, drawn with `seed` else.
    """
    n = _same_length(classes, correct, scores)
    _check_k(n, k)
    if bad := [score for score in scores if not (math.isfinite(score) and score >= 0)]:
        raise ValueError(f"score {bad[0]}: a vote's weight must be finite and not negative")
    labels = sorted({label for label in classes if label is not None})
    if not labels:
        return 0.0
    votes = np.array([[label == mine for label in labels] for mine in classes], dtype=float)  # (n, classes)
    credit = np.array(correct, dtype=float) @ votes / votes.sum(axis=0)
    member = _subsets(n, k, seed)
    weights = np.array(scores, dtype=float)[:, None]
    return _share(member @ (votes * weights), member @ votes > 0, credit)


def best_at_k(correct: Sequence[bool], scores: Sequence[float], k: int) -> float:
    """Expected accuracy of the sample with the highest score of a random k-subset of one item's n samples (best-of-n).

    Equal scores share the choice. In closed form: a score is the highest of C(n - above, k) - C(n - above - equal, k)
    of the C(n, k) subsets, where `above` samples have a higher one and `equal` the same.
    """
    n = _same_length(correct, scores)
    _check_k(n, k)
    if bad := [score for score in scores if not math.isfinite(score)]:
        raise ValueError(f"score {bad[0]}: must be finite")
    found, above = 0.0, 0
    for score in sorted(set(scores), reverse=True):
        equal = [right for right, mine in zip(correct, scores, strict=True) if mine == score]
        highest = math.comb(n - above, k) - math.comb(n - above - len(equal), k)
        found += highest / math.comb(n, k) * sum(equal) / len(equal)
        above += len(equal)
    return found


@lru_cache(maxsize=16)
def _subsets(n: int, k: int, seed: int) -> NDArray[np.float64]:
    """All k-subsets of n samples, or `VOTE_DRAWS` of them, as rows of zeros and ones: (subsets, n)."""
    if math.comb(n, k) <= EXACT_SUBSETS:
        chosen = np.array(list(combinations(range(n), k)))
    else:
        chosen = np.argsort(np.random.default_rng(seed).random((VOTE_DRAWS, n)), axis=1)[:, :k]
    member = np.zeros((len(chosen), n))
    np.put_along_axis(member, chosen, 1.0, axis=1)
    return member


def _share(votes: NDArray[Any], present: NDArray[np.bool_], credit: NDArray[Any]) -> float:
    """Mean over the rows of the credit of the class with the most votes, ties shared; 0 where no class is present."""
    winners = np.isclose(votes, votes.max(axis=1, keepdims=True), rtol=1e-12, atol=0.0) & present
    return float(np.mean(winners @ credit / np.maximum(winners.sum(axis=1), 1)))


@lru_cache(maxsize=1 << 14)
def _expected_votes(profile: tuple[tuple[int, int], ...], silent: int, largest: int) -> NDArray[np.float64]:
    """maj@k for k = 0..largest, in closed form: (largest + 1,).

    For each winning number of votes v, count the subsets by generating functions in x, the subset's size: a class of c
    votes that stays below v gives sum over t < v of C(c, t) x^t, one that reaches v gives C(c, v) x^v. `ways[T]` counts
    the choices in which T classes have v votes, `credits[T]` sums over them the credit of those T classes; the tie
    gives each 1/T. Classes with fewer than v samples cannot reach v and, with the silent ones, choose freely. In all
    there are at most n products of polynomials.
    """
    n = silent + sum(count for count, _ in profile)
    size = np.arange(largest + 1)
    lag = size[None, :] - size[:, None]  # (from, to)
    total = np.zeros(largest + 1)
    for v in range(1, min(largest, max((count for count, _ in profile), default=0)) + 1):
        contenders = [(count, hit) for count, hit in profile if count >= v]
        ways = np.zeros((min(len(contenders), largest // v) + 1, largest + 1))
        ways[0] = _binomials(n - sum(count for count, _ in contenders), largest)
        credits = np.zeros_like(ways)
        for count, hit in contenders:
            below = np.where((lag >= 0) & (lag < v), _binomials(count, largest)[lag], 0.0)
            reach = float(math.comb(count, v))
            more_ways, more_credits = ways @ below, credits @ below
            more_ways[1:, v:] += reach * ways[:-1, :-v]
            more_credits[1:, v:] += reach * (credits[:-1, :-v] + hit / count * ways[:-1, :-v])
            ways, credits = more_ways, more_credits
        total += (credits[1:] / np.arange(1, len(credits))[:, None]).sum(axis=0)
    expected = total / _binomials(n, largest)
    nearest = np.round(expected)
    return np.where(np.abs(expected - nearest) < 1e-12, nearest, expected)  # so that unanimity is exactly 1


def _drawn_votes(profile: tuple[tuple[int, int], ...], silent: int, k: int, seed: int) -> float:
    if not profile:
        return 0.0
    counts, hits = np.array(profile).T
    rng = np.random.default_rng(seed)
    votes = rng.multivariate_hypergeometric([*counts, silent], k, size=VOTE_DRAWS)[:, :-1]
    return _share(votes, votes > 0, hits / counts)


@lru_cache(maxsize=1 << 10)
def _binomials(n: int, largest: int) -> NDArray[np.float64]:
    return np.array([float(math.comb(n, k)) for k in range(largest + 1)])


def default_ks(samples: int) -> list[int]:
    """The ks to report of n samples: the powers of two below n, and n."""
    return [2**i for i in range((samples - 1).bit_length())] + [samples]


def summarise(
    records: Iterable[Mapping[str, Any]],
    ks: Sequence[int] | None = None,
    *,
    title: str = "",
    protocol: Mapping[str, Any] | None = None,
    reference: Mapping[str, float] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """One benchmark's entry of `results.json` from its per-item records; fit for JSON, the same whatever their order.

    Args:
        records: one mapping per item with "id", "groups" and "samples"; a sample has "verdict" and may have "answer",
            "class", "score" (a reward model's) and "finish_reason". All items have the same number of samples.
        ks: for pass@k and maj@k; none means `default_ks`. With one sample an item, both would repeat the accuracy and
            are left empty.
        title, protocol, reference: carried into the entry as they are.
        seed: of the bootstrap and of Monte Carlo votes.

    "accuracy" is the mean over items of the mean over an item's samples; "mean@k" is the same number under the name
    that says how many samples it rests on. "maj@k" is absent where no sample has a class (code has no answer to vote
    on), "weighted@k" and "best@k" wherever a sample has no score. "counts" are of samples: "no_answer" ones are also
    "ungradable".

    Raises:
        ValueError: for items with unequal numbers of samples, an id that appears twice, or a k above the samples.
    """
    items = sorted(records, key=lambda record: str(record["id"]))
    sizes = {len(item["samples"]) for item in items}
    if len(sizes) > 1 or sizes == {0}:
        raise ValueError(f"items have {sorted(sizes)} samples: every item must have the same number, at least 1")
    for item, following in pairwise(items):
        if str(item["id"]) == str(following["id"]):
            raise ValueError(f"item {item['id']!r} appears more than once")
    n = sizes.pop() if sizes else 0
    chosen = sorted(set(default_ks(n) if ks is None else ks)) if n else []
    for k in chosen:
        _check_k(n, k)
    columns: dict[tuple[str, str], list[float]] = {("accuracy", ""): [accuracy_of(item) for item in items]}
    if n > 1:
        columns |= _columns(items, n, chosen, seed)
    found = dict(zip(columns, mean_intervals(list(columns.values()), seed=seed), strict=True))
    metrics: dict[str, Any] = {"accuracy": found.pop(("accuracy", ""))._asdict(), "pass@k": {}, "maj@k": {}}
    metrics["mean@k"] = {str(n): metrics["accuracy"]} if n else {}
    for (name, size), interval in found.items():
        metrics.setdefault(name, {})[size] = interval._asdict()
    return {
        "title": title,
        "n": len(items),
        "samples": n,
        "protocol": dict(protocol or {}),
        "metrics": metrics,
        "groups": group_table(items, seed=seed),
        "reference": dict(reference or {}),
        "counts": counts(items),
    }


def _columns(
    items: Sequence[Mapping[str, Any]], n: int, ks: Sequence[int], seed: int
) -> dict[tuple[str, str], list[float]]:
    """Per-item values of (metric, k)."""
    right = [[is_correct(sample) for sample in item["samples"]] for item in items]
    classes = [[sample.get("class") for sample in item["samples"]] for item in items]
    scores: list[list[Any]] = [[sample.get("score") for sample in item["samples"]] for item in items]
    columns = {("pass@k", str(k)): [pass_at_k(n, sum(row), k) for row in right] for k in ks}
    scored = all(score is not None for row in scores for score in row)
    if scored:
        columns |= {("best@k", str(k)): [best_at_k(*row, k) for row in zip(right, scores, strict=True)] for k in ks}
    if any(label is not None for row in classes for label in row):
        votes = [maj_at_k(row, hits, ks, seed=seed) for row, hits in zip(classes, right, strict=True)]
        columns |= {("maj@k", str(k)): [vote[i] for vote in votes] for i, k in enumerate(ks)}
        if scored:
            rows = list(zip(classes, right, scores, strict=True))
            columns |= {("weighted@k", str(k)): [weighted_vote_at_k(*row, k, seed=seed) for row in rows] for k in ks}
    return columns


def flat_metrics(results: Mapping[str, Any]) -> dict[str, float]:
    """What `metrics.json` holds of a `results.json`: {"gsm8k/accuracy": .., "gsm8k/maj@4": .., "gsm8k/length": ..}.

    "ungradable", "no_answer" and "length" are shares of the samples. A number that is not known is left out.
    """
    flat: dict[str, float] = {}
    for name, entry in results["benchmarks"].items():
        for metric, value in entry["metrics"].items():
            named = {metric: value} if "value" in value else {metric[:-1] + k: at_k for k, at_k in value.items()}
            flat |= {f"{name}/{key}": at["value"] for key, at in named.items() if at["value"] is not None}
        if total := entry["counts"]["samples"]:
            flat |= {f"{name}/{key}": entry["counts"][key] / total for key in ("ungradable", "no_answer", "length")}
    return flat


def group_table(items: Sequence[Mapping[str, Any]], *, seed: int = 0) -> dict[str, dict[str, dict[str, Any]]]:
    """Accuracy within each group: {"level": {"1": {"n": .., "accuracy": .., "low": .., "high": ..}}}, names sorted.

    The values of the same item in several kinds of group count in each.
    """
    members: defaultdict[str, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for item in items:
        for kind, name in item.get("groups", {}).items():
            members[kind][str(name)].append(accuracy_of(item))

    def row(values: list[float]) -> dict[str, Any]:
        interval: Interval = mean_interval(values, seed=seed)
        return {"n": len(values), "accuracy": interval.value, "low": interval.low, "high": interval.high}

    return {kind: {name: row(of[name]) for name in sorted(of, key=natural_key)} for kind, of in sorted(members.items())}


def natural_key(name: str) -> list[tuple[int, str]]:
    """A sort key that puts '9' before '10' and 'Level 2' before 'Level 10'."""
    parts = filter(None, re.split(r"([0-9]+)", name))
    return [(1 + len(part.lstrip("0")) if part[0].isdecimal() else 0, part.lstrip("0") or part) for part in parts]


def counts(items: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many samples there are, of each verdict, without an answer, and cut at the token limit."""
    tally = Counter({"samples": 0, "correct": 0, "wrong": 0, "ungradable": 0, "no_answer": 0, "length": 0})
    for item in items:
        for sample in item["samples"]:
            tally["samples"] += 1
            tally[sample["verdict"]] += 1
            tally["no_answer"] += sample.get("answer") is None
            tally["length"] += sample.get("finish_reason") == "length"
    return dict(tally)


def accuracy_of(item: Mapping[str, Any]) -> float:
    """The share of an item's samples that are correct, 0 to 1."""
    return sum(map(is_correct, item["samples"])) / len(item["samples"])


def is_correct(sample: Mapping[str, Any]) -> bool:
    """What cannot be graded is not correct."""
    return bool(sample["verdict"] == "correct")


def _check_k(n: int, k: int) -> None:
    if not 1 <= k <= n:
        raise ValueError(f"k={k}: must be between 1 and n={n}, the number of samples")


def _same_length(*columns: Sequence[Any]) -> int:
    lengths = {len(column) for column in columns}
    if len(lengths) != 1:
        raise ValueError(f"columns of {sorted(lengths)} samples: must be of the same length")
    return lengths.pop()
