"""The numbers of an evaluation: by hand, by brute force over all subsets, and by what must always hold."""

from __future__ import annotations

import json
import math
import random
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsm.evaluation import metrics
from dsm.evaluation.intervals import (
    bootstrap,
    mcnemar,
    mean_interval,
    mean_intervals,
    paired,
    relative_improvement,
    wilson,
)
from dsm.evaluation.metrics import (
    default_ks,
    flat_metrics,
    group_table,
    maj_at_k,
    pass_at_k,
    summarise,
    weighted_vote_at_k,
)
from dsm.evaluation.table import table

samples = st.lists(st.tuples(st.sampled_from([None, 0, 1, 2, 3]), st.booleans()), min_size=1, max_size=9)


def vote_by_hand(classes, weights, credit, chosen):
    """The score of one subset, by the definition: equal share among the classes of the largest sum."""
    sums = {}
    for i in chosen:
        if classes[i] is not None:
            sums[classes[i]] = sums.get(classes[i], 0) + weights[i]
    winners = [label for label in sums if sums[label] == max(sums.values())]
    return sum((credit[label] for label in winners), Fraction(0)) / len(winners) if winners else Fraction(0)


def brute_force(classes, correct, weights, k):
    credit = {
        label: Fraction(sum(c for o, c in zip(classes, correct, strict=True) if o == label), classes.count(label))
        for label in set(classes) - {None}
    }
    subsets = list(combinations(range(len(classes)), k))
    return float(sum(vote_by_hand(classes, weights, credit, subset) for subset in subsets) / len(subsets))


def item(identity, *verdicts, classes=None, **rest):
    classes = classes or [None if verdict == "ungradable" else int(verdict == "wrong") for verdict in verdicts]
    rows = [
        {"verdict": verdict, "answer": None if label is None else str(label), "class": label, "finish_reason": "eos"}
        for verdict, label in zip(verdicts, classes, strict=True)
    ]
    return {"id": identity, "groups": {}, "samples": rows, **rest}


class TestPassAtK:
    def test_by_hand(self):
        # 5 samples, 2 correct, 3 drawn: 1 - C(3,3)/C(5,3) = 1 - 1/10
        assert pass_at_k(5, 2, 3) == 0.9
        assert pass_at_k(5, 3, 3) == 1.0  # two wrong ones cannot fill three places
        assert pass_at_k(4, 0, 4) == 0.0

    def test_is_the_share_of_subsets_with_a_correct_sample(self):
        for n in range(1, 8):
            for correct in range(n + 1):
                for k in range(1, n + 1):
                    subsets = list(combinations(range(n), k))
                    hits = sum(any(i < correct for i in subset) for subset in subsets)
                    assert pass_at_k(n, correct, k) == hits / len(subsets)

    def test_large_n_is_correctly_rounded(self):
        assert pass_at_k(10_000, 1, 100) == 0.01
        assert pass_at_k(10_000, 1, 1) == 1e-4
        product = 1 - np.prod(1 - 5000 / np.arange(9_999, 10_001))  # the form of Chen et al.
        assert pass_at_k(10_000, 2, 5000) == pytest.approx(product, rel=1e-12)

    @given(st.integers(1, 60), st.data())
    def test_properties(self, n, data):
        correct = data.draw(st.integers(0, n))
        curve = [pass_at_k(n, correct, k) for k in range(1, n + 1)]
        assert curve == sorted(curve)
        assert curve[0] == correct / n
        assert curve[-1] == float(correct > 0)

    @pytest.mark.parametrize(("n", "correct", "k"), [(4, 1, 0), (4, 1, 5), (4, 5, 1), (4, -1, 1)])
    def test_impossible_counts_are_refused(self, n, correct, k):
        with pytest.raises(ValueError, match="must be between"):
            pass_at_k(n, correct, k)


class TestMajAtK:
    def test_by_hand(self):
        # right, right, wrong: of the three pairs one agrees on right, two tie at 1:1 -> (1 + 1/2 + 1/2) / 3
        assert maj_at_k([0, 0, 1], [True, True, False], [1, 2, 3]) == pytest.approx([2 / 3, 2 / 3, 1.0])

    def test_silence_never_wins(self):
        # two silent samples outnumber the one right answer, yet it is the only one with a vote
        assert maj_at_k([None, None, 7], [False, False, True], [3]) == [1.0]
        assert maj_at_k([None, None], [False, False], [1, 2]) == [0.0, 0.0]

    def test_a_common_mistake_gets_worse_with_k(self):
        curve = maj_at_k([0, 0, 1, 1, 1], [True, True, False, False, False], [1, 3, 5])
        assert curve == pytest.approx([2 / 5, 3 / 10, 0.0])

    @given(samples)
    def test_is_the_mean_over_all_subsets(self, item_samples):
        classes, correct = (list(column) for column in zip(*item_samples, strict=True))
        ks = list(range(1, len(classes) + 1))
        expected = [brute_force(classes, correct, [1] * len(classes), k) for k in ks]
        assert maj_at_k(classes, correct, ks) == pytest.approx(expected, abs=1e-12)

    @given(samples)
    def test_properties(self, item_samples):
        item_samples = [(label, right and label is not None) for label, right in item_samples]
        classes, correct = (list(column) for column in zip(*item_samples, strict=True))
        n = len(classes)
        curve = maj_at_k(classes, correct, range(1, n + 1))
        assert curve[0] == pytest.approx(sum(correct) / n)
        assert all(0 <= value <= pass_at_k(n, sum(correct), k) + 1e-12 for k, value in enumerate(curve, start=1))

    def test_the_order_of_samples_and_the_names_of_classes_do_not_matter(self):
        classes, correct = [0, 1, 1, 2, None, 0, 0], [True, False, False, False, False, True, True]
        order = random.Random(0).sample(range(7), 7)
        renamed = [None if classes[i] is None else 9 - classes[i] for i in order]
        assert maj_at_k(renamed, [correct[i] for i in order], [2, 5]) == maj_at_k(classes, correct, [2, 5])

    def test_many_samples_exactly(self):
        # 64 singletons and no repetition: every vote is a tie of k, so maj@k is the share that is correct, for all k
        assert maj_at_k(range(64), [True] * 16 + [False] * 48, [1, 7, 64]) == pytest.approx([0.25] * 3)
        # two classes, odd k: a hypergeometric tail
        tail = sum(math.comb(150, i) * math.comb(106, 51 - i) for i in range(26, 52)) / math.comb(256, 51)
        assert maj_at_k([0] * 150 + [1] * 106, [True] * 150 + [False] * 106, [51]) == pytest.approx([tail])

    def test_draws_beyond_the_exact_limit_agree_and_repeat(self, monkeypatch):
        classes = [0] * 20 + [1] * 18 + [2] * 6 + [None] * 20
        correct = [True] * 20 + [False] * 44
        exact = maj_at_k(classes, correct, [1, 9, 33])
        monkeypatch.setattr(metrics, "EXACT_SAMPLES", 0)
        drawn = maj_at_k(classes, correct, [1, 9, 33], seed=3)
        assert drawn == pytest.approx(exact, abs=4 * 0.5 / math.sqrt(metrics.VOTE_DRAWS))
        assert drawn == maj_at_k(classes, correct, [1, 9, 33], seed=3)
        assert maj_at_k([None] * 3, [False] * 3, [2]) == [0.0]

    def test_mistakes_are_refused(self):
        with pytest.raises(ValueError, match="k=3"):
            maj_at_k([0, 1], [True, False], [3])
        with pytest.raises(ValueError, match="same length"):
            maj_at_k([0, 1], [True], [1])


class TestWeightedVote:
    def test_by_hand(self):
        # one confident right answer against two doubtful wrong ones
        classes, correct = [0, 1, 1], [True, False, False]
        assert weighted_vote_at_k(classes, correct, [0.9, 0.4, 0.4], 3) == 1.0
        assert weighted_vote_at_k(classes, correct, [0.9, 0.5, 0.5], 3) == 0.0
        assert weighted_vote_at_k(classes, correct, [0.8, 0.4, 0.4], 3) == 0.5
        assert weighted_vote_at_k(classes, correct, [0.0, 0.0, 0.0], 3) == 0.5  # all present, none preferred
        assert weighted_vote_at_k([None, None], [False, False], [1.0, 1.0], 1) == 0.0

    @given(samples, st.data())
    def test_is_the_mean_over_all_subsets(self, item_samples, data):
        classes, correct = (list(column) for column in zip(*item_samples, strict=True))
        n = len(classes)
        eighths = data.draw(st.lists(st.integers(0, 8), min_size=n, max_size=n))
        k = data.draw(st.integers(1, n))
        scores = [eighth / 8 for eighth in eighths]
        assert weighted_vote_at_k(classes, correct, scores, k) == pytest.approx(
            brute_force(classes, correct, eighths, k), abs=1e-12
        )
        assert weighted_vote_at_k(classes, correct, [0.5] * n, k) == pytest.approx(
            maj_at_k(classes, correct, [k])[0], abs=1e-12
        )

    def test_draws_agree(self):
        classes, correct = [0] * 12 + [1] * 12, [True] * 12 + [False] * 12
        drawn = weighted_vote_at_k(classes, correct, [1.0] * 24, 9)
        assert drawn == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(metrics.VOTE_DRAWS))

    @pytest.mark.parametrize("score", [-0.1, math.nan, math.inf])
    def test_weights_that_are_none(self, score):
        with pytest.raises(ValueError, match="weight must be finite and not negative"):
            weighted_vote_at_k([0, 1], [True, False], [1.0, score], 1)


class TestIntervals:
    def test_wilson_by_hand(self):
        # 27 of 32 (SAT, 84.4 %): the formula with z = 1.959964
        z, p, n = 1.959964, 27 / 32, 32
        half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        low, high = (p + z * z / (2 * n) - half) / (1 + z * z / n), (p + z * z / (2 * n) + half) / (1 + z * z / n)
        assert wilson(27, 32) == pytest.approx((low, high), abs=1e-7)
        assert wilson(32, 32) == (pytest.approx(32 / (32 + z * z)), 1.0)  # all correct is no certainty
        assert wilson(0, 32) == (0.0, pytest.approx(z * z / (32 + z * z)))
        assert wilson(0, 0) == (0.0, 1.0)
        with pytest.raises(ValueError, match="between 0 and n"):
            wilson(3, 2)

    def test_bootstrap_agrees_with_the_normal_approximation(self):
        values = np.random.default_rng(0).random((1500, 2))
        bounds = bootstrap(values, draws=4000)
        half = 1.96 * values.std(axis=0) / math.sqrt(1500)
        assert bounds[:, 0] == pytest.approx(values.mean(axis=0) - half, abs=1.5e-3)
        assert bounds[:, 1] == pytest.approx(values.mean(axis=0) + half, abs=1.5e-3)

    def test_bootstrap_repeats_and_pairs_its_columns(self):
        values = np.random.default_rng(0).random((40, 1))
        assert np.array_equal(bootstrap(values), bootstrap(values))
        assert not np.array_equal(bootstrap(values), bootstrap(values, seed=1))
        assert np.array_equal(bootstrap(np.hstack([values, 1 - values]))[0], bootstrap(values)[0])

    def test_covers_the_truth_as_often_as_it_says(self):
        rng = np.random.default_rng(3)
        truth, covered = 0.3, 0
        for trial in range(300):
            values = rng.beta(3, 7, size=60)  # mean 0.3
            interval = mean_interval(values, draws=1000, seed=trial)
            covered += interval.low <= truth <= interval.high
        assert 0.91 <= covered / 300 <= 0.98

    @given(st.lists(st.sampled_from([0.0, 0.25, 1 / 3, 0.5, 1.0]), max_size=12))
    @settings(max_examples=60)
    def test_always_contains_the_mean(self, values):
        interval = mean_interval(values, draws=50)
        if not values:
            assert interval == (None, 0.0, 1.0)
        else:
            assert interval.value == pytest.approx(np.mean(values))
            assert 0 <= interval.low <= interval.value <= interval.high <= 1

    def test_kinds_of_columns(self):
        binary, constant, mixed = mean_intervals([[1, 1, 0, 1], [0.5, 0.5, 0.5, 0.5], [0.0, 0.5, 1.0, 0.5]])
        assert binary[1:] == wilson(3, 4)
        assert constant[1:] == wilson(2, 4)  # never the width zero of a bootstrap of equals
        assert mixed.value == 0.5
        assert mixed.low < 0.5 < mixed.high

    def test_mcnemar_by_hand(self):
        assert mcnemar(1, 8) == 2 * (1 + 9) / 2**9  # C(9,0) + C(9,1) = 10
        assert mcnemar(0, 0) == 1.0
        assert mcnemar(5, 5) == 1.0
        assert mcnemar(0, 3000) == 0.0  # below the smallest double, and no overflow on the way

    def test_paired(self):
        before, after = [0] * 8 + [1] * 92, [1] * 8 + [1] * 91 + [0]
        result = paired(before, after)
        assert result.difference.value == pytest.approx(0.07)
        assert 0 < result.difference.low < 0.07 < result.difference.high
        assert (result.better, result.worse, result.p) == (8, 1, mcnemar(8, 1))
        assert result.p < 0.05
        low, high = mean_interval(after).low, mean_interval(before).high
        assert low < high  # the two intervals overlap: only the pairing sees it
        assert paired([0.5, 0.25], [0.5, 1.0]).p is None
        assert paired([], []).difference.value is None
        with pytest.raises(ValueError, match="must be the same"):
            paired([1, 0], [1])

    def test_relative_improvement(self):
        assert relative_improvement(0.4, 0.5) == pytest.approx(0.25)
        assert relative_improvement(0.0, 0.5) is None
        assert relative_improvement(None, 0.5) is None


class TestSummarise:
    def records(self):
        rng = random.Random(0)
        verdicts = ["correct", "correct", "wrong", "ungradable"]
        return [
            item(f"q{i}", *rng.choices(verdicts, k=4), groups={"level": str(i % 3), "subject": "Algebra"})
            for i in range(30)
        ]

    def test_one_sample_by_hand(self):
        records = [item("a", "correct"), item("b", "wrong"), item("c", "ungradable"), item("d", "correct")]
        records[1]["samples"][0]["finish_reason"] = "length"
        entry = summarise(records, title="T", protocol={"shots": 4}, reference={"GPT-4": 0.92})
        assert entry["metrics"]["accuracy"]["value"] == 0.5
        assert (entry["metrics"]["accuracy"]["low"], entry["metrics"]["accuracy"]["high"]) == wilson(2, 4)
        assert entry["metrics"]["pass@k"] == entry["metrics"]["maj@k"] == {}
        assert entry["counts"] == {
            "samples": 4,
            "correct": 2,
            "wrong": 1,
            "ungradable": 1,
            "no_answer": 1,
            "length": 1,
        }
        assert (entry["n"], entry["samples"], entry["title"], entry["protocol"]) == (4, 1, "T", {"shots": 4})
        assert entry["reference"] == {"GPT-4": 0.92}

    def test_several_samples_by_hand(self):
        # a: right right wrong; b: wrong wrong right (one class of mistakes)
        entry = summarise([item("a", "correct", "correct", "wrong"), item("b", "wrong", "wrong", "correct")], [1, 2, 3])
        values = {name: {k: at["value"] for k, at in entry["metrics"][name].items()} for name in ("pass@k", "maj@k")}
        assert values["pass@k"] == {"1": 0.5, "2": pytest.approx((1 + 2 / 3) / 2), "3": 1.0}
        assert values["maj@k"] == pytest.approx({"1": 0.5, "2": 0.5, "3": 0.5})
        assert entry["metrics"]["mean@k"]["3"] == entry["metrics"]["accuracy"]
        assert "weighted@k" not in entry["metrics"]

    def test_scores_bring_the_weighted_vote(self):
        record = item("a", "correct", "wrong", "wrong")
        for sample, score in zip(record["samples"], [0.9, 0.1, 0.1], strict=True):
            sample["score"] = score
        assert summarise([record])["metrics"]["weighted@k"]["3"]["value"] == 1.0
        assert summarise([record])["metrics"]["maj@k"]["3"]["value"] == 0.0

    def test_without_classes_there_is_no_vote(self):
        record = item("a", "correct", "wrong", classes=[None, None])
        assert summarise([record])["metrics"]["maj@k"] == {}
        assert summarise([record])["metrics"]["pass@k"]["2"]["value"] == 1.0

    def test_is_json_and_ignores_the_order_of_items(self):
        records = self.records()
        entry = summarise(records)
        assert json.loads(json.dumps(entry, allow_nan=False)) == entry
        assert summarise(records[::-1]) == entry

    def test_no_items(self):
        entry = summarise([])
        assert entry["metrics"]["accuracy"] == {"value": None, "low": 0.0, "high": 1.0}
        assert flat_metrics({"benchmarks": {"empty": entry}}) == {}
        assert "–" in table({"benchmarks": {"empty": entry}})

    def test_groups(self):
        groups = summarise(self.records())["groups"]
        assert list(groups) == ["level", "subject"]
        assert [row["n"] for row in groups["level"].values()] == [10, 10, 10]
        whole = summarise(self.records())["metrics"]["accuracy"]
        assert groups["subject"]["Algebra"] == {
            "n": 30,
            "accuracy": whole["value"],
            "low": whole["low"],
            "high": whole["high"],
        }
        assert np.mean([row["accuracy"] for row in groups["level"].values()]) == pytest.approx(whole["value"])
        numbered = group_table([item(str(i), "correct", groups={"level": str(i)}) for i in (10, 9)])
        assert list(numbered["level"]) == ["9", "10"]

    @pytest.mark.parametrize(
        ("records", "ks", "message"),
        [
            ([item("a", "correct"), item("b", "correct", "wrong")], None, r"items have \[1, 2\] samples"),
            ([item("a")], None, r"items have \[0\] samples"),
            ([item("a", "correct"), item("a", "wrong")], None, "'a' appears more than once"),
            ([item("a", "correct", "wrong")], [4], "k=4: must be between 1 and n=2"),
        ],
    )
    def test_broken_records_are_refused(self, records, ks, message):
        with pytest.raises(ValueError, match=message):
            summarise(records, ks)

    def test_default_ks(self):
        assert [default_ks(n) for n in (1, 2, 3, 8, 10)] == [[1], [1, 2], [1, 2, 3], [1, 2, 4, 8], [1, 2, 4, 8, 10]]

    def test_flat(self):
        flat = flat_metrics({"benchmarks": {"gsm8k": summarise(self.records(), [1, 4])}})
        assert flat["gsm8k/accuracy"] == flat["gsm8k/mean@4"] == flat["gsm8k/pass@1"]
        assert set(flat) == {
            f"gsm8k/{name}"
            for name in (
                "accuracy",
                "pass@1",
                "pass@4",
                "maj@1",
                "maj@4",
                "mean@4",
                "ungradable",
                "no_answer",
                "length",
            )
        }
        assert 0 < flat["gsm8k/ungradable"] < 1
