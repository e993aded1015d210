"""`stage=pipeline`: several runs, each fed by those before it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from omegaconf import OmegaConf
from pydantic import Field, model_serializer, model_validator

from dsm.config.base import Count, Schema
from dsm.config.run import RunConfig
from dsm.config.scale import QuickstartConfig

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
REFERENCES = ("out", "all", "each")
"""`${out:STEP}`, `${all:STEP,STEP}`, `${each:VARIABLE}`: what a step's settings may say of others and of itself."""

for _kind in REFERENCES:  # they stand for themselves until the pipeline knows its steps' folders
    OmegaConf.register_new_resolver(
        _kind, lambda *names, kind=_kind: f"${{{kind}:{','.join(map(str, names))}}}", replace=True
    )

Value = str | int | float | bool
Repetitions = dict[str, Annotated[list[Value], Field(min_length=1)] | dict[str, dict[str, Any]]]


class StepConfig(Schema):
    """One step, or one for each of several values.

    Attributes:
        use: the groups that it chooses: stage, experiment, model, algorithm, ...
        foreach: variable: its values, or names with the settings that each brings; all combinations make a step. Or the
            name of an earlier step, to be repeated as that one is.
        seconds: what one run took where it was written, for the time left; null: none is claimed.
        ranks: processes of one run, as torchrun would start them on this machine; it takes as many places of `at_once`.
        settings: all other keys: settings of the step's own stage, nested as in its configuration.
    """

    use: dict[str, Value | list[str] | None] = Field(min_length=1)
    foreach: str | Repetitions = Field(default_factory=dict)
    seconds: Annotated[float, Field(gt=0)] | None = None
    ranks: Count = 1
    settings: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        own = {key: given[key] for key in ("use", "foreach", "seconds", "ranks") if key in given}
        return own | {"settings": {key: value for key, value in given.items() if key not in own}}

    @model_serializer
    def _as_written(self) -> dict[str, Any]:
        own = {"use": self.use, "foreach": self.foreach, "seconds": self.seconds, "ranks": self.ranks}
        return own | self.settings

    @model_validator(mode="after")
    def _has_a_stage(self) -> StepConfig:
        if not self.use.keys() & {"stage", "experiment"}:
            raise ValueError("use: names no stage; give use.stage=NAME or use.experiment=NAME")
        return self


class EndingConfig(Schema):
    """What is said last, behind the results of the report steps. `${out:STEP}` may stand in all of it."""

    places: dict[str, str] = Field(default_factory=dict, description="what is worth looking at: its file or folder")
    next: list[str] = Field(default_factory=list, description="commands to try next")


class PipelineConfig(RunConfig):
    """`stage=pipeline`: an ordered mapping of steps."""

    stage: Literal["pipeline"]
    quickstart: QuickstartConfig
    vars: dict[str, Any] = Field(default_factory=dict, description="whatever steps say as ${vars.NAME}")
    steps: dict[str, StepConfig | None] = Field(default_factory=dict, description="null leaves a step out")
    at_once: Count = Field(description="how many steps may run at the same time")
    threads: Count | None = Field(description="threads of each step's process; null: as many as torch likes")
    ending: EndingConfig

    @model_validator(mode="after")
    def _steps_are_named(self) -> PipelineConfig:
        if not any(self.steps.values()):
            raise ValueError(
                "steps={}: name at least one, as steps.NAME.use.stage=STAGE, or choose an experiment that has some"
            )
        for name in self.steps:
            if not NAME.fullmatch(name):
                raise ValueError(f"steps.{name}: names a folder; allowed are letters, digits, dot, hyphen, underscore")
        if self.resume not in ("auto", "never"):
            raise ValueError(f"resume={self.resume}: allowed here: auto, never; a step has a resume of its own")
        return self
