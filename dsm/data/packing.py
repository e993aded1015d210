"""Packing: whole examples into sequences of at most `capacity` tokens.

`random` is the paper's ("randomly concatenated until reaching the maximum context length"): examples in shuffled order,
a sequence closed when the next example does not fit. `best_fit` puts each example, longest first, where the least room is
left, and fills sequences to 99 % and more. Both keep examples whole and use every example once.
"""

from __future__ import annotations

from bisect import bisect_left, insort
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
    longest_first = order[np.argsort(-lengths[order], kind="stable")]
    row_of = np.empty(len(order), dtype=np.int64)
    rows_with: dict[int, list[int]] = {}  # room left -> rows with just that much
    rooms: list[int] = []  # the keys of rows_with, sorted
    count = 0
    for i, length in enumerate(lengths[longest_first].tolist()):
        at = bisect_left(rooms, length)
        if at == len(rooms):
            row, room, count = count, capacity, count + 1
        else:
            room = rooms[at]
            row = rows_with[room].pop()
            if not rows_with[room]:
                del rows_with[room], rooms[at]
        row_of[i] = row
        left = room - length
        if left:
            if left not in rows_with:
                rows_with[left] = []
                insort(rooms, left)
            rows_with[left].append(row)
    by_row = np.argsort(row_of, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(row_of, minlength=count))]).astype(np.int64)
    return Packing(longest_first[by_row], starts)


def shuffle_rows(packing: Packing, permutation: NDArray[np.int64]) -> Packing:
    """The same sequences in another order."""
    sizes = np.diff(packing.starts)[permutation]
    starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    within = np.arange(len(packing.examples)) - np.repeat(starts[:-1], sizes)
    return Packing(packing.examples[np.repeat(packing.starts[permutation], sizes) + within], starts)
