"""Checkpoints that make a resumed run equal to one that was never stopped, to the bit.

One holds the weights, the optimiser, where the run stands, every rank's random state and what the data was. It is written
aside and renamed, so a file that bears a checkpoint's name is complete. Lightning's own loop counters are left out on
purpose: the stream of steps starts at `progress.step`, which leaves nothing to fast-forward and lets a budget be extended.
"""

from __future__ import annotations

import logging
import os
import random
import signal
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
from dsm.errors import UserError
from dsm.training.launch import World
from dsm.training.runs import PARTIAL
from dsm.training.step import Progress, UpdateModule

log = logging.getLogger("dsm")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes to a partial file, forces it to the disk, then renames it."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Save so that `path` either does not exist or is complete."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{PARTIAL}{path.name}")
        with partial.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


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


class ExactCheckpoint(Checkpoint):
    """Saves every so many steps, at a signal and at the end; keeps the newest few.

    SIGTERM and SIGINT let the step in progress end, save, and stop the run; a second SIGINT stops it at once.
    """

    def __init__(self, folder: Path, config: CheckpointConfig, data_facts: dict[str, str], world: World) -> None:
        self.folder = folder
        self.config = config
        self.data_facts = data_facts
        self.world = world
        self.signal: signal.Signals | None = None
        self._handlers: dict[signal.Signals, Any] = {}
        self._random: list[dict[str, Any]] | None = None

    # -- what is saved ------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add what Lightning does not know; called on every rank."""
        assert isinstance(pl_module, UpdateModule)
        checkpoint.pop("loops", None)
        checkpoint["dsm"] = {
            "progress": asdict(pl_module.progress),
            "random": self.world.gather(random_state()),
            "data": self.data_facts,
        }

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take the run's place; refuse other data."""
        assert isinstance(pl_module, UpdateModule)
        saved = checkpoint["dsm"]
        changed = [key for key in self.data_facts | saved["data"] if self.data_facts.get(key) != saved["data"].get(key)]
        if changed:
            raise UserError(
                f"resume: the checkpoint was made on other data; changed since: {', '.join(changed)}; put that back, or start"
                " anew with resume=never"
            )
        pl_module.progress = Progress(**saved["progress"])
        self._random = saved["random"]

    # -- when it is saved ---------------------------------------------------------------------------------------------

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """From here on a signal waits for the end of the step."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._handlers[number] = signal.signal(number, self._note)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the random generators back last, for building a run uses them too."""
        if self._random is None:
            return
        if self.world.rank < len(self._random):
            restore_random_state(self._random[self.world.rank])
        else:  # more ranks than before: a state of its own, reproducible all the same
            assert isinstance(pl_module, UpdateModule)
            torch.manual_seed(pl_module.progress.step * self.world.size + self.world.rank)

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

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Give the signals back."""
        self._restore_handlers()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Give the signals back."""
        self._restore_handlers()

    def save(self, trainer: pl.Trainer, step: int) -> None:
        """Save now, then drop the oldest beyond `keep`."""
        trainer.save_checkpoint(self.folder / f"step-{step:08d}.ckpt")
        if self.world.first:
            for old in sorted(self.folder.glob("step-*.ckpt"))[: -self.config.keep]:
                old.unlink()

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
        if self.world.first:
            log.info("%s: this step ends, a checkpoint is saved, then the run stops", self.signal.name)

    def _restore_handlers(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers.clear()
