"""A policy's weights on their way into an engine: whole, one at a time, however the policy is spread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from dsm.models.sharding import units
from dsm.models.wrapper import CausalLM


class WholeWeights(Mapping[str, Tensor]):
    """`model.model.state_dict()`, whose sharded weights become whole when they are read, and only for as long.

    So an engine that copies one weight after another needs room for its own copy and one weight more. What is sharded
    is gathered in `dtype`, the engine's: half the traffic under bf16. Reading a sharded weight is a joint act: all
    processes read the same ones in the same order, as engines do that load the same network.
    """

    def __init__(self, model: CausalLM, dtype: torch.dtype) -> None:
        with torch.inference_mode(False), torch.no_grad():  # shards have no notion of the other mode
            for unit in units(model):
                unit.reshard()
            self._weights: dict[str, Tensor] = model.model.state_dict()
        self._dtype = dtype

    def __getitem__(self, name: str) -> Tensor:
        weight = self._weights[name]
        if not isinstance(weight, DTensor):
            return weight
        with torch.inference_mode(False), torch.no_grad():
            cast = weight.to(self._dtype) if weight.is_floating_point() else weight
            assert isinstance(cast, DTensor)
            return cast.full_tensor()

    def __contains__(self, name: object) -> bool:
        return name in self._weights  # without reading it

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)
