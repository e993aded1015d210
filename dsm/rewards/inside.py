"""Reward functions of our own that run where those of the user's do, in a process that can be killed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any


def searched(pattern: str) -> Callable[..., list[float]]:
    """A function that gives 1 where the pattern is found in a completion, else 0."""
    compiled = re.compile(pattern, re.DOTALL)

    def search(completions: Sequence[str], **_: Any) -> list[float]:
        return [float(compiled.search(text) is not None) for text in completions]

    return search
