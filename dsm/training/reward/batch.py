"""Batches of scored tokens. A value stands at the token it was computed at, so nothing is moved to the left here.

In these documents `trained` marks the tokens whose values are trained, and the stream `label` says what they judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dsm.data.batch import NOTHING, Document, MicroBatch, StepBatch
from dsm.data.stream import StepStream
from dsm.ops.logprobs import IGNORE
from dsm.ops.varlen import Varlen

LABEL = "label"


def collate_values(documents: Sequence[Document]) -> MicroBatch:
    """Documents into one micro-batch; `targets` is 0 where a value is trained, `IGNORE` elsewhere."""
    scored = np.concatenate([document.trained for document in documents])
    labels = [document.streams.get(LABEL, np.zeros(len(document.ids), dtype=np.float32)) for document in documents]
    return MicroBatch(
        input_ids=torch.from_numpy(np.concatenate([document.ids for document in documents]).astype(np.int64)),
        targets=torch.from_numpy(np.where(scored, 0, IGNORE)),
        varlen=Varlen.from_lengths([len(document.ids) for document in documents]),
        sources=torch.tensor([document.source for document in documents], dtype=torch.int64),
        streams={LABEL: torch.from_numpy(np.concatenate(labels))},
    )


def value_batch(rows: Sequence[Sequence[Document]], tokens_per_microbatch: int) -> StepBatch:
    """Rows (a solution, or the two of a pair) into one step: as many to a micro-batch as its limit allows, or one.

    `sequences` counts solutions, `tokens` the values that are trained.
    """
    portions: list[list[Document]] = []
    room = 0
    for row in rows:
        size = sum(len(document.ids) for document in row)
        if not portions or size > room:
            portions.append([])
            room = tokens_per_microbatch
        portions[-1].extend(row)
        room -= size
    scored = [int(np.count_nonzero(document.trained)) for row in rows for document in row]
    return StepBatch(
        microbatches=[collate_values(portion) for portion in portions],
        sequences=sum(count > 0 for count in scored),
        tokens=sum(scored),
        positions=sum(len(document.ids) for row in rows for document in row),
    )


@dataclass
class ValueStream(StepStream):
    """This rank's share of every step, a row being a solution or a pair of them."""

    def __getitem__(self, step: int) -> StepBatch:
        """This rank's part of one step."""
        first, last = self.first_sequence(step), self.first_sequence(step + 1)
        mine = range(first + self.rank, last, self.shares)
        if not mine:  # every rank must take part in the gradient's sum
            return StepBatch([collate_values([NOTHING])], sequences=0, tokens=0, positions=0)
        return value_batch(self.rows.__getitems__(mine), self.tokens_per_microbatch)
