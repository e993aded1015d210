"""Ours against TRL's `GRPOTrainer`: loss, gradients and new weights (scripts/bench/grpo_parity.py), where TRL is."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "bench" / "grpo_parity.py"


@pytest.fixture(scope="module")
def parity() -> ModuleType:
    pytest.importorskip("trl", reason="TRL is not installed; scripts/bench/grpo_parity.py says how this is run")
    spec = importlib.util.spec_from_file_location("grpo_parity", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(parity: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parity")
    parity.make_models(folder)
    return folder


@pytest.mark.parametrize("mu", [1, 2])
@pytest.mark.parametrize("number", range(9))
def test_loss_and_gradient_are_theirs(parity: ModuleType, folder: Path, number: int, mu: int) -> None:
    case = parity.cases()[number]
    found = parity.compare(case, mu, folder)
    assert found["loss"] < parity.LIMIT, case.name
    assert found["relative"] < parity.LIMIT, case.name
    assert found["norm"] > 0.1
    if case.algorithm != "cispo":  # its cap is far away
        assert (found["clipped"] > 0) == (mu == 2)


def test_every_case_is_tested(parity: ModuleType) -> None:
    assert len(parity.cases()) == 9
