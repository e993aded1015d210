"""Ranks that meet, work in step and get into trouble: `dsm` without a model, for the tests of its watch.

Forked from a server that has imported what they need; all that they print goes to a file a rank.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
import torch.distributed as dist
from omegaconf import OmegaConf

from dsm.config.listing import conf_dir
from dsm.config.parallel import ParallelConfig
from dsm.errors import LOST_RANK, LostRankError, UserError
from dsm.runtime import watch
from dsm.runtime.launch import World, processes
from dsm.runtime.slurm import adopt_launcher
from tests.forks import context

STEPS = 12
TROUBLE_AT = 5
TIMEOUT_S = 5.0


def parallel_config(timeout_s: float) -> ParallelConfig:
    """The defaults, with another time-out."""
    defaults = OmegaConf.to_container(OmegaConf.load(conf_dir() / "parallel" / "auto.yaml"))
    assert isinstance(defaults, dict)
    return ParallelConfig.model_validate(defaults | {"accelerator": "cpu", "timeout_s": timeout_s})


def killed(world: World) -> None:
    if world.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)


def first_killed(world: World) -> None:
    if world.rank == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def stopped(world: World) -> None:
    if world.rank == 1:
        os.kill(os.getpid(), signal.SIGSTOP)


def endless(world: World) -> None:
    if world.rank == 1:
        while True:
            time.sleep(0.001)


def native(world: World) -> None:
    """A call that never lets go of the interpreter."""
    if world.rank == 1:
        re.match(r"(a+)+$", "a" * 60 + "b")


def bug(world: World) -> None:
    if world.rank == 1:
        raise ValueError("boom")


def mistake(world: World) -> None:
    if world.rank == 1:
        raise UserError("data=x: no")


def slow(world: World) -> None:
    """Longer than the time-out, and said so; the other rank only waits."""
    if world.rank == 1:
        watch.progress("checkpoint", watch.SLOW)
        time.sleep(1.5 * TIMEOUT_S)


def late(world: World) -> None:
    """Longer than the time-out in all, never without progress."""
    if world.rank == 1:
        for number in range(15):
            watch.progress(f"validation {number}")
            time.sleep(0.1 * TIMEOUT_S)


def orphaned(world: World) -> None:
    """The launcher is killed; nobody is left to end the ranks, which wait for ever."""
    Path(sys.argv[2], str(world.rank)).write_text(str(os.getpid()))
    if world.rank == 0:
        os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(1000)


def start(trouble: Callable[[World], None], folder: Path, ranks: int = 2) -> list[BaseProcess]:
    """So many ranks that will meet this trouble; rank r prints to folder/r."""
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(ranks),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    shared |= {"LOCAL_WORLD_SIZE": str(ranks)}
    crew = []
    for rank in range(ranks):
        environment = shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        crew.append(context.Process(target=_run, args=(trouble, folder / str(rank), environment)))
        crew[-1].start()
    return crew


def _run(trouble: Callable[[World], None], output: Path, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    raise SystemExit(work(trouble))


def work(trouble: Callable[[World], None], timeout_s: float = TIMEOUT_S) -> int:
    """A rank's steps and its status."""
    torch.set_num_threads(1)
    try:
        with processes(parallel_config(timeout_s)) as world:
            for step in range(STEPS):
                watch.progress(f"step {step}")
                if step == TROUBLE_AT:
                    trouble(world)
                dist.all_reduce(torch.ones(1))
    except UserError:
        return 2
    except LostRankError as error:
        print(error, flush=True)
        return LOST_RANK
    return 0


if __name__ == "__main__":
    adopt_launcher()
    if sys.argv[1] == "killed":  # as in training, where torchrun's SIGTERM waits for the end of the step
        signal.signal(signal.SIGTERM, lambda *_: None)
    raise SystemExit(work({"killed": killed, "orphaned": orphaned}[sys.argv[1]], timeout_s=60.0))
