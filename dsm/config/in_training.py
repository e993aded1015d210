"""Benchmarks that a model answers while it is being trained."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from dsm.config.benchmark import BenchmarkConfig
from dsm.config.engine import EngineConfig
from dsm.config.evaluation import AnsweringConfig, EvalConfig
from dsm.config.run import TrainingConfig


class InTrainingEvalConfig(AnsweringConfig):
    """When the live model is measured, and how. Changes nothing in what training results in."""

    engine: EngineConfig  # embedded: it takes live weights, however they are sharded
    every_tokens: int = Field(
        gt=0, lt=2**63, description="tokens of the budget between two evaluations; one is made at the end in any case"
    )

    @model_validator(mode="before")
    @classmethod
    def _switched_on(cls, settings: Any) -> Any:
        if isinstance(settings, dict) and "grader" not in settings:
            raise ValueError(f"{next(iter(settings), '')}: nothing is measured; evaluation=small switches it on")
        return settings


class MeasuredConfig(TrainingConfig):
    """What a stage has that updates weights and can measure them on its way."""

    benchmarks: dict[str, BenchmarkConfig] = Field(default_factory=dict)
    evaluation: InTrainingEvalConfig | None

    @property
    def measuring(self) -> EvalConfig | None:
        """What `stage=eval` would be told to measure the same; None where nothing is measured."""
        if self.evaluation is None:
            return None
        run = {name: getattr(self, name) for name in EvalConfig.model_fields if name in type(self).model_fields}
        asked = {name: getattr(self.evaluation, name) for name in AnsweringConfig.model_fields}
        return EvalConfig(**(run | asked | {"stage": "eval", "benchmarks": self.benchmarks}))

    @model_validator(mode="after")
    def _benchmarks_make_sense(self) -> MeasuredConfig:
        if self.evaluation is not None:
            self.evaluation.check_benchmarks(self.benchmarks)
        elif self.benchmarks:
            raise ValueError(f"benchmarks={list(self.benchmarks)}: nobody asks for them; evaluation=small does")
        return self
