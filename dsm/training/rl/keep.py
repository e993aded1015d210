"""All samples of a run on the disk, with their rewards, for reward models and offline methods to learn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from dsm.objectives.samples import Assigned
from dsm.rollout.record import Prompt, Rollout
from dsm.rollout.store import RolloutStore
from dsm.runtime.launch import World
from dsm.training.step import UpdateModule

SAMPLES = "rollouts"
"""The folder below a run's."""


class KeptSamples(Callback):
    """Writes each exploration as a part of a store, which is complete when the run is."""

    def __init__(self, folder: Path, facts: dict[str, str], prompt: Callable[[int], Prompt], world: World) -> None:
        self.world, self.prompt = world, prompt
        self.store = RolloutStore(folder / SAMPLES, facts) if world.first else None
        if self.store is not None:
            self.store.clear()

    def keep(self, number: int, rollouts: Sequence[Rollout], assigned: Assigned, good: Sequence[Rollout]) -> None:
        """An exploration's; one that is made again after a stop is the same."""
        if self.store is not None:
            asked = [self.prompt(place) for place in dict.fromkeys(rollout.prompt for rollout in rollouts)]
            self.store.write(f"{number:08d}", rollouts, asked)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After the last step nothing more comes."""
        assert isinstance(pl_module, UpdateModule)
        if self.store is not None and pl_module.progress.step == pl_module.settings.total_steps:
            self.store.complete()
