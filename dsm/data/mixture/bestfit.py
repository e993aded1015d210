"""Best-fit packing of a whole store by the histogram of its document lengths.

Longest first, each document goes where the least room is left that takes it. Documents of one length are alike to the
packing, so it handles them all at once: a sequence is a recipe (a multiset of lengths) with a count, and there are few
recipes however many documents (Krell et al. 2021, "Efficient sequence packing without cross-contamination"). What is
kept is the recipes and one array of where the pieces of each length start; a row's pieces follow by arithmetic.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsm.data.store import TokenStore
from dsm.files import atomic_directory, atomic_write_text, sole_writer

Ints = NDArray[np.int64]
Recipe = tuple[tuple[int, int], ...]
"""(length, how many of it) in one sequence."""

_FORMAT = 1
_BLOCK = 1 << 22


def best_fit(counts: Sequence[int], capacity: int) -> list[tuple[Recipe, int]]:
    """Recipes, and how many sequences are made by each.

    Args:
        counts: counts[n] pieces of n tokens, n from 0 to `capacity`.
    """
    open_bins: dict[int, list[tuple[Recipe, int]]] = defaultdict(list)  # room -> recipes with that room left
    rooms: list[int] = []  # sorted, those in open_bins
    for length in range(capacity, 0, -1):
        left = int(counts[length])
        while left:
            where = bisect_left(rooms, length)
            if where < len(rooms):
                room = rooms[where]
                recipe, bins = open_bins[room].pop()
                if not open_bins[room]:
                    del open_bins[room], rooms[where]
            else:
                room, recipe, bins = capacity, (), left  # as many as may be needed; new ones cost nothing
            each = min(room // length, left)  # a bin is filled before the next: it now has the least room that fits
            used = min(bins, left // each)
            _put(open_bins, rooms, room - each * length, (*recipe, (length, each)), used)
            if recipe:
                _put(open_bins, rooms, room, recipe, bins - used)
            left -= used * each
    return [made for room in rooms for made in open_bins[room]]


def _put(
    open_bins: dict[int, list[tuple[Recipe, int]]], rooms: list[int], room: int, recipe: Recipe, bins: int
) -> None:
    if bins:
        if room not in open_bins:
            insort(rooms, room)
        open_bins[room].append((recipe, bins))


class PackedPieces:
    """A packed store: recipes, and where the pieces of each length start.

    Attributes:
        rows: sequences that hold everything once.
        fill: tokens over the room of all rows.
        documents, split: documents with tokens, and those of them longer than the context.
        counts: (context + 1,) pieces of each length.
    """

    def __init__(self, folder: Path) -> None:
        """`folder`: what `packed` made."""
        about = json.loads((folder / "packing.json").read_text(encoding="utf-8"))
        self._file = folder / "starts.npy"
        self._starts: Ints | None = None
        self.documents, self.split = int(about["documents"]), int(about["split"])
        self._going_on = int(about["going_on"])
        self.counts = np.asarray(about["counts"], dtype=np.int64)
        self._class_starts = np.cumsum(self.counts) - self.counts
        recipes: list[tuple[list[list[int]], int]] = about["recipes"]
        self._bins = np.asarray([bins for _, bins in recipes], dtype=np.int64)
        self._row_ends = np.cumsum(self._bins)
        self.rows = int(self._bins.sum())
        context = len(self.counts) - 1
        self.fill = int(self.counts @ np.arange(context + 1)) / max(self.rows * context, 1)
        # One slot a piece of each recipe: its length, how many of that length the recipe has, and the number, within
        # that length, of the piece it takes in the recipe's first row; in row t it takes the one t * many later.
        flat = [(length, many) for recipe, _ in recipes for length, many in recipe]
        lengths, many = np.asarray(flat, dtype=np.int64).reshape(-1, 2).T
        entries = np.asarray([len(recipe) for recipe, _ in recipes], dtype=np.int64)
        used, taken = np.zeros_like(self.counts), np.empty_like(lengths)
        for entry, (length, size) in enumerate(zip(lengths, many * np.repeat(self._bins, entries), strict=True)):
            taken[entry] = used[length]
            used[length] += size
        within = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
        self._lengths, self._many = np.repeat(lengths, many), np.repeat(many, many)
        self._first = np.repeat(taken, many) + within
        slots = np.bincount(np.repeat(np.arange(len(recipes)), entries), weights=many, minlength=len(recipes))
        self._slots = slots.astype(np.int64)
        self._slot_starts = np.cumsum(self._slots) - self._slots

    def members(self, rows: Ints) -> tuple[Ints, Ints, Ints]:
        """The pieces of rows: (R + 1,) bounds, (P,) lengths, (P,) numbers within their length."""
        recipe = np.searchsorted(self._row_ends, rows, side="right")
        nth = rows - (self._row_ends[recipe] - self._bins[recipe])
        counts = self._slots[recipe]
        bounds = np.concatenate([[0], np.cumsum(counts)])
        row = np.repeat(np.arange(len(rows)), counts)
        slot = np.arange(bounds[-1]) - bounds[row] + self._slot_starts[recipe][row]
        return bounds, self._lengths[slot], self._first[slot] + nth[row] * self._many[slot]

    def find(self, lengths: Ints, numbers: Ints) -> tuple[Ints, NDArray[np.bool_]]:
        """(P,) where pieces start in the store, and (P,) whether their document goes on behind them."""
        if self._starts is None:
            self._starts = np.load(self._file, mmap_mode="r").view(np.ndarray)
        goes_on = (lengths == len(self.counts) - 1) & (numbers < self._going_on)
        return self._starts[self._class_starts[lengths] + numbers], goes_on

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_starts": None}


def packed(store: TokenStore, context: int, cache: Path) -> PackedPieces:
    """The packing of a store: made once, then found in the cache, also by runs that wait for the one that makes it.

    Documents longer than the context are split into pieces of `context` tokens and one of what is left.
    """
    key = hashlib.sha256(f"{_FORMAT}:{store.fingerprint}:{context}".encode()).hexdigest()[:20]
    folder = cache / "packing" / key
    with sole_writer(folder):
        if not (folder / "packing.json").is_file():
            _pack(store, context, folder)
    return PackedPieces(folder)


def _pack(store: TokenStore, context: int, folder: Path) -> None:
    """Two passes over the document ends: count the pieces of each length, then write each where its length's are."""
    counts = np.zeros(context + 1, dtype=np.int64)
    documents = split = going_on = 0
    for _, whole, last in _pieces(store, context):
        counts += np.bincount(last, minlength=context + 1)
        documents += len(last)
        split += int(np.count_nonzero(whole))
        going_on += int(whole.sum())
    counts[context] += going_on
    cursors = np.cumsum(counts) - counts
    next_going_on = int(cursors[context])
    cursors[context] += going_on
    with atomic_directory(folder) as aside:
        shape = (int(counts.sum()),)
        starts = np.lib.format.open_memmap(aside / "starts.npy", mode="w+", dtype=np.int64, shape=shape)
        for first, whole, last in _pieces(store, context):
            pieces = np.repeat(first, whole)
            pieces += context * (np.arange(len(pieces)) - np.repeat(np.cumsum(whole) - whole, whole))
            starts[next_going_on : next_going_on + len(pieces)] = pieces
            next_going_on += len(pieces)
            order = np.argsort(last, kind="stable")
            here = np.bincount(last, minlength=context + 1)
            rank = np.arange(len(last)) - np.repeat(np.cumsum(here) - here, here)
            starts[cursors[last[order]] + rank] = (first + context * whole)[order]
            cursors += here
        starts.flush()
        about = {
            "documents": documents,
            "split": split,
            "going_on": going_on,
            "counts": counts.tolist(),
            "recipes": best_fit(counts.tolist(), context),
        }
        atomic_write_text(aside / "packing.json", json.dumps(about))


def _pieces(store: TokenStore, context: int) -> Iterator[tuple[Ints, Ints, Ints]]:
    """By blocks of documents with tokens: their starts, whole pieces before the last of each, lengths of the last."""
    before = 0
    for number in range(0, store.documents, _BLOCK):
        ends = store.ends[number : number + _BLOCK]
        starts = np.concatenate([[before], ends[:-1]])
        before = int(ends[-1])
        starts, lengths = starts[ends > starts], (ends - starts)[ends > starts]
        whole = (lengths - 1) // context
        yield starts, whole, lengths - whole * context
