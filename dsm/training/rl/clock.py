"""Seconds and tokens of the phases between two updates."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Adds up what is measured on this rank, by phase: generate, reward, score."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.tokens: defaultdict[str, int] = defaultdict(int)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """For this long."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - began

    def metrics(self, others: list[Clock]) -> dict[str, float]:
        """speed/PHASE_s, of the slowest rank, and speed/PHASE_tokens_per_s, of all together."""
        found: dict[str, float] = {}
        for name in self.seconds:
            slowest = max(clock.seconds[name] for clock in others)
            found[f"speed/{name}_s"] = slowest
            if tokens := sum(clock.tokens[name] for clock in others):
                found[f"speed/{name}_tokens_per_s"] = tokens / max(slowest, 1e-9)
        return found
