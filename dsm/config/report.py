"""`stage=report`: which evaluations stand side by side, and what the report looks like."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from dsm.config.base import Count, Schema
from dsm.config.run import RunConfig


class ReportConfig(Schema):
    """What the report holds."""

    title: str = Field(min_length=1)
    formats: list[Literal["html", "markdown"]] = Field(
        min_length=1, description="html: one self-contained file; markdown: report.md and its plots/*.svg"
    )
    items: int = Field(ge=0, le=1000, description="items per benchmark in the HTML's browser; 0 = none")
    output_chars: Count = Field(description="longer prompts and outputs are shown without their middle")


class ReportStageConfig(RunConfig):
    """`stage=report`: evaluations side by side."""

    stage: Literal["report"]
    evaluations: dict[str, str] = Field(
        default_factory=dict, description="name: a `stage=eval` run's folder, or its results.json"
    )
    curves: dict[str, str] = Field(
        default_factory=dict, description="name: folder of a run that measured benchmarks while it trained"
    )
    labels: dict[str, str] = Field(default_factory=dict, description="what the report calls them, if not their name")
    baseline: str | None = Field(description="the evaluation that others are compared with; null = the first")
    report: ReportConfig

    @model_validator(mode="after")
    def _names_are_known(self) -> ReportStageConfig:
        names = ", ".join(self.evaluations)
        if not self.evaluations:
            raise ValueError("evaluations={}: name at least one, as evaluations.NAME=runs/eval/FOLDER")
        if unknown := [name for name in self.labels if name not in self.evaluations | self.curves]:
            raise ValueError(f"labels.{unknown[0]}: no such evaluation or curve; there are {names}")
        if self.baseline is not None and self.baseline not in self.evaluations:
            raise ValueError(f"baseline={self.baseline}: must be one of {names}")
        labels = [self.label(name) for name in self.evaluations]
        if twice := [label for label in labels if labels.count(label) > 1]:
            raise ValueError(f"labels: {twice[0]!r} names two evaluations; each needs a label of its own")
        return self

    def label(self, name: str) -> str:
        """What the report calls an evaluation, or a curve."""
        return self.labels.get(name, name)
