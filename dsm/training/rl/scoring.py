"""What a model says of tokens that are there already: packed, without gradients, a number a trained token.

Used for the policy before its update, for the reference and for the critic. It is the trainer's own forward pass, in
its precision and at the temperature of the samples, so that a ratio of the policy to itself is 1 but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from dsm.data.batch import NOTHING, Document, MicroBatch, collate
from dsm.models.wrapper import CausalLM
from dsm.ops.logprobs import IGNORE
from dsm.runtime import watch
from dsm.training.rl.batch import shared_batch

PerToken = list[NDArray[np.float32]]
"""Of each document, a number for each token that is trained on."""


class Scorer:
    """Scores documents with one model; where it is sharded, all ranks must score together.

    Args:
        model: evaluated as it stands.
        precision: 'bf16' or 'fp32', as in training.
        device: where it computes.
        tokens_per_microbatch: packed tokens computed at once.
    """

    def __init__(self, model: CausalLM, precision: str, device: torch.device, tokens_per_microbatch: int) -> None:
        self.model, self.precision, self.device = model, precision, device
        self.tokens_per_microbatch = tokens_per_microbatch

    def logprobs(self, documents: Sequence[Document], temperature: float) -> PerToken:
        """Log-probability of each trained token."""
        return self.scores(documents, lambda b: self.model.logprobs(b.input_ids, b.varlen, b.targets, temperature)[0])

    @torch.no_grad()
    def scores(self, documents: Sequence[Document], of: Callable[[MicroBatch], Tensor]) -> PerToken:
        """What `of` makes of each position that predicts a trained token: (T,) a micro-batch, aligned with targets."""
        found = [np.zeros(0, dtype=np.float32)]
        training = self.model.training
        self.model.eval()
        try:
            for batch in self._microbatches(documents):
                watch.progress("scoring")
                batch = batch.to(self.device)
                with self._autocast():
                    values = of(batch)
                found.append(values[batch.targets != IGNORE].float().cpu().numpy())
        finally:
            self.model.train(training)
        counts = [document.trained_tokens for document in documents]
        return np.split(np.concatenate(found), np.cumsum(counts)[:-1]) if counts else []

    def _microbatches(self, documents: Sequence[Document]) -> list[MicroBatch]:
        """As many on each rank, where each computes with the others' shards."""
        batches = shared_batch([[document] for document in documents], self.tokens_per_microbatch).microbatches
        if self.model.sharding is not None:
            most = torch.tensor(len(batches), device=self.device)
            dist.all_reduce(most, op=dist.ReduceOp.MAX)
            batches += [collate([NOTHING])] * (int(most) - len(batches))
        return batches

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.precision == "bf16" and self.model.sharding is None:
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()
