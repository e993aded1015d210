"""What a model-written program may use up before it is stopped, and how strictly it is shut in."""

from __future__ import annotations

from pydantic import Field

from dsm.config.base import Count, Schema


class SandboxConfig(Schema):
    """`dsm.sandbox.Sandbox`: where programs of the model's run. Limits hold for each program on its own."""

    workers: Count | None = Field(default=None, description="programs that run at once; null = one a CPU core")
    timeout_s: float = Field(
        default=10.0, gt=0, le=3600, description="seconds a program may take, and seconds of CPU; the paper's is 10"
    )
    memory_mb: int = Field(
        default=1024,
        ge=384,
        le=2**20,
        description="MiB of address space; the interpreter with SymPy and NumPy takes some 200 of it",
    )
    threads: int = Field(default=16, ge=1, le=1024, description="threads of a program; other processes it cannot start")
    output_kb: int = Field(
        default=64,
        ge=1,
        le=16_384,
        description="KiB kept of each of stdout, stderr and the value: the start, and the end if there is more; a "
        "program that writes 64 times as much is stopped",
    )
    preload: list[str] = Field(
        default_factory=lambda: ["numpy", "sympy"],
        description="modules imported before programs arrive; others that are installed are imported when asked for",
    )
    uid: int = Field(
        default=64_001,
        ge=1,
        le=2**31 - 1025,
        description="started by root, worker i runs as user uid + i, nobody else's",
    )
    allow_weaker: bool = Field(
        default=False,
        description="where no jail can be built, go on with a system-call filter and limits alone: programs may get no "
        "threads then and, on kernels without Landlock, they read every file that this user can",
    )
