"""Settings of the engine that generates text: how much it takes on at once, and in which precision."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dsm.config.base import Count, Schema


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
