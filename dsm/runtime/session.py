"""Around a stage: its processes, its folder (locked), its log, and the way back into Slurm's queue."""

from __future__ import annotations

import logging
import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from transformers.utils.logging import disable_progress_bar

from dsm.config.parallel import ParallelConfig
from dsm.config.run import RunConfig
from dsm.config.runs import RunFolder, open_run
from dsm.errors import StoppedError, UserError
from dsm.runtime.launch import World, processes
from dsm.runtime.light import announce, messages
from dsm.runtime.lock import run_lock
from dsm.runtime.slurm import requeue


@dataclass(frozen=True)
class Session:
    """Who runs, and where."""

    world: World
    run: RunFolder


@contextmanager
def session(config: RunConfig, parallel: ParallelConfig | None = None) -> Iterator[Session]:
    """Join the other ranks, open the run's folder on rank 0, write messages to the terminal and to run.log.

    A run that Slurm's warning (SIGUSR1) has stopped goes back into the queue, where parallel.requeue says so.

    Raises:
        UserError: another run is at work in the folder; or several processes, where the stage runs in one.
    """
    warnings.filterwarnings("ignore", module="lightning|torch.utils.data|torch.distributed")
    for name in ("lightning.pytorch", "lightning.fabric", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)
    disable_progress_bar()
    if parallel is None and World.from_environment().size > 1:
        raise UserError(f"stage={config.stage}: runs in one process; start it without torchrun")
    with processes(parallel) if parallel is not None else nullcontext(World()) as world, run_lock() as lock:
        run = world.on_first(lambda: open_run(config, lock.take))
        with messages(run, first=world.first):
            announce(run)
            if run.finished is not None and world.first and "WANDB_SWEEP_ID" in os.environ:
                from dsm.runtime.loggers import tell_sweep

                tell_sweep(config, run.path)
            try:
                yield Session(world, run)
            except StoppedError as stop:
                # Not SIGTERM: that is scancel, or a preemption after which Slurm requeues by itself.
                if stop.signal == signal.SIGUSR1 and parallel is not None and parallel.requeue:
                    lock.release()
                    stop.requeued = requeue(first=world.first)
                raise
