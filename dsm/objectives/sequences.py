"""Numbers of sequences from numbers of their tokens, and back, in the packed layout."""

from __future__ import annotations

import torch
from torch import Tensor

from dsm.data.batch import MicroBatch
from dsm.ops.logprobs import IGNORE


def sequence_sums(values: Tensor, batch: MicroBatch) -> Tensor:
    """Sum over the trained tokens of each of D sequences: (T,) -> (D,), in the same order of addition every time."""
    trained = torch.where(batch.targets != IGNORE, values, 0)
    return torch.stack([own.sum() for own in trained.split(batch.varlen.lengths)])


def trained_lengths(batch: MicroBatch) -> Tensor:
    """|o_i| of each sequence, (D,) fp32; at least 1, so that it can divide."""
    return sequence_sums(torch.ones_like(batch.targets, dtype=torch.float32), batch).clamp(min=1)


def spread(per_sequence: Tensor, batch: MicroBatch) -> Tensor:
    """Each sequence's number at all its tokens: (D,) -> (T,)."""
    lengths = batch.varlen.cu_seqlens.diff().long()
    return per_sequence.repeat_interleave(lengths, output_size=batch.varlen.total)
