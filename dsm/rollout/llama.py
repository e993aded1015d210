"""The decoder of Llama and its close relatives by hand: few, large operations.

One product makes queries, keys and values, one makes gate and up; the residual is added inside the product that makes
it; rotary embeddings are one complex multiplication for all heads. For the last, the two halves of a head that rotate
together are interleaved, in the rows of the weights: scores do not notice a common order of features.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.activations import ACT2FN

from dsm.models.wrapper import CausalLM
from dsm.rollout.cache import LayerShape
from dsm.rollout.linear import Linear
from dsm.rollout.network import Attend

FAMILIES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
FIXED_ROPE = ("default", "linear", "llama3", "yarn")
"""Kinds of rotary embedding whose angles depend on nothing but the position."""


def is_llama_like(model: CausalLM) -> bool:
    """Whether `LlamaNetwork` computes what this model does."""
    config = model.model.config
    rope = getattr(config, "rope_parameters", None) or {}
    return (
        type(model.model).__name__.removeprefix("FSDP") in FAMILIES
        and rope.get("rope_type", "default") in FIXED_ROPE
        and rope.get("partial_rotary_factor", 1.0) == 1.0
    )


@dataclass(frozen=True)
class _Layer:
    attention_norm: Tensor
    qkv: Linear
    head_norm: Tensor | None
    """(heads + kv heads, dim): Qwen3 normalises queries and keys."""
    out: Linear
    mlp_norm: Tensor
    gate_up: Linear
    down: Linear


class LlamaNetwork:
    """A `Network` with weights of its own, fused and packed."""

    def __init__(self, model: CausalLM, dtype: torch.dtype, weights: Mapping[str, Tensor]) -> None:
        config = model.model.config
        self.dtype, self.device = dtype, model.head_weight.device
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.dim = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.eps, self.activation = config.rms_norm_eps, ACT2FN[config.hidden_act]
        blocks = model.model.base_model.layers
        self.windows = [getattr(block.self_attn, "sliding_window", None) for block in blocks]
        if type(model.model).__name__.removeprefix("FSDP") == "MistralForCausalLM":
            self.windows = [config.sliding_window] * len(blocks)
        self.tied = bool(config.tie_word_embeddings)
        self.shapes = (LayerShape(self.heads, self.kv_heads, self.dim, self.dim),) * len(blocks)
        self.rotary = copy.deepcopy(model.model.base_model.rotary_emb)
        self.angles = torch.empty(0, 1, self.dim // 2, dtype=torch.complex64, device=self.device)
        self.load(weights)

    def unload(self) -> None:
        del self.layers, self.norm, self.embedding, self.head_weight, self.head

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Fuse and pack a state dict; tensors are copied."""

        def get(name: str) -> Tensor:
            return weights[name].detach().to(self.device, self.dtype, copy=True)

        def fused(*names: str, rotated: int = 0) -> Linear:
            """Several maps of the same input as one; its first `rotated` outputs are heads whose pairs join."""
            kinds = ["weight", "bias"] if f"{names[0]}.bias" in weights else ["weight"]
            parts = [torch.cat([get(f"{name}.{kind}") for name in names]) for kind in kinds]
            if rotated:
                parts = [torch.cat([self._paired(part[:rotated]), part[rotated:]]) for part in parts]
            return Linear(*parts)

        rotated = (self.heads + self.kv_heads) * self.dim
        self.layers: list[_Layer] = []
        for i in range(len(self.windows)):
            layer = f"model.layers.{i}"
            attention, mlp = f"{layer}.self_attn", f"{layer}.mlp"
            head_norm = None
            if f"{attention}.q_norm.weight" in weights:
                norms = (self._paired(get(f"{attention}.{name}_norm.weight")) for name in "qk")
                counts = (self.heads, self.kv_heads)
                head_norm = torch.cat([norm.expand(count, -1) for norm, count in zip(norms, counts, strict=True)])
            self.layers.append(
                _Layer(
                    attention_norm=get(f"{layer}.input_layernorm.weight"),
                    qkv=fused(*(f"{attention}.{x}_proj" for x in "qkv"), rotated=rotated),
                    head_norm=head_norm,
                    out=fused(f"{attention}.o_proj"),
                    mlp_norm=get(f"{layer}.post_attention_layernorm.weight"),
                    gate_up=fused(f"{mlp}.gate_proj", f"{mlp}.up_proj"),
                    down=fused(f"{mlp}.down_proj"),
                )
            )
        self.norm, self.embedding = get("model.norm.weight"), get("model.embed_tokens.weight")
        self.head_weight: Tensor = self.embedding if self.tied else get("lm_head.weight")
        self.head = Linear(self.head_weight)

    def forward(self, input_ids: Tensor, position_ids: Tensor, attend: Attend) -> Tensor:
        """(T,) tokens and their positions -> (T, H)."""
        rotation = self.angles[position_ids]  # (T, 1, dim / 2)
        tokens, rotated = len(input_ids), self.heads + self.kv_heads
        x = self.embedding[input_ids]
        for i, layer in enumerate(self.layers):
            qkv = layer.qkv(self._rms(x, layer.attention_norm)).view(tokens, rotated + self.kv_heads, self.dim)
            qk = qkv[:, :rotated]
            if layer.head_norm is not None:
                qk = self._rms(qk, layer.head_norm)
            pairs = torch.view_as_complex(qk.float().unflatten(2, (-1, 2)))
            qk = torch.view_as_real(pairs * rotation).flatten(2).to(x.dtype)
            mixed = attend(
                i, qk[:, : self.heads], qk[:, self.heads :], qkv[:, rotated:], self.dim**-0.5, self.windows[i]
            )
            x = layer.out(mixed.reshape(tokens, -1), add=x)
            gate, up = layer.gate_up(self._rms(x, layer.mlp_norm)).chunk(2, dim=1)
            x = layer.down(self.activation(gate).mul_(up), add=x)
        return self._rms(x, self.norm)

    def logits(self, hidden: Tensor) -> Tensor:
        """(R, H) -> (R, V) fp32."""
        return self.head(hidden).float()

    def cover(self, positions: int) -> None:
        """Make the table of rotations reach this many positions."""
        if positions <= len(self.angles):
            return
        cos, sin = self.rotary(self.embedding.new_empty(1, dtype=torch.float32), torch.arange(positions)[None])
        half = self.dim // 2
        self.angles = torch.complex(cos[0, :, :half], sin[0, :, :half])[:, None].to(self.device)

    def _paired(self, x: Tensor) -> Tensor:
        """Rows of whole heads, with the two rows that rotate together made neighbours."""
        return x.unflatten(0, (-1, 2, self.dim // 2)).transpose(1, 2).flatten(0, 2)

    def _rms(self, x: Tensor, weight: Tensor) -> Tensor:
        if x.dtype == torch.float32 and weight.ndim == 1:
            return F.rms_norm(x, weight.shape, weight, self.eps)
        wide = x.float()
        return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)).to(x.dtype)
