"""Settings of the update itself and of the run around it: optimiser, schedule, budget, checkpoints, loggers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from dsm.config.base import Count, Schema

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class OptimConfig(Schema):
    """AdamW (paper 2.2: betas 0.9 and 0.95, weight decay 0.1; clip 1.0 from DeepSeek-LLM)."""

    lr: float = Field(gt=0, description="peak learning rate")
    betas: list[Annotated[float, Field(ge=0, lt=1)]] = Field(min_length=2, max_length=2)
    eps: float = Field(gt=0)
    weight_decay: float = Field(ge=0, description="on matrices only")
    clip_norm: float | None = Field(gt=0, description="largest global gradient norm; null = no clipping")


class ConstantConfig(Schema):
    """The peak throughout (paper section 3)."""

    name: Literal["constant"]
    warmup_steps: int = Field(ge=0, lt=2**31)


class MultiStepConfig(Schema):
    """Drops to stated shares of the peak at stated shares of the budget (paper 2.2)."""

    name: Literal["multistep"]
    warmup_steps: int = Field(ge=0, lt=2**31)
    milestones: list[Share] = Field(min_length=1)
    factors: list[Share] = Field(min_length=1)

    @model_validator(mode="after")
    def _pairs(self) -> MultiStepConfig:
        if len(self.factors) != len(self.milestones):
            raise ValueError(f"factors={self.factors} must be as many as milestones={self.milestones}")
        if sorted(self.milestones) != self.milestones:
            raise ValueError(f"milestones={self.milestones} must rise")
        return self


class CosineConfig(Schema):
    """Half a cosine from the peak to a share of it."""

    name: Literal["cosine"]
    warmup_steps: int = Field(ge=0, lt=2**31)
    final_ratio: Share


class WSDConfig(Schema):
    """Warm-up, stable, linear decay over the last share of the budget."""

    name: Literal["wsd"]
    warmup_steps: int = Field(ge=0, lt=2**31)
    decay_fraction: Share
    final_ratio: Share


SchedulerConfig = Annotated[ConstantConfig | MultiStepConfig | CosineConfig | WSDConfig, Field(discriminator="name")]


class LossConfig(Schema):
    """How the sum over tokens is normalised; see `dsm.objectives.normalise`."""

    normalisation: Literal["sequence", "token", "constant"]
    constant_length: Count | None = Field(default=None, description="tokens a sequence counts for under 'constant'")

    @model_validator(mode="after")
    def _length(self) -> LossConfig:
        if (self.normalisation == "constant") != (self.constant_length is not None):
            raise ValueError(
                f"constant_length={self.constant_length} goes with normalisation=constant and only with it"
                f" (normalisation={self.normalisation})"
            )
        return self


class LoopConfig(Schema):
    """The rhythm of a run, whatever its budget."""

    precision: Literal["auto", "bf16", "fp32"]
    log_every: Count
    validate_every: Count | None
    max_skipped_steps: int = Field(ge=0, lt=2**31)


class SFTTrainerConfig(LoopConfig):
    """A budget in steps, passes or tokens; a step counted in packed sequences."""

    steps: Count | None
    epochs: float | None = Field(gt=0)
    tokens: int | None = Field(gt=0, lt=2**63)
    sequences_per_step: Count

    @model_validator(mode="after")
    def _one_budget(self) -> SFTTrainerConfig:
        given = {key: getattr(self, key) for key in ("steps", "epochs", "tokens") if getattr(self, key) is not None}
        if len(given) != 1:
            shown = ", ".join(f"{key}={value}" for key, value in given.items()) or "none"
            raise ValueError(f"give exactly one of steps, epochs and tokens (given: {shown}; set the others to null)")
        return self


class CheckpointConfig(Schema):
    """When a run can be picked up again."""

    every: Count
    keep: Count
    asynchronous: bool


class SamplesConfig(Schema):
    """Text generated while training."""

    every: Count | None
    prompts: Count
    max_new_tokens: Count
    temperature: float = Field(ge=0)


class CallbacksConfig(Schema):
    """What happens between steps."""

    progress: bool
    samples: SamplesConfig


class WandbConfig(Schema):
    """Weights & Biases; a resumed run keeps its id."""

    project: str = Field(min_length=1)
    entity: str | None
    mode: Literal["online", "offline"]
    group: str | None
    tags: list[str]


class LoggerConfig(Schema):
    """Where metrics go besides metrics.jsonl."""

    csv: bool
    tensorboard: bool
    wandb: WandbConfig | None


class PathsConfig(Schema):
    """Folders a run writes to."""

    runs: str = Field(min_length=1)
    cache: str = Field(min_length=1)
