"""`stage=crawl`: how large a synthetic crawl is made."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from dsm.config.base import Count, Schema
from dsm.config.run import RunConfig

_DATE = re.compile(r"(19|20)\d\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])")

Share = Annotated[float, Field(ge=0, le=0.5)]


class CrawlConfig(Schema):
    """A crawl of made-up sites; `seed` of the run draws it, workers and their number change nothing."""

    pages: int = Field(ge=200, lt=2**31, description="HTML pages, duplicates among them")
    domains: int = Field(ge=24, lt=2**20, description="sites; about a quarter of them have to do with mathematics")
    dates: list[Annotated[str, Field(pattern=_DATE)]] = Field(
        min_length=1, description="days of the crawls, each with WARC files of its own"
    )
    files: Count = Field(description="WARC files, over all crawls")
    url_duplicates: Share = Field(description="share of pages met again under another spelling of their address")
    near_duplicates: Share = Field(description="share of pages that are copies: mirrors, print versions, small edits")
    broken: Share = Field(description="damaged, empty and foreign records, relative to the pages")
    planted: Share = Field(description="share of pages in which a question or an answer of a benchmark is planted")
    benchmark_rows: Count = Field(description="rows of each planted benchmark: English, Chinese, short answers")
    held_out_rows: Count = Field(
        description="rows of each benchmark to measure models on: problems and functions that are in no text"
    )
    seed_documents: Count = Field(description="positives to start from, of the registers that the seed knows")
    texts: int = Field(
        ge=0,
        lt=2**31,
        description="documents of each source without pages: maths, code, academic, algebra, general; 0 = none",
    )
    workers: Count | None = Field(description="processes; null: as many as there are cores")

    @model_validator(mode="after")
    def _has_room(self) -> CrawlConfig:
        if sorted(set(self.dates)) != self.dates:
            raise ValueError(f"dates={self.dates}: must be different days in their order")
        if self.files < len(self.dates):
            raise ValueError(f"files={self.files}: each of the {len(self.dates)} dates needs one at least")
        if self.pages < 8 * self.domains:
            raise ValueError(
                f"domains={self.domains}: too many for pages={self.pages}; allowed: up to {self.pages // 8}"
            )
        if self.url_duplicates + self.near_duplicates > 0.5:
            raise ValueError("url_duplicates + near_duplicates: must be 0.5 at most")
        return self


class CrawlStageConfig(RunConfig):
    """`stage=crawl`: make a crawl with its truth."""

    stage: Literal["crawl"]
    crawl: CrawlConfig
