"""Near-duplicates by MinHash: two pages are alike when they share most of their runs of five grams.

A gram is what dsm/corpus/grams.py says: numbers and operators count, so that problem sheets that differ only in their
numbers stay apart, while case, white space and punctuation do not. A page's signature holds, for each of 14 x 8 frozen
permutations, the smallest value among its runs; the share of equal values of two signatures estimates the Jaccard
similarity of their sets of runs (standard error sqrt(J (1 - J) / 112), at most .047). Pages meet where all 8 values of
a band are equal: with probability 1 - (1 - J^8)^14, a half at J = .69; what then counts is the estimate.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from dsm.corpus.grams import VERSION as GRAMS_VERSION
from dsm.corpus.grams import Grams, UInt64, mixed, runs

VERSION = f"1.{GRAMS_VERSION}"
"""Raised when any signature changes."""

UInt32 = npt.NDArray[np.uint32]
_BLOCK = 1024  # runs at a time: with 112 permutations half a megabyte, which the second-level cache holds
_SEED = 0x5DEECE66D


@dataclass(frozen=True)
class MinHash:
    """Signatures of one kind.

    Attributes:
        ngram: grams of a run; of a shorter text all of it is the only run.
        bands: groups of permutations that are compared as one.
        rows: permutations of a group.
    """

    ngram: int = 5
    bands: int = 14
    rows: int = 8

    @property
    def size(self) -> int:
        """Permutations."""
        return self.bands * self.rows

    def signature(self, text: str) -> UInt32 | None:
        """(size,), or None of a text without grams, which is like nothing."""
        hashes = Grams.of(text).hashes
        return self.of_hashes(hashes) if len(hashes) else None

    def of_hashes(self, hashes: UInt64) -> UInt32:
        """The signature of a text by its grams' hashes, of which there is one at least."""
        found = mixed(runs(hashes, min(self.ngram, len(hashes))).copy())
        values = (found >> np.uint64(32)).astype(np.uint32)
        lowest = np.full(self.size, 0xFFFFFFFF, np.uint32)
        factors, shifts = self._permutations
        for first in range(0, len(values), _BLOCK):
            block = factors * values[first : first + _BLOCK]
            block += shifts
            np.minimum(lowest, block.min(axis=1), out=lowest)
        return lowest

    def keys(self, signatures: UInt32) -> UInt64:
        """(n, size) -> (bands, n): hashes of each page's bands; pages meet where they are equal."""
        keys = np.zeros((self.bands, len(signatures)), np.uint64)
        grouped = signatures.reshape(-1, self.bands, self.rows)
        for row in range(self.rows):
            keys = mixed(keys + grouped[:, :, row].T.astype(np.uint64) + np.uint64(1))
        return keys

    @cached_property
    def _permutations(self) -> tuple[UInt32, UInt32]:
        """x -> factor * x + shift modulo 2**32, factors odd: (size, 1) each. By SplitMix64, the same for ever."""
        steps = np.arange(1, 2 * self.size + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        drawn = (mixed(steps + np.uint64(_SEED)) >> np.uint64(32)).astype(np.uint32)
        return drawn[: self.size, None] | np.uint32(1), drawn[self.size :, None].copy()


def similarity(first: UInt32, second: UInt32) -> npt.NDArray[np.float64]:
    """(n, size), (n, size) -> (n,): the estimated Jaccard similarities of pairs of pages."""
    similar: npt.NDArray[np.float64] = (first == second).mean(axis=1)
    return similar
