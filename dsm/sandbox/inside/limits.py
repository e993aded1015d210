"""What the kernel lets one program use up. Set in the program's own process, each limit hard: it can only go down."""

from __future__ import annotations

import math
import resource

RESERVE = 16 << 20
"""Bytes of address space kept back until memory has run out, to write the traceback with."""

_DESCRIPTORS = 64


def set_limits(*, memory: int, cpu_s: float, threads: int) -> None:
    """Bind this process: address space in bytes, seconds of CPU (rounded up), threads besides the first.

    `threads` counts within the jail's user namespace, where the server is the one other process. No file can be
    written, no core dumped, no memory locked, no message queue made.
    """
    cpu = math.ceil(cpu_s)
    for kind, soft, hard in (
        (resource.RLIMIT_AS, memory - RESERVE, memory),
        (resource.RLIMIT_CPU, cpu, cpu),
        (resource.RLIMIT_NPROC, threads + 2, threads + 2),
        (resource.RLIMIT_NOFILE, _DESCRIPTORS, _DESCRIPTORS),
        (resource.RLIMIT_FSIZE, 0, 0),
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_MEMLOCK, 0, 0),
        (resource.RLIMIT_MSGQUEUE, 0, 0),
        (resource.RLIMIT_RTPRIO, 0, 0),
    ):
        highest = resource.getrlimit(kind)[1]
        if highest != resource.RLIM_INFINITY:  # what bound us before binds us still
            soft, hard = min(soft, highest), min(hard, highest)
        resource.setrlimit(kind, (soft, hard))


def use_reserve() -> None:
    """Raise the limit of address space by what was kept back."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
