"""The whole of a composed run, one schema for each training stage, and the checks that span groups."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from dsm.config.base import Count, Schema
from dsm.config.data import InstructionDataConfig, TextDataConfig
from dsm.config.hardware import PlanConfig
from dsm.config.model import ModelConfig
from dsm.config.parallel import ParallelConfig
from dsm.config.training import (
    CallbacksConfig,
    CheckpointConfig,
    LoggerConfig,
    LoopConfig,
    LossConfig,
    OptimConfig,
    PathsConfig,
    SchedulerConfig,
    SFTTrainerConfig,
)

DIRECTIONS = ("minimize", "maximize")
"""Which way a metric counts in a sweep."""


class RunConfig(Schema):
    """What every stage has."""

    stage: str
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(ge=0, lt=2**31)
    mode: Literal["run", "plan"]
    resume: str
    sweep_metric: str | Annotated[list[str], Field(min_length=1)]
    sweep_direction: str | list[str] = "minimize"
    paths: PathsConfig

    @property
    def sweep_metrics(self) -> list[str]:
        """The metrics that count in a sweep."""
        return [self.sweep_metric] if isinstance(self.sweep_metric, str) else self.sweep_metric

    @property
    def sweep_directions(self) -> list[str]:
        """Which way each of them counts."""
        given = self.sweep_direction
        return given if isinstance(given, list) else [given] * len(self.sweep_metrics)

    @model_validator(mode="after")
    def _a_direction_a_metric(self) -> RunConfig:
        if unknown := [direction for direction in self.sweep_directions if direction not in DIRECTIONS]:
            raise ValueError(f"sweep_direction={unknown[0]}: must be {' or '.join(DIRECTIONS)}")
        if len(self.sweep_directions) != len(self.sweep_metrics):
            given = ",".join(self.sweep_directions)
            raise ValueError(
                f"sweep_direction=[{given}]: must be one for all, or as many as sweep_metric has"
                f" ({len(self.sweep_metrics)})"
            )
        return self


class TokenizerPathConfig(Schema):
    """Which tokenizer a model speaks."""

    path: str | None


class ModelRunConfig(RunConfig):
    """What a stage with a model has."""

    model: ModelConfig
    tokenizer: TokenizerPathConfig

    @property
    def tokenizer_path(self) -> str:
        """The tokenizer's folder: its own setting, or the model's."""
        path = self.tokenizer.path or self.model.path
        assert path is not None  # _has_tokenizer has seen to it
        return path

    @model_validator(mode="after")
    def _has_tokenizer(self) -> ModelRunConfig:
        if self.tokenizer.path is None and self.model.path is None:
            raise ValueError(
                "tokenizer.path=null: a model made from a configuration brings no tokenizer; give a folder that"
                " 'dsm stage=tokenizer' wrote, or hub:org/name"
            )
        return self


class TrainingConfig(ModelRunConfig):
    """What a stage that updates weights has."""

    optim: OptimConfig
    scheduler: SchedulerConfig
    loss: LossConfig
    parallel: ParallelConfig
    trainer: LoopConfig
    checkpoint: CheckpointConfig
    callbacks: CallbacksConfig
    logger: LoggerConfig
    plan: PlanConfig

    @property
    def context(self) -> int:
        """Tokens that one packed sequence holds at most."""
        raise NotImplementedError

    def tokens_per_microbatch(self, accelerator: str) -> int:
        """As set, or what keeps 'cuda' or 'cpu' busy without much memory: 16K tokens, 4K, a context at least."""
        asked = self.parallel.tokens_per_microbatch
        return asked or max(self.context, 16_384 if accelerator == "cuda" else 4_096)

    def precision(self, accelerator: str) -> str:
        """'bf16' or 'fp32': as set, or bf16 where there is a GPU."""
        asked = self.trainer.precision
        return ("bf16" if accelerator == "cuda" else "fp32") if asked == "auto" else asked


class SFTConfig(TrainingConfig):
    """`stage=sft`: supervised fine-tuning."""

    stage: Literal["sft"]
    data: InstructionDataConfig
    trainer: SFTTrainerConfig

    @property
    def context(self) -> int:
        """Tokens that one packed sequence holds at most."""
        return self.data.context

    @model_validator(mode="after")
    def _warmup_fits(self) -> SFTConfig:
        steps, warmup = self.trainer.steps, self.scheduler.warmup_steps
        if steps is not None and warmup >= steps > 1:
            raise ValueError(f"scheduler.warmup_steps={warmup}: must be less than trainer.steps={steps}")
        return self


class TokenizerTrainingConfig(Schema):
    """How a tokenizer is learnt."""

    vocab_size: int = Field(ge=264, lt=2**31, description="256 bytes and 8 special tokens at least")
    min_frequency: Count


class TokenizerConfig(RunConfig):
    """`stage=tokenizer`: learn a byte-level BPE from text."""

    stage: Literal["tokenizer"]
    tokenizer: TokenizerTrainingConfig
    data: TextDataConfig
