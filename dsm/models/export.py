"""A trained model as a Hugging Face folder: what transformers' auto classes, vLLM and every other tool load."""

from __future__ import annotations

import copy
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from torch import Tensor
from transformers import GenerationConfig, PreTrainedTokenizerBase

import dsm
from dsm.data.tokenizer import save_tokenizer
from dsm.files import atomic_directory
from dsm.models.wrapper import CausalLM

DType = Literal["float32", "bfloat16", "float16"]


def export_model(
    model: CausalLM,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    title: str,
    facts: Mapping[str, Any],
    dtype: DType = "float32",
    state_dict: Mapping[str, Tensor] | None = None,
) -> None:
    """Write weights (safetensors), configuration, tokenizer, generation settings and a model card to `folder`.

    `title` heads the card and `facts` of the run fill it: a value is a line, a mapping is a section, `command` is shown
    as code. A sharded model gives its full weights as `state_dict`, named as in `model.model`. A finished folder
    appears at once, in place of whatever was there.
    """
    network = model.model
    weights = dict(network.state_dict() if state_dict is None else state_dict)
    for tied in network.all_tied_weights_keys:  # their one copy is saved under the other name
        weights.pop(tied, None)
    target = getattr(torch, dtype)
    weights = {name: value.to(target) if value.is_floating_point() else value for name, value in weights.items()}

    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    if model.task != CausalLM.task and ids["pad_token_id"] == ids["eos_token_id"]:
        ids["pad_token_id"] = (
            None  # transformers scores the last token that is no padding: the end itself would be some
        )
    config = copy.deepcopy(network.config)
    config.update({"dtype": dtype, "architectures": [type(network).__name__.removeprefix("FSDP")], **ids})
    with atomic_directory(folder) as aside:
        network.save_pretrained(aside, state_dict=weights)
        config.save_pretrained(aside)
        if model.task == CausalLM.task:
            GenerationConfig(**ids).save_pretrained(aside)
        save_tokenizer(tokenizer, aside)
        (aside / "README.md").write_text(model_card(title, model, facts, dtype), encoding="utf-8")


def model_card(title: str, model: CausalLM, facts: Mapping[str, Any], dtype: str) -> str:
    """The folder's README.md: what this model is and how it came to be."""
    network = model.model
    about = {
        "architecture": type(network).__name__.removeprefix("FSDP"),
        "parameters": f"{model.num_parameters():,} ({model.num_parameters(embedding=False):,} without embeddings)",
        "weights": dtype,
    }
    versions = {"dsm": dsm.__version__, "torch": torch.__version__, "transformers": transformers.__version__}
    lines = ["---", "library_name: transformers", f"pipeline_tag: {model.task}", "tags: [dsm]", "---"]
    lines += [f"# {title}", "", *_table(about)]
    plain = {key: value for key, value in facts.items() if key != "command" and not isinstance(value, Mapping)}
    lines += _table(plain)
    if "command" in facts:
        lines += ["## Command", "", "```bash", str(facts["command"]), "```", ""]
    sections = {key: value for key, value in facts.items() if isinstance(value, Mapping)}
    for title, section in (sections | {"versions": {**versions, "python": platform.python_version()}}).items():
        lines += [f"## {title.capitalize()}", "", *_table(section)]
    return "\n".join(lines)


def _table(values: Mapping[str, Any]) -> list[str]:
    """A Markdown table of names and values; nothing for no values."""
    if not values:
        return []
    rows = [f"| {key} | {_cell(value)} |" for key, value in values.items()]
    return ["| | |", "|---|---|", *rows, ""]


def _cell(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
