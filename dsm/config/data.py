"""What a user may say about training data: where rows come from and how they become conversations."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from dsm.config.base import Count, Schema

COLUMN_ROLES = ("question", "answer", "system")


class SourceConfig(Schema):
    """One source of instruction data. `dsm.data.formats.load_source` turns it into examples."""

    path: str = Field(
        min_length=1,
        description="a .jsonl, .jsonl.gz, .jsonl.zst, .json or .parquet file, a folder of them, a folder written by "
        "datasets.save_to_disk, or hub:org/name[:config] (the only form that downloads)",
    )
    split: str | None = Field(
        default=None,
        description="split of a hub or saved data set; in a folder of files, those whose path has this word",
    )
    weight: float = Field(default=1.0, gt=0, description="passes over this source per epoch; 0.5 is a random half")
    layout: Literal["auto", "messages", "prompt_completion", "columns"] = Field(
        default="auto", description="how a row holds the conversation; auto reads it off each row's keys"
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="names of the columns with question, answer and system, as {question: problem, answer: solution}; "
        "question and answer bear these names unless given, system is read only if given",
    )
    style: Literal["none", "cot", "pot", "tir"] = Field(
        default="none",
        description="format of the solutions: chain of thought, program of thought, tool-integrated; none reads it off "
        "each solution",
    )
    language: Literal["auto", "en", "zh"] = Field(
        default="auto", description="language of the suffix; auto is zh where the question has Chinese characters"
    )
    suffix: bool = Field(
        default=False, description="end the last question with DeepSeekMath's instruction for this style and language"
    )
    transform: Literal["none", "gsm8k"] = Field(
        default="none",
        description="cleaning of every solution; gsm8k drops <<48/2=24>> and writes '#### 72' as "
        "'The answer is \\boxed{72}.'",
    )
    limit: Count | None = Field(default=None, description="use only the first so many good rows")

    @model_validator(mode="after")
    def _fields_fit_together(self) -> SourceConfig:
        if unknown := sorted(set(self.columns) - set(COLUMN_ROLES)):
            raise ValueError(f"columns.{unknown[0]}: unknown; allowed are {', '.join(COLUMN_ROLES)}")
        if self.columns and self.layout not in ("auto", "columns"):
            raise ValueError(f"columns: not read with layout={self.layout}; allowed with layout=auto or columns")
        if self.suffix and self.style == "none":
            raise ValueError("suffix=true: there is a suffix for each style only; set style to cot, pot or tir")
        return self


class ValidationConfig(Schema):
    """Held-out examples: a share of the questions, or files of their own."""

    fraction: float = Field(ge=0, lt=1)
    max_examples: Count
    sources: dict[str, SourceConfig]


class InstructionDataConfig(Schema):
    """Conversations to fine-tune on (paper section 3)."""

    sources: dict[str, SourceConfig]
    context: int = Field(ge=8, lt=2**31)
    packing: Literal["random", "best_fit"]
    too_long: Literal["drop", "cut", "split"]
    template: Literal["chat", "plain"]
    validation: ValidationConfig

    @model_validator(mode="after")
    def _something_to_read(self) -> InstructionDataConfig:
        if not self.sources:
            raise ValueError("sources={}: name at least one source, as data.sources.NAME.path=FILE")
        return self


class TextSourceConfig(Schema):
    """A file or folder of texts."""

    path: str = Field(min_length=1)
    split: str | None = None


class TextDataConfig(Schema):
    """Texts to learn a tokenizer from."""

    sources: dict[str, TextSourceConfig]
    fields: list[str]
    every: Count = Field(description="read the first of every so many rows, evenly over each source")
    max_bytes: int | None = Field(gt=0, lt=2**63)

    @model_validator(mode="after")
    def _something_to_read(self) -> TextDataConfig:
        if not self.sources:
            raise ValueError("sources={}: name at least one source, as data.sources.NAME.path=FILE")
        return self
