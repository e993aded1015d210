"""Jails cannot be built everywhere (containers, kernels that forbid it): tests that need one skip, saying why."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dsm.config.sandbox import SandboxConfig
from dsm.errors import UserError
from dsm.sandbox import Sandbox
from dsm.sandbox.probe import probe


@pytest.fixture(scope="session")
def jail_possible() -> None:
    """Skips where programs cannot be isolated."""
    try:
        probe(SandboxConfig())
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def sandbox(jail_possible: None) -> Iterator[Sandbox]:
    """Two warm workers."""
    with Sandbox(SandboxConfig(workers=2, timeout_s=10.0)) as sandbox:
        yield sandbox
