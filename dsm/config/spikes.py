"""What counts as a spike of the loss or of the gradient norm, and what is done about it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from dsm.config.base import Count, Schema


class SpikeConfig(Schema):
    """The guard that looks at every step before its update (`dsm.training.spikes` has the exact definition)."""

    policy: Literal["log", "skip", "stop"] = Field(
        description="log: list it and go on; skip: leave the update out, go on with the next step; stop: end the run"
    )
    window: Count = Field(description="steps before this one that it is compared with")
    min_history: Count = Field(description="steps that must have been seen before any is called a spike")
    loss_sigmas: float | None = Field(
        gt=0, description="robust standard deviations above the median; null = not judged"
    )
    grad_norm_sigmas: float | None = Field(gt=0, description="the same for the logarithm of the norm before clipping")
    max_in_a_row: Count = Field(
        description="policy=skip: so many steps in a row are skipped, the next one stops the run"
    )

    @model_validator(mode="after")
    def _fields_fit_together(self) -> SpikeConfig:
        if not 2 <= self.min_history <= self.window:
            raise ValueError(f"min_history={self.min_history}: must be from 2 to window={self.window}")
        if self.loss_sigmas is None and self.grad_norm_sigmas is None:
            raise ValueError("loss_sigmas=null, grad_norm_sigmas=null: nothing would be judged; give at least one")
        return self
