"""The one batch type: packed tokens, explicit document borders, and all micro-batches of an optimiser step together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
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
        streams: (T,) fp32 each; what a method knows of each target, as its advantage, by name.
    """

    input_ids: Tensor
    targets: Tensor
    varlen: Varlen
    sources: Tensor
    streams: Mapping[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device | str) -> MicroBatch:
        """The same on another device."""
        return MicroBatch(
            self.input_ids.to(device),
            self.targets.to(device),
            self.varlen.to(device),
            self.sources.to(device),
            {name: stream.to(device) for name, stream in self.streams.items()},
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
        streams: (L,) fp32 each; what a method knows of each token, by name.
    """

    ids: NDArray[np.integer]
    trained: NDArray[np.bool_]
    source: int = 0
    following: int | None = None
    streams: Mapping[str, NDArray[np.float32]] = MappingProxyType({})

    @property
    def trained_tokens(self) -> int:
        """Tokens the loss is taken on: the first has nothing before it."""
        return int(np.count_nonzero(self.trained[1:])) + (self.following is not None)


NOTHING = Document(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=bool))
"""What a rank without work computes: every rank must take part in what all do together."""


def collate(documents: Sequence[Document]) -> MicroBatch:
    """Documents into one micro-batch; targets and streams are moved one to the left inside each document.

    A document without a stream that others have is zero there.
    """
    lengths = [len(document.ids) for document in documents]
    last = np.cumsum(lengths) - 1
    ids = np.concatenate([document.ids for document in documents], dtype=np.int64)
    targets = np.empty_like(ids)
    targets[:-1] = ids[1:]
    trained = np.concatenate([document.trained for document in documents])
    targets[:-1][~trained[1:]] = IGNORE
    targets[last] = [IGNORE if document.following is None else document.following for document in documents]
    streams = {}
    for name in dict.fromkeys(name for document in documents for name in document.streams):
        stream = np.zeros(len(ids), dtype=np.float32)
        for end, document in zip(last, documents, strict=True):
            if name in document.streams:
                stream[end + 1 - len(document.ids) : end] = document.streams[name][1:]
        streams[name] = torch.from_numpy(stream)
    return MicroBatch(
        input_ids=torch.from_numpy(ids),
        targets=torch.from_numpy(targets),
        varlen=Varlen.from_lengths(lengths),
        sources=torch.tensor([document.source for document in documents], dtype=torch.int64),
        streams=streams,
    )


def step_batch(
    rows: Sequence[Sequence[Document]],
    tokens_per_microbatch: int,
    collated: Callable[[Sequence[Document]], MicroBatch] = collate,
    trained_in: Callable[[Document], int] = lambda document: document.trained_tokens,
) -> StepBatch:
    """Packed sequences into one step: as many sequences to a micro-batch as its token limit allows, at least one.

    Args:
        rows: the documents of each sequence; of none at all a micro-batch of `NOTHING` is made.
        tokens_per_microbatch: where a micro-batch ends.
        collated: lays documents one after another.
        trained_in: how many numbers of a document are trained.
    """
    if not rows:
        return StepBatch([collated([NOTHING])], sequences=0, tokens=0, positions=0)
    portions: list[list[Document]] = []
    room = 0
    for row in rows:
        size = sum(len(document.ids) for document in row)
        if not portions or size > room:
            portions.append([])
            room = tokens_per_microbatch
        portions[-1].extend(row)
        room -= size
    trained = [trained_in(document) for row in rows for document in row]
    return StepBatch(
        microbatches=[collated(portion) for portion in portions],
        sequences=sum(count > 0 for count in trained),
        tokens=sum(trained),
        positions=sum(len(document.ids) for row in rows for document in row),
    )
