"""What several tests of reports start from."""

from __future__ import annotations

import pytest

from tests.evaluation.folders import record, write_evaluation


@pytest.fixture
def pair(tmp_path):
    """Base and tuned on four items, tuned one better: (base, tuned)."""
    base = write_evaluation(tmp_path / "base", {"gsm8k": [record(str(i), v) for i, v in enumerate("cwwu")]})
    tuned = write_evaluation(tmp_path / "tuned", {"gsm8k": [record(str(i), v) for i, v in enumerate("ccww")]})
    return base, tuned
