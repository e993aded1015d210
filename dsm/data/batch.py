"""The one batch type: packed tokens, explicit document borders, and all micro-batches of an optimiser step together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dsm.ops.logprobs import IGNORE
from dsm.ops.varlen import Varlen


@dataclass(frozen=True)
class MicroBatch:
    """Documents laid one after another, computed in one forward pass.

    Attributes:
        input_ids: (T,) int64.
        targets: (T,) int64; the token that follows in the same document, `IGNORE` where it is not trained on.
        varlen: the documents' borders.
        sources: (D,) int64; the data source of each document.
    """

    input_ids: Tensor
    targets: Tensor
    varlen: Varlen
    sources: Tensor

    def to(self, device: torch.device | str) -> MicroBatch:
        """The same on another device."""
        return MicroBatch(
            self.input_ids.to(device), self.targets.to(device), self.varlen.to(device), self.sources.to(device)
        )


@dataclass(frozen=True)
class StepBatch:
    """Everything this rank computes in one optimiser step.

    Attributes:
        microbatches: at least one; the gradients synchronise on the last.
        sequences: sequences with a trained token, here.
        tokens: trained tokens, here.
        positions: packed positions, here (what throughput counts).
    """

    microbatches: list[MicroBatch]
    sequences: int
    tokens: int
    positions: int

    def to(self, device: torch.device | str, non_blocking: bool = False) -> StepBatch:
        """The same on another device (the hook Lightning calls)."""
        return replace(self, microbatches=[microbatch.to(device) for microbatch in self.microbatches])


class Document(NamedTuple):
    """One example as token ids (a tuple, for millions of them are made).

    Attributes:
        ids: (L,) token ids.
        trained: (L,) bool, the tokens that the loss is taken on.
        source: number of the data source.
        following: the token after the last one, where a longer document was cut there; it is trained on.
    """

    ids: NDArray[np.integer]
    trained: NDArray[np.bool_]
    source: int = 0
    following: int | None = None

    @property
    def trained_tokens(self) -> int:
        """Tokens the loss is taken on: the first has nothing before it."""
        return int(np.count_nonzero(self.trained[1:])) + (self.following is not None)


NOTHING = Document(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=bool))
"""What a rank without work computes: every rank must take part in what all do together."""


def collate(documents: Sequence[Document]) -> MicroBatch:
    """Documents into one micro-batch; targets are the ids moved one to the left inside each document."""
    ids = np.concatenate([document.ids for document in documents]).astype(np.int64)
    trained = np.concatenate([document.trained for document in documents])
    lengths = [len(document.ids) for document in documents]
    following = np.append(ids[1:], 0)
    wanted = np.append(trained[1:], False)
    last = np.cumsum(lengths) - 1
    following[last] = [0 if document.following is None else document.following for document in documents]
    wanted[last] = [document.following is not None for document in documents]
    return MicroBatch(
        input_ids=torch.from_numpy(ids),
        targets=torch.from_numpy(np.where(wanted, following, IGNORE)),
        varlen=Varlen.from_lengths(lengths),
        sources=torch.tensor([document.source for document in documents], dtype=torch.int64),
    )


def step_batch(rows: Sequence[Sequence[Document]], tokens_per_microbatch: int) -> StepBatch:
    """Packed sequences into one step: as many sequences to a micro-batch as its token limit allows, at least one."""
    portions: list[list[Document]] = []
    room = 0
    for row in rows:
        size = sum(len(document.ids) for document in row)
        if not portions or size > room:
            portions.append([])
            room = tokens_per_microbatch
        portions[-1].extend(row)
        room -= size
    trained = [document.trained_tokens for row in rows for document in row]
    return StepBatch(
        microbatches=[collate(portion) for portion in portions],
        sequences=sum(count > 0 for count in trained),
        tokens=sum(trained),
        positions=sum(len(document.ids) for row in rows for document in row),
    )
