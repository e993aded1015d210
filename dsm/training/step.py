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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from dsm.config.run import TrainingConfig
from dsm.config.schedules import learning_rate
from dsm.config.training import LossConfig, OptimConfig, SchedulerConfig
from dsm.data.batch import NOTHING, MicroBatch, StepBatch, collate
from dsm.errors import NonFiniteError
from dsm.models.wrapper import CausalLM
from dsm.objectives.normalise import normaliser, token_weights
from dsm.ops.logprobs import IGNORE
from dsm.ops.norms import clip_grad_norm
from dsm.runtime import watch
from dsm.runtime.launch import accelerator
from dsm.training.optim import build_adamw

LARGEST = "max/"
"""What the names of observed numbers begin with of which the largest is wanted, not the sum."""


@dataclass
class Progress:
    """Where a run stands; all of it is in the checkpoint."""

    step: int = 0
    positions: int = 0
    tokens: int = 0
    sequences: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    source_positions: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class StepSettings:
    """What the step needs to know of a run's configuration."""

    optim: OptimConfig
    scheduler: SchedulerConfig
    loss: LossConfig
    total_steps: int
    precision: str
    max_skipped_steps: int
    source_names: Sequence[str] = ()
    temperature: float = 1.0
    """Of the distribution that is trained: the one that samples were drawn from."""

    @classmethod
    def of(
        cls, config: TrainingConfig, total_steps: int, *, sources: Sequence[str] = (), temperature: float = 1.0
    ) -> StepSettings:
        """As a stage's configuration has it, on the accelerator that is there; losses of several sources are told."""
        return cls(
            optim=config.optim,
            scheduler=config.scheduler,
            loss=config.loss,
            total_steps=total_steps,
            precision=config.precision(accelerator(config.parallel)),
            max_skipped_steps=config.trainer.max_skipped_steps,
            source_names=sources if len(sources) > 1 else (),
            temperature=temperature,
        )


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


class Judge(Protocol):
    """Looks at a step before its update (`dsm.training.spikes`)."""

    metrics: dict[str, float]

    def judge(self, loss: float, grad_norm: float, step: int) -> Literal["apply", "skip"]:
        """What becomes of it."""
        ...


class UpdateModule(pl.LightningModule):
    """A language model and the step that trains it; subclasses give the objective."""

    def __init__(self, model: CausalLM, settings: StepSettings) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.settings = settings
        self.progress = Progress()
        self.report = StepReport()
        self.spikes: Judge | None = None

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

    def observe(self, logprobs: Tensor, entropy: Tensor, weights: Tensor, batch: MicroBatch) -> dict[str, Tensor]:
        """What a method wants to know of a step: numbers that are summed over its micro-batches and ranks.

        Of names that begin with "max/" the largest is taken instead.

        Args:
            logprobs, entropy: as for `objective`, detached.
            weights: (T,) the tokens' weights under the run's normalisation.
            batch: the micro-batch; one of nothing too, on a rank without work, must give the same names in order.
        """
        return {}

    def tell(self, sums: dict[str, float], report: StepReport) -> dict[str, float]:
        """Metrics by name from the sums of `observe`; by default means over the trained tokens."""
        return {f"train/{name}": value / max(report.tokens, 1) for name, value in sums.items()}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW; the learning rate is set by the step itself."""
        return build_adamw(self.model, self.settings.optim)

    def autocast(self) -> AbstractContextManager[Any]:
        """bf16 compute over fp32 master weights; nothing where a sharded model sees to that itself."""
        if self.settings.precision == "bf16" and self.model.sharding is None:
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()

    def forward_microbatch(self, batch: MicroBatch) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The weighted objective, summed over tokens, and what is told of the micro-batch (`_sums`, `observe`)."""
        settings = self.settings
        with self.autocast():
            logprobs, entropy = self.model.logprobs(batch.input_ids, batch.varlen, batch.targets, settings.temperature)
        weights = token_weights(batch.targets != IGNORE, batch.varlen, settings.loss.normalisation)
        weighted = (self.objective(logprobs, entropy, batch) * weights).sum()
        logprobs, entropy = logprobs.detach(), entropy.detach()
        observed = self.observe(logprobs, entropy, weights, batch)
        return weighted, self._sums(weighted.detach(), logprobs, entropy, batch), observed

    def _sums(self, weighted: Tensor, logprobs: Tensor, entropy: Tensor, batch: MicroBatch) -> Tensor:
        """(1 + sources, 3) float64, sums over tokens.

        Row 0: weighted objective, entropy, 0. Row 1 + s, of source s: log-probability, trained tokens, positions.
        """
        sums = torch.zeros(1 + len(self.settings.source_names), 3, dtype=torch.float64, device=logprobs.device)
        sums[0, 0], sums[0, 1] = weighted, entropy.sum()
        if self.settings.source_names:
            lengths = batch.varlen.cu_seqlens.diff().long()
            source = torch.repeat_interleave(batch.sources, lengths, output_size=len(logprobs))
            per_token = torch.stack([logprobs, batch.targets != IGNORE, torch.ones_like(logprobs)], 1)
            sums[1:].index_add_(0, source, per_token.double())
        return sums

    def training_step(self, batch: StepBatch, batch_idx: int) -> None:
        """One optimiser step over all its micro-batches."""
        counts = self.sum_over_ranks(torch.tensor([batch.sequences, batch.tokens, batch.positions], dtype=torch.int64))
        sequences, tokens, positions = (int(count) for count in counts)
        loss = self.settings.loss
        count = normaliser(loss.normalisation, sequences, tokens, loss.constant_length)
        # DDP averages over ranks what has to be a sum.
        averaged = self.trainer.world_size if isinstance(self.trainer.strategy, DDPStrategy) else 1
        scale = averaged / max(count, 1)

        sums = torch.zeros(1 + len(self.settings.source_names), 3, dtype=torch.float64, device=self.device)
        observed: dict[str, Tensor] = {}
        for microbatch, synchronise in self._microbatches(batch):
            watch.progress(f"step {self.progress.step + 1}")
            with synchronise:
                objective, told, seen_here = self.forward_microbatch(microbatch)
                self.manual_backward(-scale * objective)
            sums += told
            for name, value in seen_here.items():
                observed[name] = _joined(name, observed.get(name), value.double())
        sums = self.sum_over_ranks(sums).cpu()

        report = StepReport(
            loss=-float(sums[0, 0]) / max(count, 1),
            entropy=float(sums[0, 1]) / max(tokens, 1),
            sequences=sequences,
            tokens=tokens,
            positions=positions,
        )
        progress = self.progress
        seen = progress.source_positions or [0] * len(self.settings.source_names)
        for number, name in enumerate(self.settings.source_names):
            logprobs, trained, here = sums[1 + number].tolist()
            seen[number] += int(here)
            if trained:
                report.extra[f"train/loss/{name}"] = -logprobs / trained
            report.extra[f"mix/tokens/{name}"] = seen[number]
        if observed:
            report.extra |= self.tell(self._over_ranks(observed), report)
        report.applied = self._update(report, trained=count > 0)
        self.report = report
        progress.step += 1
        progress.sequences += sequences
        progress.tokens += tokens
        progress.positions += positions
        progress.source_positions = seen

    def _microbatches(self, batch: StepBatch) -> Iterator[tuple[MicroBatch, AbstractContextManager[Any]]]:
        """The micro-batches, each with the context that lets only the last one synchronise gradients."""
        microbatches = self.as_many_everywhere(batch.microbatches)
        blocked = getattr(self.trainer.strategy, "block_backward_sync", nullcontext)
        last = len(microbatches) - 1
        for i, microbatch in enumerate(microbatches):
            yield microbatch, nullcontext() if i == last else blocked()

    def _update(self, report: StepReport, *, trained: bool) -> bool:
        """Clip, check and make the optimiser's step; a non-finite gradient or an empty step changes no parameter."""
        settings, progress = self.settings, self.progress
        optimizer = self.optimizers()
        assert isinstance(optimizer, pl.core.optimizer.LightningOptimizer)
        report.lr = learning_rate(settings.scheduler, settings.optim.lr, progress.step, settings.total_steps)
        for group in optimizer.param_groups:
            group["lr"] = report.lr * group.get("rate", 1.0)
        report.grad_norm = self.clip()
        # Every rank holds the same summed gradient and loss, so every rank takes the same branch.
        applied = trained and math.isfinite(report.grad_norm) and math.isfinite(report.loss)
        if not applied:
            progress.skipped_in_a_row += 1
            if progress.skipped_in_a_row > settings.max_skipped_steps:
                what, advice = "nothing to train on", "look at the data and, where there is one, at the reward"
                if trained:
                    what = f"no usable gradient (loss {report.loss}, gradient norm {report.grad_norm})"
                    advice = "lower optim.lr, look at the data"
                raise NonFiniteError(
                    f"training: {progress.skipped_in_a_row} steps in a row had {what}, up to step {progress.step};"
                    f" {advice}, or raise trainer.max_skipped_steps={settings.max_skipped_steps}"
                )
        else:
            progress.skipped_in_a_row = 0
            if self.spikes is not None:
                applied = self.spikes.judge(report.loss, report.grad_norm, progress.step) == "apply"
                report.extra |= self.spikes.metrics
        if applied:
            optimizer.step()
        progress.skipped += not applied
        optimizer.zero_grad(set_to_none=True)
        return applied

    def clip(self) -> float:
        """Clip the model's gradient; the norm it had, the same on every rank."""
        limit = self.settings.optim.clip_norm
        return float(clip_grad_norm(self.model.parameters(), math.inf if limit is None else limit))

    def headline(self, metrics: Mapping[str, float]) -> str:
        """What a line of progress begins with."""
        return f"loss {metrics['train/loss']:.4f}"

    def as_many_everywhere(self, microbatches: Sequence[MicroBatch]) -> list[MicroBatch]:
        """These, and for a sharded model some of nothing: all its ranks gather it in every forward pass."""
        microbatches = list(microbatches)
        if self.model.sharding is not None:
            most = torch.tensor(len(microbatches), device=self.device)
            dist.all_reduce(most, op=dist.ReduceOp.MAX)
            microbatches += [collate([NOTHING]).to(self.device)] * (int(most) - len(microbatches))
        return microbatches

    def _over_ranks(self, observed: Mapping[str, Tensor]) -> dict[str, float]:
        """What the ranks have observed, put together."""
        values = torch.stack(list(observed.values()))
        highest = torch.tensor([name.startswith(LARGEST) for name in observed], device=values.device)
        sums = self.sum_over_ranks(torch.where(highest, 0.0, values))
        if self.trainer.world_size > 1 and bool(highest.any()):
            values = values.to(self.device)
            dist.all_reduce(values, dist.ReduceOp.MAX, group=getattr(self.trainer.strategy, "data_group", None))
        return dict(zip(observed, torch.where(highest, values, sums).tolist(), strict=True))

    def sum_over_ranks(self, values: Tensor) -> Tensor:
        """A small tensor summed over the ranks that see different data (unchanged in a single process)."""
        values = values.to(self.device)
        if self.trainer.world_size > 1:
            dist.all_reduce(values, group=getattr(self.trainer.strategy, "data_group", None))
        return values


def _joined(name: str, one: Tensor | None, other: Tensor) -> Tensor:
    if one is None:
        return other
    return torch.maximum(one, other) if name.startswith(LARGEST) else one + other
