"""Small real runs for the tests: data, a tokenizer, command lines, and processes that can be killed.

Processes are forked from a server that has imported everything once, so one more of them costs milliseconds. They see
no CUDA device: what is proved here is proved on the CPU.
"""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tqdm import tqdm

from dsm.cli import main
from dsm.config.runs import newest_checkpoint
from dsm.data.batch import StepBatch
from dsm.data.problems import generate_problems, write_jsonl
from dsm.data.tokenizer import save_tokenizer, train_tokenizer
from dsm.training.checkpoint.folder import read_manifest, read_tensors
from dsm.training.checkpoint.writing import _ChecksummedFiles, _Writer
from dsm.training.step import UpdateModule
from tests.forks import context

_training_step = UpdateModule.training_step
DROPOUT = "model.config.attention_dropout=0.1"  # makes a run depend on the state of the random generator


@dataclass(frozen=True)
class Lab:
    """A folder with training data and a tokenizer."""

    folder: Path

    @classmethod
    def build(cls, folder: Path) -> Lab:
        """Sixty word problems, and a tokenizer learnt from them."""
        lab = cls(folder)
        problems = generate_problems(60, seed=0, steps=(1, 2))
        write_jsonl(problems, lab.data)
        texts = (f"{problem.question} {problem.solution}" for problem in problems)
        save_tokenizer(train_tokenizer(texts, 384), lab.tokenizer)
        return lab

    @property
    def data(self) -> Path:
        return self.folder / "train.jsonl"

    @property
    def tokenizer(self) -> Path:
        return self.folder / "tokenizer"

    def command(self, runs: Path, *settings: str) -> list[str]:
        """The arguments of a run of six steps, every one logged and saved; `settings` add to these or replace them."""
        defaults = [
            "stage=sft",
            "model=tiny",
            "model.config.hidden_size=32",
            "model.config.intermediate_size=48",
            "model.config.num_hidden_layers=2",
            f"tokenizer.path={self.tokenizer}",
            f"data.sources.problems.path={self.data}",
            "data.context=192",
            "data.validation.fraction=0.1",
            "optim.lr=1.0e-3",
            "parallel.accelerator=cpu",
            "parallel.tokens_per_microbatch=384",
            "trainer.steps=6",
            "trainer.sequences_per_step=5",
            "trainer.validate_every=2",
            "checkpoint.every=1",
            "callbacks.progress=false",
            f"paths.runs={runs}",
            f"paths.cache={self.folder / 'cache'}",
        ]
        given = {setting.partition("=")[0]: setting for setting in (*defaults, *settings)}
        return list(given.values())


def run_folder(runs: Path) -> Path:
    """The one run folder below `runs`."""
    (folder,) = (runs / "sft").iterdir()
    return folder


def curve(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what a clock or a memory gauge says."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "time" and k[:6] not in ("speed/", "memory")} for line in lines]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The exported weights."""
    return load_file(folder / "export" / "model.safetensors")


def newest_state(folder: Path) -> dict[str, Any]:
    """All that the newest checkpoint holds."""
    newest = newest_checkpoint(folder / "checkpoints")
    assert newest is not None
    manifest = read_manifest(newest)
    told = {"step": manifest.step, "progress": manifest.progress, "data": manifest.data}
    return {**read_tensors(newest), **told, "callbacks": manifest.callbacks}


def same(one: Any, other: Any) -> bool:
    """Equal to the bit, all the way down."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def assert_same_run(folder: Path, reference: Path) -> None:
    """Two runs ended alike: exported weights, everything in the last checkpoint, every line of metrics."""
    assert same(weights(folder), weights(reference))
    ours, theirs = newest_state(folder), newest_state(reference)
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        assert same(value, theirs[key]), key
    assert curve(folder) == curve(reference)


# -- processes --------------------------------------------------------------------------------------------------------


def start(
    arguments: list[str], output: Path, trouble: Callable[[], None] | None = None, **environment: str
) -> BaseProcess:
    """`dsm` in a process of its own; its messages go to the end of `output`, its status is `exitcode`.

    `trouble` is called first, to prepare something that will befall the process.
    """
    process = context.Process(target=_run, args=(arguments, output, trouble, environment))
    process.start()
    return process


def start_ranks(
    ranks: int, arguments: list[str], output: Path, trouble: dict[int, Callable[[], None]] | None = None
) -> list[BaseProcess]:
    """`dsm` as torchrun starts it; rank r writes to `output` with the suffix .r, `trouble` is by rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks)}
    shared |= {"LOCAL_WORLD_SIZE": str(ranks), "TORCHELASTIC_RUN_ID": "test", "GLOO_SOCKET_IFNAME": "lo"}
    return [
        start(
            arguments,
            output.with_suffix(f".{rank}"),
            (trouble or {}).get(rank),
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            **shared,
        )
        for rank in range(ranks)
    ]


def finish(processes: list[BaseProcess], seconds: float = 60.0) -> list[int | None]:
    """Wait for all of them, kill what hangs; their exit statuses (None = it hung)."""
    deadline = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    statuses = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
        process.join()
    return statuses


def _run(arguments: list[str], output: Path, trouble: Callable[[], None] | None, environment: dict[str, str]) -> None:
    os.environ.update(environment, CUDA_VISIBLE_DEVICES="")
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    torch.set_num_threads(1)
    multiprocessing.set_start_method(None, force=True)  # the default again, not what this process was started by
    tqdm.set_lock(threading.RLock())  # its own is a semaphore, which a killed process would leave behind
    random.seed()  # what a run starts from must not come from the process
    torch.seed()
    if trouble is not None:
        trouble()
    raise SystemExit(main(arguments))


def signal_at(step: int, *signals: signal.Signals) -> Callable[..., None]:
    """A `training_step` that sends its own process signals when so many steps are made."""

    def training_step(self: UpdateModule, batch: StepBatch, batch_idx: int) -> None:
        if self.progress.step == step:
            for number in signals:
                os.kill(os.getpid(), number)
        _training_step(self, batch, batch_idx)

    return training_step


def will_be_signalled(step: int, number: signal.Signals) -> None:
    """Trouble: a signal when so many steps are made."""
    UpdateModule.training_step = signal_at(step, number)  # type: ignore[method-assign]


def will_die_writing(step: int) -> None:
    """Trouble: the process is killed when half of the checkpoint of a step is on the disk."""
    write_data = _Writer.write_data

    def half(self: _Writer, *arguments: Any) -> Any:
        future = write_data(self, *arguments)
        if f"step-{step:08d}" in str(self.path):
            file = Path(self.path) / f"__{os.environ.get('RANK', 0)}_0.distcp"
            os.truncate(file, file.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        return future

    _Writer.write_data = half  # type: ignore[method-assign]


def will_fail_writing(step: int) -> None:
    """Trouble: no room on the disk for the checkpoint of a step."""
    create_stream = _ChecksummedFiles.create_stream

    def full(self: _ChecksummedFiles, path: Any, mode: str) -> Any:
        if f"step-{step:08d}" in str(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return create_stream(self, path, mode)

    _ChecksummedFiles.create_stream = full  # type: ignore[method-assign, assignment]
