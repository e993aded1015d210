"""The step that every method shares: Eq. 5 of the paper over packed tokens.

    grad J = (1 / N) sum over tokens of  w_t * d objective_t

A batch holds all micro-batches of an optimiser step. N is counted over all of them and all ranks before the first
backward pass, so neither the split into micro-batches nor the number of ranks changes the gradient. Gradients
synchronise once, on the last micro-batch. A method is the one function `objective`: (log-probabilities, entropy,
micro-batch) -> one number a token; its gradient with respect to the log-probabilities is the paper's gradient
coefficient.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from torch import Tensor

from dsm.config.schedules import learning_rate
from dsm.config.training import LossConfig, OptimConfig, SchedulerConfig
from dsm.data.batch import MicroBatch, StepBatch
from dsm.errors import NonFiniteError, UserError
from dsm.models.wrapper import CausalLM
from dsm.objectives.normalise import normaliser, token_weights
from dsm.ops.logprobs import IGNORE
from dsm.training.optim import build_adamw


@dataclass
class Progress:
    """Where a run stands; all of it is in the checkpoint."""

    step: int = 0
    positions: int = 0
    tokens: int = 0
    sequences: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0


@dataclass(frozen=True)
class StepSettings:
    """What the step needs to know of a run's configuration."""

    optim: OptimConfig
    scheduler: SchedulerConfig
    loss: LossConfig
    total_steps: int
    precision: str
    max_skipped_steps: int


@dataclass
class StepReport:
    """What the last step did, summed over ranks; floats and integers only."""

    loss: float = math.nan
    entropy: float = math.nan
    grad_norm: float = math.nan
    lr: float = math.nan
    sequences: int = 0
    tokens: int = 0
    positions: int = 0
    applied: bool = True
    extra: dict[str, float] = field(default_factory=dict)


class UpdateModule(pl.LightningModule):
    """A language model and the step that trains it; subclasses give the objective."""

    def __init__(self, model: CausalLM, settings: StepSettings) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.settings = settings
        self.progress = Progress()
        self.report = StepReport()

    def objective(self, logprobs: Tensor, entropy: Tensor, batch: MicroBatch) -> Tensor:
        """What is to rise, one number a token.

        Args:
            logprobs: (T,) fp32, log pi(target | before); 0 where nothing is trained.
            entropy: (T,) fp32, entropy of pi(. | before).
            batch: the micro-batch they belong to.

        Returns:
            (T,); d/d logprobs is the gradient coefficient of Eq. 5.
        """
        raise NotImplementedError

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW; the learning rate is set by the step itself."""
        return build_adamw(self.model, self.settings.optim)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse the weights of another model before torch does in its own words."""
        states = (checkpoint["state_dict"], self.state_dict())
        saved, own = ({name: tuple(weight.shape) for name, weight in state.items()} for state in states)
        wrong = [name for name in saved | own if saved.get(name) != own.get(name)]
        if wrong:
            raise UserError(
                f"resume: the checkpoint holds another model; {len(wrong)} weights differ in name or shape, first"
                f" {wrong[0]} ({saved.get(wrong[0], 'absent')} there, {own.get(wrong[0], 'absent')} here)"
            )

    def autocast(self) -> AbstractContextManager[Any]:
        """bf16 compute over fp32 master weights, or nothing."""
        if self.settings.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()

    def forward_microbatch(self, batch: MicroBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Sums over tokens: weighted objective, weighted log-probability, plain entropy; three fp32 scalars."""
        with self.autocast():
            logprobs, entropy = self.model.logprobs(batch.input_ids, batch.varlen, batch.targets)
        weights = token_weights(batch.targets != IGNORE, batch.varlen, self.settings.loss.normalisation)
        weighted = (self.objective(logprobs, entropy, batch) * weights).sum()
        return weighted, (logprobs.detach() * weights).sum(), entropy.detach().sum()

    def training_step(self, batch: StepBatch, batch_idx: int) -> None:
        """One optimiser step over all its micro-batches."""
        counts = self.sum_over_ranks(torch.tensor([batch.sequences, batch.tokens, batch.positions], dtype=torch.int64))
        sequences, tokens, positions = (int(count) for count in counts)
        loss = self.settings.loss
        count = normaliser(loss.normalisation, sequences, tokens, loss.constant_length)
        # DDP averages over ranks what has to be a sum.
        scale = self.trainer.world_size / max(count, 1)

        sums = torch.zeros(2, device=self.device)
        for microbatch, synchronise in self._microbatches(batch):
            with synchronise:
                objective, logprobs, entropy = self.forward_microbatch(microbatch)
                self.manual_backward(-scale * objective)
            sums += torch.stack([logprobs, entropy])
        logprob_sum, entropy_sum = (float(value) for value in self.sum_over_ranks(sums))

        report = StepReport(
            loss=-logprob_sum / max(count, 1),
            entropy=entropy_sum / max(tokens, 1),
            sequences=sequences,
            tokens=tokens,
            positions=positions,
        )
        report.applied = self._update(report, trained=count > 0)
        self.report = report
        progress = self.progress
        progress.step += 1
        progress.sequences += sequences
        progress.tokens += tokens
        progress.positions += positions

    def _microbatches(self, batch: StepBatch) -> Iterator[tuple[MicroBatch, AbstractContextManager[Any]]]:
        """The micro-batches, each with the context that lets only the last one synchronise gradients."""
        blocked = getattr(self.trainer.strategy, "block_backward_sync", nullcontext)
        last = len(batch.microbatches) - 1
        for i, microbatch in enumerate(batch.microbatches):
            yield microbatch, nullcontext() if i == last else blocked()

    def _update(self, report: StepReport, *, trained: bool) -> bool:
        """Clip, check and make the optimiser's step; a non-finite gradient or an empty step changes no parameter."""
        settings, progress = self.settings, self.progress
        optimizer = self.optimizers()
        assert isinstance(optimizer, pl.core.optimizer.LightningOptimizer)
        report.lr = learning_rate(settings.scheduler, settings.optim.lr, progress.step, settings.total_steps)
        for group in optimizer.param_groups:
            group["lr"] = report.lr
        limit = settings.optim.clip_norm
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), math.inf if limit is None else limit)
        report.grad_norm = float(norm)
        # Every rank holds the same summed gradient and loss, so every rank takes the same branch.
        applied = trained and math.isfinite(report.grad_norm) and math.isfinite(report.loss)
        if applied:
            optimizer.step()
            progress.skipped_in_a_row = 0
        else:
            progress.skipped += 1
            progress.skipped_in_a_row += 1
            if progress.skipped_in_a_row > settings.max_skipped_steps:
                raise NonFiniteError(
                    f"training: {progress.skipped_in_a_row} steps in a row had no usable gradient (loss {report.loss},"
                    f" gradient norm {report.grad_norm}, step {progress.step}); lower optim.lr, look at the data, or"
                    f" raise trainer.max_skipped_steps={settings.max_skipped_steps}"
                )
        optimizer.zero_grad(set_to_none=True)
        return applied

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        """A small tensor summed over all ranks (unchanged in a single process)."""
        values = values.to(self.device)
        if self.trainer.world_size > 1:
            dist.all_reduce(values)
        return values
