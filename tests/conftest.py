"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest
import torch

hypothesis.settings.register_profile("dsm", deadline=None, derandomize=True)  # a busy machine is no failure
hypothesis.settings.load_profile("dsm")


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Two busy thread pools on two cores are many times slower than one thread each."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the repository; tests that need it skip, saying so, where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("DSM_SHARED_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder} (set DSM_SHARED_DATA)")
    return folder
