"""Where metrics go: as Lightning's loggers, the one of metrics.jsonl (dsm/runtime/metrics.py) first.

Under `wandb agent` (WANDB_SWEEP_ID) the run is the one that the agent has made (WANDB_RUN_ID), in its project: wandb
takes both from the environment whatever it is told. A run that had ended before tells it all again, as the sweep waits
for numbers.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger

from dsm.config.run import RunConfig
from dsm.config.training import LoggerConfig, WandbConfig
from dsm.files import atomic_write_text
from dsm.runtime import metrics as record
from dsm.runtime.metrics import read_lines


class JsonlLogger(Logger):
    """Appends metrics to a file, a line a call, flushed; `csv` keeps a table beside it."""

    def __init__(self, folder: Path, *, csv: bool = False) -> None:
        super().__init__()
        self.path = folder / record.FILE
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
        record.append(self.path.parent, metrics, step)

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The run's config.yaml has them."""

    def last(self) -> dict[str, Any]:
        """The newest value of every metric."""
        newest: dict[str, Any] = {}
        for line in read_lines(self.path):
            newest |= line
        return newest

    def finalize(self, status: str) -> None:
        """Write the table."""
        if self.csv:
            record.write_table(self.path.parent)


def rewind_tensorboard(logger: TensorBoardLogger, step: int) -> None:
    """Have TensorBoard forget the same: it drops what older files hold from a session's first step on."""
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]

    writer = logger.experiment.file_writer
    first = step + 1 if step else 0
    writer.add_event(Event(step=first, file_version="brain.Event:2"))
    writer.add_event(Event(step=first, session_log=SessionLog(status=SessionLog.START)))


def build_loggers(config: LoggerConfig, folder: Path, name: str, settings: dict[str, Any]) -> list[Logger]:
    """The loggers of a run, the JSONL one first. Only rank 0 may call this."""
    loggers: list[Logger] = [JsonlLogger(folder, csv=config.csv)]
    if config.tensorboard:
        loggers.append(TensorBoardLogger(folder, name="tensorboard", version=""))
    if config.wandb is not None:
        loggers.append(_wandb(config.wandb, folder, name, settings))
    return loggers


def tell_sweep(config: RunConfig, folder: Path) -> None:
    """Under a W&B agent: tell of a run that had ended before, which else would leave the sweep without an answer."""
    logger = getattr(config, "logger", None)
    if not isinstance(logger, LoggerConfig) or logger.wandb is None or _agents_id() is None:
        return
    wandb = _wandb(logger.wandb, folder, config.name, config.model_dump())
    for line in read_lines(folder / "metrics.jsonl"):
        wandb.log_metrics({key: value for key, value in line.items() if key not in ("step", "time")}, line["step"])
    close([wandb])


def _wandb(config: WandbConfig, folder: Path, name: str, settings: dict[str, Any]) -> WandbLogger:
    logger = WandbLogger(
        name=f"{name} ({folder.name})",
        save_dir=folder,
        id=_wandb_id(folder),
        resume="allow",
        offline=config.mode == "offline",
        project=config.project,
        entity=config.entity,
        group=config.group,
        tags=config.tags,
    )
    logger.log_hyperparams(settings)
    return logger


def log_table(loggers: list[Logger], name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A table of rows with the same keys, to those loggers that show tables (W&B)."""
    for logger in loggers:
        if isinstance(logger, WandbLogger) and rows:
            logger.log_table(name, columns=list(rows[0]), data=[list(row.values()) for row in rows])


def close(loggers: list[Logger], status: int = 0) -> None:
    """End what outlives a trainer: W&B would hand the next run of a sweep the run that is still open.

    Args:
        status: the run's exit status; but for 0, W&B shows the run as failed, until it has gone on to its end.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish(exit_code=status)


def _wandb_id(folder: Path) -> str:
    """The run's id at W&B, an agent's or chosen once: kept in its folder, so that a restart goes on with the curve."""
    file = folder / "wandb_id"
    if (given := _agents_id()) is not None or not file.is_file():
        atomic_write_text(file, given or uuid.uuid4().hex[:12])
    return file.read_text().strip()


def _agents_id() -> str | None:
    return os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None
