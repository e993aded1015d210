"""One model over many processes: FSDP2 over the mesh `replicate x shard`, tensor parallel inside it.

Each decoder block is one unit: gathered before it computes, dropped after, its gradients summed and scattered in one
piece. Embedding, final norm and head make up the root's unit, whole for all of forward and backward, because a tied
head is the embedding and because log-probabilities read the head outside of its module's forward.

Gradients are *summed* over processes, never averaged: the step divides by a count it has taken over all of them.
Parameters, gradients and the optimiser's state are fp32 shards; under bf16 each gathered copy is bf16, and sums over
processes are fp32 again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from dsm.config.parallel import Layout
from dsm.models.tensor import split_blocks
from dsm.models.wrapper import CausalLM

MESH_DIMS = ("replicate", "shard", "tensor")
# A weight cut twice takes two gathers; torch says so each time.
logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)
_FORWARDS = ("logprobs", "logits", "generate", "values")  # beside `forward`: whatever reads weights


@dataclass(frozen=True)
class Sharding:
    """How a model is spread.

    Attributes:
        mesh: all processes as `replicate x shard x tensor`, `tensor` varying fastest.
        device: this process's.
        precision: of what is computed; what is kept is fp32.
        reshard_after_forward: drop each gathered block until backward, or keep it: less memory or less traffic.
    """

    mesh: DeviceMesh
    device: torch.device
    precision: Literal["fp32", "bf16"] = "fp32"
    reshard_after_forward: bool = True

    @classmethod
    def over(
        cls, layout: Layout, device: torch.device, precision: Literal["fp32", "bf16"], *, reshard_after_forward: bool
    ) -> Sharding:
        """The mesh of a layout over the processes of the default group; every one of them must call this."""
        shape = (layout.replicate, layout.shard, layout.tensor)
        mesh = init_device_mesh(device.type, shape, mesh_dim_names=MESH_DIMS)
        return cls(mesh, device, precision, reshard_after_forward)

    @property
    def tensor(self) -> int:
        """Processes that compute each layer together."""
        return self.mesh["tensor"].size()

    @property
    def data_mesh(self) -> DeviceMesh:
        """What FSDP works on: `shard`, or `replicate x shard` where there are several copies (HSDP)."""
        return self.mesh["replicate", "shard"] if self.mesh["replicate"].size() > 1 else self.mesh["shard"]


def shard_model(model: CausalLM, sharding: Sharding) -> None:
    """Cut a model in place; its parameters become DTensors, on the meta device if they are there.

    Raises:
        UserError: `parallel.tensor` does not fit the architecture.
    """
    if sharding.tensor > 1:
        split_blocks(model, sharding.mesh["tensor"])
    half = torch.bfloat16 if sharding.precision == "bf16" else None
    mesh, sums = sharding.data_mesh, torch.float32
    inner = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=sums)
    for block in model.blocks:
        fully_shard(block, mesh=mesh, reshard_after_forward=sharding.reshard_after_forward, mp_policy=inner)
    # The root's floating inputs are temperatures, which stay exact.
    outer = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=sums, cast_forward_inputs=False)
    fully_shard(model, mesh=mesh, reshard_after_forward=False, mp_policy=outer)
    for unit in units(model):
        unit.set_gradient_divide_factor(1.0)
        unit.set_force_sum_reduction_for_comms(True)  # else a factor of 1 becomes an operation only NCCL knows
    for name in filter(partial(hasattr, model), _FORWARDS):
        register_fsdp_forward_method(model, name)
        setattr(model, name, _resharding(model, getattr(model, name)))
    model.register_forward_hook(_reshard_after_looking)
    model.sharding = sharding


def units(model: nn.Module) -> list[FSDPModule]:
    """What is gathered and scattered as one: the root and each block; none where nothing is sharded."""
    return [module for module in model.modules() if isinstance(module, FSDPModule)]


def _reshard_after_looking(model: nn.Module, inputs: Any, output: Any) -> None:
    """Where no backward pass follows that would, drop the gathered weights: they would grow stale."""
    if not (torch.is_grad_enabled() and isinstance(output, tuple | Tensor)):
        for unit in units(model):
            unit.reshard()


def _resharding(model: nn.Module, method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def run(*args: Any, **kwargs: Any) -> Any:
        output = method(*args, **kwargs)
        _reshard_after_looking(model, args, output)
        return output

    return run


def local_slices(weight: Tensor) -> tuple[slice, ...]:
    """The part of the whole tensor that this process keeps: one slice a dimension, perhaps empty.

    `tensor` cuts first and `shard` cuts what that leaves, each into equal chunks but the last (`torch.chunk`).
    """
    cuts = [slice(0, size) for size in weight.shape]
    if isinstance(weight, DTensor):
        mesh = weight.device_mesh
        for dim in reversed(range(mesh.ndim)):
            placement = weight.placements[dim]
            if not placement.is_replicate():
                axis: int = placement.dim  # type: ignore[attr-defined]
                cuts[axis] = _chunk(cuts[axis], mesh.size(dim), mesh.get_local_rank(dim))
    return tuple(cuts)


def _chunk(cut: slice, parts: int, number: int) -> slice:
    size = -(-(cut.stop - cut.start) // parts)
    first = min(cut.start + number * size, cut.stop)
    return slice(first, min(first + size, cut.stop))


def local(weight: Tensor) -> Tensor:
    """This process's part, to read or to write."""
    return weight.to_local() if isinstance(weight, DTensor) else weight


@torch.no_grad()
def stream_weights(model: CausalLM) -> Iterator[tuple[str, Tensor]]:
    """Each weight of `model.model` whole, one at a time, on every process's device; a tied weight once.

    All processes must draw the stream to its end together: every weight is gathered when its turn comes.
    """
    for unit in units(model):
        unit.reshard()
    for name, weight in model.model.named_parameters():
        yield name, weight.full_tensor() if isinstance(weight, DTensor) else weight.detach()
    persistent = model.model.state_dict().keys()
    for name, buffer in model.model.named_buffers():
        if name in persistent:
            yield name, buffer.detach()


def full_state_dict(model: CausalLM, *, keep: bool = True) -> dict[str, Tensor]:
    """All weights whole on the CPU where `keep`, as `export_model` takes them; every process must take part.

    The device holds one whole weight at a time, so the largest of them is all the room it needs.
    """
    return {name: weight.to("cpu", copy=True) for name, weight in stream_weights(model) if keep}
