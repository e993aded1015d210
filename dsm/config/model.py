"""Which model: an architecture made new, or weights from a folder or the hub."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from dsm.config.base import Count, Schema


class ModelConfig(Schema):
    """Exactly one of `path` (trained weights) and `architecture` (new weights) is set."""

    path: str | None = Field(None, min_length=1, description="a local Hugging Face folder, or hub:org/name")
    architecture: str | None = Field(None, min_length=1, description="a model type of transformers: llama, qwen2, ...")
    config: dict[str, Any] = Field({}, description="the architecture's settings, by the names transformers uses")
    vocab_size: Count | None = Field(None, description="rows of a new embedding; null = the tokenizer's, padded")
    pad_vocab_multiple: Count = Field(64, description="the rows are rounded up to a multiple of this")
    resize_embeddings: bool = Field(False, description="enlarge a loaded embedding that is too small for the tokenizer")
    attention: Literal["auto", "flash_attn_4", "flash_attn_3", "flash_attn_2", "torch_varlen", "sdpa"] = Field(
        "auto", description="the kernel for packed attention; auto = the first of these that runs here"
    )
    activation_checkpointing: Literal["none", "selective", "full"] = Field(
        "none", description="what is computed again in backward: nothing, all but attention, whole blocks"
    )
    compile: bool = Field(False, description="torch.compile each block")

    @model_validator(mode="after")
    def _one_source(self) -> ModelConfig:
        if (self.path is None) == (self.architecture is None):
            if self.path is None:
                raise ValueError("path=null: must be given (a folder or hub:org/name), or architecture for new weights")
            raise ValueError(
                f"path={self.path}, architecture={self.architecture}: exactly one is allowed; model=pretrained"
                " takes trained weights from path"
            )
        if self.path is not None and (self.config or self.vocab_size is not None):
            key = "config" if self.config else "vocab_size"
            raise ValueError(f"{key}={getattr(self, key)}: only for a new architecture; path={self.path} has its own")
        if self.architecture is not None and self.resize_embeddings:
            raise ValueError("resize_embeddings=true: only with path; a new embedding is made to fit")
        if "vocab_size" in self.config:
            raise ValueError("config.vocab_size: the tokenizer decides it; set vocab_size beside config to fix it")
        return self
