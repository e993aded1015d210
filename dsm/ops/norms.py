"""The norm of all gradients together, whole or sharded over any meshes."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor


@torch.no_grad()
def clip_grad_norm(parameters: Iterable[Tensor], limit: float) -> Tensor:
    """Scale the gradients, in place, to a global 2-norm of at most `limit`; returns the norm before, a plain number.

    The norm is the same on every process: each gradient counts once, however many processes hold it. Sums of squares
    over a process's own shards are summed over those dimensions of its mesh that the gradient is sharded on and no
    others; gradients on several meshes and plain ones may come together. `limit` may be infinite; no gradient at all
    has norm 0. A norm that is not finite leaves gradients that are not.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return torch.zeros(())
    spread: dict[tuple[dist.ProcessGroup, ...], list[Tensor]] = {}
    for gradient in gradients:
        spread.setdefault(_sharded_over(gradient), []).append(_local(gradient))
    total = torch.zeros((), dtype=torch.float64, device=_local(gradients[0]).device)
    for groups, parts in spread.items():
        square = torch.stack(torch._foreach_norm(parts)).double().square().sum()
        for group in groups:
            dist.all_reduce(square, group=group)
        total += square
    norm = total.sqrt().float()
    if limit != float("inf"):
        factor = torch.clamp(limit / (norm + 1e-6), max=1.0)
        torch._foreach_mul_([part for parts in spread.values() for part in parts], factor)
    return norm


def _local(gradient: Tensor) -> Tensor:
    return gradient.to_local() if isinstance(gradient, DTensor) else gradient


def _sharded_over(gradient: Tensor) -> tuple[dist.ProcessGroup, ...]:
    """The process groups whose members hold different parts; none of a whole gradient."""
    if not isinstance(gradient, DTensor):
        return ()
    mesh, placements = gradient.device_mesh, gradient.placements
    if any(placement.is_partial() for placement in placements):
        raise ValueError(f"a gradient with placements {placements} is not summed yet")
    dims = [dim for dim in range(mesh.ndim) if not placements[dim].is_replicate() and mesh.size(dim) > 1]
    return tuple(mesh.get_group(dim) for dim in dims)
