"""`stage=report`: which evaluations and runs are shown, what they are asked, and what the report looks like."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator, model_validator

from dsm.config.base import Count, Schema
from dsm.config.listing import closest
from dsm.config.run import RunConfig

METRIC = re.compile(r"accuracy|(?:pass|maj)@[1-9][0-9]*")
"""What evaluations can be compared by, item by item."""

PaperModel = Literal["coder_7b", "base_7b", "instruct_7b", "rl_7b"]
PaperTable = Literal[
    "table_1", "table_2", "table_3", "table_4", "table_5", "table_6", "table_7", "table_8", "table_9",
    "figure_5", "figure_6", "figure_7",
]  # fmt: skip
"""What dsm/report/paper.yaml holds."""

Names = list[str]


class ReportConfig(Schema):
    """What the report holds."""

    title: str = Field(min_length=1)
    formats: list[Literal["html", "markdown"]] = Field(
        min_length=1, description="html: one self-contained file; markdown: report.md and its plots/*.svg"
    )
    items: int = Field(ge=0, le=1000, description="items per benchmark in the HTML's browser; 0 = none")
    samples: int = Field(ge=0, le=100, description="problems shown with the answer of every phase side by side")
    output_chars: Count = Field(description="longer prompts and outputs are shown without their middle")


class FindingConfig(Schema):
    """A statement of the paper, and the evaluations that decide whether it holds here too."""

    claim: str = Field(min_length=1, description="the statement, as a sentence")
    paper: str = Field(default="", description="where the paper makes it")
    higher: Names = Field(min_length=1, description="evaluations; several are averaged, as the seeds of one method")
    than: Names = Field(min_length=1, description="those that they are held against, on the same items")
    benchmarks: Names | None = Field(
        default=None,
        min_length=1,
        description="each has the same weight; null = all that both sides have, with samples enough",
    )
    metric: str = Field(default="accuracy", description="accuracy | pass@K | maj@K")
    expect: Literal["higher", "not_higher"] = Field(
        default="higher", description="that `higher` is above `than`, or that it is not"
    )
    margin: float = Field(default=0.02, ge=0, lt=1, description="not_higher: an advantage up to this share is none")

    @field_validator("higher", "than", mode="before")
    @classmethod
    def _one_name_is_a_list(cls, given: object) -> object:
        return [given] if isinstance(given, str) else given

    @field_validator("metric")
    @classmethod
    def _metric_is_known(cls, given: str) -> str:
        if not METRIC.fullmatch(given):
            raise ValueError(f"metric={given}: allowed are accuracy, pass@K and maj@K")
        return given


class ReportStageConfig(RunConfig):
    """`stage=report`: evaluations side by side, and the runs that led to them."""

    stage: Literal["report"]
    evaluations: dict[str, str] = Field(
        default_factory=dict, description="name: a `stage=eval` run's folder, or its results.json"
    )
    curves: dict[str, str] = Field(
        default_factory=dict, description="name: folder of a run that measured benchmarks while it trained"
    )
    runs: dict[str, str] = Field(
        default_factory=dict, description="name: folder of a run of any stage; each is shown by what its stage leaves"
    )
    labels: dict[str, str] = Field(default_factory=dict, description="what the report calls them, if not their name")
    baseline: str | None = Field(description="the evaluation that others are compared with; null = the first")
    phases: list[str | Names] = Field(
        default_factory=list,
        description="evaluations in the order of training, for the gain of each; a list is the seeds of one phase",
    )
    paper: list[PaperModel] = Field(
        default_factory=list, description="the paper's models beside the phases, one for each"
    )
    paper_tables: list[PaperTable] = Field(default_factory=list, description="tables of the paper that are shown whole")
    findings: dict[str, FindingConfig] = Field(default_factory=dict, description="name: what is to be decided")
    factors: Names = Field(
        default_factory=list, description="settings in which the training runs differ, against quality and time"
    )
    report: ReportConfig

    @model_validator(mode="after")
    def _names_are_known(self) -> ReportStageConfig:
        names = ", ".join(self.evaluations)
        if not self.evaluations:
            raise ValueError("evaluations={}: name at least one, as evaluations.NAME=runs/eval/FOLDER")
        everything = self.evaluations | self.curves | self.runs
        if unknown := [name for name in self.labels if not _members(name, everything)]:
            raise ValueError(f"labels.{unknown[0]}: no such evaluation, curve or run; there are {names}")
        if self.baseline is not None and self.baseline not in self.evaluations:
            raise ValueError(f"baseline={self.baseline}: must be one of {names}")
        labels = [self.label(name) for name in self.evaluations]
        if twice := [label for label in labels if labels.count(label) > 1]:
            raise ValueError(f"labels: {twice[0]!r} names two evaluations; each needs a label of its own")
        return self

    @model_validator(mode="after")
    def _questions_name_evaluations(self) -> ReportStageConfig:
        asked = {f"phases.{number}": names for number, names in enumerate(self.phase_names)}
        for name, finding in self.findings.items():
            asked |= {f"findings.{name}.higher": finding.higher, f"findings.{name}.than": finding.than}
        for key, names in asked.items():
            for name in names:
                if not _members(name, self.evaluations):
                    there = ", ".join(self.evaluations)
                    guess = closest(name, self.evaluations)
                    raise ValueError(f"{key}={name}: no such evaluation; there are {there}{guess}")
        if len(self.phases) == 1:
            raise ValueError("phases: one phase gains nothing on another; name two or more, or none")
        for name, finding in self.findings.items():
            if both := sorted(set(self.members(finding.higher)) & set(self.members(finding.than))):
                raise ValueError(f"findings.{name}: {both[0]} stands on both sides; give it to one")
        if self.paper and len(self.paper) != len(self.phases):
            raise ValueError(
                f"paper: names {len(self.paper)} models beside {len(self.phases)} phases; give one for each, or none"
            )
        if self.factors and not self.runs:
            raise ValueError(f"factors={self.factors}: are settings of training runs; name these in runs")
        return self

    @property
    def phase_names(self) -> list[Names]:
        """The evaluations of each phase, as they are named."""
        return [[phase] if isinstance(phase, str) else phase for phase in self.phases]

    def members(self, names: Names) -> Names:
        """The evaluations that names stand for: their own, or NAME-0, NAME-1, ... where there is none called NAME."""
        return list(dict.fromkeys(one for name in names for one in _members(name, self.evaluations)))

    def label(self, name: str) -> str:
        """What the report calls an evaluation, a curve or a run; 'Mined, seed 1' where `labels` has only NAME."""
        if name in self.labels:
            return self.labels[name]
        stem, _, seed = name.rpartition("-")
        return f"{self.labels[stem]}, seed {seed}" if stem in self.labels and seed.isdecimal() else name


def _members(name: str, names: Mapping[str, str]) -> Names:
    """The name itself if it is one of them, else those that only have a number behind it: the seeds of one method."""
    if name in names:
        return [name]
    seeds = [one for one in names if re.fullmatch(rf"{re.escape(name)}-\d+", one)]
    return sorted(seeds, key=lambda one: int(one.rpartition("-")[2]))
