"""`stage=problems`: which word problems are made up."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from dsm.config.base import Count, Schema
from dsm.config.run import RunConfig

Calculations = Annotated[int, Field(ge=1, le=3)]


class ProblemsConfig(Schema):
    """Word problems with worked solutions; `seed` of the run draws them."""

    n_train: Count = Field(description="problems to learn from")
    n_test: Count = Field(description="problems held out; they do not depend on n_train")
    language: Literal["en", "zh", "mixed"]
    steps: list[Calculations] = Field(
        min_length=2, max_length=2, description="fewest and most calculations in a solution"
    )
    style: Literal["cot", "pot", "tir"] = Field(description="words | a program | both, with the program's output")
    lines: bool = Field(description="every step of a solution on a line of its own")
    difficulty: Literal["basic", "easy", "hard"] = Field(description="results up to 50 | 199 | 999")

    @model_validator(mode="after")
    def _is_a_range(self) -> ProblemsConfig:
        if self.steps[0] > self.steps[1]:
            raise ValueError(f"steps={self.steps}: the fewest come first")
        return self


class ProblemsStageConfig(RunConfig):
    """`stage=problems`: generate word problems."""

    stage: Literal["problems"]
    problems: ProblemsConfig
