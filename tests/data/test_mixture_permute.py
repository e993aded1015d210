"""The permutation that answers for single positions."""

from __future__ import annotations

import numpy as np
import pytest

from dsm.data.mixture.permute import key_of, permute


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 16, 17, 97, 1000, 4097])
def test_it_is_a_permutation_of_every_size(size):
    for seed in range(20):
        assert sorted(permute(np.arange(size), size, key_of(seed)).tolist()) == list(range(size))


def test_every_part_of_the_key_counts_and_the_order_is_frozen():
    keys = [(0,), (1,), (0, 0), (0, 1), (1, 0)]
    assert len({tuple(permute(np.arange(50), 50, key_of(*key))) for key in keys}) == len(keys)
    # A resumed run on another machine or NumPy must see this very order.
    assert permute(np.arange(10), 10, key_of(7, 1)).tolist() == [5, 9, 3, 0, 2, 8, 1, 7, 6, 4]


def test_positions_of_different_permutations_are_found_together():
    epochs, sizes = np.asarray([0, 1, 2, 0, 5]), np.asarray([9, 1000, 3, 9, 2**40])
    positions = np.asarray([8, 999, 0, 1, 2**40 - 1])
    together = permute(positions, sizes, key_of(3, epochs))
    apart = [permute(positions[i : i + 1], int(sizes[i]), key_of(3, int(epochs[i])))[0] for i in range(len(epochs))]
    assert together.tolist() == apart
    assert (together < sizes).all()


def test_every_place_is_equally_likely():
    """Chi-square over 6,000 keys: where positions 0 and 1 of 6 go, and the pair of them."""
    size, keys = 6, np.arange(6000)
    first, second = (permute(np.full(6000, position), size, key_of(0, keys)) for position in (0, 1))
    for places, count in ((first, 6), (second, 6)):
        assert (
            (np.bincount(places, minlength=count) - 1000) ** 2 / 1000
        ).sum() < 20.5  # 5 degrees of freedom, p = .001
    pairs = np.bincount(first * size + second, minlength=36).reshape(6, 6)
    assert np.trace(pairs) == 0
    assert ((pairs[~np.eye(6, dtype=bool)] - 200) ** 2 / 200).sum() < 58.3  # 29 degrees of freedom


def test_neighbours_part():
    """Neighbours lie as far apart as random places do: a third of the size on average."""
    places = permute(np.arange(20_000), 10**8, key_of(1))
    assert abs(np.abs(np.diff(places)).mean() / 10**8 - 1 / 3) < 0.01
