"""What a model costs, from its shape alone: parameters, floating-point operations, memory. Plain arithmetic, no torch.

Only decoders of the Llama kind are known: the others' costs are left unsaid rather than guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LOGITS_TILE_BYTES = {"gpu": 256 << 20, "cpu": 16 << 20}
"""Size of one fp32 tile of logits, as in `dsm.ops.logprobs` (a test holds the two together)."""

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

    def activation_bytes(self, device: str, precision: str) -> int:
        """What autograd keeps of one token in one layer, in bytes.

        Both norms keep their input and its normalised form, every linear map its input (under autocast a bf16 copy for
        each map), attention its queries, keys, values and output, SiLU and the product their operands. With
        H, I, A, K = hidden, inner, heads x head_dim, kv heads x head_dim:

            fp32            4 (6 H + 3 A + 2 K + 4 I)
            bf16 on a GPU   26 H + 4 A + 4 K + 8 I
            bf16 on a CPU   26 H + 10 A + 8 K + 8 I    (its attention computes in fp32)
        """
        wide, narrow = self.heads * self.head_dim, self.kv_heads * self.head_dim
        if precision == "fp32":
            return 4 * (6 * self.hidden + 3 * wide + 2 * narrow + 4 * self.inner)
        attention = 4 * wide + 4 * narrow if device == "gpu" else 10 * wide + 8 * narrow
        return 26 * self.hidden + attention + 8 * self.inner

    def memory(self, device: str, precision: str, tokens: int, *, checkpointing: bool) -> dict[str, int]:
        """Bytes on a device that holds the whole model and computes a micro-batch of `tokens`, by what they are for.

        Left out, for they depend on the machine: the CUDA context, fragmentation, temporary buffers of a few layers.
        """
        size = self.parameters
        layer = self.activation_bytes(device, precision) * tokens
        # Checkpointed, a layer keeps its fp32 input only; one layer at a time is recomputed in full.
        kept = self.layers * 4 * self.hidden * tokens + layer if checkpointing else self.layers * layer
        tile = max(LOGITS_TILE_BYTES[device], 4 * 1024 * tokens)
        parts = {"weights, fp32": 4 * size, "gradients, fp32": 4 * size, "AdamW state, fp32": 8 * size}
        if precision == "bf16":
            parts["bf16 copies of matrices"] = 2 * self.layers * self.layer_matrices
        parts["activations"] = kept + 8 * self.hidden * tokens
        parts["logits and head"] = 2 * min(tile, 4 * self.vocab * tokens) + 4 * self.vocab * self.hidden
        return parts
