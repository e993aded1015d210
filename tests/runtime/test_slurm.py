"""Slurm's variables, as its manual gives them, and the way back into its queue."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dsm.runtime.slurm import (
    adopt_launcher,
    first_host,
    job_id,
    requeue,
    srun_variables,
    submitit_variables,
    tasks_per_node,
)

TASK = {
    "SLURM_JOB_ID": "1234",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "11",
    "SLURM_STEP_NUM_NODES": "3",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2),3",
    "SLURM_STEP_NODELIST": "gpu[007-008,12]",
    "SLURM_PROCID": "9",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "2",
}


def test_a_task_of_srun() -> None:
    found = srun_variables(TASK)
    assert int(found.pop("MASTER_PORT")) in range(15_000, 30_000)
    assert found == {
        "RANK": "9",
        "WORLD_SIZE": "11",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "3",
        "GROUP_RANK": "2",
        "MASTER_ADDR": "gpu007",
    }
    others = [srun_variables(TASK | change) for change in ({"SLURM_JOB_ID": "1235"}, {"SLURM_STEP_ID": "1"})]
    assert len({other["MASTER_PORT"] for other in [srun_variables(TASK), *others]}) == 3
    assert srun_variables(TASK | {"SLURM_STEP_RESV_PORTS": "12003-12013"})["MASTER_PORT"] == "12003"
    given = srun_variables(TASK | {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "999"})
    assert (given["MASTER_ADDR"], given["MASTER_PORT"]) == ("10.0.0.1", "999")
    assert srun_variables(TASK | {"SLURM_STEP_NUM_NODES": "1"})["MASTER_ADDR"] == "127.0.0.1"


def test_a_batch_script_is_one_process() -> None:
    """It sees the job's tasks and a number among them; so does a step of one task."""
    assert srun_variables({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}) == {}
    assert srun_variables(TASK | {"SLURM_STEP_NUM_TASKS": "1"}) == {}
    assert srun_variables({}) == submitit_variables({}) == {}


def test_torchrun_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """One torchrun a node, started by srun."""
    for name, value in (TASK | {"RANK": "5", "WORLD_SIZE": "6", "TORCH_CPP_LOG_LEVEL": "INFO"}).items():
        monkeypatch.setenv(name, value)
    adopt_launcher()
    assert (os.environ["RANK"], os.environ["WORLD_SIZE"]) == ("5", "6")


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node1", "node1"),
        ("node1,node2", "node1"),
        ("node[3-7,10]", "node3"),
        ("gpu-[003-007,12]-ib,cpu1", "gpu-003-ib"),
        ("rack[2-3]node[01,03]", "rack2node01"),
        ("tux[5]", "tux5"),
    ],
)
def test_first_host(nodes: str, first: str) -> None:
    assert first_host(nodes) == first


def test_tasks_per_node() -> None:
    assert tasks_per_node("2(x3),1") == [2, 2, 2, 1]
    assert tasks_per_node("8") == [8]


def test_job_id() -> None:
    assert job_id({}) is None
    assert job_id({"SLURM_JOB_ID": "12"}) == "12"
    assert job_id({"SLURM_JOB_ID": "13", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "0"}) == "12_0"


def test_requeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The first rank asks scontrol; what it says of a refusal is passed on; outside of Slurm nobody is asked."""
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\ntest "$2" = 7 || {{ echo "not yours" >&2; exit 1; }}\n'
    )
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SUBMITIT_EXECUTOR"):
        monkeypatch.delenv(name, raising=False)
    assert not requeue()
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert requeue(first=False)
    assert not (tmp_path / "asked").exists()
    assert requeue()
    monkeypatch.setenv("SLURM_JOB_ID", "8")
    monkeypatch.setattr("dsm.runtime.slurm.log.propagate", True)
    assert not requeue()
    assert (tmp_path / "asked").read_text() == "requeue 7\nrequeue 8\n"
    assert "job 8 cannot be requeued (not yours)" in caplog.text
