"""The machine that `mode=plan` reckons with; nothing else reads it."""

from __future__ import annotations

from pydantic import Field

from dsm.config.base import Count, Schema


class PlanConfig(Schema):
    """One GPU, how many of them, and how much of it a run gets to use."""

    device: str = Field(min_length=1, description="its name, for people")
    gpus: Count | None = Field(description="of the whole job; null = as many as the launcher or `parallel` name")
    memory_gb: float = Field(gt=0, description="10^9 bytes of one device")
    usable: float = Field(gt=0, le=1, description="share of it that a run's tensors can have")
    tflops: float = Field(gt=0, description="10^12 dense bf16 operations a second, at its peak")
    mfu: float = Field(gt=0, le=1, description="share of the peak that the model's own operations sustain")

    @property
    def room(self) -> float:
        """Bytes that a run's tensors can have."""
        return self.memory_gb * 1e9 * self.usable

    @property
    def rate(self) -> float:
        """The model's own operations a second on one device."""
        return self.tflops * 1e12 * self.mfu
