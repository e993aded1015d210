"""How a policy's answers are drawn, where their steps end, and how far engine and trainer may be apart."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from dsm.config.answers import GraderConfig
from dsm.config.base import Count, Schema
from dsm.config.engine import AnyEngineConfig
from dsm.config.parallel import ParallelConfig
from dsm.config.prompts import PromptDataConfig
from dsm.config.reward import RewardConfig
from dsm.config.run import ModelRunConfig
from dsm.config.sandbox import SandboxConfig
from dsm.config.tools import ToolConfig
from dsm.config.training import LoggerConfig


class StepsConfig(Schema):
    """Where one step of a solution ends and the next begins (`dsm.rollout.steps`): what process rewards are given for.

    The paper does not say how it splits; Math-Shepherd, whose labels it uses, has a step a line.
    """

    split: Literal["lines", "paragraphs", "marker"] = Field(
        default="lines", description="a step a line; a step a paragraph (blank lines between); a step from `Step k:` on"
    )
    marker: str = Field(
        default=r"Step \d+[:.]",
        min_length=1,
        description="split=marker: the expression that a step's first line begins with",
    )

    @model_validator(mode="after")
    def _marker_compiles(self) -> StepsConfig:
        import re

        try:
            re.compile(self.marker)
        except re.error as error:
            raise ValueError(f"marker={self.marker}: is no regular expression ({error})") from None
        return self


class RolloutConfig(Schema):
    """How each prompt is answered."""

    group_size: Count = Field(description="answers per prompt, drawn together: G of Eq. 3 (paper: 64)")
    max_new_tokens: Count = Field(description="tokens of an answer; longer ones are cut off (paper: 1,024 in all)")
    temperature: float = Field(gt=0, description="of the softmax; the trained log-probabilities have the same")
    top_p: float = Field(
        gt=0, le=1, description="below 1 the answers are no samples of the policy that is trained: biased gradients"
    )
    stop: list[str] = Field(description="strings that end an answer; they are no part of its text")
    tools: Literal["none", "tir"] = Field(
        description="none: text; tir: programs run while it is written, and what they print is masked out of the loss"
    )
    steps: StepsConfig | None = Field(description="mark the ends of a solution's steps; null = do not look for them")
    timeout_s: float = Field(
        gt=0, le=86_400, description="seconds without a finished group after which generation is given up as hung"
    )
    gap_limit: float | None = Field(
        gt=0,
        description="nats: a mean difference between the engine's and the trainer's log-probabilities above it stops "
        "the run; null = measured and logged only",
    )

    @model_validator(mode="after")
    def _stops_are_strings(self) -> RolloutConfig:
        if "" in self.stop:
            raise ValueError("stop: holds an empty string, which would end every answer")
        return self


class RolloutsConfig(ModelRunConfig):
    """`stage=rollouts`: a policy's answers to a set of prompts, rewarded, as a folder that other stages read."""

    stage: Literal["rollouts"]
    prompts: PromptDataConfig
    limit: Count | None = Field(description="only so many prompts, drawn by the seed; null = each of them once")
    prompts_per_part: Count = Field(description="prompts between two writes; a killed run does these again at most")
    rollout: RolloutConfig
    engine: AnyEngineConfig
    reward: RewardConfig
    grader: GraderConfig
    sandbox: SandboxConfig
    tools: ToolConfig
    parallel: ParallelConfig
    logger: LoggerConfig

    @model_validator(mode="after")
    def _steps_are_looked_for(self) -> RolloutsConfig:
        if self.reward.process_parts and self.rollout.steps is None:
            part = self.reward.process_parts[0]
            raise ValueError(f"rollout.steps=null: reward.parts.{part} rewards steps; set rollout.steps.split=lines")
        return self
