"""Tensor parallelism for Llama-like models: every product of a block shared by the processes of one node.

Queries, keys, values, gate and up are cut by rows of the weight (heads, features), output and down by columns, so a
block costs two sums of (T, H) forward and two backward. Everything else stays whole on every process and computes the
same there: embedding, norms and head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    RowwiseParallel,
    parallelize_module,
)
from transformers import PreTrainedConfig

from dsm.errors import UserError
from dsm.models.wrapper import CausalLM

_PARTS = {
    "self_attn": {"q_proj": "rows", "k_proj": "rows", "v_proj": "rows", "o_proj": "columns"},
    "mlp": {"gate_proj": "rows", "up_proj": "rows", "down_proj": "columns"},
}
"""Which linear maps of a block are cut, and how; a model whose blocks have other ones is refused."""
# As one DTensor, the input's gradient is summed over processes once and not once for each map that reads it.
_ONE_INPUT: dict[str, Callable[[], ParallelStyle]] = {
    "self_attn": lambda: PrepareModuleInput(
        input_kwarg_layouts={"hidden_states": Replicate()}, desired_input_kwarg_layouts={"hidden_states": Replicate()}
    ),
    "mlp": lambda: PrepareModuleInput(input_layouts=Replicate(), desired_input_layouts=Replicate()),
}


def check_tensor_parallel(config: PreTrainedConfig, tensor: int) -> None:
    """Raise a `UserError` where heads or features do not divide into `tensor` parts."""
    for name in ("num_attention_heads", "num_key_value_heads", "intermediate_size"):
        size = getattr(config, name, None)
        if size is not None and size % tensor:
            raise UserError(f"parallel.tensor={tensor}: must divide the model's {name}={size}")


def split_blocks(model: CausalLM, mesh: DeviceMesh) -> None:
    """Cut the blocks' linear maps over a mesh of one dimension, in place; their weights become DTensors.

    Raises:
        UserError: the blocks are not Llama-like, or their sizes do not divide.
    """
    tensor = mesh.size()
    check_tensor_parallel(model.model.config, tensor)
    for block in model.blocks:
        plan: dict[str, ParallelStyle] = {}
        for part, names in _PARTS.items():
            linear = {name for name, child in getattr(block, part, nn.Module()).named_modules() if _is_matrix(child)}
            if linear != names.keys():
                raise UserError(
                    f"parallel.tensor={tensor}: {type(model.model).__name__} is not Llama-like ({part} has"
                    f" {', '.join(sorted(linear)) or 'no linear maps'}); allowed: 1"
                )
            plan[part] = _ONE_INPUT[part]()
            for name, cut in names.items():
                plan[f"{part}.{name}"] = ColwiseParallel() if cut == "rows" else RowwiseParallel()
        parallelize_module(block, mesh, plan)


def _is_matrix(module: nn.Module) -> bool:
    return any(weight.ndim > 1 for weight in module.parameters(recurse=False))


def whole_weights(model: CausalLM) -> Iterator[tuple[nn.Parameter, bool]]:
    """The weights that tensor parallelism leaves whole, and whether their gradient is a sum over its processes.

    Norms of queries and keys see this process's heads only: their gradients are parts of a sum. All others are equal on
    every process, up to the order in which a device happens to add.
    """
    partial = {id(w) for block in model.blocks for part in _PARTS for w in getattr(block, part).parameters()}
    for weight in model.parameters():
        if not (isinstance(weight, DTensor) and "tensor" in (weight.device_mesh.mesh_dim_names or ())):
            yield weight, id(weight) in partial


@torch.no_grad()
def sum_whole_gradients(model: CausalLM, mesh: DeviceMesh) -> None:
    """Make the gradients of whole weights what they are mathematically, and the same to the bit on all of `mesh`.

    Copies that differ by rounding, as kernels that add in any order make them, would drift apart over a long run.
    """
    gradients: list[Tensor] = []
    for weight, partial in whole_weights(model):
        if weight.grad is not None:
            gradient = weight.grad.to_local() if isinstance(weight.grad, DTensor) else weight.grad
            gradients.append(gradient if partial else gradient.div_(mesh.size()))
    if gradients:
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat, group=mesh.get_group())
        for gradient, summed in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(summed.view_as(gradient))
