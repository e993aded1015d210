"""Keyed permutations that are the same on every machine and under every version of NumPy.

Resume and elasticity rest on the data order being a pure function of (data, seed, epoch); NumPy promises no stable
streams for its generators, so the order comes from a fixed hash (splitmix64) of the index instead.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def splitmix64(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014), element by element; a bijection on 64 bits."""
    z = values + _GOLDEN  # arrays of integers wrap without a warning
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z


def keyed_permutation(size: int, *key: int) -> NDArray[np.int64]:
    """A permutation of range(size) chosen by a key of integers (a seed, an epoch, a purpose, ...)."""
    state = np.zeros(1, dtype=np.uint64)
    for part in key:
        state = splitmix64(state ^ np.uint64(part % 2**64))
    return np.argsort(splitmix64(np.arange(size, dtype=np.uint64) ^ state), kind="stable").astype(np.int64)
