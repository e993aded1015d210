"""What a step leaves depends on its inputs and settings alone: not on workers, order, kills or what lay there."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from step_lab import ToyStep, content, inputs

import dsm
from dsm.corpus.executors import LocalExecutor, TaskError
from dsm.corpus.steps import Manifest, Task, run_step
from dsm.errors import UserError


class Spy:
    """An executor of this process that remembers what it was given."""

    def __init__(self) -> None:
        self.given: list[str] = []

    def map(self, function: Callable[[Any], Any], items: Sequence[Any], on_done: Callable[[Any, Any], None]) -> None:
        self.given += [item.name for item in items]
        LocalExecutor(0).map(function, items, on_done)


def done_anew(step: Any, tasks: Sequence[Task], folder: Path) -> list[str]:
    """The tasks that are done, not found done."""
    spy = Spy()
    run_step(step, tasks, folder, spy)
    return spy.given


def test_workers_and_their_number_change_nothing(tmp_path: Path) -> None:
    tasks = inputs(tmp_path / "in", 5)
    alone = run_step(ToyStep(), tasks, tmp_path / "alone", LocalExecutor(0))
    many = run_step(ToyStep(), tasks, tmp_path / "many", LocalExecutor(3))
    assert content(tmp_path / "alone") == content(tmp_path / "many")
    assert alone.hash == many.hash == Manifest.load(tmp_path / "many").hash
    assert alone.files("lines.txt") == [tmp_path / "alone" / task.name / "lines.txt" for task in tasks]
    assert alone.total() == {"in": 25, "out": 20, "first": 5, "_chars": 25 * len("line 0 0")}


def test_what_is_finished_is_not_done_again(tmp_path: Path) -> None:
    tasks = inputs(tmp_path / "in", 3)
    names = [task.name for task in tasks]
    folder = tmp_path / "out"
    assert done_anew(ToyStep(), tasks, folder) == names
    before = content(folder)
    assert done_anew(ToyStep(), tasks, folder) == []
    os.utime(tasks[0].inputs[0], (1, 1))
    assert done_anew(ToyStep(), tasks, folder) == [], "a file of another date and the same content is the same file"
    assert done_anew(ToyStep(), tasks[::-1], folder) == []
    shutil.copytree(tmp_path / "in", tmp_path / "moved")
    moved = [Task(task.name, (tmp_path / "moved" / task.inputs[0].name,)) for task in tasks]
    assert done_anew(ToyStep(), moved, folder) == [], "nor does it matter where the inputs lie"
    assert content(folder) == before


def test_what_depends_on_a_change_is_done_anew_and_nothing_else(tmp_path: Path) -> None:
    tasks = inputs(tmp_path / "in", 3)
    names = [task.name for task in tasks]
    folder = tmp_path / "out"
    run_step(ToyStep(), tasks, folder, LocalExecutor(0))
    tasks[1].inputs[0].write_text("other\n")
    assert done_anew(ToyStep(), tasks, folder) == names[1:2]
    assert done_anew(ToyStep(salt="b"), tasks, folder) == names
    assert done_anew(ToyStep(salt="b", version="2"), tasks, folder) == names
    run_step(ToyStep(salt="b", version="2"), tasks, tmp_path / "fresh", LocalExecutor(0))
    assert content(folder) == content(tmp_path / "fresh")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "a flipped bit": lambda shard: flip(shard / "lines.txt"),
    "a cut file": lambda shard: os.truncate(shard / "lines.txt", 3),
    "a missing file": lambda shard: (shard / "sub" / "count.txt").unlink(),
    "a file more": lambda shard: (shard / "other.txt").write_text("?"),
    "no done.json": lambda shard: (shard / "done.json").unlink(),
    "half a done.json": lambda shard: os.truncate(shard / "done.json", 20),
    "an empty done.json": lambda shard: (shard / "done.json").write_text("{}"),
    "a key of another run": lambda shard: (shard / "done.json").write_text(
        (shard / "done.json").read_text().replace('"key": "', '"key": "0')
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_shard_is_done_anew(tmp_path: Path, damage: str) -> None:
    tasks = inputs(tmp_path / "in", 3)
    folder = tmp_path / "out"
    run_step(ToyStep(), tasks, folder, LocalExecutor(0))
    before = content(folder)
    Manifest.load(folder).check()
    DAMAGE[damage](folder / tasks[1].name)
    if "done.json" not in damage and "key" not in damage:
        with pytest.raises(UserError, match="shard-001: is not what step toy wrote"):
            Manifest.load(folder).check()
    assert done_anew(ToyStep(), tasks, folder) == [tasks[1].name]
    assert content(folder) == before


def test_what_is_not_wanted_any_more_goes(tmp_path: Path) -> None:
    tasks = inputs(tmp_path / "in", 4)
    folder = tmp_path / "out"
    run_step(ToyStep(), tasks, folder, LocalExecutor(0))
    (folder / "shard-000.part-killed").mkdir()
    (folder / "shard-000.part-killed" / "lines.txt").write_text("half")
    assert done_anew(ToyStep(), tasks[:2], folder) == []
    run_step(ToyStep(), tasks[:2], tmp_path / "fresh", LocalExecutor(0))
    assert content(folder) == content(tmp_path / "fresh")


def test_a_chain_goes_by_content(tmp_path: Path) -> None:
    """What follows a step is done anew where the step's result changed, and only there."""
    tasks = inputs(tmp_path / "in", 3)

    def second() -> list[Task]:
        first = run_step(ToyStep(), tasks, tmp_path / "one", LocalExecutor(0))
        return [Task(name, (shard.path("lines.txt"),)) for name, shard in first.shards.items()]

    step = ToyStep(name="two")
    assert len(done_anew(step, second(), tmp_path / "two")) == 3
    tasks[2].inputs[0].write_text("other\n")
    assert done_anew(step, second(), tmp_path / "two") == ["shard-002"]
    (tmp_path / "one" / "shard-001" / "lines.txt").write_text("corrupt\n")
    assert done_anew(step, second(), tmp_path / "two") == [], "repaired before it was read"


def test_an_error_costs_its_task_alone(tmp_path: Path) -> None:
    tasks = inputs(tmp_path / "in", 4)
    tasks[1].inputs[0].write_text("line\nwrong\n")
    folder = tmp_path / "out"
    with pytest.raises(UserError, match=r"^shard-001: the line is wrong$"):
        run_step(ToyStep(), tasks, folder, LocalExecutor(0))
    assert sorted(path.name for path in folder.iterdir()) == ["shard-000", "shard-002", "shard-003"]
    with pytest.raises(UserError, match="holds no finished step"):
        Manifest.load(folder)
    assert done_anew(ToyStep(armed=False), tasks, folder) == ["shard-001"]


def test_no_page_is_lost_in_the_count(tmp_path: Path) -> None:
    tasks = inputs(tmp_path / "in", 1)
    tasks[0].inputs[0].write_text("line\nlie\n")
    with pytest.raises(TaskError, match="does not balance: in=3, went=2"):
        run_step(ToyStep(), tasks, tmp_path / "out", LocalExecutor(0))


def test_an_input_that_changes_meanwhile_is_refused(tmp_path: Path) -> None:
    class Meddler(ToyStep):
        def run(self, task: Task, out: Path) -> dict[str, int]:
            counts = super().run(task, out)
            task.inputs[0].write_text("more")
            return counts

    with pytest.raises(UserError, match="changed while it was read"):
        run_step(Meddler(), inputs(tmp_path / "in", 1), tmp_path / "out", LocalExecutor(0))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_missing_input_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone\.txt cannot be read \(No such file"):
        run_step(ToyStep(), [Task("a", (tmp_path / "gone.txt",))], tmp_path / "out", LocalExecutor(0))


@pytest.mark.parametrize("name", ["", "a/b", ".hidden", "a.part-b", "ü"])
def test_names_that_are_no_folders(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no name of a folder"):
        run_step(ToyStep(), [Task(name, ())], tmp_path / "out", LocalExecutor(0))


def test_two_tasks_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 tasks are called a"):
        run_step(ToyStep(), [Task("a", ()), Task("a", ())], tmp_path / "out", LocalExecutor(0))


def test_kill_9_at_any_instant(tmp_path: Path) -> None:
    """Workers and the whole command are killed, eight workers become three: the folder ends as if nothing happened."""
    tasks = inputs(tmp_path / "in", 24, lines=6)
    run_step(ToyStep(), tasks, tmp_path / "calm", LocalExecutor(0))
    here = Path(__file__)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(dsm.__file__).parents[1]), str(here.parent)])}
    folder, chance = tmp_path / "killed", random.Random(0)

    def start(workers: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(here.with_name("step_lab.py")), str(tmp_path / "in"), str(folder), str(workers)]
        return subprocess.Popen([*command, "0.02"], env=environment, stderr=subprocess.DEVNULL)

    for workers in (8, 8, 3, 3):
        done_before = len(list(folder.glob("shard-???/done.json")))
        process = start(workers)
        while process.poll() is None and len(list(folder.glob("shard-???/done.json"))) <= done_before:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.04))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start(3).wait() == 0
    assert content(folder) == content(tmp_path / "calm")
    seconds = [json.loads(path.read_text())["seconds"] for path in folder.glob("*/done.json")]
    assert len(seconds) == 24
    assert min(seconds) > 0
