"""Keyed permutations that answer for single positions: no array of the whole epoch is ever made.

A generalised Feistel network (Black and Rogaway 2002, "Ciphers with arbitrary finite domains"): a position is a pair
(l, r) in a grid of a x b >= size places with a about the root of size, and six rounds add a hash of the one half to the
other, modulo its side. Each round can be undone, so the whole is a bijection of the grid; places beyond `size`, fewer
than a of them, are walked on from until one within is met, which keeps it a bijection. The hash is splitmix64, so the
order is the same on every machine and under every version of NumPy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dsm.data.permutation import splitmix64

_ROUNDS = 6

Key = NDArray[np.uint64]


def key_of(*parts: int | NDArray[np.int64]) -> Key:
    """A key from integers (a seed, a source, an epoch, ...); arrays among them give an array of keys."""
    state = np.zeros(1, dtype=np.uint64)
    for part in parts:
        state = splitmix64(state ^ np.asarray(part).astype(np.uint64))
    return state


def permute(positions: NDArray[np.int64], sizes: NDArray[np.int64] | int, keys: Key) -> NDArray[np.int64]:
    """Where each position goes in the permutation of range(size) that its key chooses.

    Args:
        positions: (N,) each in [0, size).
        sizes: (N,) or one for all; at most 2^53.
        keys: (N,) or (1,), from `key_of`.
    """
    size = np.broadcast_to(np.asarray(sizes, dtype=np.uint64), positions.shape)
    key = np.broadcast_to(keys, positions.shape)
    height = np.ceil(np.sqrt(size)).astype(np.uint64)
    width = (size + height - np.uint64(1)) // height
    place = _network(positions.astype(np.uint64), height, width, key)
    while len(outside := np.flatnonzero(place >= size)):
        place[outside] = _network(place[outside], height[outside], width[outside], key[outside])
    return place.astype(np.int64)


def _network(place: Key, height: Key, width: Key, key: Key) -> Key:
    left, right = np.divmod(place, width)
    for number in range(_ROUNDS):
        round_key = key ^ np.uint64(number << 60)  # halves are far smaller, so no two rounds hash the same
        if number % 2:
            right = (right + splitmix64(round_key ^ left) % width) % width
        else:
            left = (left + splitmix64(round_key ^ right) % height) % height
    return left * width + right
