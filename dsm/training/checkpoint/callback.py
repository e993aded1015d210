"""When a run is saved, and how it takes up where it stopped."""

from __future__ import annotations

import logging
import os
import platform
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback, Checkpoint

import dsm
from dsm.config.training import CheckpointConfig
from dsm.errors import StoppedError, UserError
from dsm.runtime import watch
from dsm.runtime.launch import World, wait_without_limit
from dsm.training.checkpoint.background import Background, Staging
from dsm.training.checkpoint.folder import (
    Manifest,
    check_files,
    read_manifest,
    read_metadata,
    read_pieces,
)
from dsm.training.checkpoint.pieces import Piece, in_charge_of
from dsm.training.checkpoint.state import (
    RANDOM,
    decode,
    make_room,
    ranks_in,
    refuse_another_model,
    restore_random_state,
    run_pieces,
    seed_random,
)
from dsm.training.checkpoint.writing import write_checkpoint
from dsm.training.step import Progress, UpdateModule

log = logging.getLogger("dsm")

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
_FAILED = 1 << 16  # above all signals' numbers


class ExactCheckpoint(Checkpoint):
    """Saves every so many steps, at a signal and at the end; keeps the newest few; restores before the first step.

    Under `listening`, SIGTERM, SIGINT and SIGUSR1 (Slurm's warning) let the step in progress end, save, and stop the
    run; a second SIGINT stops it at once.
    """

    def __init__(
        self,
        folder: Path,
        config: CheckpointConfig,
        data_facts: Mapping[str, str],
        world: World,
        seed: int,
        start: Path | None = None,
    ) -> None:
        """Take the settings.

        Args:
            folder: of the run's checkpoints.
            data_facts: what the data is, by name; a checkpoint made on other data is refused.
            start: the checkpoint to go on from.
        """
        self.folder = folder
        self.config = config
        self.data_facts = dict(data_facts)
        self.world = world
        self.seed = seed
        self.start = start
        self.signal: signal.Signals | None = None
        self._noted = 0.0
        self._random: dict[str, Any] | None = None
        self._group: dist.ProcessGroup | None = None
        self._staging = Staging()
        self._background = Background()

    # -- restoring ----------------------------------------------------------------------------------------------------

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the run's place: the strategy has put the model and the optimiser where they belong."""
        assert isinstance(pl_module, UpdateModule)
        if self.world.size > 1:  # of its own, for another thread uses it while this one trains
            self._group = dist.new_group(backend="gloo")
            wait_without_limit()
        if self.start is not None:
            self._restore(trainer, pl_module, self.start)

    def _restore(self, trainer: pl.Trainer, module: UpdateModule, start: Path) -> None:
        world = self.world
        manifest = world.on_first(lambda: self._fitting_manifest(start, module))
        names = sorted(manifest.files)
        self._together(lambda: check_files(start, manifest, names[world.rank :: world.size]))

        def read() -> None:
            metadata = read_metadata(start)
            make_room(module, trainer.optimizers, metadata)
            pieces = run_pieces(module, trainer.optimizers, world)
            ranks = ranks_in(metadata)
            row = pieces.pop(RANDOM)
            if world.rank < ranks:
                pieces[RANDOM] = row
            read_pieces(start, metadata, pieces)
            self._random = decode(row.data) if world.rank < ranks else None

        self._together(read)
        module.progress = Progress(**manifest.progress)
        for callback in self._callbacks(trainer):
            if callback.state_key in manifest.callbacks:
                callback.load_state_dict(manifest.callbacks[callback.state_key])

    def _fitting_manifest(self, start: Path, module: UpdateModule) -> Manifest:
        """Of a checkpoint of this model on this data."""
        manifest = read_manifest(start)
        ours, theirs = self.data_facts, manifest.data
        check_files(start, manifest, [".metadata"])
        refuse_another_model(module, read_metadata(start))
        changed = [key for key in ours | theirs if ours.get(key) != theirs.get(key)]
        if changed:
            raise UserError(
                f"resume: the checkpoint was made on other data; changed since: {', '.join(changed)}; put that back, or"
                " start anew with resume=never"
            )
        return manifest

    def _together(self, act: Callable[[], None]) -> None:
        """Each rank its part; a `UserError` of one is raised on all."""
        refusal = None
        try:
            act()
        except UserError as error:
            refusal = error
        for each in self.world.gather(refusal):
            if each is not None:
                raise each

    def _callbacks(self, trainer: pl.Trainer) -> list[Callback]:
        """The others, which may have a state: plain values that JSON keeps, the same on all ranks."""
        return [callback for callback in trainer.callbacks if callback is not self]  # type: ignore[attr-defined]

    # -- saving -------------------------------------------------------------------------------------------------------

    def save(self, trainer: pl.Trainer, step: int) -> None:
        """Save now, and drop the oldest beyond `keep`.

        Where the settings say so, the run goes on once its state is copied, and `wait` tells how the writing went. When
        nothing is to go on, after the last step or a signal, nothing is copied.
        """
        began = time.perf_counter()
        self.wait()
        module = trainer.lightning_module
        assert isinstance(module, UpdateModule)
        states = {callback.state_key: callback.state_dict() for callback in self._callbacks(trainer)}
        manifest = Manifest(
            step=step,
            progress=asdict(module.progress),
            data=self.data_facts,
            callbacks={key: state for key, state in states.items() if state},
            made_by={
                "layout": str(self.world.layout),
                "dsm": dsm.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        )
        pieces = in_charge_of(run_pieces(module, trainer.optimizers, self.world))
        if not self.config.asynchronous or self.signal is not None or step == module.settings.total_steps:
            self._write(manifest, pieces, began)
            return
        copies = self._staging.copy(pieces)
        stood_still_s = time.perf_counter() - began
        self._background.start(lambda: self._write(manifest, copies, began, stood_still_s))

    def _write(
        self, manifest: Manifest, pieces: Mapping[str, Piece], began: float, stood_still_s: float | None = None
    ) -> None:
        write_checkpoint(self.folder, pieces, manifest, self._group, self.config.keep)
        if self.world.first:
            seconds = time.perf_counter() - began
            waited = seconds if stood_still_s is None else stood_still_s
            log.info("checkpoint of step %d: %.1f s, of which the run waited %.2f s", manifest.step, seconds, waited)

    def wait(self) -> None:
        """Until the last checkpoint is complete.

        Raises:
            UserError: it could not be written.
        """
        watch.progress("checkpoint", watch.SLOW)
        self._background.wait()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save where it is due or asked for; raise what the last save has met."""
        assert isinstance(pl_module, UpdateModule)
        # All ranks do the same: one that left alone would have the others wait for it in vain.
        told = self.world.largest(int(self.signal or 0) + _FAILED * self._background.failed)
        if told >= _FAILED:
            self.wait()
            raise RuntimeError("another rank could not write its part of the checkpoint")
        if told:
            self.signal = signal.Signals(told)
            trainer.should_stop = True
        step = pl_module.progress.step
        if told or step % self.config.every == 0 or step == pl_module.settings.total_steps:
            self.save(trainer, step)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """What has been begun is finished."""
        self.wait()
        self._staging.release()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """The same when the run fails, unless it was told to stop at once."""
        if isinstance(exception, Exception) and not isinstance(exception, StoppedError):
            try:
                self.wait()
            except Exception as error:
                log.error("the last checkpoint was not written: %s", error)

    # -- random numbers and signals -----------------------------------------------------------------------------------

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
        if self._random is not None:
            restore_random_state(self._random)
        else:  # a new run, or more ranks than before
            seed_random(self.seed, pl_module.progress.step, self.world.rank)
        for number in _SIGNALS:  # Lightning has put a handler of its own on SIGTERM, which ends a run without saving
            signal.signal(number, self._note)

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
