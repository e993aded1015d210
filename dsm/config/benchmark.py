"""What one benchmark is: its data, how it is asked, how answers are read and judged. One YAML each in conf/benchmark.

Texts are made from a row's columns by templates: `{question}` is the column of that name, `{type|subject}` the first of
the two that the row has, `{messages.0.content}` a path into nested values. Braces round anything else stay as they are,
and a template that is one column needs none.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from dsm.config.base import Count, Schema

Prompting = Literal["few_shot", "zero_shot"]
Tool = Literal["none", "pot", "tir"]

_COLUMN = r"\w[\w.]*(?: [\w.]+)*"
PLACE = re.compile(rf"\{{({_COLUMN}(?:\|{_COLUMN})*)\}}")
"""What a template holds a column's text at: `{column}` or `{column|other}`."""


def _template(text: str) -> str:
    """`problem` as `{problem}`.

    Raises:
        ValueError: if there is no column in it.
    """
    if text and not PLACE.search(text):
        text = f"{{{text}}}"
        if not PLACE.fullmatch(text):
            raise ValueError(f"{text[1:-1]!r}: must be a column or a text with columns in braces, as {{question}}")
    return text


Template = Annotated[str, AfterValidator(_template)]


class BenchmarkDataConfig(Schema):
    """Where the items lie and which columns say what. `dsm.evaluation.benchmarks.load_items` reads them."""

    path: str | None = Field(
        default=None,
        min_length=1,
        description="your own copy: a .jsonl(.gz/.zst), .json or .parquet file, a folder of them, a saved data set or "
        "hub:org/name[:config]; null = `file` below data_root if that is given, else `hub`",
    )
    file: str | None = Field(default=None, description="name of the file or folder below data_root")
    hub: str | None = Field(
        default=None, pattern="^hub:.+", description="where it is downloaded from: hub:org/name[:config]"
    )
    split: str | None = Field(default=None, description="split of a hub or saved data set; not read for a single file")
    subsets: list[str] = Field(
        default_factory=list,
        description="read these in turn: configurations of the hub id, or NAME.jsonl (or .parquet, ...) of a folder; a "
        "row knows its own as column {subset}",
    )
    id: Template | None = Field(default=None, description="template of an item's name; null = the row's number, from 1")
    question: Template = Field(default="{question}", description="template; {choices}: written as `choice` says")
    nan: str | None = Field(
        default=None,
        description="the text that NaN stands for: pandas writes it for words such as None; null = an error",
    )
    trim: str = Field(default="", description="characters cut off the end of the question's columns")
    choices: Template | None = Field(
        default=None,
        description="the column with the choices: a list, labelled '(A) ...' or not, or a text 'A) ... B) ...'",
    )
    choice: str = Field(default="({letter}) {text}", description="how one choice is written")
    choice_separator: str = Field(default=", ", description="what stands between two choices")
    gold: Template = Field(default="{answer}", description="template of the reference answer, or of what holds it")
    gold_form: Literal["text", "hashes", "boxed", "choice", "list"] = Field(
        default="text",
        description="what is taken of it: all of it; what follows ####; what stands in the box of a solution; letters "
        "of choices, or a choice's number from 0; several answers parted by ';'",
    )
    groups: dict[str, Template] = Field(
        default_factory=dict, description="tables: their name and a template, as {subject: type, level: level}"
    )
    tests: Template | None = Field(
        default=None, description="kind=code: template of the program that checks a solution"
    )
    entry_point: Template | None = Field(default=None, description="kind=code: template of the function's name")
    subsample: Count | None = Field(default=None, description="a random choice of so many items; a larger one holds it")
    seed: int = Field(default=0, ge=0, lt=2**31, description="of the subsample")

    @model_validator(mode="after")
    def _choices_are_one_column(self) -> BenchmarkDataConfig:
        if self.choices is not None and not PLACE.fullmatch(self.choices):
            raise ValueError(f"choices={self.choices}: must be one column, or several as a|b")
        return self


class ProtocolConfig(Schema):
    """What few-shot and zero-shot prompting have in common."""

    tool: Tool = Field(
        default="none",
        description="none: text; pot: the answer is what a program returns; tir: programs run while it is written",
    )
    result: str | None = Field(
        default=None,
        description="tool=pot: what is read when the program has run, as solution() or answer; null = its last line",
    )
    stop: list[str] = Field(default_factory=list, description="words that end an answer; they are no part of it")
    extractor: str = Field(default="final", description="how the answer is found in the text; see dsm.answers.extract")


class FewShotConfig(ProtocolConfig):
    """For base models: worked examples, then the item, as plain text without a chat form."""

    stop: list[str] = Field(default=["\nQuestion:"], description="words that end an answer; they are no part of it")
    exemplars: str | None = Field(
        default=None,
        description="a name in conf/benchmark/exemplars, or FILE.json: a list of {question, answer}; FILE.json:NAME, "
        "where the file maps NAME to such a list or to {few_shot_prompt: TEXT}, used verbatim; or split:NAME, items of "
        "that split of the data",
    )
    by: str | None = Field(
        default=None, description="a table of data.groups: an item gets the exemplars of its own group, if it has any"
    )
    shots: int = Field(default=0, ge=0, lt=2**31, description="the first so many exemplars")
    shot: str = Field(
        default="Question: {question}\nAnswer: {answer}",
        description="one exemplar; of the item, the part before {answer}, whose trailing space is left to the model; "
        "{number} counts from 1",
    )
    separator: str = Field(default="\n\n", description="what stands between two exemplars")
    instruction: str = Field(default="", description="what stands before the first exemplar")
    fit: Literal["error", "fewer_shots"] = Field(
        default="error",
        description="a prompt that leaves no room for max_new_tokens in the model's positions: stop, or leave out "
        "exemplars, the first ones first",
    )

    @model_validator(mode="after")
    def _fields_fit_together(self) -> FewShotConfig:
        if self.shot.count("{answer}") != 1 or "{question}" not in self.shot.partition("{answer}")[0]:
            raise ValueError(f"shot={self.shot!r}: must hold {{question}} and, after it, {{answer}} once")
        if self.shots and self.exemplars is None:
            raise ValueError(f"shots={self.shots}: there are no exemplars; give exemplars=FILE, or shots=0")
        return self


class ZeroShotConfig(ProtocolConfig):
    """For tuned models: the question and the official instruction in the chat form."""

    template: str = Field(default="{question}\n{suffix}", description="the user's message")
    suffix: str | None = Field(
        default=None, description="the instruction; null = DeepSeekMath's for this tool and language"
    )
    language: Literal["auto", "en", "zh"] = Field(
        default="auto", description="language of the suffix; auto is zh where the question has Chinese characters"
    )

    @model_validator(mode="after")
    def _fields_fit_together(self) -> ZeroShotConfig:
        if "{question}" not in self.template:
            raise ValueError(f"template={self.template!r}: must hold {{question}}")
        return self


class LikelihoodConfig(Schema):
    """kind=choices: the choice whose continuation of the prompt is the most probable."""

    continuation: Literal["letter", "text"] = Field(default="letter", description="what is scored: ' B' or the choice")
    normalisation: Literal["none", "length", "bytes"] = Field(
        default="none", description="log-probability as it is, per token or per byte of UTF-8; decides the accuracy"
    )


class OfficialConfig(Schema):
    """How the official evaluation code finds answers: read in the place of `extractor` with grader=paper."""

    few_shot: str | None = Field(default=None, description="an extractor; null = the benchmark's own")
    zero_shot: str | None = Field(default=None, description="an extractor; null = the benchmark's own")


class BenchmarkConfig(Schema):
    """One benchmark. What is not given suits a JSONL with the columns question and answer."""

    title: str | None = Field(default=None, description="name in tables; null = the key under benchmarks")
    data: BenchmarkDataConfig
    kind: Literal["generate", "choices", "code"] = Field(
        default="generate",
        description="generate: an answer is written and judged; choices: each is scored by its likelihood; code: what "
        "is written has to pass the item's tests",
    )
    few_shot: FewShotConfig = Field(default_factory=FewShotConfig)
    zero_shot: ZeroShotConfig = Field(default_factory=ZeroShotConfig)
    official: OfficialConfig = Field(default_factory=OfficialConfig)
    likelihood: LikelihoodConfig = Field(default_factory=LikelihoodConfig)
    max_new_tokens: Count = Field(default=1024, description="tokens of an answer (paper: 1,024)")
    greedy: bool = Field(default=False, description="one greedy answer an item, whatever `sampling` says")
    grader: dict[str, Any] = Field(
        default_factory=dict, description="house rules of this benchmark: they replace the grader's own of these names"
    )
    reference: dict[str, float] = Field(
        default_factory=dict, description="published accuracies to compare with, 0 to 1, by model"
    )

    @model_validator(mode="after")
    def _fields_fit_together(self) -> BenchmarkConfig:
        if self.kind == "code" and self.data.tests is None:
            raise ValueError("data.tests=null: kind=code needs a template of the tests")
        if self.kind == "choices" and self.data.choices is None:
            raise ValueError("data.choices=null: kind=choices needs the column with the choices")
        if self.few_shot.by is not None and self.few_shot.by not in self.data.groups:
            allowed = ", ".join(self.data.groups) or "none is defined"
            raise ValueError(f"few_shot.by={self.few_shot.by}: must be one of data.groups ({allowed})")
        for model, value in self.reference.items():
            if not 0 <= value <= 1:
                raise ValueError(f"reference={model}: {value}: must be a share, 0 to 1 (0.517, not 51.7)")
        return self

    def protocol(self, prompting: Prompting) -> FewShotConfig | ZeroShotConfig:
        """Tool, stop words and extractor of this way of asking."""
        return self.few_shot if prompting == "few_shot" else self.zero_shot
