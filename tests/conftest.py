"""Fixtures that every test may use."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import hypothesis
import pytest

LONGEST = (
    "training/test_checkpoint_layouts.py",
    "training/test_strategy.py",
    "test_quickstart.py",
    "runtime/test_launch.py",
    "config/test_sweep.py",
    "training/rl/test_runs.py",
    "rollout/test_invariance.py",
    "training/rl/test_rl_resume.py",
    "pipeline/test_crew.py",
    "pipeline/test_run.py",
    "training/test_in_training_eval.py",
    "training/test_resume.py",
    "test_docs.py",
    "training/test_reward_stage.py",
    "models/test_sharding.py",
    "config/test_plan.py",
    "test_worked_examples.py",
    "evaluation/test_stage.py",
    "training/test_ranks.py",
    "test_cli.py",
    "training/test_pretrain.py",
    "rewards/test_reward_faults.py",
)

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two busy thread pools on two cores are slower than a thread each
gc.disable()  # until all tests are imported: a million objects that stay, not to be looked through again and again
hypothesis.settings.register_profile("dsm", deadline=None, derandomize=True)  # a busy machine is no failure
hypothesis.settings.load_profile("dsm")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: of several processes that share the files, none is left alone with one at the end."""
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_collection_finish() -> None:
    """What has been imported by now stays until the end."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the repository; tests that need it skip, saying so, where it is absent."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("DSM_SHARED_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder} (set DSM_SHARED_DATA)")
    return folder
