"""Reward models: the trunk of a language model under a head of one row, a number at every token.

The network is transformers' own class for it, with one label: `AutoModelForSequenceClassification` for outcomes (the
value at the last token judges the whole solution), `AutoModelForTokenClassification` for processes (the sigmoid of the
value at the end of a step judges the steps up to there). So the weights of a language model's folder go in, and what
comes out is a folder that transformers loads and that gives the same numbers. Sharding, checkpoints and packing are the
wrapper's; the critic of PPO is the same model.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, PreTrainedModel

from dsm.config.base import HUB_PREFIX
from dsm.config.model import ModelConfig
from dsm.errors import UserError
from dsm.models.build import Form, build_model
from dsm.models.sharding import Sharding
from dsm.models.wrapper import CausalLM
from dsm.ops.varlen import Varlen

Supervision = Literal["outcome", "process"]
_ENDINGS: dict[str, Supervision] = {"ForSequenceClassification": "outcome", "ForTokenClassification": "process"}


class RewardModel(CausalLM):
    """A value at every token of packed documents; every token sees what stands before it in its own document."""

    task = "text-classification"

    @staticmethod
    def head_of(model: PreTrainedModel) -> nn.Module:
        """The one linear map beside the trunk."""
        heads = [module for module in model.children() if isinstance(module, nn.Linear) and module.out_features == 1]
        return heads[0] if len(heads) == 1 else nn.Identity()

    @property
    def supervision(self) -> Supervision:
        """What the values were trained to judge."""
        return next(found for ending, found in _ENDINGS.items() if type(self.model).__name__.endswith(ending))

    def values(self, input_ids: Tensor, varlen: Varlen) -> Tensor:
        """(T,) packed tokens -> (T,) fp32 values after reading each, whatever the precision of the trunk."""
        hidden = self.forward(input_ids, varlen)  # no hooks: in a sharded model this method has those of forward
        head = self.head_of(self.model)
        bias = getattr(head, "bias", None)
        with torch.autocast(hidden.device.type, enabled=False):
            values = F.linear(hidden.float(), self.head_weight.float(), None if bias is None else bias.float())
        return values.squeeze(-1)


def build_reward_model(
    cfg: ModelConfig,
    vocab_size: int,
    *,
    supervision: Supervision = "outcome",
    dtype: torch.dtype = torch.float32,
    seed: int,
    sharding: Sharding | None = None,
) -> RewardModel:
    """As `dsm.models.build.build_model`; a reward model's folder keeps its head, a language model's gets a new one.

    A new head is normal with mean 0 and deviation 1 / (H + 1): behind a final norm its values begin near 0, so the
    first losses are those of knowing nothing (log 2). It depends on `seed` alone.
    """
    auto = AutoModelForSequenceClassification if supervision == "outcome" else AutoModelForTokenClassification
    form = Form(auto, RewardModel, {"num_labels": 1}, partial(_begin, cfg.path))
    model = build_model(cfg, vocab_size, dtype=dtype, seed=seed, sharding=sharding, form=form)
    assert isinstance(model, RewardModel)
    return model


@torch.no_grad()
def _begin(path: str | None, network: PreTrainedModel, missing: Collection[str] | None) -> Collection[str]:
    """Make what is new of the head: all of it, or what the folder lacks."""
    head = RewardModel.head_of(network)
    if not isinstance(head, nn.Linear):
        raise UserError(f"model.path={path}: {type(network).__name__} has no head of one row")
    name = next(name for name, module in network.named_children() if module is head)
    new = {f"{name}.{part}" for part, _ in head.named_parameters()}
    if missing is not None:
        new &= set(missing)
    if f"{name}.weight" in new:
        head.weight.normal_(std=1.0 / (head.in_features + 1))
    if f"{name}.bias" in new:
        head.bias.zero_()
    return new


def supervision_of(path: str) -> Supervision | None:
    """What the reward model in a folder judges; None where the folder holds another kind of model, or none.

    A model of the hub is not looked at: None.
    """
    file = Path(path).expanduser() / "config.json"
    if path.startswith(HUB_PREFIX) or not file.is_file():
        return None
    try:
        names = json.loads(file.read_text(encoding="utf-8")).get("architectures") or [""]
    except (ValueError, AttributeError):
        return None
    return next((found for ending, found in _ENDINGS.items() if str(names[0]).endswith(ending)), None)
