"""Batches of scored tokens. A value stands at the token it was computed at, so nothing is moved to the left here.

In these documents `trained` marks the tokens whose values are trained, and the stream `label` says what they judge.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from dsm.data.batch import Document, MicroBatch, StepBatch, step_batch
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
    """Rows (a solution, or the two of a pair) into one step; `tokens` counts the values that are trained."""
    return step_batch(rows, tokens_per_microbatch, collate_values, lambda document: int(document.trained.sum()))
