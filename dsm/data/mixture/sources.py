"""The rows of one store: which tokens make row r of epoch e, by arithmetic."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dsm.data.mixture.bestfit import PackedPieces
from dsm.data.mixture.permute import key_of, permute
from dsm.data.store import TokenStore

Ints = NDArray[np.int64]

_BLOCK = 1 << 22  # documents looked at together
ROWS, _OFFSET, _PIECES, _PLACES = range(4)  # one key a purpose keeps the choices independent


class Pieces(NamedTuple):
    """Stretches of a store that lie in rows, row after row.

    Attributes:
        rows: (R + 1,) row r holds pieces [rows[r], rows[r + 1]).
        starts, stops: (P,) tokens of each piece, one at least.
        goes_on: (P,) bool, whether its document goes on behind it.
    """

    rows: Ints
    starts: Ints
    stops: Ints
    goes_on: NDArray[np.bool_]


class Rows(Protocol):
    """The rows of one source, so many in every epoch."""

    per_epoch: int

    def pieces(self, epochs: Ints, rows: Ints) -> Pieces:
        """What lies in rows of epochs."""
        ...

    def describe(self) -> str:
        """Fill and cut documents, counted."""
        ...


class CutRows:
    """`packing=cut`: documents end to end, cut at every context-th token.

    What is left over, less than a row, is left out in front and behind in another proportion each epoch, so the cuts
    fall elsewhere and no token is left out for ever.
    """

    def __init__(self, store: TokenStore, context: int, mask_documents: bool, key: tuple[int, ...]) -> None:
        self._store, self._context, self._masked, self._key = store, context, mask_documents, key
        self.per_epoch = store.tokens // context
        self._left_over = store.tokens - self.per_epoch * context

    def pieces(self, epochs: Ints, rows: Ints) -> Pieces:
        """The documents and parts of documents in rows of exactly `context` tokens."""
        starts = rows * self._context + self._offsets(epochs)
        return cut_pieces(self._store, starts, starts + self._context, self._masked)

    def _offsets(self, epochs: Ints) -> Ints:
        hashes = key_of(*self._key, _OFFSET, epochs)
        return (hashes % np.uint64(self._left_over + 1)).astype(np.int64)

    def describe(self) -> str:
        """Documents cut in the first epoch."""
        offset = int(self._offsets(np.zeros(1, dtype=np.int64))[0])
        cut, before = 0, 0
        for number in range(0, self._store.documents, _BLOCK):
            ends = self._store.ends[number : number + _BLOCK]
            starts = np.concatenate([[before], ends[:-1]])
            before = int(ends[-1])
            cut += int(np.count_nonzero((starts - offset) // self._context < (ends - 1 - offset) // self._context))
        share = cut / max(self._store.documents, 1)
        return f"cut: {self.per_epoch:,} full sequences an epoch, {cut:,} documents cut ({share:.1%})"


def cut_pieces(store: TokenStore, starts: Ints, stops: Ints, mask_documents: bool) -> Pieces:
    """Stretches of a store as rows: their documents, or each as one piece where documents are not masked."""
    if not mask_documents:
        return Pieces(np.arange(len(starts) + 1), starts, stops, stops < store.tokens)
    ends = store.ends
    first = np.searchsorted(ends, starts, side="right")  # the document of the first token
    counts = np.searchsorted(ends, stops, side="left") - first + 1  # up to that of the last token
    bounds = np.concatenate([[0], np.cumsum(counts)])
    row = np.repeat(np.arange(len(starts)), counts)
    document_ends = ends[np.arange(bounds[-1]) - bounds[row] + first[row]]
    piece_stops = np.minimum(document_ends, stops[row])
    piece_starts = np.empty_like(piece_stops)  # where the piece before stops, within the row
    piece_starts[1:] = piece_stops[:-1]
    piece_starts[bounds[:-1]] = starts
    filled = piece_stops > piece_starts  # a document may be empty
    bounds = np.concatenate([[0], np.cumsum(filled)])[bounds]
    return Pieces(bounds, piece_starts[filled], piece_stops[filled], (document_ends > piece_stops)[filled])


class BestFitRows:
    """`packing=best_fit`: whole documents, packed; only those longer than the context are split."""

    def __init__(self, packed: PackedPieces, key: tuple[int, ...]) -> None:
        self._packed, self._key = packed, key
        self.per_epoch = packed.rows

    def pieces(self, epochs: Ints, rows: Ints) -> Pieces:
        """Each row's pieces; those of equal length change places every epoch."""
        bounds, lengths, numbers = self._packed.members(rows)
        row = np.repeat(np.arange(len(rows)), np.diff(bounds))
        keys = key_of(*self._key, _PIECES, epochs[row], lengths)
        chosen = permute(numbers, self._packed.counts[lengths], keys)
        starts, goes_on = self._packed.find(lengths, chosen)
        # Longest first is the packing's order; nothing that reads a row shall depend on it.
        order = np.lexsort((key_of(*self._key, _PLACES, epochs[row], starts), row))
        return Pieces(bounds, starts[order], (starts + lengths)[order], goes_on[order])

    def describe(self) -> str:
        """How full sequences are, and documents split."""
        packed = self._packed
        return (
            f"best_fit: {packed.rows:,} sequences an epoch, {packed.fill:.3%} full,"
            f" {packed.split:,} documents split ({packed.split / max(packed.documents, 1):.1%})"
        )
