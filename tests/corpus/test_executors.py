"""Tasks go to other processes, jobs or nodes; one that dies there is named, and costs nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from step_lab import ToyStep, content, inputs

import dsm
from dsm.config.executor import LocalExecutorConfig, RayExecutorConfig, SlurmExecutorConfig
from dsm.corpus.executors import Executor, LocalExecutor, TaskError, make_executor
from dsm.corpus.steps import run_step
from dsm.errors import UserError

HERE = Path(__file__).parent
PATHS = [str(Path(dsm.__file__).parents[1]), str(HERE), os.environ.get("PYTHONPATH", "")]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, PATHS))}


def squared(number: int) -> int:
    return number * number


def modules(_: int) -> tuple[bool, str | None]:
    return "torch" in sys.modules, os.environ.get("OMP_NUM_THREADS")


def local_slurm(**changes: object) -> SlurmExecutorConfig:
    fields: dict[str, object] = {
        "jobs": 2,
        "workers": 1,
        "mem_gb": 1,
        "timeout_min": 5,
        "partition": None,
        "account": None,
    }
    fields |= {"array_parallelism": 2, "setup": [], "additional_parameters": {}, "cluster": "local"}
    return SlurmExecutorConfig.model_validate({"kind": "slurm"} | fields | changes)


@pytest.mark.parametrize("workers", [0, 2])
def test_every_item_comes_back_once(workers: int) -> None:
    found: dict[int, int] = {}
    LocalExecutor(workers).map(squared, list(range(20)), found.__setitem__)
    assert found == {number: number * number for number in range(20)}


def test_nothing_to_do_starts_nothing() -> None:
    LocalExecutor(2).map(squared, [], lambda *_: pytest.fail("called"))


def test_workers_are_light() -> None:
    """No torch, one thread each."""
    found: dict[int, tuple[bool, str | None]] = {}
    LocalExecutor(1).map(modules, [0], found.__setitem__)
    assert found == {0: (False, "1")}


def test_a_killed_worker_is_named_and_the_rest_is_kept(tmp_path: Path) -> None:
    tasks = inputs(tmp_path / "in", 6)
    tasks[2].inputs[0].write_text("line\nkill\n")
    with pytest.raises(
        UserError, match=r"^shard-002: its process was killed by SIGKILL, most often for want of memory"
    ):
        run_step(ToyStep(), tasks, tmp_path / "out", LocalExecutor(2))
    finished = {path.parent.name for path in (tmp_path / "out").glob("*/done.json")}
    assert finished == {task.name for task in tasks} - {"shard-002"}
    run_step(ToyStep(armed=False), tasks, tmp_path / "out", LocalExecutor(0))
    run_step(ToyStep(armed=False), tasks, tmp_path / "fresh", LocalExecutor(0))
    assert content(tmp_path / "out") == content(tmp_path / "fresh")


def test_a_bug_shows_its_traceback_and_three_end_it(tmp_path: Path) -> None:
    tasks = inputs(tmp_path / "in", 6)
    for task in tasks[:5]:
        task.inputs[0].write_text("bug\n")
    with pytest.raises(
        TaskError, match=r"(?s)^shard-000 failed \(and so did shard-001, shard-002\).*ZeroDivisionError"
    ):
        run_step(ToyStep(), tasks, tmp_path / "out", LocalExecutor(0))
    assert not (tmp_path / "out" / "shard-005").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc who is there")
@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_parent(tmp_path: Path, signal_: signal.Signals) -> None:
    inputs(tmp_path / "in", 2, lines=1000)
    command = [sys.executable, str(HERE / "step_lab.py"), str(tmp_path / "in"), str(tmp_path / "out"), "2", "0.05"]
    process = subprocess.Popen(command, env=ENVIRONMENT, start_new_session=True)
    while len(list((tmp_path / "out").glob("*.part-*"))) < 2:
        time.sleep(0.02)
        assert process.poll() is None
    process.send_signal(signal_)
    process.wait()
    deadline = time.monotonic() + 10
    while group(process.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert group(process.pid) == []


def group(session: int) -> list[int]:
    """The living processes of a session."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, its_session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(its_session) == session and state not in "ZX":
            found.append(int(folder.name))
    return found


def test_slurm_jobs_do_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a rehearsal, without Slurm: submitit's local jobs."""
    pytest.importorskip("submitit", reason="dsm[slurm] is not installed")
    does_the_same(local_slurm(), "wrong", r"^shard-001: the line is wrong", tmp_path, monkeypatch)


def test_ray_does_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a Ray of its own; needs the extra: pip install 'dsm[ray]'."""
    pytest.importorskip("ray", reason="dsm[ray] is not installed")
    does_the_same(ray_config(), "kill", r"^shard-001: its Ray worker died", tmp_path, monkeypatch)


def does_the_same(
    config: SlurmExecutorConfig | RayExecutorConfig,
    line: str,
    message: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As no process at all; and a line that ends a task is told."""
    monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])
    tasks = inputs(folder / "in", 5)
    run_step(ToyStep(), tasks, folder / "calm", LocalExecutor(0))
    executor = make_executor(config, folder / "jobs")
    run_step(ToyStep(), tasks, folder / "out", executor)
    assert content(folder / "out") == content(folder / "calm")
    tasks[1].inputs[0].write_text(f"line\n{line}\n")
    with pytest.raises(UserError, match=message):
        run_step(ToyStep(), tasks, folder / "out", executor)


@pytest.mark.skipif(
    os.environ.get("DSM_TEST_EXTRAS") != "1", reason="installs dsm[ray]; to do so set DSM_TEST_EXTRAS=1"
)
def test_ray_installed_as_the_extra(tmp_path: Path) -> None:
    """Beside this environment, so that it stays as it is."""
    project = tomllib.loads((HERE.parents[1] / "pyproject.toml").read_text())["project"]
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(tmp_path / "extra")]
    subprocess.run([*install, *project["optional-dependencies"]["ray"]], check=True)
    paths = {"PYTHONPATH": os.pathsep.join([ENVIRONMENT["PYTHONPATH"], str(tmp_path / "extra")])}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", __file__, "-k", "test_ray_does_the_same"]
    told = subprocess.run(command, env=ENVIRONMENT | paths, capture_output=True, text=True, check=False).stdout
    assert "1 passed" in told, told


def ray_config() -> RayExecutorConfig:
    return RayExecutorConfig(kind="ray", address=None, workers=2, mem_gb=None)


def test_what_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'dsm\[ray\]'"):
        make_executor(ray_config(), tmp_path)
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match=r"pip install 'dsm\[slurm\]'"):
        make_executor(local_slurm(), tmp_path)


def test_the_configured_executor(tmp_path: Path) -> None:
    executor: Executor = make_executor(LocalExecutorConfig(kind="local", workers=None), tmp_path)
    assert isinstance(executor, LocalExecutor)
    assert executor.workers >= 1


def own_pid(_: int) -> int:
    return os.getpid()


def failing(number: int) -> int:
    raise UserError(f"{number} is wrong")


def test_workers_stay_from_one_step_to_the_next_as_long_as_nothing_fails() -> None:
    """Each call has its own function; after a failure there are fresh processes."""
    executor, first, again, after = LocalExecutor(1), {}, {}, {}
    executor.map(own_pid, [0], first.__setitem__)
    found: dict[int, int] = {}
    executor.map(squared, [3, 4], found.__setitem__)
    executor.map(own_pid, [0], again.__setitem__)
    assert found == {3: 9, 4: 16}
    assert first == again != {0: os.getpid()}
    with pytest.raises(UserError, match="5 is wrong"):
        executor.map(failing, [5], found.__setitem__)
    executor.map(own_pid, [0], after.__setitem__)
    assert after != first


class Unreadable:
    """A function that no other process can unpickle."""

    def __call__(self, item: int) -> int:
        raise AssertionError(item)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return int, ("not a number",)


def test_a_function_that_cannot_be_read_is_never_taken_for_the_one_before() -> None:
    executor, before, found = LocalExecutor(1), dict[int, int](), dict[int, int]()
    executor.map(squared, [3], before.__setitem__)
    with pytest.raises(TaskError, match="invalid literal for int"):
        executor.map(Unreadable(), [4, 5], found.__setitem__)
    assert found == {}
