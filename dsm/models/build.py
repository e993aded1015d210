"""Models from settings: new weights for an architecture of `transformers`, or weights from a folder or the hub."""

from __future__ import annotations

import difflib
import json
import textwrap
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import CONFIG_MAPPING, AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from dsm.config.base import HUB_PREFIX
from dsm.config.model import ModelConfig
from dsm.errors import UserError
from dsm.models.attention import check_backend
from dsm.models.loading import checkpoint_files, load_slices, materialise, parameters_on_meta, scatter_from_first
from dsm.models.sharding import Sharding, shard_model
from dsm.models.tensor import check_tensor_parallel
from dsm.models.wrapper import CausalLM, seeded_rng

_UNREADABLE = (OSError, ValueError, SafetensorError)


@dataclass(frozen=True)
class Form:
    """What stands on the trunk: transformers' class of the network, and ours around it.

    Attributes:
        auto: transformers' auto class.
        wrapper: `CausalLM` or a subclass.
        settings: of the network's configuration.
        begin: called with the network and the names of weights that its folder lacks (None: all are new), to make the
            head; returns the names it has dealt with.
    """

    auto: type[Any] = AutoModelForCausalLM
    wrapper: type[CausalLM] = CausalLM
    settings: Mapping[str, Any] = field(default_factory=dict)
    begin: Callable[[PreTrainedModel, Collection[str] | None], Collection[str]] = lambda network, missing: ()


LANGUAGE_MODEL = Form()


def build_model(
    cfg: ModelConfig,
    vocab_size: int,
    *,
    dtype: torch.dtype = torch.float32,
    seed: int,
    sharding: Sharding | None = None,
    form: Form = LANGUAGE_MODEL,
) -> CausalLM:
    """The model in training mode; new weights depend on `seed` alone, however they are spread.

    `vocab_size` is the number of the tokenizer's ids. Without `sharding` the model is whole and on the CPU; with it,
    each process builds its shards on its device, and all must call this together. Raises `UserError` for whatever the
    settings or the folder lack.
    """
    check_backend(cfg.attention)  # before gigabytes are read
    if sharding is not None:
        return _build_shards(cfg, vocab_size, dtype, seed, sharding, form)
    return _wrap(
        cfg, _build_whole(cfg, vocab_size, dtype, seed, form), form
    ).train()  # from_pretrained leaves evaluation mode


def abstract_model(
    cfg: ModelConfig, vocab_size: int, dtype: torch.dtype = torch.float32, form: Form = LANGUAGE_MODEL
) -> CausalLM:
    """The same model with no weights but on the meta device: shapes and counts at no memory; buffers are real."""
    config = transformers_config(cfg, vocab_size)
    config.vocab_size = embedding_rows(cfg, vocab_size)
    config.update(form.settings)
    with parameters_on_meta():
        model = form.auto.from_config(config, dtype=dtype)
    return _wrap(cfg, model, form).train()


def _build_whole(cfg: ModelConfig, vocab_size: int, dtype: torch.dtype, seed: int, form: Form) -> PreTrainedModel:
    """On the CPU of this process."""
    config = transformers_config(cfg, vocab_size)
    config.update(form.settings)
    with seeded_rng(seed):
        if cfg.path is None:
            model = form.auto.from_config(config, dtype=dtype)
            form.begin(model, None)
            return model
        model = _load(cfg.path, dtype, form)
        if vocab_size > config.vocab_size:
            model.resize_token_embeddings(_rows(cfg, vocab_size))
        return model


def _build_shards(
    cfg: ModelConfig, vocab_size: int, dtype: torch.dtype, seed: int, sharding: Sharding, form: Form
) -> CausalLM:
    """Shapes first, cut them, then weights: from the folder's files in slices where that is possible."""
    model = abstract_model(cfg, vocab_size, dtype, form)
    shard_model(model, sharding)
    materialise(model, sharding.device)
    files = _slices_of(cfg, model)
    if files is None:
        scatter_from_first(model, lambda: _build_whole(cfg, vocab_size, dtype, seed, form))
        return model
    assert cfg.path is not None
    try:
        wrong = load_slices(model, files)
    except _UNREADABLE as error:
        raise UserError(f"model.path={cfg.path}: its weights cannot be read: {_one_line(error)}") from error
    _refuse(cfg.path, "have the wrong shape for", wrong)
    return model


def _slices_of(cfg: ModelConfig, model: CausalLM) -> dict[str, Path] | None:
    """The file of each weight; None where the files do not hold the weights as the model has them."""
    if cfg.path is None or cfg.path.startswith(HUB_PREFIX) or cfg.resize_embeddings:
        return None
    if getattr(model.model.config, "quantization_config", None) is not None:
        return None
    try:
        files = checkpoint_files(Path(cfg.path).expanduser())
    except _UNREADABLE as error:
        raise UserError(f"model.path={cfg.path}: its weights cannot be read: {_one_line(error)}") from error
    if model.model.state_dict().keys() - dict(model.model.named_parameters(remove_duplicate=False)).keys():
        return None  # buffers that are saved
    return files if all(name in files for name, _ in model.model.named_parameters()) else None


def transformers_config(cfg: ModelConfig, vocab_size: int, *, tensor: int = 1) -> PreTrainedConfig:
    """The architecture as transformers describes it, checked against the tokenizer's ids and `parallel.tensor`."""
    config = _config(cfg, vocab_size)
    check_tensor_parallel(config, tensor)
    return config


def _config(cfg: ModelConfig, vocab_size: int) -> PreTrainedConfig:
    if cfg.path is not None:
        config = _read_config(cfg.path)
        if vocab_size > config.vocab_size and not cfg.resize_embeddings:
            raise UserError(
                f"model.path={cfg.path}: its embedding has {config.vocab_size} rows, the tokenizer {vocab_size} ids;"
                " use the model's own tokenizer, or model.resize_embeddings=true"
            )
        return config
    rows = _rows(cfg, vocab_size)
    if vocab_size > rows:
        raise UserError(f"model.vocab_size={rows}: the tokenizer has {vocab_size} ids; at least that many are needed")
    name = str(cfg.architecture)
    if name not in CONFIG_MAPPING:
        raise UserError(f"model.architecture={name}: not a model type of transformers{_hint(name, CONFIG_MAPPING)}")
    known = AutoConfig.for_model(name)
    for key, value in cfg.config.items():
        if not hasattr(known, key):  # transformers would keep it and use it nowhere
            raise UserError(f"model.config.{key}={value}: not a setting of {name}{_hint(key, known.to_dict())}")
    try:
        return AutoConfig.for_model(name, **cfg.config, vocab_size=rows)
    except Exception as error:  # each architecture checks its settings in its own way
        raise UserError(f"model.config={cfg.config}: {_one_line(error)}") from error


def embedding_rows(cfg: ModelConfig, vocab_size: int, *, tensor: int = 1) -> int:
    """Rows that the model's embedding will have; raises `UserError` where no such model can be."""
    rows = transformers_config(cfg, vocab_size, tensor=tensor).vocab_size
    return max(rows, _rows(cfg, vocab_size)) if cfg.resize_embeddings else rows


def _rows(cfg: ModelConfig, vocab_size: int) -> int:
    """Rows of the embedding: as fixed by the settings, or the tokenizer's ids rounded up."""
    return cfg.vocab_size or -(-vocab_size // cfg.pad_vocab_multiple) * cfg.pad_vocab_multiple


def _source(path: str) -> tuple[str, dict[str, Any]]:
    """Name and keywords for transformers; a folder is never looked for on the hub."""
    if path.startswith(HUB_PREFIX):
        return path.removeprefix(HUB_PREFIX), {"trust_remote_code": False}
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise UserError(f"model.path={path}: no such folder; a model of the hub is written {HUB_PREFIX}org/name")
    if not (folder / "config.json").is_file():
        raise UserError(f"model.path={path}: no config.json in it; a folder in Hugging Face form is needed")
    return str(folder), {"trust_remote_code": False, "local_files_only": True}


def _read_config(path: str) -> PreTrainedConfig:
    name, options = _source(path)
    try:
        return AutoConfig.from_pretrained(name, **options)
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        raise UserError(f"model.path={path}: its configuration cannot be read: {_one_line(error)}") from error


def _load(path: str, dtype: torch.dtype, form: Form) -> PreTrainedModel:
    """Weights from safetensors, every one of them: what a file lacks would silently be random."""
    name, options = _source(path)
    if "local_files_only" in options and not any(Path(name).glob("*.safetensors")):
        raise UserError(f"model.path={path}: no *.safetensors in it; other formats can run code and are not read")
    try:
        model, report = form.auto.from_pretrained(
            name,
            dtype=dtype,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **form.settings,
            **options,
        )
    except _UNREADABLE as error:
        raise UserError(f"model.path={path}: its weights cannot be read: {_one_line(error)}") from error
    missing = set(report["missing_keys"]) - set(form.begin(model, report["missing_keys"]))
    for problem, keys in (("lack", missing), ("have the wrong shape for", report["mismatched_keys"])):
        _refuse(path, problem, [key if isinstance(key, str) else key[0] for key in keys])
    return model


def _refuse(path: str, problem: str, names: Collection[str]) -> None:
    """Say which weights are no good, if any."""
    if names:
        shown = ", ".join(sorted(names)[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        raise UserError(f"model.path={path}: its files {problem} {len(names)} weights of the model: {shown}")


def _wrap(cfg: ModelConfig, model: PreTrainedModel, form: Form) -> CausalLM:
    return form.wrapper(
        model,
        attention=cfg.attention,
        activation_checkpointing=cfg.activation_checkpointing,
        compile=cfg.compile,
    )


def _one_line(error: BaseException) -> str:
    """What went wrong, as one line of bearable length; transformers explains over several."""
    return textwrap.shorten(str(error) or type(error).__name__, 300, placeholder=" ...")


def _hint(name: str, known: Any) -> str:
    """', did you mean X?', where something close is known."""
    close = difflib.get_close_matches(name, [str(key) for key in known], n=1)
    return f"; did you mean {close[0]}?" if close else ""
