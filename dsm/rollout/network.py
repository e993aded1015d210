"""A policy's network as engines run it: forward only, attention left to the caller, on a copy of the weights.

`Attend` is what differs between computing prompts and continuing them; a network calls it once a layer, in order.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from dsm.models import attention as packed_attention
from dsm.models.wrapper import CausalLM, seeded_rng
from dsm.ops.varlen import Varlen
from dsm.rollout.cache import LayerShape
from dsm.rollout.linear import Linear

Attend = Callable[[int, Tensor, Tensor, Tensor, float, int | None], Tensor]
"""(layer, query (T, heads, dim), key and value (T, kv heads, dim), scale, sliding window) -> (T, heads, dim)."""
OnKeyValue = Callable[[int, Tensor, Tensor], None]
"""(layer, key, value (T, kv heads, dim)): what a forward over whole prompts hands on for the cache."""


class Network(Protocol):
    """`forward` gives final hidden states, `logits` fp32 logits from them."""

    shapes: tuple[LayerShape, ...]
    """Of each layer's keys and values."""
    dtype: torch.dtype
    device: torch.device

    @property
    def head_weight(self) -> Tensor:
        """(V, H)."""
        ...

    def forward(self, input_ids: Tensor, position_ids: Tensor, attend: Attend) -> Tensor:
        """(T,) tokens and their positions -> (T, H)."""
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """(R, H) -> (R, V) fp32."""
        ...

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take over weights by transformers' names; tensors are copied."""
        ...

    def unload(self) -> None:
        """Give the weights' memory back; `load` comes before anything else."""
        ...

    def cover(self, positions: int) -> None:
        """Be ready for this many positions."""
        ...


class PackedAttention:
    """Attention within whole documents that lie end to end; keys and values are handed on as they come."""

    def __init__(self, varlen: Varlen, on_key_value: OnKeyValue | None = None) -> None:
        self.varlen, self.on_key_value = varlen, on_key_value

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None) -> Tensor:
        if self.on_key_value is not None:
            self.on_key_value(layer, k, v)
        output, _ = ALL_ATTENTION_FUNCTIONS[packed_attention.NAME](
            None,
            *(x.transpose(0, 1)[None] for x in (q, k, v)),
            None,
            varlen=self.varlen,
            attention_backend="auto",
            scaling=scale,
            sliding_window=window,
        )
        return output[0]


class TransformersNetwork:
    """Any architecture that the wrapper takes: transformers' own modules, with attention handed out of them."""

    NAME = "dsm_engine"

    def __init__(self, model: CausalLM, dtype: torch.dtype, weights: Mapping[str, Tensor]) -> None:
        if model.sharding is None:
            self._check(model)
            network = copy.deepcopy(model.model)
        else:  # it has run packed attention before, and its shards are no network
            with seeded_rng(0):
                network = type(model.model)(copy.deepcopy(model.model.config)).to(model.head_weight.device)
        self.model: PreTrainedModel = network.to(dtype).eval().requires_grad_(False)
        self.model.set_attn_implementation(self.NAME)
        self.dtype, self.device = dtype, self.head_weight.device
        self.shapes = self._probe()
        self.load(weights)

    @property
    def head_weight(self) -> Tensor:
        return self.model.get_output_embeddings().weight

    def load(self, weights: Mapping[str, Tensor]) -> None:
        for name, weight in self._weights():
            weight.data = weights[name].detach().to(self.device, self.dtype, copy=True)
        self.head = Linear(self.head_weight)

    def unload(self) -> None:
        for _, weight in self._weights():
            weight.data = weight.new_empty(0)
        del self.head

    def _weights(self) -> Iterator[tuple[str, Tensor]]:
        """All that a state dict holds, what is tied once."""
        persistent = self.model.state_dict().keys()
        yield from self.model.named_parameters()
        yield from ((name, buffer) for name, buffer in self.model.named_buffers() if name in persistent)

    def forward(self, input_ids: Tensor, position_ids: Tensor, attend: Attend) -> Tensor:
        with torch.compiler.set_stance("force_eager"):
            output = self.model.base_model(
                input_ids=input_ids[None], position_ids=position_ids[None], use_cache=False, attend=_InOrder(attend)
            )
        return output.last_hidden_state[0]

    def logits(self, hidden: Tensor) -> Tensor:
        return self.head(hidden).float()

    def cover(self, positions: int) -> None:
        """Modules make what they need as they go."""

    @staticmethod
    def _check(model: CausalLM) -> None:
        """One token through packed attention, which refuses what no attention of ours computes."""
        token = torch.zeros(1, dtype=torch.int64, device=model.head_weight.device)
        training = model.training
        model.eval()
        try:
            model(token, Varlen.from_lengths([1], token.device))
        finally:
            model.train(training)

    def _probe(self) -> tuple[LayerShape, ...]:
        """One token shows the keys and values of every layer."""
        shapes: list[LayerShape] = []

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None) -> Tensor:
            shapes.append(LayerShape(q.shape[1], k.shape[1], k.shape[2], v.shape[2]))
            return v.repeat_interleave(q.shape[1] // v.shape[1], dim=1)

        token = torch.zeros(1, dtype=torch.int64, device=self.device)
        self.forward(token, token, attend)
        return tuple(shapes)


class _InOrder:
    """Counts the layers of one forward."""

    def __init__(self, attend: Attend) -> None:
        self.attend, self.layer = attend, 0

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None) -> Tensor:
        self.layer += 1
        return self.attend(self.layer - 1, q, k, v, scale, window)


def _handed_out(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    attend: _InOrder,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """One layer's attention as transformers calls it: (1, heads, T, dim) -> (1, T, heads, dim)."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    return attend(q, k, v, scale, sliding_window)[None], None


AttentionInterface.register(TransformersNetwork.NAME, torch.compiler.disable(_handed_out))
