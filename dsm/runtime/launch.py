"""Processes: alone, or one of several that torchrun, srun or submitit started.

Rank 0 alone decides on folders and tells the others. Collectives wait without a limit; a watch over all ranks
(dsm/runtime/watch.py) is what ends a job that one of them holds up.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
import torch.distributed as dist

from dsm.config.parallel import Layout, ParallelConfig
from dsm.errors import LostRankError, UserError
from dsm.runtime.slurm import adopt_launcher
from dsm.runtime.watch import watching

if TYPE_CHECKING:
    from lightning.fabric.plugins.environments import ClusterEnvironment

T = TypeVar("T")
_WITHOUT_LIMIT = timedelta(days=365)
_runs = count()  # of this process; every rank counts alike


@dataclass(frozen=True)
class World:
    """This process among all."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    layout: Layout = field(default_factory=Layout)

    @classmethod
    def from_environment(cls) -> World:
        """As the launcher describes it; a single process where there is none.

        torchrun's variables (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE) come first, then srun's and submitit's.
        """
        adopt_launcher()
        if "WORLD_SIZE" not in os.environ or "RANK" not in os.environ:
            return cls()
        size = int(os.environ["WORLD_SIZE"])
        return cls(
            rank=int(os.environ["RANK"]),
            size=size,
            local_rank=int(os.environ.get("LOCAL_RANK", 0)),
            local_size=int(os.environ.get("LOCAL_WORLD_SIZE", size)),
        )

    @property
    def data_rank(self) -> int:
        """Which share of the data is this process's; the ranks of one tensor group have the same."""
        return self.rank // self.layout.tensor

    @property
    def data_size(self) -> int:
        """Shares of the data."""
        return self.size // self.layout.tensor

    @property
    def first(self) -> bool:
        """Is this the process that writes folders and talks to the user?"""
        return self.rank == 0

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value on every rank."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def on_first(self, make: Callable[[], T]) -> T:
        """What `make` returns on rank 0, on every rank; its `UserError` is raised on every rank too."""
        made: Any = None
        if self.first:
            try:
                made = make()
            except UserError as error:
                made = error
        made = self.broadcast(made)
        if isinstance(made, UserError):
            raise made
        return cast(T, made)

    def largest(self, value: int) -> int:
        """The largest of all ranks' values."""
        if self.size == 1:
            return value
        box = torch.tensor([value])
        dist.all_reduce(box, op=dist.ReduceOp.MAX)
        return int(box)

    def wait(self) -> None:
        """Until all ranks are here, however long that takes."""
        if self.size > 1:
            dist.barrier()

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, in the order of ranks, on every rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values


def accelerator(config: ParallelConfig) -> str:
    """'cuda' or 'cpu', as asked and as there is."""
    if config.accelerator == "cuda" and not torch.cuda.is_available():
        raise UserError("parallel.accelerator=cuda: no CUDA device is visible; allowed here: auto, cpu")
    return ("cuda" if torch.cuda.is_available() else "cpu") if config.accelerator == "auto" else config.accelerator


def own_device(config: ParallelConfig, world: World) -> torch.device:
    """The device of this process."""
    kind = accelerator(config)
    return torch.device(kind, world.local_rank) if kind == "cuda" else torch.device(kind)


def environment(world: World) -> ClusterEnvironment:
    """The processes, for Lightning, which else would find Slurm by itself and take its signals too."""
    from lightning.fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment

    return TorchElasticEnvironment() if world.size > 1 else LightningEnvironment()


@contextmanager
def processes(config: ParallelConfig) -> Iterator[World]:
    """Join the other ranks, if there are any, for the time of a run.

    Raises:
        LostRankError: not all came within parallel.timeout_s.
        UserError: the settings do not go with so many processes, or the port is taken.
    """
    world = World.from_environment()
    world = replace(world, layout=config.layout(world.size))
    if world.size == 1:
        yield world
        return
    cuda = accelerator(config) == "cuda"
    if cuda:
        torch.cuda.set_device(world.local_rank)
    # Each run of a sweep gets names of its own in the store: those of the run before would lead to closed sockets.
    run, store = f"run-{next(_runs)}", _store(config.timeout_s)
    watched = dist.PrefixStore(f"{run}/watch", _connection(config.timeout_s))
    hosted = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    with watching(world.rank, world.size, watched, config.timeout_s, hosted=hosted) as watch:
        try:
            with watch.telling():
                # gloo carries objects and CPU tensors, nccl the gradients.
                dist.init_process_group(
                    "cpu:gloo,cuda:nccl" if cuda else "gloo",
                    store=dist.PrefixStore(run, store),
                    rank=world.rank,
                    world_size=world.size,
                    timeout=_WITHOUT_LIMIT,
                )
                yield world
                world.wait()  # whoever hosts the store leaves last
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()


def wait_without_limit() -> None:
    """Take the time-out of their own (ten minutes) from all groups there are; call it after making some.

    The watch is the judge of who waits too long: it knows what the others are doing.
    """
    from torch.distributed.distributed_c10d import _set_pg_timeout, _world

    for group in _world.pg_map:
        _set_pg_timeout(_WITHOUT_LIMIT, group)


@cache
def _store(timeout_s: float) -> dist.Store:
    """The key-value store of all ranks, for the life of the process: torchrun's, or one that rank 0 hosts."""
    address = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    try:
        store, _, _ = next(dist.rendezvous("env://", timeout=timedelta(seconds=timeout_s)))
    except dist.DistNetworkError as error:
        if "EADDRINUSE" in str(error):
            raise UserError(
                f"MASTER_PORT: {address} is taken by another process; set MASTER_PORT to a free port"
            ) from None
        raise LostRankError(_nobody(address, timeout_s)) from None
    except dist.DistStoreError:
        raise LostRankError(_nobody(address, timeout_s)) from None
    return cast(dist.Store, store)


def _connection(timeout_s: float) -> dist.Store:
    """Another one to the same store: a thread that waits on a connection blocks all others there."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return dist.TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=timeout_s))


def _nobody(address: str, timeout_s: float) -> str:
    return (
        f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']}: not all ranks met at {address} within"
        f" parallel.timeout_s={timeout_s:g} s; look at their output, and whether the address can be reached"
    )
