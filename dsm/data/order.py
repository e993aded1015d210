"""Which examples stand in which packed sequence: a pure function of (lengths, weights, seed), for ever.

Sequence number i of a run is found by arithmetic from i alone, so neither ranks, workers, micro-batches nor a restart
can change the order. Every epoch draws `weight x size` examples of each source: a source's examples are used up in a
fresh permutation before any of them returns, so a weight of 0.5 shows one half in one epoch, the other in the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dsm.data.packing import Packing, PackingMethod, pack, shuffle_rows
from dsm.data.permutation import keyed_permutation

_SOURCE_ORDER, _MIX_ORDER, _ROW_ORDER = 1, 2, 3  # one key a purpose keeps the permutations independent


@dataclass(frozen=True)
class PackedOrder:
    """The endless list of packed sequences.

    Attributes:
        lengths: (N,) tokens of every example.
        sources: (N,) number of its source.
        weights: passes over each source in one epoch.
        capacity: tokens a sequence can hold.
        method: how examples share sequences.
        seed: chooses the permutations.
    """

    lengths: NDArray[np.int64]
    sources: NDArray[np.int64]
    weights: Sequence[float]
    capacity: int
    method: PackingMethod
    seed: int
    _epochs: dict[int, Packing] = field(default_factory=dict, repr=False, compare=False)
    _ends: list[int] = field(default_factory=list, repr=False, compare=False)

    @cached_property
    def _members(self) -> list[NDArray[np.int64]]:
        return [np.flatnonzero(self.sources == source) for source in range(len(self.weights))]

    def _drawn(self, source: int, epoch: int) -> NDArray[np.int64]:
        """The examples of one source in one epoch: positions [e w n, (e + 1) w n) of its endless permutation."""
        members, weight = self._members[source], self.weights[source]
        size = len(members)
        if not size:
            return members
        first, last = int(epoch * weight * size), int((epoch + 1) * weight * size)
        parts = []
        for lap in range(first // size, -(-last // size)):
            permutation = keyed_permutation(size, self.seed, _SOURCE_ORDER, source, lap)
            parts.append(permutation[max(first - lap * size, 0) : last - lap * size])
        return members[np.concatenate(parts)] if parts else members[:0]

    def epoch(self, number: int) -> Packing:
        """The sequences of one epoch; the two epochs used last are kept."""
        if number not in self._epochs:
            drawn = np.concatenate([self._drawn(source, number) for source in range(len(self.weights))])
            mixed = drawn[keyed_permutation(len(drawn), self.seed, _MIX_ORDER, number)]
            packing = pack(self.lengths, mixed, self.capacity, self.method)
            if self.method == "best_fit":  # longest first is an order of lengths; the run must not see it
                packing = shuffle_rows(packing, keyed_permutation(len(packing), self.seed, _ROW_ORDER, number))
            while len(self._epochs) > 1:
                self._epochs.pop(next(iter(self._epochs)))
            self._epochs[number] = packing
        return self._epochs[number]

    def _end(self, epoch: int) -> int:
        """Sequences in epochs 0..epoch together."""
        while len(self._ends) <= epoch:
            before = self._ends[-1] if self._ends else 0
            count = len(self.epoch(len(self._ends)))
            # Small weights can leave an epoch without examples, but not every epoch.
            if count == 0 and sum(w * len(m) for w, m in zip(self.weights, self._members, strict=True)) == 0:
                raise ValueError("there are no examples to pack")
            self._ends.append(before + count)
        return self._ends[epoch]

    def sequences_in(self, epochs: float) -> int:
        """Sequences in so many epochs (the last one in part where `epochs` is no whole number), at least one."""
        whole = int(epochs)
        full = self._end(whole - 1) if whole else 0
        share = epochs - whole
        return max(1, full + int(share * len(self.epoch(whole))) if share else full)

    def __getitem__(self, sequence: int) -> NDArray[np.int64]:
        """The examples of one packed sequence, counted from the start of the run."""
        epoch = 0
        while self._end(epoch) <= sequence:
            epoch += 1
        return self.epoch(epoch)[sequence - (self._end(epoch - 1) if epoch else 0)]
