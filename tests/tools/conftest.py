"""A sandbox for all tests of tools: it takes a second or two to warm up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dsm.config.sandbox import SandboxConfig
from dsm.errors import UserError
from dsm.sandbox import Sandbox


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """Two warm workers; skips where programs cannot be isolated, saying why."""
    try:
        sandbox = Sandbox(SandboxConfig(workers=2))
    except UserError as error:
        pytest.skip(str(error))
    with sandbox:
        yield sandbox
