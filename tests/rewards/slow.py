"""A reward that takes its time."""

from __future__ import annotations

import time
from typing import Any


def one_second(completions: list[str], **_: Any) -> list[float]:
    """1 for each."""
    time.sleep(1.0)
    return [1.0] * len(completions)
