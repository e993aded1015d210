"""Supervised fine-tuning: the gradient coefficient is 1 for every token of an answer (Eq. 6, Eq. 7)."""

from __future__ import annotations

from torch import Tensor

from dsm.data.batch import MicroBatch
from dsm.training.step import UpdateModule


class SFTModule(UpdateModule):
    """Maximise the log-probability of the answers."""

    def objective(self, logprobs: Tensor, entropy: Tensor, batch: MicroBatch) -> Tensor:
        """The log-probability itself."""
        return logprobs
