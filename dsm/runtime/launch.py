"""Processes: alone, or one of several that torchrun started. Rank 0 alone decides on folders and tells the others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist

from dsm.config.parallel import Layout, ParallelConfig
from dsm.errors import UserError

T = TypeVar("T")
_runs = count()  # of this process; every rank counts alike


@dataclass(frozen=True)
class World:
    """This process among all."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    layout: Layout = field(default_factory=Layout)
    patient: Any = None  # the group of all ranks for waits without a limit

    @classmethod
    def from_environment(cls) -> World:
        """As torchrun describes it (RANK, WORLD_SIZE, ...); a single process where it does not."""
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
        """Until all ranks are here, however long that takes; one that dies breaks the connection, and so the wait."""
        if self.size > 1:
            dist.barrier(group=self.patient)

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


@contextmanager
def processes(config: ParallelConfig) -> Iterator[World]:
    """Join the other ranks, if there are any, for the time of a run."""
    world = World.from_environment()
    world = replace(world, layout=config.layout(world.size))
    if world.size == 1:
        yield world
        return
    cuda = accelerator(config) == "cuda"
    if cuda:
        torch.cuda.set_device(world.local_rank)
    # gloo carries objects and CPU tensors, nccl the gradients.
    timeout = timedelta(seconds=config.timeout_s)
    store, rank, size = next(dist.rendezvous("env://", timeout=timeout))
    # Each run of a sweep gets names of its own in the store: those of the run before would lead to closed sockets.
    store = dist.PrefixStore(f"run-{next(_runs)}", store)
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
    try:
        yield replace(world, patient=dist.new_group(backend="gloo", timeout=timedelta(days=365)))
    finally:
        dist.destroy_process_group()
