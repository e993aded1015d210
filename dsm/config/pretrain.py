"""`stage=pretrain`: next-token prediction on a mix of token stores, with budgets in tokens."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

from pydantic import Field, model_validator

from dsm.config.base import Count
from dsm.config.in_training import MeasuredConfig
from dsm.config.mix import MixConfig
from dsm.config.spikes import SpikeConfig
from dsm.config.training import LoopConfig


class PretrainTrainerConfig(LoopConfig):
    """A budget and a step, both in tokens."""

    tokens: int = Field(gt=0, lt=2**63, description="the whole run")
    tokens_per_step: Count = Field(description="one optimiser step, over all ranks")


class PretrainConfig(MeasuredConfig):
    """Continue a model, or start one, on an exactly proportioned mix (paper section 2.3)."""

    stage: Literal["pretrain"]
    mix: MixConfig
    trainer: PretrainTrainerConfig
    spikes: SpikeConfig

    @property
    def context(self) -> int:
        """Tokens of one sequence."""
        return self.mix.context

    @property
    def sequences(self) -> int:
        """Whole sequences in the budget."""
        return self.trainer.tokens // self.context

    @property
    def sequences_per_step(self) -> Fraction:
        """Sequences in one step; 10M tokens are 2,441.4 of 4,096, so steps take 2,441 or 2,442 in turn."""
        return Fraction(self.trainer.tokens_per_step, self.context)

    @property
    def steps(self) -> int:
        """Optimiser steps; the last takes what is left."""
        return -(-self.sequences // self.sequences_per_step)

    @model_validator(mode="after")
    def _budget_fits(self) -> PretrainConfig:
        budget, step, warmup = self.trainer.tokens, self.trainer.tokens_per_step, self.scheduler.warmup_steps
        if step < self.context:
            raise ValueError(f"trainer.tokens_per_step={step}: a sequence alone has mix.context={self.context} tokens")
        if budget < step:
            raise ValueError(f"trainer.tokens={budget}: less than one step of trainer.tokens_per_step={step} tokens")
        if warmup >= self.steps > 1:
            raise ValueError(f"scheduler.warmup_steps={warmup}: must be less than the {self.steps} steps of the budget")
        return self
