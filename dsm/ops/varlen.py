"""The layout of packed documents: several of them lie end to end in one flat sequence, and nothing crosses a border.

Borders are always stated, never guessed from end-of-sequence ids or positions: two documents may both lack an
end-of-sequence id, and a chat has many inside one document.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor


@dataclass(frozen=True)
class Varlen:
    """The documents of one flat sequence of T tokens; built once a micro-batch and passed to every attention layer."""

    cu_seqlens: Tensor
    """(D + 1,) int32 on the compute device: document d is the tokens `cu_seqlens[d]` up to `cu_seqlens[d + 1]`."""
    max_seqlen: int
    """Length of the longest document."""
    lengths: tuple[int, ...]
    """The D lengths on the host, so that no step waits for the device to learn a shape."""

    @classmethod
    def from_lengths(cls, lengths: Sequence[int], device: torch.device | str = "cpu") -> Varlen:
        """The layout of documents of these lengths, in this order. Every length must be at least 1."""
        lengths = tuple(int(length) for length in lengths)
        if not lengths or min(lengths) < 1:
            raise ValueError(f"every document needs at least one token, got lengths {lengths}")
        cu_seqlens = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
        return cls(cu_seqlens.to(device, non_blocking=True), max(lengths), lengths)

    @property
    def total(self) -> int:
        """T, the number of tokens."""
        return sum(self.lengths)

    @property
    def mean_attended_length(self) -> float:
        """How many keys the mean token attends to, itself included: sum n (n + 1) / 2 over sum n."""
        return sum(n * (n + 1) for n in self.lengths) / (2 * self.total)

    def position_ids(self) -> Tensor:
        """(T,) int64 positions, restarting at 0 in each document."""
        starts, lengths = self.cu_seqlens[:-1].long(), self.cu_seqlens.diff()
        positions = torch.arange(self.total, device=self.cu_seqlens.device)
        return positions - torch.repeat_interleave(starts, lengths, output_size=self.total)

    def to(self, device: torch.device | str) -> Varlen:
        """The same layout on another device."""
        return Varlen(self.cu_seqlens.to(device, non_blocking=True), self.max_seqlen, self.lengths)
