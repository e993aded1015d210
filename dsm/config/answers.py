"""How answers are graded: which grader, its house rules, and the limits of the worker pool that runs it.

Mathematics decides most pairs. What it leaves open (is `28` as good as `28%`? is `0.333333` a third?) is a house rule,
and every house rule stands here.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dsm.config.base import Count, Schema

Digits = Annotated[int, Field(ge=1, le=50)]
Seconds = Annotated[float, Field(gt=0, le=600)]
Tolerance = Annotated[float, Field(ge=0, lt=1)]

POOL_SETTINGS = {"workers", "recycle_pairs", "memory_mb", "cache_size"}
"""Settings of a grader that change its speed and no verdict."""


class GraderConfig(Schema):
    """The grader, its house rules and its pool."""

    name: Literal["strict", "paper"] = Field(
        "strict", description="strict: layered, few false positives; paper: the official protocol"
    )

    protocol: Literal["math", "cloze", "ocw"] = Field(
        "math",
        description="paper grader: lists match as sets (math), in order (cloze), or numbers to five digits (ocw)",
    )

    # House rules of the strict grader.
    decimal_digits: Digits = Field(
        6,
        description="a rounded decimal equals an exact value or a longer decimal from this many significant digits on",
    )
    relative_tolerance: Tolerance = Field(
        0.0,
        description="numbers this close (relative to the gold) are equal too; 0 for exact benchmarks, 0.01 for physics",
    )
    units: Literal["optional", "required"] = Field(
        "optional", description="optional: a unit may be missing on one side; required: both sides or neither"
    )
    convert_units: bool = Field(True, description="150 cm equals 1.5 m; without it a unit must be the same one")
    percent_as_number: bool = Field(True, description="28% equals 28 as well as 0.28")
    percent_scale: bool = Field(
        False, description="0.28 equals 28 with no percent sign in sight (the paper's protocol does this)"
    )
    ordered_lists: bool = Field(
        False, description="bare lists (1, 2) must come in the gold's order; tuples always must"
    )
    european_numbers: bool = Field(True, description="1,22 may be read as 1.22 where no other reading equals the gold")
    choice_text: bool = Field(True, description="'(B) 12' equals B, and equals 12")
    fallback: bool = Field(True, description="ask Math-Verify where our own parser cannot read the gold")

    # The pool of worker processes.
    timeout_s: Seconds = Field(2.0, description="deadline for one pair, kept by killing the worker from outside")
    workers: Count | None = Field(None, description="worker processes; none: one for each usable core")
    recycle_pairs: Count = Field(20_000, description="a worker is replaced after this many pairs")
    memory_mb: Count = Field(2048, description="a worker is replaced once it holds more than this")
    cache_size: Count = Field(100_000, description="verdicts kept, keyed by gold and answer")
