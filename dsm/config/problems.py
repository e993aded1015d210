"""`stage=problems`: which word problems are made up."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from dsm.config.base import Count, Schema
from dsm.config.run import RunConfig

Calculations = Annotated[int, Field(ge=1, le=3)]
Range = Annotated[list[Calculations], Field(min_length=2, max_length=2)]
Language = Literal["en", "zh", "mixed"]
Difficulty = Literal["first", "basic", "easy", "hard"]
Kind = Literal[
    "inventory",
    "shopping",
    "travel",
    "sharing",
    "ages",
    "percent",
    "rectangle",
    "fraction",
    "remainder",
    "compare",
    "boxes",
    "savings",
    "before",
    "average",
    "rate",
    "unit_price",
]
"""The templates of `dsm.data.problem_templates`."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class HeldOutConfig(Schema):
    """A further set of held-out problems: what differs from those to learn from."""

    language: Language | None = None
    steps: Range | None = None
    difficulty: Difficulty | None = None
    kinds: list[Kind] | None = Field(default=None, min_length=1)


class ProblemsConfig(Schema):
    """Word problems with worked solutions; `seed` of the run draws them."""

    n_train: Count = Field(description="problems to learn from")
    n_test: Count = Field(description="problems held out, of each set; they do not depend on n_train")
    language: Language
    steps: Range = Field(description="fewest and most calculations in a solution")
    style: Literal["cot", "pot", "tir", "mixed"] = Field(
        description="words | a program | both, with the program's output | a third of each, in files of their own"
    )
    lines: bool = Field(description="every step of a solution on a line of its own")
    difficulty: Difficulty = Field(description="results up to 20 | 50 | 199 | 999")
    kinds: list[Kind] | None = Field(min_length=1, description="null = all")
    tests: dict[str, HeldOutConfig] = Field(description="further held-out sets, by name")

    @model_validator(mode="after")
    def _is_a_range(self) -> ProblemsConfig:
        for key, steps in {
            "": self.steps,
            **{f"tests.{name}.": asked.steps for name, asked in self.tests.items()},
        }.items():
            if steps is not None and steps[0] > steps[1]:
                raise ValueError(f"{key}steps={steps}: the fewest come first")
        return self

    @model_validator(mode="after")
    def _sets_are_named(self) -> ProblemsConfig:
        for name in self.tests:
            if not _NAME.fullmatch(name) or name == "test" or name.startswith("train"):
                raise ValueError(
                    f"tests.{name}: names a file; allowed are letters, digits, _ and -, but not test, train..."
                )
        return self


class ProblemsStageConfig(RunConfig):
    """`stage=problems`: generate word problems."""

    stage: Literal["problems"]
    problems: ProblemsConfig
