"""How a step is spread over processes: which copies of the model there are and how each is cut. Changes no result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from dsm.config.base import Count, Schema
from dsm.errors import UserError

Strategy = Literal["single", "ddp", "fsdp"]


@dataclass(frozen=True)
class Layout:
    """The ranks as a mesh `replicate x shard x tensor`, the last varying fastest.

    Attributes:
        strategy: one process alone, whole copies that average gradients, or sharded ones (FSDP2).
        replicate: groups that each hold the whole model and see other data.
        shard: ranks that hold one copy together and see other data.
        tensor: ranks that compute every product together and see the same data.
    """

    strategy: Strategy = "single"
    replicate: int = 1
    shard: int = 1
    tensor: int = 1

    @property
    def size(self) -> int:
        """All processes."""
        return self.replicate * self.shard * self.tensor

    @property
    def data_size(self) -> int:
        """Processes that see different data."""
        return self.replicate * self.shard

    def __str__(self) -> str:
        """As a person says it: 'fsdp: 2 copies x 8 shards'."""
        if self.strategy == "single":
            return "one process"
        parts = [f"{self.replicate:,} copies" if self.replicate > 1 or self.strategy == "ddp" else ""]
        parts += [f"{self.shard:,} shards" if self.strategy == "fsdp" else ""]
        parts += [f"tensor {self.tensor}" if self.tensor > 1 else ""]
        return f"{self.strategy}: {' x '.join(part for part in parts if part)}"


class ParallelConfig(Schema):
    """Where and in what portions a step is computed; changes nothing in its result."""

    accelerator: Literal["auto", "cpu", "cuda"]
    strategy: Literal["auto", "ddp", "fsdp"]
    replicate: Count | None
    shard: Count | None
    tensor: Count
    reshard_after_forward: bool
    reduce_gradients: Literal["step", "microbatch"]
    tokens_per_microbatch: Count | None
    data_workers: int = Field(ge=0, le=64)
    timeout_s: float = Field(gt=0)
    requeue: bool

    def layout(self, processes: int | None = None) -> Layout:
        """The mesh for so many processes; for as many as the settings name where `processes` is None.

        Raises:
            UserError: the settings do not make that number.
        """
        sharded = self.strategy == "fsdp" or (self.shard or 1) > 1 or self.tensor > 1
        if self.strategy == "ddp" and sharded:
            key, value = ("tensor", self.tensor) if self.tensor > 1 else ("shard", self.shard)
            raise UserError(
                f"parallel.{key}={value}: strategy=ddp keeps whole copies; allowed with strategy=auto, fsdp"
            )
        replicate, shard = self.replicate, self.shard if sharded else 1
        if processes is None:
            replicate, shard = replicate or 1, shard or 1
            processes = replicate * shard * self.tensor
        elif shard is None:
            shard = max(1, processes // ((replicate or 1) * self.tensor))
        replicate = replicate or max(1, processes // (shard * self.tensor))
        if replicate * shard * self.tensor != processes:
            raise UserError(
                f"parallel.replicate={self.replicate}, shard={self.shard}, tensor={self.tensor}: they do not make"
                f" {processes} processes; their product must be that, and replicate=null takes what the others leave"
            )
        if processes == 1:
            return Layout()
        return Layout("fsdp" if sharded else "ddp", replicate, shard, self.tensor)
