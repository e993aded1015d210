"""What a policy is asked while it learns by reward: sources of questions, how they are put, which are worth asking."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from dsm.config.base import Count, Schema
from dsm.config.data import SourceConfig


class PromptSourceConfig(SourceConfig):
    """One source of questions: read as a source of instruction data is, and asked as such data are trained on.

    The answer is not trained on but is what rewards compare with: they see every column of the row, and besides
    `gold`, the reference answer, and `solution`, the worked one where there is one.
    """

    style: Literal["cot", "pot", "tir"] = Field(  # no solution is there to read it off
        default="cot", description="what is asked for: chain of thought, program of thought, tool-integrated reasoning"
    )
    suffix: bool = Field(
        default=True, description="end the question with DeepSeekMath's instruction for this style and language"
    )
    gold: Literal["answer", "boxed", "none"] = Field(
        default="answer",
        description="the reference answer: all of the answer's column; the last box of the solution in it (after "
        "transform); none: a row needs no answer, rewards look at other columns or at the text alone",
    )
    weight: float = Field(default=1.0, gt=0, description="passes over this source per epoch; 0.5 is a random half")

    @model_validator(mode="after")
    def _gold_fits_the_transform(self) -> PromptSourceConfig:
        if self.transform == "gsm8k" and self.gold != "boxed":
            raise ValueError(f"gold={self.gold}: transform=gsm8k writes the answer into a box; set gold=boxed")
        return self


class DifficultyConfig(Schema):
    """Which prompts are worth asking, by the share of correct answers that a policy has given before."""

    path: str = Field(
        min_length=1,
        description="a JSONL file with id and pass_rate on each line: pass_rates.jsonl of a stage=rollouts run",
    )
    min: float = Field(default=0.0, ge=0, le=1, description="easier than hopeless: keep pass rates from here")
    max: float = Field(default=1.0, ge=0, le=1, description="and up to here")
    unknown: Literal["keep", "set_aside"] = Field(default="keep", description="prompts that the file does not know")

    @model_validator(mode="after")
    def _a_range(self) -> DifficultyConfig:
        if self.min > self.max:
            raise ValueError(f"min={self.min}: must not be above max={self.max}")
        return self


class PromptDataConfig(Schema):
    """The set of prompts (paper section 4.2: 144K questions of GSM8K and MATH in chain-of-thought form)."""

    sources: dict[str, PromptSourceConfig]
    template: Literal["auto", "chat", "plain"] = Field(
        description="chat: the paper's form; plain: the question as it is; auto: the tokenizer's own chat form where "
        "it brings one, else the paper's, as stage=eval asks"
    )
    max_tokens: Count | None = Field(
        description="longer prompts are set aside; null = those that leave no room for an answer in the model's context"
    )
    difficulty: DifficultyConfig | None

    @model_validator(mode="after")
    def _something_to_ask(self) -> PromptDataConfig:
        if not self.sources:
            raise ValueError("sources={}: name at least one source, as prompts.sources.NAME.path=FILE")
        return self
