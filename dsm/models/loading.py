"""Weights into a model that exists in shards only: no process but rank 0 ever holds a whole one, and rank 0 rarely.

A folder of safetensors is read in slices, each process its own. What has to be made or changed as a whole first (new
weights from a seed, an enlarged embedding, files under other names) is made by rank 0 on its CPU, as it would be in a
single process, and handed out one weight at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel

from dsm.errors import UserError
from dsm.models.sharding import local, local_slices
from dsm.models.wrapper import CausalLM


@contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Modules built meanwhile have parameters without memory; buffers are real, for nothing could make them later."""
    register = nn.Module.register_parameter

    def register_on_meta(module: nn.Module, name: str, weight: nn.Parameter | None) -> None:
        if weight is not None and not weight.is_meta:
            weight = nn.Parameter(weight.to("meta"), weight.requires_grad)
        register(module, name, weight)

    nn.Module.register_parameter = register_on_meta  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def materialise(model: CausalLM, device: torch.device) -> None:
    """Memory for the shards of a model on the meta device; buffers keep their values, tied weights their tie."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.to_empty(device=device)
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])
    model.model.tie_weights()


def checkpoint_files(folder: Path) -> dict[str, Path]:
    """Where each tensor of a folder's safetensors lies.

    Raises:
        SafetensorError, OSError: a file cannot be read.
    """
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as tensors:
            found.update(dict.fromkeys(tensors.keys(), file))
    return found


@torch.no_grad()
def load_slices(model: CausalLM, files: Mapping[str, Path]) -> list[str]:
    """Read this process's part of every weight; returns the names of those whose shape in the files is another.

    `files` must name them all. Whatever the files' precision, the weights keep their own.
    """
    wrong = []
    by_file: dict[Path, list[tuple[str, Tensor]]] = {}
    for name, weight in model.model.named_parameters():
        by_file.setdefault(files[name], []).append((name, weight))
    for file, weights in by_file.items():
        with safe_open(file, "pt") as tensors:
            for name, weight in weights:
                stored = tensors.get_slice(name)
                if tuple(stored.get_shape()) != tuple(weight.shape):
                    wrong.append(name)
                elif (target := local(weight)).numel():
                    target.copy_(stored[local_slices(weight)])
    return wrong


@torch.no_grad()
def scatter_from_first(model: CausalLM, make: Callable[[], PreTrainedModel]) -> None:
    """The weights and buffers of the model that `make` builds, on the CPU of rank 0 alone.

    Raises:
        UserError: `make` did, on rank 0; every process hears of it.
    """
    made: PreTrainedModel | None = None
    box: list[Any] = [None]
    if dist.get_rank() == 0:
        try:
            made = make()
        except UserError as error:
            box[0] = error
    dist.broadcast_object_list(box, src=0)
    if box[0] is not None:
        raise box[0]
    theirs: dict[str, Tensor] = {}
    if made is not None:
        theirs = dict(made.named_parameters()) | dict(made.named_buffers())
    for name, weight in [*model.model.named_parameters(), *model.model.named_buffers()]:
        target = local(weight)
        if made is None:
            whole = torch.empty(weight.shape, dtype=weight.dtype, device=target.device)
        else:
            whole = theirs[name].to(target.device, weight.dtype)
        dist.broadcast(whole, src=0)
        target.copy_(whole[local_slices(weight)])
