"""How long a run stands still for a checkpoint: ours beside torch's own asynchronous saving and Lightning's.

    python scripts/bench/checkpoint.py                                            # `small`, one process
    torchrun --nproc-per-node 2 scripts/bench/checkpoint.py --strategy fsdp       # or ddp
    python scripts/bench/checkpoint.py --model deepseek_1_3b --tokens 8192        # a GPU

Real training steps go on all the time. A save `stalls` from the call until training can go on, and is `on the disk` so
long after the call; `steps meanwhile` compares those that ran until then with undisturbed ones. Ours flushes every file
to the disk and has a checksum of it; the peers do neither. Goal: the asynchronous save stalls for less than a step.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import get_state_dict

from dsm.config.compose import compose_config
from dsm.config.parallel import Layout
from dsm.config.run import TrainingConfig
from dsm.models.build import build_model
from dsm.models.sharding import Sharding
from dsm.models.wrapper import CausalLM
from dsm.ops.norms import clip_grad_norm
from dsm.ops.varlen import Varlen
from dsm.runtime.launch import World
from dsm.training.checkpoint.background import Background, Staging
from dsm.training.checkpoint.folder import Manifest
from dsm.training.checkpoint.pieces import in_charge_of
from dsm.training.checkpoint.state import run_pieces
from dsm.training.checkpoint.writing import write_checkpoint
from dsm.training.optim import build_adamw

Save = Callable[[Path], Callable[[], bool]]
"""Begins to save, returns when training may go on; what it returns tells whether all is on the disk."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="small", help="a preset of conf/model")
    parser.add_argument("--tokens", type=int, default=2048, help="in a step of a process")
    parser.add_argument("--saves", type=int, default=3, help="of each kind, after one that is not counted")
    parser.add_argument("--strategy", choices=["ddp", "fsdp"], default="ddp", help="of several processes")
    parser.add_argument("--folder", type=Path, help="where to write; by default a temporary folder")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable()

    world = World.from_environment()
    if world.size > 1:
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    strategy = arguments.strategy if world.size > 1 else "single"
    shape = {"single": (1, 1), "ddp": (world.size, 1), "fsdp": (1, world.size)}[strategy]
    world = World(world.rank, world.size, world.local_rank, world.local_size, Layout(strategy, *shape))
    device = torch.device("cuda", world.local_rank) if torch.cuda.is_available() else torch.device("cpu")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        box = [name]
        if world.size > 1:
            dist.broadcast_object_list(box)
        bench(arguments, world, device, Path(box[0]))
        if world.size > 1:
            dist.barrier()
            dist.destroy_process_group()


def bench(arguments: argparse.Namespace, world: World, device: torch.device, root: Path) -> None:
    """All kinds of saving, one after the other."""
    config = compose_config(
        [
            "stage=pretrain",
            f"model={arguments.model}",
            "tokenizer.path=none",
            "mix.sources.none={path: none, weight: 1}",
            "scheduler.warmup_steps=0",
        ]
    )
    assert isinstance(config, TrainingConfig)
    spread = None
    if world.layout.strategy == "fsdp":
        spread = Sharding.over(world.layout, device, "fp32", reshard_after_forward=True)
    model = build_model(config.model, 32_000, seed=0, sharding=spread).to(device)
    optimizer = build_adamw(model, config.optim)
    step = stepper(model, optimizer, arguments.tokens, device)
    times = [timed(step) for _ in range(3 + 5)][3:]
    usual = statistics.median(times)
    size = sum(tensor.numel() for tensor in model.parameters()) * 12 / 1e9
    say(world, f"{arguments.model}, {world.layout}: {size:.2f} GB of state, a step takes {usual:.2f} s")
    say(world, "| | stalls, s | in steps | on the disk after, s | steps meanwhile |\n|---|---|---|---|---|")
    for title, save in kinds(model, optimizer, world).items():
        results = [one(save, step, root / f"{title}-{number}") for number in range(1 + arguments.saves)][1:]
        stall, done = (statistics.median(result[i] for result in results) for i in (0, 1))
        slowed = [seconds for result in results for seconds in result[2]]
        meanwhile = f"{statistics.mean(slowed) / usual:.2f} x" if slowed else "-"
        say(world, f"| {title} | {stall:.3f} | {stall / usual:.2f} | {done:.2f} | {meanwhile} |")


def stepper(model: CausalLM, optimizer: torch.optim.Optimizer, tokens: int, device: torch.device) -> Callable[[], None]:
    """A training step on random tokens."""
    varlen = Varlen.from_lengths([tokens], device)
    input_ids = torch.randint(32_000, (tokens,), generator=torch.Generator().manual_seed(0)).to(device)
    targets = input_ids.roll(-1)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logprobs, _ = model.logprobs(input_ids, varlen, targets)
        (-logprobs.sum() / tokens).backward()
        clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return step


def kinds(model: CausalLM, optimizer: torch.optim.Optimizer, world: World) -> dict[str, Save]:
    """Ways to save."""
    group = dist.new_group(backend="gloo") if world.size > 1 else None
    manifest = Manifest(1, {}, {}, {}, {})
    staging, background = Staging(), Background()

    def ours(folder: Path, *, asynchronous: bool) -> Callable[[], bool]:
        background.wait()
        pieces = in_charge_of(run_pieces(model, [optimizer], world))
        copies = staging.copy(pieces) if asynchronous else pieces
        background.start(lambda: write_checkpoint(folder, copies, manifest, group, 1))
        if not asynchronous:
            background.wait()
        return lambda: background._thread is None or not background._thread.is_alive()

    def torchs(folder: Path) -> Callable[[], bool]:
        weights, state = get_state_dict(model, optimizer)
        future = dcp.async_save({"model": weights, "optimizer": state}, checkpoint_id=folder, process_group=group)
        assert isinstance(future, Future)
        return future.done

    def lightnings(folder: Path) -> Callable[[], bool]:
        if world.first:
            folder.mkdir()
            torch.save(
                {"state_dict": model.state_dict(), "optimizer_states": [optimizer.state_dict()]}, folder / "1.ckpt"
            )
        if group is not None:
            dist.barrier(group)
        return lambda: True

    found: dict[str, Save] = {
        "dsm, asynchronous": lambda folder: ours(folder, asynchronous=True),
        "dsm, synchronous": lambda folder: ours(folder, asynchronous=False),
        "torch, dcp.async_save": torchs,
    }
    if world.layout.strategy != "fsdp":
        found["Lightning, save_checkpoint"] = lightnings
    return found


def one(save: Save, step: Callable[[], None], folder: Path) -> tuple[float, float, list[float]]:
    """One save: seconds until training goes on and until all is on the disk; seconds of the steps between."""
    os.sync()
    began = time.perf_counter()
    done = save(folder)
    stall = time.perf_counter() - began
    meanwhile: list[float] = []
    while not everywhere(done()):
        meanwhile.append(timed(step))
    finished = time.perf_counter() - began
    if int(os.environ.get("RANK", 0)) == 0:
        shutil.rmtree(folder)
    return stall, finished, meanwhile


def everywhere(done: bool) -> bool:
    """Is it so on every process? Steps are made together."""
    if not dist.is_initialized():
        return done
    box = torch.tensor(int(done))
    dist.all_reduce(box, op=dist.ReduceOp.MIN)
    return bool(box)


def timed(step: Callable[[], None]) -> float:
    """Seconds of a step."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def say(world: World, text: str) -> None:
    """On the first process."""
    if world.first:
        print(text, flush=True)


if __name__ == "__main__":
    main()
