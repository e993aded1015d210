"""`stage=eval`: which model answers which benchmarks, how it samples, and who judges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from dsm.config.answers import GraderConfig
from dsm.config.base import Count, Schema
from dsm.config.benchmark import BenchmarkConfig
from dsm.config.engine import AnyEngineConfig
from dsm.config.parallel import ParallelConfig
from dsm.config.reward_model import ScorerConfig
from dsm.config.run import ModelRunConfig
from dsm.config.sandbox import SandboxConfig
from dsm.config.tools import ToolConfig
from dsm.config.training import LoggerConfig


class SamplingConfig(Schema):
    """How every benchmark's answers are drawn."""

    n: Count = Field(description="answers per item; 1 = pass@1 alone")
    temperature: float = Field(ge=0, description="0 = greedy")
    top_p: float = Field(gt=0, le=1)
    max_new_tokens: Count | None = Field(description="null = each benchmark's own limit")
    ks: list[Count] | None = Field(description="k of pass@k and maj@k; null = 1, 2, 4, ... and n")

    @model_validator(mode="after")
    def _several_need_chance(self) -> SamplingConfig:
        if self.n > 1 and self.temperature == 0:
            raise ValueError(f"temperature=0: {self.n} greedy answers would all be the same; set it above 0, or n=1")
        if too_large := [k for k in self.ks or [] if k > self.n]:
            raise ValueError(f"ks={self.ks}: {too_large[0]} is more than n={self.n} answers")
        return self


class AnsweringConfig(Schema):
    """How benchmarks are asked, answered and judged, whichever model answers."""

    prompting: Literal["auto", "few_shot", "zero_shot"] = Field(
        description="few_shot: exemplars and plain text, for base models; zero_shot: the official suffix in the chat "
        "form, for tuned ones; auto: zero_shot where the tokenizer brings a chat template"
    )
    data_root: str | None = Field(description="a folder that holds the benchmarks' files; null = from the hub")
    limit: Count | None = Field(description="only the first so many items of each benchmark")
    bad_golds: Literal["error", "set_aside"] = Field(
        description="golds that the grader does not find equal to themselves: stop, or leave those items out"
    )
    sampling: SamplingConfig
    grader: GraderConfig
    sandbox: SandboxConfig
    tools: ToolConfig
    engine: AnyEngineConfig

    def grader_with(self, rules: Mapping[str, Any]) -> GraderConfig:
        """The grader with a benchmark's own house rules."""
        return GraderConfig.model_validate(self.grader.model_dump() | dict(rules))

    def sampling_of(self, benchmark: BenchmarkConfig) -> SamplingConfig:
        """How a benchmark's answers are drawn."""
        greedy = {"n": 1, "temperature": 0.0, "top_p": 1.0, "ks": None}
        return self.sampling.model_copy(update=greedy) if benchmark.greedy else self.sampling

    def check_benchmarks(self, benchmarks: Mapping[str, BenchmarkConfig]) -> None:
        """Raise ValueError where there is no benchmark, or one with house rules that the grader does not know."""
        if not benchmarks:
            raise ValueError("benchmarks={}: name at least one, as benchmark=gsm8k or benchmark=[gsm8k,math]")
        for name, benchmark in benchmarks.items():
            try:
                self.grader_with(benchmark.grader)
            except ValidationError as error:
                problem = error.errors()[0]
                key = ".".join(map(str, problem["loc"]))
                allowed = f"it takes {', '.join(GraderConfig.model_fields)}"
                message = f"unknown key; {allowed}" if problem["type"] == "extra_forbidden" else problem["msg"]
                raise ValueError(f"benchmarks.{name}.grader.{key}={problem['input']}: {message}") from None


class EvalConfig(ModelRunConfig, AnsweringConfig):
    """`stage=eval`: measure a model."""

    stage: Literal["eval"]
    benchmarks: dict[str, BenchmarkConfig] = Field(default_factory=dict)
    parallel: ParallelConfig
    logger: LoggerConfig
    reward_model: ScorerConfig | None = Field(
        default=None, description="scores every answer: best-of-n and the weighted vote; null = none"
    )

    def grader_of(self, benchmark: str) -> GraderConfig:
        """The run's grader with a benchmark's own house rules."""
        return self.grader_with(self.benchmarks[benchmark].grader)

    @model_validator(mode="after")
    def _benchmarks_make_sense(self) -> EvalConfig:
        self.check_benchmarks(self.benchmarks)
        return self
