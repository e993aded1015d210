"""Checkpoints that make a resumed run equal to one that was never stopped, to the bit.

One holds the weights, the optimiser, where the run stands, every rank's random state and what the data was. It is
written aside and renamed, so a file that bears a checkpoint's name is complete. Lightning's own loop counters are left
out on purpose: the stream of steps starts at `progress.step`, which leaves nothing to fast-forward and lets a budget be
extended.
"""

from __future__ import annotations

import logging
import os
import random
import signal
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from dsm.config.training import CheckpointConfig
from dsm.errors import StoppedError, UserError
from dsm.files import atomic_file
from dsm.runtime.launch import World
from dsm.training.step import Progress, UpdateModule

log = logging.getLogger("dsm")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class AtomicCheckpointIO(TorchCheckpointIO):
    """A checkpoint's file is whole or not there; one that the disk has damaged is the user's to remove."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Save so that `path` either does not exist or is complete."""
        with atomic_file(Path(path)) as file:
            torch.save(checkpoint, file)

    def load_checkpoint(self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = True) -> Any:
        """Load to the CPU, tensors and plain values only.

        Raises:
            UserError: the file is damaged, or no checkpoint of ours.
        """
        try:
            checkpoint = super().load_checkpoint(path, map_location, weights_only)
        except Exception as error:  # a damaged file fails in as many ways as there are bytes
            reason = textwrap.shorten(f"{type(error).__name__}: {error}", 150, placeholder=" ...")
            raise UserError(
                f"resume: {path} cannot be read ({reason}); if it is damaged, delete it to go on from the one"
                " before it, or start anew with resume=never"
            ) from error
        if "dsm" not in checkpoint:
            raise UserError(f"resume: {path} is no checkpoint of dsm's; give a step-*.ckpt or the folder of a run")
        return checkpoint


def random_state() -> dict[str, Any]:
    """The state of every random generator of this process, in types that a safe load accepts."""
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": [version, list(internal), gauss],
        "numpy": [name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Put back what `random_state` saved."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())


def seed_random(*key: int) -> None:
    """Start every random generator of this process from a key of integers."""
    seed = int(np.random.SeedSequence(key).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


class ExactCheckpoint(Checkpoint):
    """Saves every so many steps, at a signal and at the end; keeps the newest few.

    Under `listening`, SIGTERM and SIGINT let the step in progress end, save, and stop the run; a second SIGINT stops it
    at once.
    """

    def __init__(
        self, folder: Path, config: CheckpointConfig, data_facts: dict[str, str], world: World, seed: int
    ) -> None:
        self.folder = folder
        self.config = config
        self.data_facts = data_facts
        self.world = world
        self.seed = seed
        self.signal: signal.Signals | None = None
        self._noted = 0.0
        self._random: list[dict[str, Any]] = []

    # -- what is saved ------------------------------------------------------------------------------------------------

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add what Lightning does not know; called on every rank."""
        assert isinstance(pl_module, UpdateModule)
        checkpoint.pop("loops", None)
        checkpoint["dsm"] = {
            "progress": asdict(pl_module.progress),
            "random": self.world.gather(random_state()),
            "data": self.data_facts,
        }

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Take the run's place; refuse other data."""
        assert isinstance(pl_module, UpdateModule)
        saved = checkpoint["dsm"]
        changed = [key for key in self.data_facts | saved["data"] if self.data_facts.get(key) != saved["data"].get(key)]
        if changed:
            raise UserError(
                f"resume: the checkpoint was made on other data; changed since: {', '.join(changed)}; put that back, or"
                " start anew with resume=never"
            )
        pl_module.progress = Progress(**saved["progress"])
        self._random = saved["random"]

    # -- when it is saved ---------------------------------------------------------------------------------------------

    @contextmanager
    def listening(self) -> Iterator[None]:
        """For this long a signal waits for the end of the step."""
        before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the random generators in place last, for building a run uses them too; take the signals back."""
        assert isinstance(pl_module, UpdateModule)
        if self.world.rank < len(self._random):
            restore_random_state(self._random[self.world.rank])
        else:  # a new run, or more ranks than before
            seed_random(self.seed, pl_module.progress.step, self.world.rank)
        for number in _SIGNALS:  # Lightning has put a handler of its own on SIGTERM, which ends a run without saving
            signal.signal(number, self._note)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where it is due or asked for."""
        assert isinstance(pl_module, UpdateModule)
        step = pl_module.progress.step
        stop = self.world.largest(int(self.signal or 0))
        if stop:
            self.signal = signal.Signals(stop)
            trainer.should_stop = True
        if stop or step % self.config.every == 0 or step == pl_module.settings.total_steps:
            self.save(trainer, step)

    def save(self, trainer: pl.Trainer, step: int) -> None:
        """Save now, then drop the oldest beyond `keep`."""
        trainer.save_checkpoint(self.folder / f"step-{step:08d}.ckpt")
        if self.world.first:
            for old in sorted(self.folder.glob("step-*.ckpt"))[: -self.config.keep]:
                old.unlink()

    def _note(self, number: int, frame: FrameType | None) -> None:
        name, now = signal.Signals(number).name, time.monotonic()
        # torchrun passes on a Ctrl-C that the terminal has sent already: twice at once is not twice.
        if self.signal is not None and number == signal.SIGINT and now - self._noted > 1.0:
            raise StoppedError(
                signal.SIGINT, "stopped at once by a second SIGINT; the same command goes on from the last checkpoint"
            )
        if self.signal is None:
            self.signal, self._noted = signal.Signals(number), now
            if self.world.first:  # past Python's streams, which may be in the midst of a write
                os.write(2, f"\ndsm: {name}: this step ends, a checkpoint is saved, then the run stops\n".encode())
