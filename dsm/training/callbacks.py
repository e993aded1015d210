"""What happens between steps: metrics, validation, samples to read, a line of progress."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from dsm.config.training import SamplesConfig
from dsm.data.batch import MicroBatch
from dsm.objectives.normalise import normaliser, token_weights
from dsm.ops.logprobs import IGNORE
from dsm.runtime import watch
from dsm.runtime.launch import World
from dsm.runtime.loggers import JsonlLogger, rewind_tensorboard
from dsm.runtime.metrics import rewind
from dsm.training.step import UpdateModule
from dsm.training.throughput import memory_gb, peak_flops

log = logging.getLogger("dsm")


def emit(trainer: pl.Trainer, metrics: dict[str, Any], step: int) -> None:
    """Hand metrics to every logger (rank 0 has them all, the other ranks none)."""
    for logger in trainer.loggers:
        logger.log_metrics(metrics, step)


class Metrics(Callback):
    """Logs the step's report with its speed; the time of validation, samples and checkpoints is not counted."""

    def __init__(self, every: int, flops_per_token: float, world_size: int) -> None:
        self.every = every
        self.flops_per_token = flops_per_token
        self.world_size = world_size
        self.newest: dict[str, float] = {}
        self._began = 0.0
        self._seconds = 0.0
        self._positions = 0
        self._steps = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Loggers forget what a resumed run is about to do again."""
        assert isinstance(pl_module, UpdateModule)
        for logger in trainer.loggers:
            if isinstance(logger, JsonlLogger):
                rewind(logger.path, pl_module.progress.step)
            elif isinstance(logger, pl.loggers.TensorBoardLogger):
                rewind_tensorboard(logger, pl_module.progress.step)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop the clock; log where it is due."""
        assert isinstance(pl_module, UpdateModule)
        report, progress = pl_module.report, pl_module.progress
        self._seconds += time.perf_counter() - self._began
        self._positions += report.positions
        self._steps += 1
        if not report.applied:
            log.warning(
                "step %d skipped: loss %s, gradient norm %s (%d so far)",
                progress.step,
                report.loss,
                report.grad_norm,
                progress.skipped,
            )
        last = progress.step == pl_module.settings.total_steps
        if progress.step % self.every and not last and report.applied:
            return
        speed = self._positions / self._seconds
        metrics = {
            "train/loss": report.loss,
            "train/entropy": report.entropy,
            "train/grad_norm": report.grad_norm,
            "train/lr": report.lr,
            "train/sequences": report.sequences,
            "train/tokens": report.tokens,
            "train/skipped_steps": progress.skipped,
            "budget/positions": progress.positions,
            "speed/tokens_per_s": speed,
            "speed/step_s": self._seconds / self._steps,
            "memory/peak_gb": memory_gb(pl_module.device),
            **report.extra,
        }
        peak = peak_flops(pl_module.device, pl_module.settings.precision)
        if peak is not None:
            metrics["speed/mfu"] = speed * self.flops_per_token / (peak * self.world_size)
        self.newest = metrics
        self._seconds, self._positions, self._steps = 0.0, 0, 0
        emit(trainer, metrics, progress.step)


class Validation(Callback):
    """The loss on held-out examples, all together and by source, with the same normalisation as in training.

    `batches` are this rank's; `source_names` are the same on every rank, and empty where nothing is held out.
    """

    def __init__(self, batches: Sequence[MicroBatch], source_names: Sequence[str], every: int | None) -> None:
        self.batches = batches
        self.source_names = source_names
        self.every = every
        self.last_step = -1

    def state_dict(self) -> dict[str, Any]:
        """The step of the last validation, so that a resumed run does not miss one that was due."""
        return {"last_step": self.last_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put it back."""
        self.last_step = state_dict["last_step"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Before the first step, for a curve that starts where the model does."""
        self._validate(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Validate where it is due, and after the last step."""
        self._validate(trainer, pl_module)

    def _validate(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, UpdateModule)
        step = pl_module.progress.step
        due = step == pl_module.settings.total_steps or (self.every is not None and step % self.every == 0)
        if self.source_names and due and step != self.last_step:
            self.last_step = step
            metrics = self.measure(pl_module)
            emit(trainer, metrics, step)
            log.info(
                "step %d, %s", step, ", ".join(f"{key.replace('/', ' ')} {value:.4f}" for key, value in metrics.items())
            )

    @torch.no_grad()
    def measure(self, module: UpdateModule) -> dict[str, float]:
        """Sum over this rank's batches and all ranks, then divide, for each source and for all of them."""
        loss = module.settings.loss
        sums = torch.zeros(len(self.source_names), 3, dtype=torch.float64, device=module.device)
        module.eval()
        for batch in module.as_many_everywhere(self.batches):
            watch.progress("validation")
            batch = batch.to(module.device)
            with module.autocast():
                logprobs, _ = module.model.logprobs(batch.input_ids, batch.varlen, batch.targets)
            trained = batch.targets != IGNORE
            weighted = -logprobs * token_weights(trained, batch.varlen, loss.normalisation)
            document = torch.repeat_interleave(batch.varlen.cu_seqlens.diff().long(), output_size=len(trained))
            per_document = weighted.new_zeros(len(batch.sources), 2, dtype=torch.float64)
            per_document.index_add_(0, document, torch.stack([weighted.double(), trained.double()], 1))
            answers = (per_document[:, 1] > 0).double()
            sums.index_add_(0, batch.sources, torch.stack([per_document[:, 0], answers, per_document[:, 1]], 1))
        module.train()
        sums = module.sum_over_ranks(sums).cpu()

        def mean(total: torch.Tensor) -> float:
            count = normaliser(loss.normalisation, int(total[1]), int(total[2]), loss.constant_length)
            return float(total[0]) / max(count, 1)

        metrics = {"validation/loss": mean(sums.sum(0))}
        if len(self.source_names) > 1:
            metrics |= {f"validation/loss/{name}": mean(sums[i]) for i, name in enumerate(self.source_names)}
        return metrics


class Samples(Callback):
    """Answers to a few held-out questions while the model learns, to read along (samples.jsonl and W&B)."""

    def __init__(
        self,
        config: SamplesConfig,
        prompts: Sequence[list[int]],
        tokenizer: PreTrainedTokenizerBase,
        file: Path,
        world: World,
    ) -> None:
        self.config = config
        self.prompts = prompts
        self.tokenizer = tokenizer
        self.file = file
        self.world = world

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the samples of steps that are about to be made again."""
        assert isinstance(pl_module, UpdateModule)
        if self.world.first:
            rewind(self.file, pl_module.progress.step)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Generate where it is due: on rank 0 alone, or on all ranks where each has but a part of the weights."""
        assert isinstance(pl_module, UpdateModule)
        step = pl_module.progress.step
        if self.config.every is None or step % self.config.every or not self.prompts:
            return
        if not self.world.first and pl_module.model.sharding is None:
            return
        watch.progress("samples", watch.SLOW)
        with pl_module.autocast():
            answers = pl_module.model.generate(
                list(self.prompts),
                max_new_tokens=self.config.max_new_tokens,
                temperature=self.config.temperature,
                seed=step,
                eos_token_id=self.tokenizer.eos_token_id,
            )
        if not self.world.first:
            return
        rows = [
            {
                "step": step,
                "prompt": self.tokenizer.decode(prompt, skip_special_tokens=True),
                "answer": self.tokenizer.decode(answer, skip_special_tokens=True),
                "finished": len(answer) < self.config.max_new_tokens,
            }
            for prompt, answer in zip(self.prompts, answers, strict=True)
        ]
        with self.file.open("a") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        log.info("step %d, a sample: ...%s => %s", step, rows[0]["prompt"][-60:], rows[0]["answer"][:200])
        for logger in trainer.loggers:
            if isinstance(logger, pl.loggers.WandbLogger):
                logger.log_text("samples", columns=list(rows[0]), data=[list(row.values()) for row in rows], step=step)


class ProgressLine(Callback):
    """A bar on a terminal, a line now and then elsewhere."""

    def __init__(self, metrics: Metrics, seconds_between_lines: float = 10.0) -> None:
        self.metrics = metrics
        self.seconds_between_lines = seconds_between_lines
        self._bar: tqdm[Any] | None = None
        self._told = 0.0
        self._began = 0.0
        self._first_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bar at the step where the run stands."""
        assert isinstance(pl_module, UpdateModule)
        self._first_step, self._began = pl_module.progress.step, time.perf_counter()
        self._told = self._began
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=pl_module.settings.total_steps,
                initial=self._first_step,
                unit="step",
                dynamic_ncols=True,
                leave=True,
            )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move on."""
        assert isinstance(pl_module, UpdateModule)
        step, total = pl_module.progress.step, pl_module.settings.total_steps
        text = self._text(pl_module)
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(step - self._bar.n)
            return
        now = time.perf_counter()
        if now - self._told >= self.seconds_between_lines or step == total:
            self._told = now
            left = (now - self._began) / (step - self._first_step) * (total - step)
            log.info("step %d/%d, %s left%s", step, total, _duration(left), f", {text}" if text else "")

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Close the bar, so that what is printed next stands on a line of its own."""
        self.on_fit_end(trainer, pl_module)

    def _text(self, module: UpdateModule) -> str:
        newest = self.metrics.newest
        if not newest:
            return ""
        mfu = f", MFU {newest['speed/mfu']:.1%}" if "speed/mfu" in newest else ""
        return (
            f"{module.headline(newest)}, {newest['speed/tokens_per_s']:,.0f} tokens/s{mfu},"
            f" {newest['memory/peak_gb']:.2f} GB, lr {newest['train/lr']:.2e},"
            f" grad norm {newest['train/grad_norm']:.3f}"
        )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"
