"""Where the tasks of a step run: on this machine, as Slurm jobs, on a Ray cluster."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from dsm.config.base import Count, Schema


class LocalExecutorConfig(Schema):
    """Processes of this machine."""

    kind: Literal["local"]
    workers: int | None = Field(ge=0, lt=4096, description="null: one a usable core; 0: no processes, for a debugger")


class SlurmExecutorConfig(Schema):
    """Slurm jobs, each with processes of its own; the run's folder must lie where every node sees it."""

    kind: Literal["slurm"]
    jobs: Count = Field(description="among so many the tasks of a step are shared out")
    workers: Count = Field(description="processes (and cores) of a job")
    mem_gb: Count = Field(description="memory of a job")
    timeout_min: Count = Field(description="of a job; what it has finished by then is kept")
    partition: str | None
    account: str | None
    array_parallelism: Count = Field(description="jobs at once")
    setup: list[str] = Field(description="shell lines before the job: [module load gcc, ...]")
    additional_parameters: dict[str, Any] = Field(description="whatever else sbatch is to be told")
    cluster: Literal["slurm", "local"] = Field(description="local: the same without Slurm, as a rehearsal")


class RayExecutorConfig(Schema):
    """Tasks of a Ray cluster; the run's folder must lie where every node sees it."""

    kind: Literal["ray"]
    address: str | None = Field(description="of the cluster ('auto': the one of this node); null: one of its own, here")
    workers: Count | None = Field(description="tasks at once; null: as many as the cluster has cores for")
    mem_gb: Count | None = Field(description="memory that a task asks Ray for; null: none")


ExecutorConfig = Annotated[
    LocalExecutorConfig | SlurmExecutorConfig | RayExecutorConfig,
    Field(discriminator="kind"),
]
"""One of conf/executor."""
