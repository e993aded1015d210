"""`stage=mine`: which crawl, which seed, and how the loop of classifier, cut, domains and annotation runs.

Defaults are the paper's (section 2.1) where it states a value; what it leaves open says so in conf/stage/mine.yaml.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from dsm.config.base import HUB_PREFIX, Count, Schema
from dsm.config.benchmark import BenchmarkConfig
from dsm.config.executor import ExecutorConfig
from dsm.config.run import RunConfig

STEPS = ("pages", "urls", "near", "rounds", "clean", "export")
"""The steps in their order; each needs those before it, done now or earlier."""

Tokens = Annotated[int, Field(gt=0, lt=2**53)]
Share = Annotated[float, Field(gt=0, le=1)]


class InputConfig(Schema):
    """Files that are read as they lie."""

    path: str = Field(min_length=1)

    @model_validator(mode="after")
    def _is_local(self) -> InputConfig:
        if self.path.startswith(HUB_PREFIX):
            raise ValueError(f"path={self.path}: must be local; 'hf download' fetches the files of a repository")
        return self


class CrawlConfig(InputConfig):
    """The pages that are searched."""

    tokenizer: str | None = Field(description="counts the tokens of a page; null = an estimate from its characters")


class SeedCorpusConfig(InputConfig):
    """Texts that are known to be what is looked for."""

    fields: list[str] = Field(min_length=1, description="columns of a row that make its text; parted by a blank line")


class NearConfig(Schema):
    """Near-duplicates by MinHash."""

    enabled: bool
    ngram: int = Field(ge=1, le=50, description="words of a shingle")
    bands: int = Field(ge=1, le=256)
    rows: int = Field(ge=1, le=64, description="signatures of a band: pages meet where all of them agree")
    threshold: Share = Field(description="least Jaccard similarity, as all signatures estimate it, of two that meet")


class ClassifierConfig(Schema):
    """fastText, supervised."""

    dim: Count
    lr: float = Field(gt=0, le=10)
    word_ngrams: int = Field(ge=1, le=10)
    min_count: Count
    epochs: Count
    bucket: Count = Field(description="rows of the table that n-grams are hashed to")
    loss: Literal["softmax", "ova"]
    threads: Count = Field(description="1 = the same model byte for byte, every time")
    positives: Count = Field(description="drawn from the seed, at most")
    negatives: Count = Field(description="random pages of the crawl, at most")
    ratio: float = Field(gt=0, le=1000, description="negatives for a positive; the kind there is less of decides")
    held_out: float = Field(ge=0, lt=0.5, description="share of the examples, and of their domains, kept for measuring")
    lowercase: bool
    max_words: Count = Field(description="of a page; the rest of it is not looked at")


class CutConfig(Schema):
    """Which of the ranked pages are collected: the best so many tokens, or those above a score; both = both."""

    tokens: list[Tokens] | None = Field(
        min_length=1, description="budget of round 1, 2, ...; the last holds for all rounds after it"
    )
    threshold: float | None = Field(ge=0, le=1, description="least score; null = none")
    curve: list[Tokens] = Field(description="budgets at which the ranking is looked at, as the paper's 40B to 160B")

    @model_validator(mode="after")
    def _cuts(self) -> CutConfig:
        if self.tokens is None and self.threshold is None:
            raise ValueError("tokens=null: with threshold=null nothing would be cut; give one of them")
        return self

    def budget(self, number: int) -> int | None:
        """Tokens that round `number` (from 1) may collect; None = without a limit."""
        return None if self.tokens is None else self.tokens[min(number, len(self.tokens)) - 1]


class DomainsConfig(Schema):
    """Which domains people look at."""

    share: float = Field(ge=0, lt=1, description="more than this share of a domain's pages collected: a candidate")
    min_pages: Count = Field(description="deduplicated pages that a domain must have")


class AnnotationConfig(Schema):
    """Who says which URL paths of the candidates hold what is looked for."""

    annotator: Literal["rules", "human", "none"] = Field(
        description="rules: a file of prefixes; human: people, by 'dsm stage=annotate'; none: one round"
    )
    rules: str | None = Field(description="annotator=rules: the file")
    coverage: Share = Field(
        description="annotator=human: a round goes on when candidates with this share of the uncollected pages of all "
        "have a verdict"
    )

    @model_validator(mode="after")
    def _has_rules(self) -> AnnotationConfig:
        if self.annotator == "rules" and self.rules is None:
            raise ValueError("rules=null: annotator=rules needs a file of prefixes; or annotator=human, or none")
        return self


class RoundsConfig(Schema):
    """How often."""

    max: Count
    stop_overlap: Share = Field(description="stop when this share of a round was collected in the round before")


class CleaningConfig(Schema):
    """What is taken out of the corpus because a benchmark holds it."""

    ngram: Count = Field(description="words of a run that must not be equal; CJK characters count as words")
    min_ngram: Count = Field(
        description="shorter benchmark texts than `ngram` match as a whole, down to this many words"
    )
    unit: Literal["segment", "page"] = Field(description="what a match removes")

    @model_validator(mode="after")
    def _is_a_range(self) -> CleaningConfig:
        if self.min_ngram > self.ngram:
            raise ValueError(f"min_ngram={self.min_ngram}: must be at most ngram={self.ngram}")
        return self


class MineReportConfig(Schema):
    """What the report shows."""

    domains: int = Field(ge=0, le=1000, description="rows of the table of domains")
    samples: int = Field(ge=0, le=200, description="pages shown, collected and not")
    sample_chars: Count


class MineConfig(RunConfig):
    """`stage=mine`: a corpus out of a crawl."""

    stage: Literal["mine"]
    steps: list[Literal["pages", "urls", "near", "rounds", "clean", "export"]] = Field(min_length=1)
    crawl: CrawlConfig
    seed_corpus: SeedCorpusConfig
    near: NearConfig
    classifier: ClassifierConfig
    cut: CutConfig
    domains: DomainsConfig
    annotation: AnnotationConfig
    rounds: RoundsConfig
    decontamination: CleaningConfig
    benchmarks: dict[str, BenchmarkConfig] = Field(default_factory=dict)
    data_root: str | None = Field(description="a folder that holds the benchmarks' files; null = from the hub")
    truth: str | None = Field(description="what stage=crawl says of its crawl: recall, precision and more are measured")
    report: MineReportConfig
    executor: ExecutorConfig
