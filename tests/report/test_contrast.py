"""Two sides on the same items: the difference, its interval against other ways to get it, verdicts on claims."""

from __future__ import annotations

import random
from pathlib import Path
from statistics import NormalDist, fmean, stdev

import numpy as np
import pytest

from dsm.errors import UserError
from dsm.evaluation.intervals import Interval, paired
from dsm.evaluation.loading import Record
from dsm.report.compare import Comparison
from dsm.report.contrast import bounds, contrast, score, side_mean
from dsm.report.findings import verdict
from tests.evaluation.folders import compared, record, write_evaluation


def drawn(seed: int, n: int, chance: float, samples: int = 4) -> list[str]:
    """The verdicts of n items, some harder than others."""
    rng = random.Random(seed)
    odds = [min(1.0, max(0.0, chance + rng.uniform(-0.3, 0.3))) for _ in range(n)]
    return ["".join("c" if rng.random() < odd else "w" for _ in range(samples)) for odd in odds]


def evaluations(tmp_path: Path, **benchmarks: list[list[str]]) -> Comparison:
    """benchmark -> the items' verdicts in each evaluation."""
    count = len(next(iter(benchmarks.values())))
    folders = []
    for number in range(count):
        rows = {
            name: [record(str(item), verdicts) for item, verdicts in enumerate(each[number])]
            for name, each in benchmarks.items()
        }
        folders.append(write_evaluation(tmp_path / f"e{number}", rows))
    return compared(*folders)


def test_one_run_a_side_is_the_paired_interval(tmp_path: Path) -> None:
    """The gap of the table and the gap of a finding are one number, to the last bit."""
    before, after = drawn(0, 80, 0.4), drawn(1, 80, 0.5)
    found = contrast(evaluations(tmp_path, gsm8k=[before, after]), [1], [0])
    shares = [[verdicts.count("c") / 4 for verdicts in side] for side in (before, after)]
    assert found.difference == pytest.approx(paired(*shares).difference, abs=1e-12)
    assert (found.first, found.second) == pytest.approx((fmean(shares[1]), fmean(shares[0])))
    assert found.items == 80


def test_the_interval_is_that_of_the_normal_law(tmp_path: Path) -> None:
    before, after = drawn(2, 300, 0.4), drawn(3, 300, 0.5)
    change = [(b.count("c") - a.count("c")) / 4 for a, b in zip(before, after, strict=True)]
    half = NormalDist().inv_cdf(0.975) * stdev(change) / 300**0.5
    found = contrast(evaluations(tmp_path, gsm8k=[before, after]), [1], [0]).difference
    assert (found.low, found.high) == pytest.approx((fmean(change) - half, fmean(change) + half), abs=0.004)


def test_benchmarks_weigh_alike_and_are_drawn_apart(tmp_path: Path) -> None:
    """A long and a short one: the mean of their differences; the variance is that of two independent means."""
    small, large = [drawn(4, 40, 0.3), drawn(5, 40, 0.5)], [drawn(6, 400, 0.6), drawn(7, 400, 0.6)]
    comparison = evaluations(tmp_path, small=small, large=large)
    found = contrast(comparison, [1], [0]).difference
    changes = [[(b.count("c") - a.count("c")) / 4 for a, b in zip(*sides, strict=True)] for sides in (small, large)]
    assert found.value == pytest.approx(fmean(map(fmean, changes)))
    spread = sum(stdev(change) ** 2 / len(change) for change in changes) ** 0.5 / 2
    assert found.high - found.low == pytest.approx(2 * 1.96 * spread, rel=0.06)
    alone = contrast(comparison, [1], [0], benchmarks=["small"])
    assert alone.benchmarks == ("small",)
    assert alone.difference.value == pytest.approx(fmean(changes[0]))


def test_seeds_are_drawn_too() -> None:
    """Against an independent bootstrap in plain loops; and two seeds that disagree leave the sign open."""
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 2, (3, 50)).astype(float), rng.integers(0, 2, (2, 50)).astype(float)
    chance = random.Random(1)
    means = []
    for _ in range(4_000):
        items = chance.choices(range(50), k=50)
        sides = []
        for side in (first, second):
            seeds = chance.choices(range(len(side)), k=len(side))
            sides.append(side[np.ix_(seeds, items)].mean())
        means.append(sides[0] - sides[1])
    expected = np.percentile(means, [2.5, 97.5])
    assert bounds([(first, second)], draws=4_000) == pytest.approx(expected, abs=0.017)

    zeros, ones = np.zeros((1, 20)), np.ones((1, 20))
    low, high = bounds([(np.concatenate([zeros, ones]), np.full((1, 20), 0.5))])
    assert (low, high) == (-0.5, 0.5)


def test_the_order_of_items_is_nothing(tmp_path: Path) -> None:
    rows = [record(str(item), verdicts) for item, verdicts in enumerate(drawn(8, 30, 0.5))]
    other = [record(str(item), verdicts) for item, verdicts in enumerate(drawn(9, 30, 0.6))]
    straight = compared(write_evaluation(tmp_path / "a", {"m": rows}), write_evaluation(tmp_path / "b", {"m": other}))
    turned = compared(
        write_evaluation(tmp_path / "a", {"m": rows}), write_evaluation(tmp_path / "c", {"m": other[::-1]})
    )
    assert contrast(straight, [1], [0]) == contrast(turned, [1], [0])


def test_one_side_alone(tmp_path: Path) -> None:
    comparison = evaluations(tmp_path, m=[["cc", "ww", "cw"], ["cc", "cc", "cc"]])
    assert side_mean(comparison, [0, 1], ["m"]).value == 0.75
    cell = comparison.benchmarks[0].rows[0].cells[0]
    assert cell is not None
    assert side_mean(comparison, [0], ["m"]) == (cell.value, cell.low, cell.high)


def test_scores_of_an_item() -> None:
    found = Record(**record("0", "cwcu"))
    assert [score(found, metric) for metric in ("accuracy", "pass@1", "pass@2", "pass@4")] == [0.5, 0.5, 5 / 6, 1.0]
    # Votes of two: cc is right, wu wrong, the two cw are ties that half win, the two cu are won by the only vote.
    assert score(found, "maj@2") == pytest.approx((1 + 0 + 2 * 0.5 + 2 * 1) / 6)
    silent = [sample | {"class": None} for sample in record("0", "cw")["samples"]]
    with pytest.raises(ValueError, match="do not say which answers mean the same"):
        score(Record(**record("0", "cw", samples=silent)), "maj@2")


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    one = write_evaluation(tmp_path / "one", {"m": [record("0", "cw")], "only": [record("0", "c")]})
    two = write_evaluation(tmp_path / "two", {"m": [record("0", "cw", question="Another?")]})
    comparison = compared(one, two)
    with pytest.raises(UserError, match=r"findings.x: one, two share no benchmark with the same items; there are m, o"):
        contrast(comparison, [0], [1], key="findings.x")
    with pytest.raises(UserError, match=r"findings.x.benchmarks=m: two did not have the items of one"):
        contrast(comparison, [0], [1], benchmarks=["m"], key="findings.x")
    with pytest.raises(UserError, match=r"findings.x.benchmarks=only: two did not run it"):
        contrast(comparison, [0], [1], benchmarks=["only"], key="findings.x")
    with pytest.raises(UserError, match=r"benchmarks=onyl: was not run; there are m, only \(did you mean only"):
        contrast(comparison, [0], [1], benchmarks=["onyl"], key="findings.x")
    with pytest.raises(UserError, match=r"findings.x.metric=pass@8: one, m: each item has 2 samples"):
        contrast(compared(one, one), [0], [1], benchmarks=["m"], metric="pass@8", key="findings.x")


@pytest.mark.parametrize(
    ("expect", "low", "high", "expected"),
    [
        ("higher", 0.01, 0.05, "reproduced"),
        ("higher", 0.0, 0.05, "not clear"),
        ("higher", -0.05, 0.01, "not clear"),
        ("higher", -0.05, -0.01, "not reproduced"),
        ("not_higher", -0.05, -0.01, "reproduced"),
        ("not_higher", -0.05, 0.02, "reproduced"),
        ("not_higher", 0.005, 0.015, "reproduced"),  # above zero, but within what counts as none
        ("not_higher", -0.01, 0.03, "not clear"),
        ("not_higher", 0.01, 0.05, "not reproduced"),
    ],
)
def test_verdicts(expect: str, low: float, high: float, expected: str) -> None:
    assert verdict(expect, Interval((low + high) / 2, low, high), 0.02) == expected  # type: ignore[arg-type]


def test_a_vote_of_many_leaves_out_what_has_few_samples(tmp_path: Path) -> None:
    rows = [{"many": [record("0", verdicts)], "greedy": [record("0", verdicts[0])]} for verdicts in ("cwww", "ccww")]
    comparison = compared(*(write_evaluation(tmp_path / str(number), each) for number, each in enumerate(rows)))
    found = contrast(comparison, [1], [0], metric="pass@2")
    assert found.benchmarks == ("many",)
    assert found.difference.value == pytest.approx(5 / 6 - 1 / 2)
    with pytest.raises(UserError, match="no benchmark with the same items and the samples for pass@8"):
        contrast(comparison, [1], [0], metric="pass@8")
