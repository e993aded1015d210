"""`stage=decontaminate`: which texts are searched for which benchmarks, and what a match removes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from dsm.config.base import Schema
from dsm.config.benchmark import BenchmarkConfig
from dsm.config.executor import ExecutorConfig
from dsm.config.mine import CleaningConfig
from dsm.config.run import RunConfig
from dsm.config.store import LocalSourceConfig, check_folder_names


class SuspectSourceConfig(LocalSourceConfig):
    """Files that are cleaned."""

    path: str = Field(min_length=1, description="a .jsonl, .jsonl.gz, .jsonl.zst or .parquet file, or a folder of them")


class SuspectDataConfig(Schema):
    """What is cleaned."""

    sources: dict[str, SuspectSourceConfig]
    fields: list[str] = Field(
        min_length=1,
        description="columns that are searched, each by itself: of text, or with texts in them (messages). A row need "
        "not have all of them, but one",
    )

    @model_validator(mode="after")
    def _sources_can_be_folders(self) -> SuspectDataConfig:
        check_folder_names(self.sources)
        return self


class DecontaminateConfig(RunConfig):
    """`stage=decontaminate`: take what benchmarks hold out of texts or instruction data."""

    stage: Literal["decontaminate"]
    data: SuspectDataConfig
    benchmarks: dict[str, BenchmarkConfig] = Field(default_factory=dict)
    data_root: str | None = Field(description="a folder that holds the benchmarks' files; null = from the hub")
    decontamination: CleaningConfig
    executor: ExecutorConfig

    @model_validator(mode="after")
    def _has_benchmarks(self) -> DecontaminateConfig:
        if not self.benchmarks:
            raise ValueError("benchmarks={}: name at least one, as benchmark=gsm8k or benchmark=[gsm8k,math]")
        return self

    def fields_of(self, source: str) -> tuple[str, ...]:
        """The columns of a source that are searched."""
        return tuple(self.data.sources[source].fields or self.data.fields)
