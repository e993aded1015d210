"""A checkpoint is whole or refused, holds the moment it was asked for, and a failure to write it is not lost."""

from __future__ import annotations

import errno
import json
import os
import pickle
import random
import shutil
import signal
import threading
import zlib
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dsm.config.parallel import Layout
from dsm.errors import LOST_RANK, UserError
from dsm.runtime.launch import World
from dsm.training.checkpoint import writing
from dsm.training.checkpoint.background import Background, Staging
from dsm.training.checkpoint.folder import Manifest, read_manifest, read_tensors
from dsm.training.checkpoint.pieces import Piece, in_charge_of
from dsm.training.checkpoint.state import decode, encode, random_state, restore_random_state, run_pieces
from dsm.training.checkpoint.writing import write_checkpoint
from tests.training.checkpoint_lab import Run
from tests.training.harness import (
    DROPOUT,
    Lab,
    finish,
    newest_state,
    run_folder,
    start,
    start_ranks,
    will_die_writing,
    will_fail_writing,
)

MANIFEST = Manifest(1, {"step": 1}, {}, {}, {})


@pytest.fixture
def run() -> Run:
    run = Run.begin(Layout(), seed=1)
    run.learn()
    return run


# -- the moment it was asked for --------------------------------------------------------------------------------------


def test_training_goes_on_while_a_copy_is_written(run: Run, tmp_path: Path) -> None:
    staging, background, go = Staging(), Background(), threading.Event()
    before = {name: weight.detach().clone() for name, weight in run.model.named_parameters()}
    copies = staging.copy(in_charge_of(run_pieces(run.model, [run.optimizer], run.world)))

    def write() -> None:
        assert go.wait(30)
        write_checkpoint(tmp_path, copies, MANIFEST, None, 2)

    background.start(write)
    run.learn(1)
    assert not list(tmp_path.iterdir())
    go.set()
    background.wait()
    stored = read_tensors(tmp_path / "step-00000001")
    for name, weight in run.model.named_parameters():
        assert not torch.equal(weight, before[name])
        assert torch.equal(stored[f"model.{name}"], before[name])
        assert stored[f"optimizer.{name}.step"] == 2

    again = staging.copy(in_charge_of(run_pieces(run.model, [run.optimizer], run.world)))
    assert {name: piece.data.data_ptr() for name, piece in again.items()} == {
        name: piece.data.data_ptr() for name, piece in copies.items()
    }


def test_what_fails_in_the_background_is_raised_once() -> None:
    background = Background()
    background.start(partial(int, "no number"))
    with pytest.raises(ValueError, match="no number"):
        background.wait()
    assert not background.failed
    background.wait()


def test_random_states() -> None:
    def draw() -> list[float]:
        return [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), float(torch.rand(()))]

    draw()  # from a gauss() in pairs, one is left
    state = decode(encode(random_state()))
    drawn = draw()
    restore_random_state(state)
    assert draw() == drawn


# -- who writes what --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_copies_are_written_once_and_evenly(ranks: int) -> None:
    rng = random.Random(ranks)
    tensors = {f"{n}": torch.zeros(rng.randrange(1, 2000)) for n in range(60)} | {"none": torch.zeros(0)}
    worlds = [World(rank, ranks, layout=Layout("ddp", ranks)) for rank in range(ranks)]
    shares = [in_charge_of({name: Piece.of(tensor, world) for name, tensor in tensors.items()}) for world in worlds]
    assert sorted(name for share in shares for name in share) == sorted(tensors.keys() - {"none"})
    sizes = [sum(piece.data.nbytes for piece in share.values()) for share in shares]
    assert max(sizes) - min(sizes) <= 4 * 2000


# -- whole or refused -------------------------------------------------------------------------------------------------


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) * 2 // 3] ^= 4
    file.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "a bit": flip,
    "cut off": lambda file: os.truncate(file, file.stat().st_size // 2),
    "empty": lambda file: os.truncate(file, 0),
    "gone": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["__0_0.distcp", ".metadata", "checkpoint.json"])
def test_damage_is_named(name: str, damage: str, run: Run, tmp_path: Path) -> None:
    path = run.save(tmp_path)
    DAMAGES[damage](path / name)
    with pytest.raises(UserError) as refused:
        run.load(path)
    if (name, damage) == ("checkpoint.json", "gone"):
        assert str(refused.value).startswith(f"resume: {path} is no checkpoint of dsm's")
    else:
        assert str(refused.value).startswith(f"resume: {path} cannot be read (")
        assert "delete it to go on from the one before it" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_later_format_is_told_apart_from_damage(run: Run, tmp_path: Path) -> None:
    path = run.save(tmp_path)
    content = json.loads((path / "checkpoint.json").read_text())
    (path / "checkpoint.json").write_text(json.dumps(content | {"format": 9}))
    with pytest.raises(UserError, match="is a checkpoint of format 9, this version of dsm reads 1"):
        read_manifest(path)


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch owned",)


def test_no_code_comes_with_a_checkpoint(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = run.save(tmp_path)
    metadata = pickle.dumps(Hostile())
    (path / ".metadata").write_bytes(metadata)
    manifest = read_manifest(path)
    files = manifest.files | {".metadata": (len(metadata), zlib.crc32(metadata))}
    Manifest(**{**asdict(manifest), "files": files}).write(path)
    with pytest.raises(UserError, match=r"system does not belong into \.metadata"):
        run.load(path)
    assert not (tmp_path / "owned").exists()


def test_the_newest_stay(run: Run, tmp_path: Path) -> None:
    for step in (8, 9, 10, 10):
        run.save(tmp_path, step, keep=2)
    assert sorted(os.listdir(tmp_path)) == ["step-00000009", "step-00000010"]
    run.load(tmp_path / "step-00000010")


# -- a disk that is full ----------------------------------------------------------------------------------------------


def test_a_failed_write_leaves_what_was_there(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run.save(tmp_path, 1)

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(writing._Counted, "write", full)
        with pytest.raises(UserError, match=r"checkpoint: .*step-00000002 could not be written \(No space left on dev"):
            run.save(tmp_path, 2)
    assert [path.name for path in tmp_path.glob("step-*")] == ["step-00000001"]
    run.save(tmp_path, 2)
    assert run.differences(read_tensors(tmp_path / "step-00000002")) == []


def test_a_file_that_never_shows(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on machines without a shared disk."""
    monkeypatch.setattr(writing, "_PATIENCE_S", 0.1)
    finish_writing = writing._Writer.finish

    def lose(self: writing._Writer, *args: Any, **kwargs: Any) -> None:
        (Path(self.path) / "__0_0.distcp").unlink()
        finish_writing(self, *args, **kwargs)

    monkeypatch.setattr(writing._Writer, "finish", lose)
    with pytest.raises(UserError, match="must be a folder that all machines share"):
        run.save(tmp_path)


@pytest.mark.parametrize("asynchronous", ["true", "false"])
def test_a_run_whose_disk_is_full_stops(asynchronous: str, lab: Lab, tmp_path: Path) -> None:
    command = lab.command(tmp_path / "runs", f"checkpoint.asynchronous={asynchronous}")
    process = start(command, tmp_path / "output", partial(will_fail_writing, 2))
    assert finish([process]) == [2]
    *_, last = (tmp_path / "output").read_text().splitlines()
    assert "step-00000002 could not be written (No space left on device, rank 0)" in last
    folder = run_folder(tmp_path / "runs") / "checkpoints"
    assert [path.name for path in folder.glob("step-*")] == ["step-00000001"]
    shutil.rmtree(tmp_path / "runs")


def test_one_full_disk_of_two_stops_both_ranks(lab: Lab, tmp_path: Path) -> None:
    command = lab.command(tmp_path / "runs")
    processes = start_ranks(2, command, tmp_path / "output", {1: partial(will_fail_writing, 2)})
    assert finish(processes) == [2, 2]
    lines = (tmp_path / "output.0").read_text().splitlines()
    assert "step-00000002 could not be written (No space left on device, rank 1)" in lines[-1]
    assert "Traceback" not in "".join(lines) + (tmp_path / "output.1").read_text()


def test_a_rank_that_dies_writing_takes_no_checkpoint_with_it(lab: Lab, tmp_path: Path) -> None:
    """The other one has written its part and trains on; what they leave bears no checkpoint's name."""
    command = lab.command(tmp_path / "runs", DROPOUT, "trainer.steps=4", "parallel.strategy=fsdp")
    processes = start_ranks(2, command, tmp_path / "output", {1: partial(will_die_writing, 2)})
    assert finish(processes) == [LOST_RANK, -signal.SIGKILL]
    folder = run_folder(tmp_path / "runs") / "checkpoints"
    assert sorted(os.listdir(folder)) == [".step-00000002.partial", "step-00000001"]
    assert finish(start_ranks(2, command, tmp_path / "again")) == [0, 0]
    assert sorted(os.listdir(folder)) == ["step-00000003", "step-00000004"]
    assert newest_state(folder.parent)["step"] == 4
