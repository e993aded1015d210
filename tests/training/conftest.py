"""Runs that several files compare with."""

from __future__ import annotations

from multiprocessing import forkserver
from pathlib import Path

import pytest

from dsm.cli import main
from tests.shared_graders import shared_graders as shared_graders
from tests.training.harness import DROPOUT, Lab, run_folder


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    forkserver.ensure_running()  # its imports take a while: let them begin
    return Lab.build(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="session")
def store(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The problems as a token store."""
    folder = tmp_path_factory.mktemp("store")
    command = ["stage=tokenize", f"tokenizer.path={lab.tokenizer}", "store.workers=1", "store.held_out.fraction=0"]
    command += [f"data.sources.maths.path={lab.data}", "data.sources.maths.fields=[question,answer]"]
    assert main([*command, f"paths.runs={folder}"]) == 0
    (run,) = (folder / "tokenize").iterdir()
    return run / "export" / "maths"


@pytest.fixture(scope="session")
def undisturbed(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of six steps, with dropout, that nothing disturbed."""
    runs = tmp_path_factory.mktemp("undisturbed")
    assert main(lab.command(runs, DROPOUT)) == 0
    return run_folder(runs)
