"""Pre-training and supervised fine-tuning: the gradient coefficient is 1 for every token (Eq. 6, Eq. 7).

What differs between the two is the data and which of its tokens are trained on, not the update.
"""

from __future__ import annotations

from torch import Tensor

from dsm.data.batch import MicroBatch
from dsm.training.step import UpdateModule


class LikelihoodModule(UpdateModule):
    """Maximise the log-probability of the data."""

    def objective(self, logprobs: Tensor, entropy: Tensor, batch: MicroBatch) -> Tensor:
        """The log-probability itself."""
        return logprobs
