"""Packing: every example once, none cut, sequences full, and the order a pure function of the seed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsm.data.order import PackedOrder
from dsm.data.packing import pack, shuffle_rows
from dsm.data.permutation import keyed_permutation, splitmix64


def test_splitmix64_is_the_published_one():
    # First outputs of the reference generator (state + golden ratio, then the finaliser), seeded with 0 and 1234567.
    assert int(splitmix64(np.zeros(1, dtype=np.uint64))[0]) == 0xE220A8397B1DCDAF
    assert int(splitmix64(np.asarray([1234567], dtype=np.uint64))[0]) == 6457827717110365317


def test_permutations_are_permutations_and_depend_on_every_part_of_the_key():
    seen = [tuple(keyed_permutation(50, *key)) for key in [(0,), (1,), (0, 0), (0, 1), (1, 0)]]
    assert all(sorted(permutation) == list(range(50)) for permutation in seen)
    assert len(set(seen)) == len(seen)
    # Frozen: a resumed run on another machine or NumPy must see this very order.
    assert keyed_permutation(8, 7, 1).tolist() == [7, 2, 6, 0, 4, 1, 3, 5]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), max_size=120), st.integers(40, 90), st.sampled_from(["random", "best_fit"]))
def test_every_example_once_and_no_sequence_too_long(lengths, capacity, method):
    lengths = np.asarray(lengths, dtype=np.int64)
    packing = pack(lengths, keyed_permutation(len(lengths), 3), capacity, method)
    assert sorted(packing.examples.tolist()) == list(range(len(lengths)))
    assert all(0 < lengths[packing[row]].sum() <= capacity for row in range(len(packing)))


def test_random_is_next_fit_in_the_given_order():
    packing = pack(np.asarray([5, 4, 3, 9, 1]), np.asarray([1, 0, 2, 4, 3]), 10, "random")
    assert [packing[row].tolist() for row in range(len(packing))] == [[1, 0], [2, 4], [3]]


def test_best_fit_finds_the_pair_that_fills_a_sequence():
    # Longest first alone would take 6 + 3 and leave one token empty in two sequences.
    packing = pack(np.asarray([6, 6, 3, 3, 2, 2, 2, 2]), np.arange(8), 10, "best_fit")
    assert [int(np.asarray([6, 6, 3, 3, 2, 2, 2, 2])[packing[row]].sum()) for row in range(len(packing))] == [10, 10, 6]


def test_best_fit_is_nearly_full_where_random_is_not():
    lengths = np.clip(np.exp(np.random.default_rng(0).normal(5.3, 0.5, 4000)).astype(np.int64), 20, 1024)

    def fill(method):
        return lengths.sum() / 1024 / len(pack(lengths, keyed_permutation(4000, 0), 1024, method))

    assert fill("best_fit") > 0.995
    assert 0.8 < fill("random") < 0.95


def test_too_long_an_example_is_refused():
    with pytest.raises(ValueError, match=r"1\.\.10"):
        pack(np.asarray([11]), np.asarray([0]), 10, "random")


def test_shuffled_rows_keep_their_examples():
    packing = pack(np.asarray([5, 4, 3, 9, 1]), np.arange(5), 10, "random")
    shuffled = shuffle_rows(packing, np.asarray([2, 0, 1]))
    rows = [packing[row].tolist() for row in range(3)]
    assert [shuffled[row].tolist() for row in range(3)] == [rows[2], rows[0], rows[1]]


def order(weights=(1.0, 1.0), method="random", seed=0):
    lengths = np.asarray([7, 3, 9, 2, 5, 8, 1, 6, 4, 10] * 3, dtype=np.int64)
    return PackedOrder(lengths, np.asarray([0] * 20 + [1] * 10, dtype=np.int64), weights, 16, method, seed)


@pytest.mark.parametrize("method", ["random", "best_fit"])
def test_sequences_do_not_depend_on_how_they_are_reached(method):
    forward = [order(method=method)[i].tolist() for i in range(60)]
    jumping = order(method=method)
    for i in (59, 0, 31, 30, 58, 2, 45):
        assert jumping[i].tolist() == forward[i]
    assert forward != [order(method=method, seed=1)[i].tolist() for i in range(60)]


@pytest.mark.parametrize("method", ["random", "best_fit"])
def test_an_epoch_uses_every_example_once_and_the_next_in_another_order(method):
    epochs = order(method=method)
    first, second = epochs.epoch(0), epochs.epoch(1)
    assert sorted(first.examples.tolist()) == sorted(second.examples.tolist()) == list(range(30))
    assert first.examples.tolist() != second.examples.tolist()
    assert epochs.sequences_in(2) == len(first) + len(second)
    assert epochs.sequences_in(1.5) == len(first) + len(second) // 2


def test_weights_are_passes_over_a_source():
    epochs = order(weights=(0.5, 2.0))
    for number in range(4):
        assert Counter(epochs.sources[epochs.epoch(number).examples].tolist()) == {0: 10, 1: 20}
    halves = [epochs.epoch(number).examples for number in (0, 1)]
    # Two half passes over the first source make one whole pass; two passes show every example of the second twice.
    assert sorted(int(e) for half in halves for e in half if e < 20) == list(range(20))
    assert Counter(int(e) for e in halves[0] if e >= 20) == dict.fromkeys(range(20, 30), 2)


def test_awkward_weights_lose_nothing_in_the_long_run():
    epochs = order(weights=(0.3, 1.0))
    drawn = Counter(int(e) for number in range(10) for e in epochs.epoch(number).examples if e < 20)
    assert drawn == dict.fromkeys(range(20), 3)
