"""One format: what any layout writes, every other one reads, to the bit."""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import FileSystemReader

from dsm.cli import main
from dsm.config.parallel import Layout
from dsm.training.checkpoint.folder import read_manifest, read_tensors
from dsm.training.checkpoint.state import RANDOM
from tests.ranks import run_ranks
from tests.training.checkpoint_lab import Run
from tests.training.harness import (
    DROPOUT,
    Lab,
    assert_same_run,
    finish,
    newest_state,
    run_folder,
    start_ranks,
    weights,
    will_be_signalled,
)

LAYOUTS = {
    1: {"single": Layout()},
    2: {
        "ddp-2": Layout("ddp", 2),
        "fsdp-2": Layout("fsdp", 1, 2),
        "tensor-2": Layout("fsdp", 1, 1, 2),
    },
    4: {
        "ddp-4": Layout("ddp", 4),
        "fsdp-4": Layout("fsdp", 1, 4),
        "hsdp-2x2": Layout("fsdp", 2, 2),
        "fsdp-2-tensor-2": Layout("fsdp", 1, 2, 2),
    },
}


def save_all(ranks: int, root: Path) -> dict[str, Run]:
    runs = {name: Run.begin(layout, seed=1) for name, layout in LAYOUTS[ranks].items()}
    for name, run in runs.items():
        run.learn()
        run.save(root / name)
    return runs


def save_and_load_all(ranks: int, root: Path) -> dict[tuple[str, str], list[str]]:
    """Save; then read what is there already. What differs after reading, by who read what."""
    found = {}
    runs = save_all(ranks, root)
    for folder in sorted(root.glob("*/step-*")):
        stored = read_tensors(folder)
        for name, run in runs.items():
            run.forget()
            run.load(folder)
            found[name, folder.parent.name] = run.differences(stored)
    return found


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("layouts")


def test_every_layout_reads_every_other(root: Path) -> None:
    save_all(1, root)
    results = [*run_ranks(2, save_and_load_all, 2, root), *run_ranks(4, save_and_load_all, 4, root)]
    results.append(save_and_load_all(1, root))
    pairs = {pair for result in results for pair in result}
    assert len(pairs) == 3 * 4 + 4 * 8 + 1 * 8
    assert {pair: names for result in results for pair, names in result.items() if names} == {}

    expected = read_tensors(root / "single" / "step-00000001")
    assert len({name for name in expected if name.startswith("model.")}) == 11
    for folder in root.glob("*/step-*"):
        tensors = read_tensors(folder)
        ranks = len(read_manifest(folder).files) - 1  # a file each, and torch's metadata
        assert tensors.pop(RANDOM).shape == (ranks, 2**15)
        for name, tensor in tensors.items():  # the update itself rounds alike wherever a weight is cut
            torch.testing.assert_close(tensor, expected[name], rtol=1e-6, atol=1e-7)


def test_each_process_writes_its_share_once(root: Path) -> None:
    """Of what several hold, one writes it; together no more than the run's state, spread evenly."""
    expected = read_tensors(root / "single" / "step-00000001")
    state = sum(tensor.nbytes for name, tensor in expected.items() if name != RANDOM)
    for name in ("ddp-2", "ddp-4", "fsdp-4", "hsdp-2x2", "fsdp-2-tensor-2"):
        folder = root / name / "step-00000001"
        metadata = FileSystemReader(folder).read_metadata()
        written: dict[str, int] = {}
        for index, place in metadata.storage_data.items():
            if index.fqn != RANDOM:
                stored = metadata.state_dict_metadata[index.fqn]
                (chunk,) = (chunk for chunk in stored.chunks if chunk.offsets == index.offset)
                size = chunk.sizes.numel() * stored.properties.dtype.itemsize
                written[place.relative_path] = written.get(place.relative_path, 0) + size
        assert sum(written.values()) == state
        assert len(written) == int(name.rpartition("-")[2].replace("2x2", "4")) or name == "fsdp-2-tensor-2"
        assert max(written.values()) < 1.35 * state / len(written)


def test_torch_itself_opens_the_folder(root: Path) -> None:
    folder = root / "fsdp-4" / "step-00000001"
    weights = {"model.model.model.norm.weight": torch.empty(32)}
    dcp.load(weights, checkpoint_id=folder)
    assert torch.equal(weights["model.model.model.norm.weight"], read_tensors(folder)["model.model.model.norm.weight"])


# -- whole runs -------------------------------------------------------------------------------------------------------

SHARDED = ("parallel.strategy=fsdp", "trainer.steps=3", "trainer.validate_every=null", "checkpoint.keep=10")


def run_sharded(lab: Lab, ranks: int, runs: Path, *settings: str) -> Path:
    output = runs.with_suffix(".log")
    statuses = finish(start_ranks(ranks, lab.command(runs, *SHARDED, *settings), output))
    assert statuses == [0] * ranks, output.with_suffix(".0").read_text()
    return run_folder(runs)


def test_a_sharded_run_goes_on_anywhere(lab: Lab, tmp_path: Path) -> None:
    """On the same two processes to the bit, with dropout; without it on one and on four."""
    whole = run_sharded(lab, 2, tmp_path / "whole", DROPOUT)
    command = lab.command(tmp_path / "stopped", *SHARDED, DROPOUT, "checkpoint.every=100")
    trouble = {1: partial(will_be_signalled, 1, signal.SIGUSR1)}
    statuses = finish(start_ranks(2, command, tmp_path / "output", trouble))
    assert statuses == [128 + signal.SIGUSR1] * 2, (tmp_path / "output.0").read_text()
    assert_same_run(run_sharded(lab, 2, tmp_path / "stopped", DROPOUT), whole)

    plain = run_sharded(lab, 2, tmp_path / "plain")
    resume = f"resume={plain / 'checkpoints' / 'step-00000002'}"
    four = run_sharded(lab, 4, tmp_path / "four", "parallel.replicate=2", resume)
    assert main(lab.command(tmp_path / "one", *SHARDED, "parallel.strategy=auto", resume)) == 0
    one = run_folder(tmp_path / "one")
    expected, state = weights(plain), newest_state(plain)
    for folder in (four, one):
        exported, found = weights(folder), newest_state(folder)
        assert exported.keys() == expected.keys()
        for name, weight in expected.items():
            assert float((exported[name] - weight).norm() / weight.norm()) < 1e-5, name
            assert torch.equal(found[f"model.model.model.{name}"], exported[name])
        assert found["progress"] == state["progress"]
        assert {name for name in found if name.startswith("optimizer.")} == {
            name for name in state if name.startswith("optimizer.")
        }
