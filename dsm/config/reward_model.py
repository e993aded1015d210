"""`stage=reward` trains a reward model; `stage=label` finds out which steps of solutions lead to the answer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from dsm.config.answers import GraderConfig
from dsm.config.base import Count, Schema
from dsm.config.engine import AnyEngineConfig
from dsm.config.parallel import ParallelConfig
from dsm.config.rollout import StepsConfig
from dsm.config.run import ModelRunConfig, TrainingConfig
from dsm.config.training import LoopConfig

REPLAY = "replay"
"""The name that the old data has among the sources."""
Reduction = Literal["min", "product", "last"]
"""From the scores of a solution's steps to one of the solution."""


class RewardSourceConfig(Schema):
    """Judged solutions: `dsm.training.reward.rows` says which forms a row may have."""

    path: str = Field(
        min_length=1,
        description="a folder of rollouts (stage=rollouts, stage=label), or what data.sources of stage=sft takes",
    )
    split: str | None = None
    weight: float = Field(default=1.0, gt=0, description="passes over this source per epoch")
    suffix: bool = Field(default=False, description="end questions with DeepSeekMath's instruction; not for rollouts")
    limit: Count | None = Field(default=None, description="use only the first so many good rows")


class ReplayConfig(Schema):
    """Old data that goes on being trained on (section 4.1.4: 10 %)."""

    path: str | None = Field(min_length=1)
    split: str | None = None
    share: float = Field(gt=0, lt=1, description="of the examples that are trained on; never more than all there are")


class RewardValidationConfig(Schema):
    """Held-out solutions: all of a question's stand on one side."""

    fraction: float = Field(ge=0, lt=1, description="of the solutions")
    max_examples: Count


class RewardDataConfig(Schema):
    """Solutions with a judgement of each, or of each step."""

    sources: dict[str, RewardSourceConfig]
    replay: ReplayConfig
    context: int = Field(ge=8, lt=2**31)
    template: Literal["chat", "plain"]
    labels: Literal["hard", "soft"]
    pairs_per_question: Count | None = Field(description="null = every correct solution against every wrong one")
    validation: RewardValidationConfig

    @model_validator(mode="after")
    def _something_to_read(self) -> RewardDataConfig:
        if not self.sources:
            raise ValueError("sources={}: name at least one source, as data.sources.NAME.path=FOLDER or FILE")
        if REPLAY in self.sources:
            raise ValueError(f"sources.{REPLAY}: the name is kept for data.replay.path; take another")
        return self


class RewardTrainerConfig(LoopConfig):
    """A budget in steps or passes; a step counted in pairs, or in solutions."""

    steps: Count | None
    epochs: float | None = Field(gt=0)
    examples_per_step: Count

    @model_validator(mode="after")
    def _one_budget(self) -> RewardTrainerConfig:
        given = {key: getattr(self, key) for key in ("steps", "epochs") if getattr(self, key) is not None}
        if len(given) != 1:
            shown = ", ".join(f"{key}={value}" for key, value in given.items()) or "none"
            raise ValueError(f"give exactly one of steps and epochs (given: {shown}; set the other to null)")
        return self


class RewardTrainingConfig(TrainingConfig):
    """`stage=reward`: train a reward model."""

    stage: Literal["reward"]
    supervision: Literal["outcome", "process"]
    objective: Literal["pairwise", "pointwise"]
    reduction: Reduction
    data: RewardDataConfig
    trainer: RewardTrainerConfig

    @property
    def context(self) -> int:
        """Tokens of a question with its solution, at most."""
        return self.data.context

    @model_validator(mode="after")
    def _fits_together(self) -> RewardTrainingConfig:
        if self.supervision == "process" and self.objective == "pairwise":
            raise ValueError(
                "objective=pairwise: steps are judged one by one; supervision=process goes with objective=pointwise"
            )
        steps, warmup = self.trainer.steps, self.scheduler.warmup_steps
        if steps is not None and warmup >= steps > 1:
            raise ValueError(f"scheduler.warmup_steps={warmup}: must be less than trainer.steps={steps}")
        return self


class LabelDataConfig(Schema):
    """The solutions whose steps are to be labelled."""

    path: str = Field(min_length=1, description="a folder of rollouts, as stage=rollouts leaves it")
    limit: Count | None = Field(description="only the first so many solutions")
    distinct: bool = Field(description="of equal solutions of a question, label one")


class CompletionsConfig(Schema):
    """How the completer goes on from each step."""

    n: Count = Field(description="completions of each prefix (Math-Shepherd: 8)")
    temperature: float = Field(gt=0)
    top_p: float = Field(gt=0, le=1)
    max_new_tokens: Count
    stop: list[str]
    extractor: str


class LabelConfig(ModelRunConfig):
    """`stage=label`: Math-Shepherd's automatic labels. `model` is the completer."""

    stage: Literal["label"]
    data: LabelDataConfig
    completions: CompletionsConfig
    grader: GraderConfig
    engine: AnyEngineConfig
    parallel: ParallelConfig
    solutions_together: Count = Field(description="solutions between two writes")


class ScorerConfig(Schema):
    """A reward model that scores answers."""

    path: str = Field(min_length=1, description="a folder of stage=reward, or hub:org/name")
    supervision: Literal["auto", "outcome", "process"] = Field(
        description="what the values judge; auto = by the folder's class"
    )
    reduction: Reduction = Field(description="from step scores to the score of a solution; process only")
    steps: StepsConfig = Field(description="where the steps of an answer end; as in the data that it was trained on")
    dtype: Literal["float32", "bfloat16"]
    tokens_per_microbatch: Count
