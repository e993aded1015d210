"""A small model that has learnt for a step, on any layout, for the tests of checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch.optim import Optimizer

from dsm.config.model import ModelConfig
from dsm.config.parallel import Layout
from dsm.config.training import OptimConfig
from dsm.models.build import build_model
from dsm.models.sharding import Sharding, local_slices
from dsm.models.wrapper import CausalLM
from dsm.runtime.launch import World
from dsm.training.checkpoint.folder import (
    Manifest,
    check_files,
    read_manifest,
    read_metadata,
    read_pieces,
)
from dsm.training.checkpoint.pieces import in_charge_of
from dsm.training.checkpoint.state import RANDOM, make_room, run_pieces
from dsm.training.checkpoint.writing import write_checkpoint
from dsm.training.optim import build_adamw

# 90 rows are not divisible by four shards, and 45, after a cut in two, not by two.
NETWORK = ModelConfig(
    architecture="llama",
    config={
        "hidden_size": 32, "intermediate_size": 90, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 2, "head_dim": 16, "tie_word_embeddings": True,
    },
)  # fmt: skip
OPTIM = OptimConfig(lr=1e-2, betas=[0.9, 0.95], eps=1e-8, weight_decay=0.1, clip_norm=1.0)


@dataclass
class Run:
    """What of a run goes into a checkpoint."""

    model: CausalLM
    optimizer: Optimizer
    world: World
    group: dist.ProcessGroup | None = None

    @classmethod
    def begin(cls, layout: Layout, seed: int) -> Run:
        """New weights; several processes must have met, and all call this."""
        several = layout.size > 1
        world = World(rank=dist.get_rank() if several else 0, size=layout.size, layout=layout)
        spread = None
        if layout.strategy == "fsdp":
            spread = Sharding.over(layout, torch.device("cpu"), "fp32", reshard_after_forward=True)
        model = build_model(NETWORK, 64, seed=seed, sharding=spread)
        group = dist.new_group(backend="gloo") if several else None
        return cls(model, build_adamw(model, OPTIM), world, group)

    def learn(self, steps: int = 2) -> None:
        """Updates that are the same on every layout, without data: each gradient is a function of its place."""
        for step in range(steps):
            for number, weight in enumerate(self.model.parameters()):
                generator = torch.Generator().manual_seed(100 * step + number)
                whole = torch.randn(weight.shape, generator=generator)
                gradient = torch.zeros_like(weight)
                target = gradient.to_local() if hasattr(gradient, "to_local") else gradient
                target.copy_(whole[local_slices(weight)])
                weight.grad = gradient
            self.optimizer.step()

    def forget(self) -> None:
        """Every weight becomes NaN, the optimiser's state is gone."""
        with torch.no_grad():
            for weight in self.model.parameters():
                weight.fill_(float("nan"))
        self.optimizer.state.clear()

    def save(self, folder: Path, step: int = 1, keep: int = 5) -> Path:
        """Write folder/step-N."""
        manifest = Manifest(step, {"step": step}, {"seed": "1"}, {"callback": {"n": 0.1}}, {})
        pieces = in_charge_of(run_pieces(self.model, [self.optimizer], self.world))
        write_checkpoint(folder, pieces, manifest, self.group, keep)
        return folder / f"step-{step:08d}"

    def load(self, folder: Path) -> None:
        """Take what it holds."""
        check_files(folder, read_manifest(folder), list(read_manifest(folder).files))
        metadata = read_metadata(folder)
        make_room(self.model, [self.optimizer], metadata)
        pieces = run_pieces(self.model, [self.optimizer], self.world)
        pieces.pop(RANDOM)
        read_pieces(folder, metadata, pieces)

    def differences(self, stored: dict[str, torch.Tensor]) -> list[str]:
        """The names of what is not, to the bit, this process's part of the whole tensors of a checkpoint."""
        pieces = run_pieces(self.model, [self.optimizer], self.world)
        pieces.pop(RANDOM)
        wrong = sorted((stored.keys() - {RANDOM}) ^ pieces.keys())
        for name, piece in pieces.items():
            part = stored[name][tuple(slice(o, o + n) for o, n in zip(piece.offsets, piece.data.shape, strict=True))]
            if not torch.equal(part, piece.data):
                wrong.append(name)
        return wrong
