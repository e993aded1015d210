"""What a model is, from its configuration alone: parameters and floating-point operations. Plain arithmetic, no torch.

Only decoders of the Llama kind are known: the others' costs are left unsaid rather than guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# What transformers assumes where a configuration is silent. None: derived from the other settings.
_DEFAULTS: dict[str, dict[str, int | None]] = {
    "llama": {"intermediate_size": 11008, "num_key_value_heads": None, "head_dim": None},
    "mistral": {"intermediate_size": 14336, "num_key_value_heads": 8, "head_dim": None},
    "qwen2": {"intermediate_size": 22016, "num_key_value_heads": 32, "head_dim": None},
    "qwen3": {"intermediate_size": 22016, "num_key_value_heads": 32, "head_dim": 128},
}
KNOWN_ARCHITECTURES = tuple(_DEFAULTS)


@dataclass(frozen=True)
class ModelShape:
    """A decoder of the Llama kind.

    Attributes:
        architecture: transformers' model type.
        hidden, inner, layers, heads, kv_heads, head_dim: its widths and counts.
        vocab: rows of the embedding.
        tied: are embedding and head one matrix?
        layer_vectors: elements of a layer's norms and biases.
    """

    architecture: str
    hidden: int
    inner: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool
    layer_vectors: int

    @classmethod
    def from_config(cls, architecture: str, config: Mapping[str, Any], vocab: int) -> ModelShape | None:
        """The shape that transformers would build; None for an architecture that is not known here."""
        if architecture not in _DEFAULTS:
            return None
        known = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32} | _DEFAULTS[architecture]
        values = known | {key: value for key, value in config.items() if value is not None}
        hidden, inner, heads = (values[f"{key}"] for key in ("hidden_size", "intermediate_size", "num_attention_heads"))
        kv_heads = values["num_key_value_heads"] or heads
        head_dim = values["head_dim"] or hidden // heads
        wide, narrow = heads * head_dim, kv_heads * head_dim
        vectors = 2 * hidden
        if architecture == "qwen2":
            vectors += wide + 2 * narrow
        elif architecture in ("llama", "qwen3") and config.get("attention_bias"):
            vectors += wide + 2 * narrow + hidden
        if architecture == "llama" and config.get("mlp_bias"):
            vectors += 2 * inner + hidden
        if architecture == "qwen3":
            vectors += 2 * head_dim
        tied = bool(config.get("tie_word_embeddings", False))
        return cls(
            architecture, hidden, inner, values["num_hidden_layers"], heads, kv_heads, head_dim, vocab, tied, vectors
        )

    @property
    def layer_matrices(self) -> int:
        """Elements of one layer's matrices: queries, keys, values, output; gate, up, down."""
        attention = 2 * self.hidden * (self.heads + self.kv_heads) * self.head_dim
        return attention + 3 * self.hidden * self.inner

    @property
    def body(self) -> int:
        """Parameters without embedding and head."""
        return self.layers * (self.layer_matrices + self.layer_vectors) + self.hidden

    @property
    def embeddings(self) -> int:
        """Parameters of embedding and head, a shared matrix once."""
        return (1 if self.tied else 2) * self.vocab * self.hidden

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.body + self.embeddings

    def flops_per_token(self, mean_attended_length: float) -> float:
        """Forward and backward, as `CausalLM.flops_per_token`: 6 (N + V H) + 12 layers heads head_dim length."""
        weights = self.body + self.vocab * self.hidden
        return 6.0 * weights + 12.0 * self.layers * self.heads * self.head_dim * mean_attended_length
