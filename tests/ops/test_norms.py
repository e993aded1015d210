"""The global norm counts every number once, wherever it lies."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Partial, Replicate, Shard, distribute_tensor

from dsm.ops.norms import clip_grad_norm
from tests.ranks import run_ranks


def with_gradient(gradient: Any) -> Tensor:
    weight = torch.zeros_like(gradient, requires_grad=True)
    weight.grad = gradient
    return weight


def gradients() -> list[Tensor]:
    return [torch.randn(size, generator=torch.Generator().manual_seed(len(size))) for size in ((7,), (6, 5), (3, 4, 2))]


def test_plain_gradients() -> None:
    norm = math.sqrt(sum(float(gradient.double().square().sum()) for gradient in gradients()))
    for limit in (math.inf, 2 * norm, norm / 3):
        weights = [*map(with_gradient, gradients()), torch.zeros(2, requires_grad=True)]
        found = clip_grad_norm(weights, limit)
        assert float(found) == pytest.approx(norm, rel=1e-6)
        for weight, gradient in zip(weights, gradients(), strict=False):
            torch.testing.assert_close(weight.grad, gradient * min(1.0, limit / norm))
    assert float(clip_grad_norm([torch.zeros(2, requires_grad=True)], 1.0)) == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_shows(bad: float) -> None:
    assert not math.isfinite(clip_grad_norm([with_gradient(torch.tensor([1.0, bad]))], 1.0))


def spread() -> list[tuple[float, bool]]:
    """On four ranks: gradients on meshes of one and two dimensions, uneven shards, copies, and a plain one."""
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
    other = init_device_mesh("cpu", (4,), mesh_dim_names=("all",))
    results = []
    for limit in (math.inf, 1.0):
        one, two, three = gradients()
        weights = [
            with_gradient(distribute_tensor(one, mesh, [Replicate(), Shard(0)])),
            with_gradient(distribute_tensor(two, mesh, [Shard(0), Shard(1)])),
            with_gradient(distribute_tensor(three, other, [Shard(0)])),
            with_gradient(distribute_tensor(one, other, [Replicate()])),
            with_gradient(two),
        ]
        norm = clip_grad_norm(weights, limit)
        factor = min(1.0, limit / float(norm))
        one, two, three = gradients()  # a distributed tensor may share the memory of what it was made from
        whole = [one, two, three, one, two]
        found = [w.grad.full_tensor() if hasattr(w.grad, "full_tensor") else w.grad for w in weights]  # type: ignore[union-attr]
        close = all(torch.allclose(f, w * factor, rtol=1e-5) for f, w in zip(found, whole, strict=True))
        results.append((float(norm), close))
    with pytest.raises(ValueError, match="not summed yet"):
        clip_grad_norm([with_gradient(distribute_tensor(one, other, [Partial()]))], 1.0)
    return results


def test_gradients_on_several_meshes() -> None:
    one, two, three = (float(gradient.double().square().sum()) for gradient in gradients())
    expected = math.sqrt(2 * one + 2 * two + three)
    for results in run_ranks(4, spread):
        for norm, close in results:
            assert norm == pytest.approx(expected, rel=1e-6)
            assert close
