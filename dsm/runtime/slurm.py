"""Slurm and submitit: their variables in torchrun's words, and the job back into the queue.

`srun dsm ...` needs no torchrun: every task is one rank. (torchrun under srun works too, one task a node; then Slurm's
warning must reach the workers: TORCHELASTIC_SIGNALS_TO_HANDLE=SIGTERM,SIGINT,SIGUSR1, for by default a SIGUSR1 kills
torchrun and orphans them.) `srun --kill-on-bad-exit=1` also clears away a rank that cannot end itself.
"""

from __future__ import annotations

import logging
import os
import re
import subprocess
from collections.abc import Mapping

from dsm.runtime.process import end_with_parent

log = logging.getLogger("dsm")

_FIRST_PORT, _PORTS = 15_000, 15_000  # below those that Linux hands out by itself (32768 on)


def adopt_launcher() -> None:
    """Put what srun or submitit's local launcher say of this process into torchrun's variables, if they are not set."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        os.environ.update(srun_variables(os.environ) or submitit_variables(os.environ))
    if "RANK" in os.environ:  # a lost connection is told in one line (dsm/runtime/watch.py), not in torch's C++ traces
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if "TORCHELASTIC_RUN_ID" in os.environ:  # a torchrun that was killed ends nobody any more
        end_with_parent()


def srun_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """RANK, WORLD_SIZE, ... of a task of srun; empty for a process that srun did not start as one of several.

    The step's variables count, not the job's: an sbatch script and a shell of salloc see SLURM_NTASKS and SLURM_PROCID
    too, though they are one process. MASTER_ADDR is the step's first node, MASTER_PORT comes from the numbers of job
    and step, or is the one that `srun --resv-ports` reserved; where either is set, it stays.
    """
    size = int(environ.get("SLURM_STEP_NUM_TASKS", "1"))
    if size == 1 or "SLURM_PROCID" not in environ:
        return {}
    node, nodes = int(environ.get("SLURM_NODEID", "0")), int(environ.get("SLURM_STEP_NUM_NODES", "1"))
    tasks = tasks_per_node(environ.get("SLURM_STEP_TASKS_PER_NODE", str(size)))
    job, step = (int(environ.get(name, "0")) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    reserved = environ.get("SLURM_STEP_RESV_PORTS", "").partition("-")[0]
    address = first_host(environ["SLURM_STEP_NODELIST"]) if nodes > 1 else "127.0.0.1"
    return {
        "RANK": environ["SLURM_PROCID"],
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": environ.get("SLURM_LOCALID", "0"),
        "LOCAL_WORLD_SIZE": str(tasks[node] if node < len(tasks) else size // nodes),
        "GROUP_RANK": str(node),
        "MASTER_ADDR": environ.get("MASTER_ADDR", address),
        "MASTER_PORT": environ.get("MASTER_PORT", reserved or str(_FIRST_PORT + (7 * job + step) % _PORTS)),
    }


def submitit_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The same of a task of `hydra/launcher=submitit_local`: one machine, as a rehearsal for the cluster."""
    size, rank = environ.get("SUBMITIT_LOCAL_NTASKS", "1"), environ.get("SUBMITIT_LOCAL_GLOBALID")
    if environ.get("SUBMITIT_EXECUTOR") != "local" or rank is None or int(size) == 1:
        return {}
    port = _FIRST_PORT + int(environ.get("SUBMITIT_LOCAL_JOB_ID", "0")) % _PORTS
    return {
        "RANK": rank,
        "WORLD_SIZE": size,
        "LOCAL_RANK": environ.get("SUBMITIT_LOCAL_LOCALID", rank),
        "LOCAL_WORLD_SIZE": size,
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": environ.get("MASTER_PORT", str(port)),
    }


def first_host(nodes: str) -> str:
    """The first of Slurm's compressed list of nodes: 'gpu-[003-007,12]-ib,cpu1' -> 'gpu-003-ib'."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])+", nodes)
    if first is None:
        raise ValueError(f"SLURM_STEP_NODELIST={nodes!r}: names no node")
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", first[0])


def tasks_per_node(text: str) -> list[int]:
    """Slurm's '4(x2),3' -> [4, 4, 3]."""
    counts = []
    for tasks, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", text):
        counts += [int(tasks)] * int(times or 1)
    return counts


def job_id(environ: Mapping[str, str]) -> str | None:
    """This Slurm job as scontrol names it, an element of an array by its number; None outside of Slurm."""
    array, task = environ.get("SLURM_ARRAY_JOB_ID"), environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else environ.get("SLURM_JOB_ID")


def requeue(*, first: bool = True) -> bool:
    """Put this job back into the queue, where it starts again with the same command; Slurm then ends it here.

    Call it on every rank when the checkpoint is whole; the first one does it. Outside of Slurm, or where Slurm refuses,
    False. submitit's local launcher takes jobs back too.
    """
    job = job_id(os.environ)
    if job is None or not first:
        return job is not None or os.environ.get("SUBMITIT_EXECUTOR") == "local"
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        reason = getattr(error, "stderr", "") or str(error)
        log.warning("job %s cannot be requeued (%s); start the same command again by hand", job, reason.strip())
        return False
    log.info("job %s is back in the queue, and goes on from the checkpoint", job)
    return True
