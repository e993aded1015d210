"""Tensor parallelism for Llama-like models: every product of a block shared by the processes of one node.

Queries, keys, values, gate and up are cut by rows of the weight (heads, features), output and down by columns, so a
block costs two sums of (T, H) over the processes forward and two backward. Everything else stays whole on every process
and computes the same there: embedding, norms and head.

The weights are DTensors, which is what FSDP2 and checkpoints need to know of them; the products take their local parts,
so no operation pays for DTensor's dispatch and the compiler sees plain tensors.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MethodType
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as collectives
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from transformers import PreTrainedConfig

from dsm.errors import UserError
from dsm.models.wrapper import CausalLM

_ROWS, _COLUMNS = 0, 1
_PARTS = {
    "self_attn": {"q_proj": _ROWS, "k_proj": _ROWS, "v_proj": _ROWS, "o_proj": _COLUMNS},
    "mlp": {"gate_proj": _ROWS, "up_proj": _ROWS, "down_proj": _COLUMNS},
}
"""The linear maps of a block and the dimension each weight is cut on; a model whose blocks have others is refused."""


def check_tensor_parallel(config: PreTrainedConfig, tensor: int) -> None:
    """Raise a `UserError` where heads or features do not divide into `tensor` parts."""
    for name in ("num_attention_heads", "num_key_value_heads", "intermediate_size"):
        size = getattr(config, name, None)
        if size is not None and size % tensor:
            raise UserError(f"parallel.tensor={tensor}: must divide the model's {name}={size}")


def split_blocks(model: CausalLM, mesh: DeviceMesh) -> None:
    """Cut the blocks' linear maps over a mesh of one dimension, in place, before they are cut any further.

    Raises:
        UserError: the blocks are not Llama-like, or their sizes do not divide.
    """
    check_tensor_parallel(model.model.config, mesh.size())
    group = mesh.get_group()
    for block in model.blocks:
        for name, cuts in _PARTS.items():
            part = getattr(block, name, nn.Module())
            linear = {inner for inner, module in part.named_modules() if isinstance(module, nn.Linear)}
            if linear != cuts.keys():
                raise UserError(
                    f"parallel.tensor={mesh.size()}: {type(model.model).__name__} is not Llama-like ({name} has"
                    f" {', '.join(sorted(linear)) or 'no linear maps'}); allowed: 1"
                )
            part.register_forward_pre_hook(_Spread(group), with_kwargs=True)
            for inner, dim in cuts.items():
                _cut(part.get_submodule(inner), dim, mesh)


def _cut(linear: nn.Module, dim: int, mesh: DeviceMesh) -> None:
    for name, weight in list(linear.named_parameters()):
        if dim == _ROWS or weight.ndim == 2:  # a bias is added to whole sums by all processes alike
            cut = distribute_tensor(weight.detach(), mesh, [Shard(dim)], src_data_rank=None)
            linear.register_parameter(name, nn.Parameter(cut, weight.requires_grad))
    if dim == _ROWS:
        linear.forward = MethodType(_linear, linear)
    else:
        linear.forward = MethodType(_summed_linear, linear)
        linear.tensor_group = mesh.get_group()  # type: ignore[assignment]


def _part(weight: Any) -> Any:
    return weight.to_local() if isinstance(weight, DTensor) else weight


def _linear(linear: nn.Linear, x: Tensor) -> Tensor:
    """This process's features."""
    return F.linear(x, _part(linear.weight), _part(linear.bias))


def _summed_linear(linear: Any, x: Tensor) -> Tensor:
    """All features, from the processes' parts of the input."""
    y = _Sum.apply(F.linear(x, _part(linear.weight)), linear.tensor_group)
    return y if linear.bias is None else y + linear.bias


class _Spread:
    """Before the part of a block: its input is whole, but each process finds only a part of its gradient."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group = group

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        if args:
            return (_SumGradient.apply(args[0], self.group), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": _SumGradient.apply(kwargs["hidden_states"], self.group)}


class _Sum(torch.autograd.Function):
    """The sum over processes; each one's gradient is that of the sum."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        return collectives.wait_tensor(collectives.all_reduce(x, "sum", group))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class _SumGradient(torch.autograd.Function):
    """The same on every process, whose gradients are summed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return collectives.wait_tensor(collectives.all_reduce(gradient.contiguous(), "sum", ctx.group)), None


def _whole_weights(model: CausalLM) -> Iterator[tuple[nn.Parameter, bool]]:
    """The weights that tensor parallelism leaves whole, and whether their gradient is a sum over its processes.

    Norms of queries and keys see this process's heads only: their gradients are parts of a sum. All others are equal on
    every process, up to the order in which a device happens to add.
    """
    partial = set()
    for block in model.blocks:
        for name, cuts in _PARTS.items():
            for inner, weight in getattr(block, name).named_parameters():
                if inner.rpartition(".")[0] not in cuts:
                    partial.add(id(weight))
    for weight in model.parameters():
        if not (isinstance(weight, DTensor) and "tensor" in (weight.device_mesh.mesh_dim_names or ())):
            yield weight, id(weight) in partial


@torch.no_grad()
def sum_whole_gradients(model: CausalLM, mesh: DeviceMesh) -> None:
    """Make the gradients of whole weights what they are mathematically, and the same to the bit on all of `mesh`.

    Copies that differ by rounding, as kernels that add in any order make them, would drift apart over a long run.
    """
    gradients: list[Tensor] = []
    for weight, partial in _whole_weights(model):
        if weight.grad is not None:
            gradient = weight.grad.to_local() if isinstance(weight.grad, DTensor) else weight.grad
            gradients.append(gradient if partial else gradient.div_(mesh.size()))
    if gradients:
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat, group=mesh.get_group())
        for gradient, summed in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(summed.view_as(gradient))
