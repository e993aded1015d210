"""The layout of packed documents: several of them lie end to end in one flat sequence, and nothing crosses a border.

Borders are always stated, never guessed from end-of-sequence ids or positions: two documents may both lack an
end-of-sequence id, and a chat has many inside one document.

A document may begin with tokens that lie there already, at the beginning of another: the answers to one prompt need it
only once. Its own tokens then stand after these: they attend to both, and their positions are counted from the prompt's
first. A token's hidden state depends on those before it and on nothing else, so that this is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
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
    prefixes: tuple[tuple[int, int], ...] = ()
    """Of each document the tokens that it begins with and that lie elsewhere: (the first of them in the sequence, how
    many); they are the beginning of a document without a prefix. Empty where no document has one."""

    @classmethod
    def from_lengths(
        cls,
        lengths: Sequence[int],
        device: torch.device | str = "cpu",
        prefixes: Sequence[tuple[int, int]] = (),
    ) -> Varlen:
        """The layout of documents of these lengths, in this order. Every length must be at least 1."""
        lengths = tuple(int(length) for length in lengths)
        if not lengths or min(lengths) < 1:
            raise ValueError(f"every document needs at least one token, got lengths {lengths}")
        if len(prefixes) not in (0, len(lengths)):
            raise ValueError(f"{len(prefixes)} prefixes for {len(lengths)} documents")
        shared = tuple(prefixes) if any(count for _, count in prefixes) else ()
        return cls(_borders(lengths).to(device, non_blocking=True), max(lengths), lengths, shared)

    @property
    def total(self) -> int:
        """T, the number of tokens."""
        return sum(self.lengths)

    @property
    def mean_attended_length(self) -> float:
        """How many keys the mean token attends to, itself included: sum n (n + 1) / 2 over sum n, and its prefix."""
        prefixed = sum(n * count for n, (_, count) in zip(self.lengths, self.prefixes, strict=False))
        return (sum(n * (n + 1) for n in self.lengths) / 2 + prefixed) / self.total

    def position_ids(self) -> Tensor:
        """(T,) int64 positions, restarting in each document at 0, or after its prefix."""
        first = self.cu_seqlens[:-1].long()
        if self.prefixes:
            first = first - torch.tensor([count for _, count in self.prefixes], device=first.device)
        positions = torch.arange(self.total, device=self.cu_seqlens.device)
        return positions - torch.repeat_interleave(first, self.cu_seqlens.diff(), output_size=self.total)

    @cached_property
    def keys(self) -> Keys | None:
        """What the documents attend to; None where each attends to its own tokens alone."""
        if not self.prefixes:
            return None
        starts = accumulate(self.lengths, initial=0)
        own = zip(starts, self.lengths, self.prefixes, strict=False)
        index = torch.cat(
            [torch.arange(f, f + n) for start, length, prefix in own for f, n in (prefix, (start, length))]
        )
        lengths = tuple(length + count for length, (_, count) in zip(self.lengths, self.prefixes, strict=True))
        device = self.cu_seqlens.device
        return Keys(index.to(device), _borders(lengths).to(device), max(lengths), lengths)

    def to(self, device: torch.device | str) -> Varlen:
        """The same layout on another device."""
        return Varlen(self.cu_seqlens.to(device, non_blocking=True), self.max_seqlen, self.lengths, self.prefixes)


@dataclass(frozen=True)
class Keys:
    """Documents with their prefixes, end to end: the keys and values of a packed sequence whose prompts are shared."""

    index: Tensor
    """(S,) int64: where each stands in the sequence."""
    cu_seqlens: Tensor
    """(D + 1,) int32 on the compute device."""
    max_seqlen: int
    lengths: tuple[int, ...]


def _borders(lengths: Sequence[int]) -> Tensor:
    return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
