"""Packing: whole examples into sequences of at most `capacity` tokens.

`random` is the paper's (examples "randomly concatenated until reaching" the context): shuffled order, a sequence closed
when the next example does not fit. `best_fit` starts each sequence with the longest example left, adds the longest that
fit, and closes it, as soon as one can be found, with the example or the pair that fills it to the last token. Both keep
examples whole and use every example once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

PackingMethod = Literal["random", "best_fit"]


@dataclass(frozen=True)
class Packing:
    """Which examples share a sequence.

    Attributes:
        examples: (N,) int64, example numbers, sequence after sequence.
        starts: (R + 1,) int64; sequence r holds examples[starts[r]:starts[r + 1]].
    """

    examples: NDArray[np.int64]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        """The number of sequences."""
        return len(self.starts) - 1

    def __getitem__(self, row: int) -> NDArray[np.int64]:
        """The examples of one sequence."""
        return self.examples[self.starts[row] : self.starts[row + 1]]


def pack(lengths: NDArray[np.int64], order: NDArray[np.int64], capacity: int, method: PackingMethod) -> Packing:
    """Pack examples.

    Args:
        lengths: (N,) tokens of every example, each at least 1 and at most `capacity`.
        order: (M,) the examples to pack, in their shuffled order; an example may occur more than once.
        capacity: tokens a sequence can hold.
    """
    if len(order) and not 1 <= int(lengths[order].min()) <= int(lengths[order].max()) <= capacity:
        raise ValueError(f"every example must have 1..{capacity} tokens")
    return _next_fit(lengths, order, capacity) if method == "random" else _best_fit(lengths, order, capacity)


def _next_fit(lengths: NDArray[np.int64], order: NDArray[np.int64], capacity: int) -> Packing:
    ends = np.cumsum(lengths[order])
    starts = [0]
    while starts[-1] < len(order):
        used = ends[starts[-1] - 1] if starts[-1] else 0
        starts.append(int(np.searchsorted(ends, used + capacity, side="right")))
    return Packing(order, np.asarray(starts, dtype=np.int64))


def _best_fit(lengths: NDArray[np.int64], order: NDArray[np.int64], capacity: int) -> Packing:
    by_length = order[np.argsort(lengths[order], kind="stable")]
    count = np.bincount(lengths[order], minlength=capacity + 1)  # examples of each length that are left
    ends = np.cumsum(count)  # by_length[: ends[n]] are those of at most n tokens; the last of each length goes first
    packed: list[int] = []
    starts = [0]
    present = np.flatnonzero(count)
    while len(packed) < len(order):
        room = capacity
        present = fitting = present[count[present] > 0]
        while len(fitting := fitting[(fitting <= room) & (count[fitting] > 0)]):
            for length in _next_lengths(fitting, count, room, first=room == capacity):
                count[length] -= 1
                ends[length] -= 1
                packed.append(by_length[ends[length]])
                room -= length
        starts.append(len(packed))
    return Packing(np.asarray(packed, dtype=np.int64), np.asarray(starts, dtype=np.int64))


def _next_lengths(fitting: NDArray[np.int64], count: NDArray[np.int64], room: int, *, first: bool) -> list[int]:
    """What to add: the one or the (most equal) two lengths that fill the room, else the longest that fits."""
    if count[room]:
        return [room]
    if not first:
        rest = room - fitting
        pairs = np.flatnonzero((rest >= fitting) & (count[rest] > (rest == fitting)))
        if len(pairs):
            half = int(fitting[pairs[-1]])
            return [half, room - half]
    return [int(fitting[-1])]


def shuffle_rows(packing: Packing, permutation: NDArray[np.int64]) -> Packing:
    """The same sequences in another order."""
    sizes = np.diff(packing.starts)[permutation]
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    within = np.arange(len(packing.examples)) - np.repeat(starts[:-1], sizes)
    return Packing(packing.examples[np.repeat(packing.starts[permutation], sizes) + within], starts)
