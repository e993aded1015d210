"""How models use tools: programs that answer (PoT), and programs that run while the answer is written (TIR)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from dsm.config.base import Count, Schema


class ToolConfig(Schema):
    """`dsm.tools`: what the model may run, and how much of what a program says it gets to see."""

    rounds: Count = Field(
        default=2,
        description="times the model may write, its programs running in between; the program of the last round runs "
        "too, and its output ends the transcript (DeepSeekMath's evaluation: 2)",
    )
    timeout_s: float | None = Field(
        default=None, gt=0, le=3600, description="seconds a program may take; null = sandbox.timeout_s (paper: 10)"
    )
    output_chars: int = Field(
        default=100,
        ge=2,
        lt=2**31,
        description="characters of a program's output that the model sees; of longer ones both ends, half each",
    )
    errors: Literal["traceback", "last_line"] = Field(
        default="traceback", description="what the model sees of an error: its traceback, or the line that names it"
    )
    error_tokens: int = Field(
        default=100, ge=2, lt=2**31, description="tokens of an error that the model sees; both ends of longer ones"
    )
