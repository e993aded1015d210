"""The step of reward models: the shared step, with values in the place of log-probabilities."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from dsm.data.batch import MicroBatch
from dsm.models.reward import RewardModel
from dsm.objectives.normalise import token_weights
from dsm.ops.logprobs import IGNORE
from dsm.training.reward.batch import LABEL
from dsm.training.reward.objectives import bradley_terry, cross_entropy
from dsm.training.step import StepReport, StepSettings, UpdateModule

Objective = Literal["pairwise", "pointwise"]


class RewardModule(UpdateModule):
    """Maximise the log-likelihood of judgements.

    Pairs lie side by side in a micro-batch, the chosen solution first; each end carries the pair's log-likelihood.
    """

    model: RewardModel

    def __init__(self, model: RewardModel, settings: StepSettings, objective: Objective) -> None:
        super().__init__(model, settings)
        self.kind = objective

    def objective(self, logprobs: Tensor, entropy: Tensor, batch: MicroBatch) -> Tensor:
        """(T,) log-likelihood at each scored token, from the values (in the place of `logprobs`)."""
        scored = (batch.targets != IGNORE).nonzero().squeeze(-1)
        values = logprobs[scored]
        found = bradley_terry(values) if self.kind == "pairwise" else cross_entropy(values, self._labels(batch)[scored])
        return (0 * logprobs).index_put((scored,), found)  # a micro-batch of nothing still has a graph

    def _labels(self, batch: MicroBatch) -> Tensor:
        """Those of a micro-batch; zeros for one of nothing, on a rank without work."""
        return batch.streams.get(LABEL, torch.zeros_like(batch.targets, dtype=torch.float32))

    def observe(self, logprobs: Tensor, entropy: Tensor, weights: Tensor, batch: MicroBatch) -> dict[str, Tensor]:
        """How often the model is right, and what it says; ties count half."""
        scored = batch.targets != IGNORE
        values, labels = logprobs[scored], self._labels(batch)[scored]
        ahead = values
        if self.kind == "pairwise":
            chosen, rejected = values.view(-1, 2).unbind(1)
            ahead, labels = (chosen - rejected).repeat_interleave(2), torch.ones_like(values)
        right = torch.where(labels > 0.5, ahead, -ahead).sign() * 0.5 + 0.5
        told = {"accuracy": right, "value": values, "value_squared": values**2}
        told["margin" if self.kind == "pairwise" else "label"] = ahead if self.kind == "pairwise" else labels
        return {name: number.double().sum() for name, number in told.items()}

    def tell(self, sums: dict[str, float], report: StepReport) -> dict[str, float]:
        """Means over the scored tokens, the deviation of the values."""
        means = super().tell(sums, report)
        square = means.pop("train/value_squared")
        return means | {"train/value_std": max(0.0, square - means["train/value"] ** 2) ** 0.5}

    def forward_microbatch(self, batch: MicroBatch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The weighted objective, summed over scored tokens, and what is told of the micro-batch."""
        with self.autocast():
            values = self.model.values(batch.input_ids, batch.varlen)
        weights = token_weights(batch.targets != IGNORE, batch.varlen, self.settings.loss.normalisation)
        nothing = torch.zeros_like(values)
        terms = self.objective(values, nothing, batch)
        weighted = (terms * weights).sum()
        observed = self.observe(values.detach(), nothing, weights, batch)
        return weighted, self._sums(weighted.detach(), terms.detach(), nothing, batch), observed
