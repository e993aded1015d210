"""Functions run by several processes that are joined over gloo."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist

from tests.forks import context


def run_ranks(ranks: int, function: Callable[..., Any], *arguments: Any, seconds: float = 180.0) -> list[Any]:
    """What `function(*arguments)` returns on each of so many processes; it is found by its name, so no closure.

    A process that fails, or hangs for longer, fails the test with what it said.
    """
    with TemporaryDirectory() as folder:
        processes = [
            context.Process(target=_run, args=(rank, ranks, Path(folder), function, arguments)) for rank in range(ranks)
        ]
        for process in processes:
            process.start()
        deadline = time.monotonic() + seconds
        while any(process.is_alive() for process in processes) and time.monotonic() < deadline:
            if any(process.exitcode for process in processes):
                deadline = min(deadline, time.monotonic() + 2)  # the others wait for it in vain
            time.sleep(0.02)
        statuses = [process.exitcode for process in processes]
        for process in processes:
            process.kill()
            process.join()
        said = [file.read_text() for file in sorted(Path(folder).glob("error.*"))]
        assert statuses == [0] * ranks, "\n".join([f"exit statuses {statuses} (None = it hung)", *said])
        return [torch.load(Path(folder) / f"result.{rank}", weights_only=False) for rank in range(ranks)]


def _run(rank: int, ranks: int, folder: Path, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.environ.update(
        CUDA_VISIBLE_DEVICES="", GLOO_SOCKET_IFNAME="lo", TORCHELASTIC_RUN_ID="test", RANK=str(rank),
        LOCAL_RANK=str(rank), WORLD_SIZE=str(ranks), LOCAL_WORLD_SIZE=str(ranks), MASTER_ADDR="127.0.0.1",
        MASTER_PORT="29500",
    )  # fmt: skip
    torch.set_num_threads(1)
    try:
        dist.init_process_group(
            "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=ranks, timeout=timedelta(seconds=60)
        )
        torch.save(function(*arguments), folder / f"result.{rank}")
        dist.destroy_process_group()
    except BaseException:
        (folder / f"error.{rank}").write_text(f"rank {rank}: {traceback.format_exc()}")
        raise SystemExit(1) from None
