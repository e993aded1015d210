"""The policy in the shared step: what rises is the algorithm's business, what it sees comes with the exploration."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from dsm.data.batch import MicroBatch, StepBatch
from dsm.models.reward import RewardModel
from dsm.models.wrapper import CausalLM
from dsm.objectives.algorithm import Algorithm
from dsm.ops.norms import clip_grad_norm
from dsm.rollout.gap import EngineGapError
from dsm.training.optim import add_parameters
from dsm.training.rl.critic import critic_metrics, critic_objective
from dsm.training.step import StepReport, StepSettings, UpdateModule

GAP = "train/engine/gap_abs"
"""The metric of an algorithm that tells how far the engine's log-probabilities are from the trainer's."""


class PolicyModule(UpdateModule):
    """A policy, the algorithm that improves it, and with PPO its critic.

    Attributes:
        facts: of the exploration whose update is made; logged with its updates.
        streams: names of the streams that its documents have.
        online: were its samples drawn with the weights that its first update met?
        diagnose: asked when the engine is found too far from the policy; raises with the likely cause.
    """

    def __init__(
        self,
        model: CausalLM,
        settings: StepSettings,
        algorithm: Algorithm,
        *,
        gap_limit: float | None = None,
        critic: RewardModel | None = None,
        critic_rate: float = 1.0,
        value_clip: float | None = None,
    ) -> None:
        """Take the parts.

        Args:
            gap_limit: nats between engine and trainer, on average, from which on a run stops.
            critic_rate: the critic's learning rate as a multiple of the policy's.
            value_clip: how far a value may gain by moving in one exploration.
        """
        super().__init__(model, settings)
        self.algorithm, self.gap_limit = algorithm, gap_limit
        self.critic, self.critic_rate, self.value_clip = critic, critic_rate, value_clip
        self.facts: dict[str, float] = {}
        self.streams: list[str] = []
        self.online = False
        self.diagnose: Callable[[], None] = lambda: None
        self._critic_norm = 0.0

    def objective(self, logprobs: Tensor, entropy: Tensor, batch: MicroBatch) -> Tensor:
        """The algorithm's."""
        return self.algorithm.objective(logprobs, entropy, batch)

    def forward_microbatch(self, batch: MicroBatch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The policy's objective and, with a critic, the critic's: they share no weight, so one backward serves both.

        A micro-batch of nothing gets the streams that all others have.
        """
        if missing := [name for name in self.streams if name not in batch.streams]:
            zeros = torch.zeros(len(batch.targets), device=batch.targets.device)
            batch = replace(batch, streams={**batch.streams, **dict.fromkeys(missing, zeros)})
        weighted, sums, observed = super().forward_microbatch(batch)
        if self.critic is not None:
            with self.autocast():
                values = self.critic.values(batch.input_ids, batch.varlen)
            risen, seen = critic_objective(values, batch, self.settings.loss.normalisation, self.value_clip)
            weighted = weighted + risen
            observed |= seen
        return weighted, sums, observed

    def observe(self, logprobs: Tensor, entropy: Tensor, weights: Tensor, batch: MicroBatch) -> dict[str, Tensor]:
        """The algorithm's."""
        return self.algorithm.observe(logprobs, entropy, weights, batch)

    def tell(self, sums: dict[str, float], report: StepReport) -> dict[str, float]:
        """The algorithm's metrics and the critic's.

        Raises:
            EngineGapError: the engine is too far from the policy that it is meant to be; the update is not made.
        """
        own = {name: value for name, value in sums.items() if not name.startswith("critic/")}
        told = self.algorithm.tell(own, report.tokens, report.sequences)
        gap = told.get(GAP)
        if gap is not None and self.gap_limit is not None and self.online and not gap <= self.gap_limit:
            self.diagnose()
            raise EngineGapError(f"rollout.gap_limit={self.gap_limit:g}: engine and policy are {gap:.3g} nats apart")
        return told | critic_metrics(sums, report.tokens)

    def training_step(self, batch: StepBatch, batch_idx: int) -> None:
        """One update, logged with what its exploration has told."""
        began = time.perf_counter()
        super().training_step(batch, batch_idx)
        report, seconds = self.report, time.perf_counter() - began
        if self.critic is not None:
            report.extra["critic/grad_norm"] = self._critic_norm
        speed = {"speed/update_s": seconds, "speed/update_tokens_per_s": report.positions / max(seconds, 1e-9)}
        report.extra = {**report.extra, **self.facts, **speed}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW for the policy; the critic's weights in groups of their own."""
        optimizer = super().configure_optimizers()
        if self.critic is not None:
            add_parameters(optimizer, self.critic, self.settings.optim, rate=self.critic_rate)
        return optimizer

    def clip(self) -> float:
        """The policy's norm; the critic's gradient is clipped by itself, and one that is not finite stops the step."""
        norm = super().clip()
        if self.critic is None:
            return norm
        limit = self.settings.optim.clip_norm
        self._critic_norm = float(clip_grad_norm(self.critic.parameters(), math.inf if limit is None else limit))
        return norm if math.isfinite(self._critic_norm) else self._critic_norm

    def headline(self, metrics: Mapping[str, float]) -> str:
        """Reward, accuracy and length: the loss says little here."""
        shown = {"reward": "reward/mean", "accuracy": "rollout/accuracy", "length": "rollout/length"}
        return ", ".join(f"{name} {metrics[key]:.3f}" for name, key in shown.items() if key in metrics)
