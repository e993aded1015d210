"""Grader pools that share their processes: a nursery takes a second to import what graders need, and a test has many.

What pools themselves promise is proved in tests/answers; here they are only used.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache

import pytest

from dsm.answers import pool
from dsm.answers.crew import Crew
from dsm.config.answers import GraderConfig


class _Lent(Crew):
    """Outlives each pool; its processes end with this one."""

    def close(self) -> None:
        pass


@cache
def _lent(_pid: int, config: GraderConfig, workers: int, path: str) -> _Lent:
    return _Lent(config, workers, path)


@pytest.fixture(autouse=True, scope="module")
def shared_graders() -> Iterator[None]:
    """For a conftest to import: all pools of this process with the same settings have the same workers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "Crew", lambda config, workers, path: _lent(os.getpid(), config, workers, path))
        yield
