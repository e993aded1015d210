"""Real runs by real launchers: torchrun, srun's variables, submitit's local launcher; and two commands at once."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from dsm.cli import main
from dsm.errors import LOST_RANK
from tests.training.harness import Lab, curve, finish, run_folder, start, start_ranks, will_be_signalled

LONG = ("trainer.steps=10000", "trainer.validate_every=null", "checkpoint.every=1000000", "trainer.log_every=1")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab.build(tmp_path_factory.mktemp("lab"))


def wait_for(found: Callable[[], object], seconds: float = 120.0) -> None:
    """Until a function returns something."""
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


def torchrun(*arguments: str, seconds: float = 120.0) -> tuple[int, str]:
    """Two ranks of `crew` by the real torchrun: its status, and all that was said."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", "-m"]
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        [*command, "tests.runtime.crew", *arguments],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_torchrun_and_a_killed_rank() -> None:
    """One line of ours, none of torch's about connections, a status that is not 0."""
    status, text = torchrun("killed")
    assert status not in (0, -9)
    (message,) = (line for line in text.splitlines() if line.startswith("dsm: "))
    assert message.startswith("dsm: rank 1 of 2 (process ")
    assert "died" in message
    assert "onnection closed" not in text


def test_torchrun_killed(tmp_path: Path) -> None:
    """It ends nobody any more; its ranks end all the same."""
    status, _ = torchrun("orphaned", str(tmp_path))
    assert status == -9
    ranks = [int(file.read_text()) for file in tmp_path.iterdir()]
    assert ranks
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in ranks), 10.0)


def test_srun_and_slurms_warning(lab: Lab, tmp_path: Path) -> None:
    """Two tasks of a step: SIGUSR1 to one, a checkpoint, one request to scontrol; the job that comes back goes on."""
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    scontrol.chmod(0o755)
    command = lab.command(tmp_path / "runs", "trainer.steps=4", "checkpoint.every=100")
    statuses = [_srun(command, tmp_path, step, trouble_at) for step, trouble_at in ((0, 2), (1, None))]
    assert statuses == [[128 + signal.SIGUSR1] * 2, [0, 0]]
    assert (tmp_path / "asked").read_text() == "requeue 7\n"
    text = (tmp_path / "output.0").read_text()
    assert "stopped by SIGUSR1 after step 3 of 4" in text
    assert "job 7 is back in the queue" in text
    assert [line["step"] for line in curve(run_folder(tmp_path / "runs")) if "train/loss" in line] == [1, 2, 3, 4]


def _srun(command: list[str], folder: Path, step: int, signalled_at: int | None) -> list[int | None]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    slurm = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "7",
        "SLURM_NTASKS": "2",
        "SLURM_JOB_NAME": "dsm",
        "SLURM_STEP_ID": str(step),
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_STEP_TASKS_PER_NODE": "2",
        "SLURM_STEP_NODELIST": "node1",
        "SLURM_STEP_RESV_PORTS": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    tasks = []
    for task in range(2):
        trouble = (
            None if signalled_at is None or task == 0 else partial(will_be_signalled, signalled_at, signal.SIGUSR1)
        )
        own = {"SLURM_PROCID": str(task), "SLURM_LOCALID": str(task)}
        tasks.append(start(command, folder / f"output.{task}", trouble, **slurm, **own))
    return finish(tasks)


def test_two_commands_at_once(lab: Lab, tmp_path: Path) -> None:
    """The second is told who is at work; when that one is killed, the same command has the folder at once."""
    runs = tmp_path / "runs"
    first = start_ranks(2, lab.command(runs, *LONG), tmp_path / "first")
    wait_for(lambda: list(runs.glob("sft/*/metrics.jsonl")))
    second = start_ranks(2, lab.command(runs, *LONG), tmp_path / "second")
    assert finish(second) == [2, 2]
    assert f"another run is at work here (process {first[0].pid} on " in (tmp_path / "second.0").read_text()
    assert (tmp_path / "second.1").read_text() == ""
    os.kill(first[0].pid or 0, signal.SIGKILL)
    assert finish(first) == [-9, LOST_RANK]
    text = (tmp_path / "first.1").read_text()
    (message,) = (line for line in text.splitlines() if line.startswith("dsm: "))
    assert f"dsm: rank 0 of 2 (process {first[0].pid} on " in message
    assert "died" in message
    assert "Traceback" not in text
    trouble = {0: partial(will_be_signalled, 1, signal.SIGTERM)}
    assert finish(start_ranks(2, lab.command(runs, *LONG), tmp_path / "third", trouble)) == [143, 143]
    assert not (run_folder(runs) / ".lock").exists()


@pytest.mark.skipif(importlib.util.find_spec("submitit") is None, reason="submitit is not installed")
def test_a_sweep_by_submitit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two jobs at once: a result as if it was made here, a mistake that comes home as one line. Plans need no jobs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SUBMITIT_PREEMPT_SIGNAL", raising=False)
    settings = ["stage=problems", "problems.n_train=60", "paths.runs=out", "hydra/launcher=submitit_local"]
    sweep = ["-m", *settings, "name=train,other", "sweep_metric=${name}/rows"]
    assert main([*sweep, "mode=plan"]) == 0
    assert not Path("out").exists()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert main(sweep) == 2
    out, err = capsys.readouterr()
    assert err.splitlines()[-1].startswith("dsm: sweep_metric=other/rows: the run has no such metric; it has")
    assert "out/problems/train-" in out.splitlines()[-1]
    assert [file.name for file in Path("out/sweeps").glob("*/*.json")] == ["0.json"]


def test_a_launcher_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "submitit" else find_spec(name))
    assert main(["-m", "stage=tokenizer", "data.sources.a.path=a", "hydra/launcher=submitit_slurm"]) == 2
    assert capsys.readouterr().err == (
        "dsm: hydra/launcher=submitit_slurm: is not installed; pip install 'dsm[slurm]'\n"
    )
