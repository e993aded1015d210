"""Samples to read: RUN/rollouts.jsonl and a table at W&B."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from dsm.config.rl import RolloutTableConfig
from dsm.objectives.samples import Assigned
from dsm.rollout.record import Rollout
from dsm.runtime.launch import World
from dsm.runtime.loggers import log_table
from dsm.runtime.metrics import rewind
from dsm.training.step import UpdateModule


class RolloutTable(Callback):
    """Writes some samples of every so many explorations: question, answer, rewards, advantage, how it ended."""

    def __init__(
        self,
        config: RolloutTableConfig,
        asked: Callable[[Rollout], tuple[str, Any]],
        file: Path,
        world: World,
    ) -> None:
        self.config, self.asked, self.file, self.world = config, asked, file, world
        self._waiting: list[dict[str, Any]] = []

    def show(self, number: int, rollouts: Sequence[Rollout], assigned: Assigned, good: Sequence[Rollout]) -> None:
        """An exploration's samples: `good` are those that `assigned` speaks of."""
        if self.config.every is None or number % self.config.every or not self.world.first:
            return
        place = {(rollout.group, rollout.sample): i for i, rollout in enumerate(good)}
        trained = {i for together in assigned.kept for i in together}
        groups = list(dict.fromkeys(rollout.group for rollout in rollouts))[: self.config.groups]
        for rollout in rollouts:
            if rollout.group not in groups or rollout.sample >= self.config.samples:
                continue
            i = place.get((rollout.group, rollout.sample))
            advantage = None if i is None else assigned.streams[i].get("advantage")
            question, gold = self.asked(rollout)
            self._waiting.append(
                {
                    "exploration": number,
                    "group": rollout.group,
                    "sample": rollout.sample,
                    "question": question,
                    "gold": gold,
                    "answer": rollout.text,
                    "correct": rollout.correct,
                    "reward": rollout.reward,
                    "rewards": json.dumps(dict(rollout.rewards)),
                    "advantage": None if advantage is None or not len(advantage) else float(advantage.mean()),
                    "tokens": rollout.actions,
                    "finish": rollout.finish_reason,
                    "trained": i in trained,
                }
            )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the samples of steps that are about to be made again."""
        assert isinstance(pl_module, UpdateModule)
        if self.world.first:
            rewind(self.file, pl_module.progress.step)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write what the exploration of this step has shown."""
        if not self._waiting:
            return
        assert isinstance(pl_module, UpdateModule)
        rows = [{"step": pl_module.progress.step, **row} for row in self._waiting]
        self._waiting = []
        with self.file.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        log_table(trainer.loggers, "rollouts", rows)
