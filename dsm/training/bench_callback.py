"""Benchmarks that the model answers while it is being trained.

Every so many tokens of the budget the live weights are copied into an embedded engine, one whole weight at a time
however they are sharded, and the ranks share the items as in `stage=eval`, of which this is the same code. Training
does not notice: nothing of the module is touched, and the random generators go on as if nothing had been drawn.

What is answered lies in RUN/evaluations/step-N/, as `stage=eval` leaves it and `stage=report` reads it. A run that is
stopped meanwhile leaves the rest to its next start, if that has the same weights to the bit; otherwise the step is
measured anew.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from signal import Signals
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from dsm.config.engine import EngineConfig
from dsm.config.evaluation import EvalConfig
from dsm.config.in_training import MeasuredConfig
from dsm.errors import StoppedError
from dsm.evaluation.metrics import flat_metrics, summarise
from dsm.evaluation.runner import Runner
from dsm.evaluation.tasks import Bench, Task
from dsm.files import atomic_write_text
from dsm.models.build import transformers_config
from dsm.models.wrapper import CausalLM
from dsm.rollout.embedded import EmbeddedEngine
from dsm.rollout.weights import WholeWeights
from dsm.runtime import watch
from dsm.runtime.launch import World
from dsm.runtime.session import Session
from dsm.training.callbacks import emit
from dsm.training.checkpoint import ExactCheckpoint, random_state, restore_random_state
from dsm.training.step import UpdateModule

log = logging.getLogger("dsm")
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def in_training_evaluation(
    config: MeasuredConfig, tokenizer: PreTrainedTokenizerBase, here: Session, tokens_after: Callable[[int], int]
) -> list[Callback]:
    """The callback that a run's settings ask for, if they ask for any; call it before the model is built.

    Args:
        tokens_after: tokens of the budget that so many steps have used.

    Raises:
        UserError: data that cannot be read, golds that do not equal themselves, prompts that do not fit the model, or
            programs that cannot be isolated here.
    """
    measuring, evaluation = config.measuring, config.evaluation
    if measuring is None or evaluation is None:
        return []
    positions = getattr(transformers_config(config.model, len(tokenizer)), "max_position_embeddings", None)
    return [InTrainingEvaluation(measuring, evaluation.every_tokens, tokenizer, positions, here, tokens_after)]


class InTrainingEvaluation(Callback):
    """Measures the live model before the first step (if it is a given one), every so many tokens, and at the end.

    `eval/NAME/accuracy` and the other numbers of `stage=eval` are logged at the step that they belong to. A signal ends
    an evaluation after the items under way, for the checkpoint that it asks for cannot wait.

    Args:
        config: as for `stage=eval`.
        every_tokens: tokens of the budget between two evaluations.
        tokenizer: the model's.
        positions: the longest sequence the model takes, if there is a longest.
        here: the run.
        tokens_after: tokens of the budget that so many steps have used.
    """

    def __init__(
        self,
        config: EvalConfig,
        every_tokens: int,
        tokenizer: PreTrainedTokenizerBase,
        positions: int | None,
        here: Session,
        tokens_after: Callable[[int], int],
    ) -> None:
        self.config = _sharing_cores(config, here.world)
        self.every_tokens, self.tokens_after = every_tokens, tokens_after
        self.tokenizer, self.positions = tokenizer, positions
        self.world, self.folder = here.world, here.run.path / "evaluations"
        self.last_step = -1
        self._engine: EmbeddedEngine | None = None
        with ExitStack() as stack:
            bench = self._bench(stack)
            self.tasks = [bench.task(name, here) for name in config.benchmarks]
            for task in self.tasks:
                bench.judge(task)  # a sandbox that is not possible here is found out now
        asked = ", ".join(f"{task.title} ({len(task.items):,} items)" for task in self.tasks)
        log.info("benchmarks every %s tokens: %s", f"{every_tokens:,}", asked)

    def _bench(self, stack: ExitStack) -> Bench:
        """Judges for one evaluation; between two of them no process waits."""
        return Bench(self.config, self.tokenizer, self.positions, stack)

    # -- when ---------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The step of the last evaluation, so that a resumed run does not miss one that was due."""
        return {"last_step": self.last_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put it back."""
        self.last_step = state_dict["last_step"]

    def is_due(self, step: int, total_steps: int) -> bool:
        """Whether the weights after so many steps are to be measured."""
        if step == 0:
            return self.config.model.path is not None  # new weights know nothing
        crossed = self.tokens_after(step) // self.every_tokens > self.tokens_after(step - 1) // self.every_tokens
        return crossed or step == total_steps

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Before the first step, for a curve that starts where the model does; after a stop, what it left.

        Once a run, and after every `on_train_start`: from there on a signal is the checkpoint's to note.
        """
        if not self._measure_if_due(trainer, pl_module):  # the checkpoint that the run stands at is there already
            trainer.should_stop = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Where it is due, and after the last step."""
        self._measure_if_due(trainer, pl_module)

    def _measure_if_due(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> bool:
        """Measure; False on every rank if a signal to any of them has ended it."""
        assert isinstance(pl_module, UpdateModule)
        step = pl_module.progress.step
        if step == self.last_step or not self.is_due(step, pl_module.settings.total_steps):
            return True
        began = time.perf_counter()
        checkpoint = next(found for found in trainer.checkpoint_callbacks if isinstance(found, ExactCheckpoint))

        def stop() -> bool:
            watch.progress(f"the evaluation after step {step}", watch.SLOW)
            return checkpoint.signal is not None

        with _same_random_state():
            metrics = self.measure(pl_module, step, stop)
        if metrics is None:
            checkpoint.signal = Signals(self.world.largest(int(checkpoint.signal or 0)))
            if step == pl_module.settings.total_steps:  # a checkpoint of this step would be the end of the run
                checkpoint.wait()
                raise StoppedError(
                    checkpoint.signal,
                    f"stopped by {checkpoint.signal.name} in the last evaluation; the same command goes on from the"
                    " checkpoint before it, with the answers that are there",
                )
            log.info("step %d: the evaluation is interrupted; the next start goes on with it", step)
            return False
        self.last_step = step
        if self.world.first:
            emit(trainer, {**metrics, "speed/evaluation_s": round(time.perf_counter() - began, 1)}, step)
            accuracies = (f"{task.title} {metrics[f'eval/{task.name}/accuracy']:.1%}" for task in self.tasks)
            log.info("step %d, benchmarks: %s", step, ", ".join(accuracies))
        return True

    # -- how ----------------------------------------------------------------------------------------------------------

    def measure(
        self, module: UpdateModule, step: int, stop: Callable[[], bool] = lambda: False
    ) -> dict[str, float] | None:
        """Answer every benchmark with the module's weights, together with all ranks.

        Returns:
            on rank 0 the metrics, on the others none; None on all of them if `stop` has ended it.
        """
        stop()
        folder = self.folder / f"step-{step:08d}"
        results: dict[str, Any] = {"model": f"{self.config.name} after step {step:,}", "benchmarks": {}}
        results |= {"step": step, "tokens": self.tokens_after(step)}
        with ExitStack() as stack:
            bench = self._bench(stack)
            engine, weights = self._loaded(module)
            stack.callback(_give_back, engine)
            tasks = [replace(task, protocol=task.protocol | {"model": weights}) for task in self.tasks]
            self.world.on_first(lambda: _drop_other(folder, tasks))
            runner = Runner(self.config, engine, folder / "items", self.world, stop)
            for task in tasks:
                records = runner.run(task, bench.judge(task), bench.tool_use(task, engine))
                if not self.world.broadcast(len(records) == len(task.items)):
                    return None
                if self.world.first:
                    results["benchmarks"][task.name] = summarise(
                        records,
                        self.config.sampling_of(task.config).ks,
                        title=task.title,
                        protocol=task.protocol,
                        reference=task.config.reference,
                        seed=self.config.seed,
                    )
        if not self.world.first:
            return {}
        atomic_write_text(folder / "results.json", json.dumps(results, indent=2, ensure_ascii=False) + "\n")
        return {f"eval/{name}": value for name, value in flat_metrics(results).items()}

    def _loaded(self, module: UpdateModule) -> tuple[EmbeddedEngine, str]:
        """The engine with the module's weights in the precision of training, and what tells these weights apart."""
        asked = self.config.engine
        assert isinstance(asked, EngineConfig)  # InTrainingEvalConfig takes no other
        if asked.dtype == "auto":
            asked = asked.model_copy(update={"dtype": "bfloat16" if module.settings.precision == "bf16" else "float32"})
        weights = _Fingerprinted(module.model, getattr(torch, asked.dtype))
        if module.device.type == "cuda":  # what training keeps in reserve is room for the cache
            torch.cuda.empty_cache()
        if self._engine is None:
            self._engine = EmbeddedEngine(module.model, self.tokenizer, asked, weights)
        else:
            self._engine.sync(weights)
        return self._engine, self.world.broadcast(weights.hexdigest())


class _Fingerprinted(Mapping[str, Tensor]):
    """Whole weights; of each that is read, the sum of its bit patterns is kept."""

    def __init__(self, model: CausalLM, dtype: torch.dtype) -> None:
        self._weights = WholeWeights(model, dtype)
        self._sums: dict[str, Tensor] = {}

    def __getitem__(self, name: str) -> Tensor:
        weight = self._weights[name]
        self._sums[name] = weight.detach().view(_BITS[weight.element_size()]).sum(dtype=torch.int64)
        return weight

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)

    def __contains__(self, name: object) -> bool:
        return name in self._weights

    def hexdigest(self) -> str:
        """SHA-256 over names and sums: weights that differ by rounding alone differ in it."""
        sums = torch.stack(list(self._sums.values())).tolist()
        text = json.dumps(sorted(zip(self._sums, sums, strict=True)))
        return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def _same_random_state() -> Iterator[None]:
    """Afterwards every random generator of this process stands where it stood."""
    state = random_state()
    try:
        yield
    finally:
        restore_random_state(state)


def _give_back(engine: EmbeddedEngine) -> None:
    engine.free()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _drop_other(folder: Path, tasks: list[Task]) -> None:
    """Answers of other weights, or to other prompts, are no part of this evaluation."""
    for task in tasks:
        note = folder / "items" / f"{task.name}.protocol.json"
        if note.is_file() and json.loads(note.read_text()) != task.protocol:
            log.info("%s holds answers of another model or to other questions: measured anew", folder)
            shutil.rmtree(folder)
            return


def _sharing_cores(config: EvalConfig, world: World) -> EvalConfig:
    """The ranks of one machine judge beside each other: each takes its part of the cores, not all of them."""
    cores = max(1, len(os.sched_getaffinity(0)) // world.local_size)
    grader = config.grader.model_copy(update={"workers": config.grader.workers or cores})
    sandbox = config.sandbox.model_copy(update={"workers": config.sandbox.workers or cores})
    return config.model_copy(update={"grader": grader, "sandbox": sandbox})
