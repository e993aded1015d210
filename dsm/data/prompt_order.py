"""The order in which a run asks its prompts: an endless list, each place of it a pure function of data and seed."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dsm.data.permutation import keyed_permutation

_SOURCE_ORDER, _MIX_ORDER = 4, 5  # keys of permutations; dsm.data.order has 1 to 3


@dataclass(frozen=True)
class PromptOrder:
    """The endless list of prompts to draw: place i is a pure function of (sources, weights, seed).

    Every epoch draws `weight x size` prompts of each source, all of a source once before any returns, and mixes them.

    Attributes:
        sources: (N,) the source of each prompt.
        weights: passes over each source in one epoch.
        seed: chooses the permutations.
    """

    sources: NDArray[np.int64]
    weights: Sequence[float]
    seed: int
    _epochs: dict[int, NDArray[np.int64]] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def _members(self) -> list[NDArray[np.int64]]:
        return [np.flatnonzero(self.sources == source) for source in range(len(self.weights))]

    def _drawn(self, source: int, epoch: int) -> NDArray[np.int64]:
        """Positions [e w n, (e + 1) w n) of the source's endless permutation."""
        members, weight = self._members[source], self.weights[source]
        size = len(members)
        first, last = int(epoch * weight * size), int((epoch + 1) * weight * size)
        parts = [members[:0]]
        for lap in range(first // size, -(-last // size)) if size else ():
            permutation = keyed_permutation(size, self.seed, _SOURCE_ORDER, source, lap)
            parts.append(members[permutation[max(first - lap * size, 0) : last - lap * size]])
        return np.concatenate(parts)

    def epoch(self, number: int) -> NDArray[np.int64]:
        """The prompts of one epoch in their order; the two epochs used last are kept."""
        if number not in self._epochs:
            drawn = np.concatenate([self._drawn(source, number) for source in range(len(self.weights))])
            while len(self._epochs) > 1:
                self._epochs.pop(next(iter(self._epochs)))
            self._epochs[number] = drawn[keyed_permutation(len(drawn), self.seed, _MIX_ORDER, number)]
        return self._epochs[number]

    def end(self, epoch: int) -> int:
        """Prompts drawn in epochs 0..epoch together."""
        sizes = (len(members) for members in self._members)
        return sum(int((epoch + 1) * weight * size) for weight, size in zip(self.weights, sizes, strict=True))

    def epoch_of(self, place: int) -> int:
        """The epoch that a place of the list lies in."""
        above = 1
        while self.end(above) <= place:
            above *= 2
        return bisect_right(range(above), place, key=self.end)

    def numbers(self, first: int, count: int) -> list[int]:
        """The prompts at places first..first + count - 1."""
        found: list[int] = []
        epoch = self.epoch_of(first)
        while len(found) < count:
            start = self.end(epoch - 1) if epoch else 0
            skip = max(first - start, 0)
            found += self.epoch(epoch)[skip : skip + count - len(found)].tolist()
            epoch += 1
        return found
