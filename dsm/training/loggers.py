"""Where metrics go. metrics.jsonl is the record: one line a step, cut back on resume so that no step stands twice."""

from __future__ import annotations

import csv
import io
import json
import time
import uuid
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from dsm.config.training import LoggerConfig
from dsm.files import atomic_write_text


class JsonlLogger(Logger):
    """Appends metrics to a file, a line a call, flushed; `csv` keeps a table beside it."""

    def __init__(self, folder: Path, *, csv: bool = False) -> None:
        super().__init__()
        self.path = folder / "metrics.jsonl"
        self.csv = csv

    @property
    def name(self) -> str:
        """The logger's name, as Lightning asks for it."""
        return "jsonl"

    @property
    def version(self) -> str:
        """The folder's name."""
        return self.path.parent.name

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """One line: step, seconds since the epoch, metrics."""
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, "time": round(time.time(), 3), **metrics}) + "\n")

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The run's config.yaml has them."""

    def rewind(self, step: int) -> None:
        """Forget what came after `step`: those steps are about to be made again."""
        lines = [line for line in self._lines() if line["step"] <= step]
        atomic_write_text(self.path, "".join(json.dumps(line) + "\n" for line in lines))

    def last(self) -> dict[str, Any]:
        """The newest value of every metric."""
        newest: dict[str, Any] = {}
        for line in self._lines():
            newest |= line
        return newest

    def finalize(self, status: str) -> None:
        """Write the table."""
        if not self.csv:
            return
        lines = self._lines()
        columns = list(dict.fromkeys(key for line in lines for key in line))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(lines)
        atomic_write_text(self.path.with_suffix(".csv"), text.getvalue())

    def _lines(self) -> list[dict[str, Any]]:
        if not self.path.is_file():
            return []
        lines = []
        for line in self.path.read_text().splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:  # the process was killed while it wrote its last line
                continue
        return lines


def build_loggers(config: LoggerConfig, folder: Path, name: str, settings: dict[str, Any]) -> list[Logger]:
    """The loggers of a run, the JSONL one first. Only rank 0 may call this."""
    loggers: list[Logger] = [JsonlLogger(folder, csv=config.csv)]
    if config.tensorboard:
        loggers.append(TensorBoardLogger(folder, name="tensorboard", version=""))
    if config.wandb is not None:
        wandb = config.wandb
        logger = WandbLogger(
            name=f"{name} ({folder.name})",
            save_dir=folder,
            id=_wandb_id(folder),
            resume="allow",
            offline=wandb.mode == "offline",
            project=wandb.project,
            entity=wandb.entity,
            group=wandb.group,
            tags=wandb.tags,
        )
        logger.log_hyperparams(settings)
        loggers.append(logger)
    return loggers


def close(loggers: list[Logger]) -> None:
    """End what outlives a trainer: W&B would hand the next run of a sweep the run that is still open."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()


def _wandb_id(folder: Path) -> str:
    """The run's id at W&B: chosen once, then kept in its folder, so that a restart continues the same curve."""
    file = folder / "wandb_id"
    if not file.is_file():
        atomic_write_text(file, uuid.uuid4().hex[:12])
    return file.read_text().strip()
