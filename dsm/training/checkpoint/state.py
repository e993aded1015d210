"""What a run is made of, as named tensors: weights, the optimiser's state, every rank's random state.

    model.NAME             parameters and persistent buffers of the module, a shared one once
    optimizer.NAME.KEY     the optimiser's state of a parameter; learning rate and the like are the configuration's
    random                 (ranks, width) bytes, a rank's random state in each row

Names say nothing of layout or of the order of parameters, so each layout finds its own.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.optim import Optimizer

from dsm.errors import UserError
from dsm.models.sharding import MESH_DIMS, units
from dsm.runtime.launch import World
from dsm.training.checkpoint.folder import stored_tensors
from dsm.training.checkpoint.pieces import Piece

RANDOM = "random"
_WIDTH = 2**15  # bytes of a random state in JSON; some 25,000 are used, varying with the digits in it


def run_pieces(module: nn.Module, optimizers: Sequence[Optimizer], world: World) -> dict[str, Piece]:
    """This process's part of everything that is saved, and of everything that is restored in place.

    Weights and optimiser's state are the live memory; the random state is a copy.
    """
    for unit in units(module):  # what is gathered is not what is kept
        unit.reshard()
    tensors = model_tensors(module)
    names: dict[Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
    for optimizer in optimizers:
        for parameter, state in optimizer.state.items():
            tensors |= {f"optimizer.{names[parameter]}.{key}": value for key, value in state.items()}
    pieces = {name: Piece.of(tensor, world) for name, tensor in tensors.items()}
    shape, place = torch.Size([world.size, _WIDTH]), torch.Size([world.rank, 0])
    return pieces | {RANDOM: Piece(encode(random_state()), shape, place, spread=frozenset(MESH_DIMS))}


def model_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers, each once."""
    persistent = module.state_dict(keep_vars=True).keys()
    buffers = [(name, buffer) for name, buffer in module.named_buffers() if name in persistent]
    return {f"model.{name}": tensor for name, tensor in [*module.named_parameters(), *buffers]}


def refuse_another_model(module: nn.Module, metadata: Metadata) -> None:
    """Before torch does in its own words.

    Raises:
        UserError: names or shapes of weights differ.
    """
    stored = stored_tensors(metadata)
    saved = {name: tuple(tensor.size) for name, tensor in stored.items() if name.startswith("model.")}
    own = {name: tuple(tensor.shape) for name, tensor in model_tensors(module).items()}
    wrong = [name for name in saved | own if saved.get(name) != own.get(name)]
    if wrong:
        raise UserError(
            f"resume: the checkpoint holds another model; {len(wrong)} weights differ in name or shape, first"
            f" {wrong[0].removeprefix('model.')} ({saved.get(wrong[0], 'absent')} there,"
            f" {own.get(wrong[0], 'absent')} here)"
        )


def make_room(module: nn.Module, optimizers: Sequence[Optimizer], metadata: Metadata) -> None:
    """Give optimisers the state that a checkpoint has, still without its values.

    What has its parameter's shape is spread as the parameter is; a step's count is where torch keeps it.
    """
    names = {parameter: name for name, parameter in module.named_parameters()}
    saved: dict[str, dict[str, TensorStorageMetadata]] = {}
    for name, stored in stored_tensors(metadata).items():
        if name.startswith("optimizer."):
            parameter_name, _, key = name.removeprefix("optimizer.").rpartition(".")
            saved.setdefault(parameter_name, {})[key] = stored
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            on_device = group.get("fused") or group.get("capturable")
            for parameter in group["params"]:
                for key, stored in saved.get(names[parameter], {}).items():
                    dtype = stored.properties.dtype
                    if stored.size == parameter.shape:
                        empty = torch.empty_like(parameter.detach(), dtype=dtype)
                    else:
                        device = parameter.device if on_device else "cpu"
                        empty = torch.empty(stored.size, dtype=dtype, device=device)
                    optimizer.state[parameter][key] = empty


def ranks_in(metadata: Metadata) -> int:
    """How many ranks left their random state."""
    return stored_tensors(metadata)[RANDOM].size[0]


# -- random numbers ---------------------------------------------------------------------------------------------------


def random_state() -> dict[str, Any]:
    """The state of every random generator of this process, in plain values."""
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": [version, list(internal), gauss],
        "numpy": [name, np.asarray(keys).tolist(), position, has_gauss, cached],
        "torch": torch.get_rng_state().numpy().tobytes().hex(),
        "cuda": torch.cuda.get_rng_state().numpy().tobytes().hex() if torch.cuda.is_available() else None,
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Put back what `random_state` saved."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(_bytes(bytes.fromhex(state["torch"])))
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(_bytes(bytes.fromhex(state["cuda"])))


def seed_random(*key: int) -> None:
    """Start every random generator of this process from a key of integers."""
    seed = int(np.random.SeedSequence(key).generate_state(1)[0])
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def encode(state: dict[str, Any]) -> Tensor:
    """(1, width) bytes: a random state as one row."""
    row = _bytes(json.dumps(state).encode().ljust(_WIDTH))  # JSON does not mind blanks
    assert len(row) == _WIDTH
    return row[None]


def decode(row: Tensor) -> dict[str, Any]:
    """The random state in a row."""
    state: dict[str, Any] = json.loads(row.numpy().tobytes())
    return state


def _bytes(content: bytes) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)
