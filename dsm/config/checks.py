"""What the disk has to say about a configuration, still before anything heavy is imported."""

from __future__ import annotations

import re
from pathlib import Path

from dsm.config.base import HUB_PREFIX
from dsm.config.evaluation import EvalConfig
from dsm.config.in_training import MeasuredConfig
from dsm.config.mix import MixConfig
from dsm.config.pretrain import PretrainConfig
from dsm.config.report import ReportStageConfig
from dsm.config.run import ModelRunConfig, RunConfig, SFTConfig
from dsm.config.runs import given_checkpoint
from dsm.config.store import TokenizeConfig
from dsm.errors import UserError

_HUB_NAME = re.compile(r"hub:[\w.-]+(/[\w.-]+)?(:[\w.-]+)?")
_DATA = "a data file, a folder of them, or hub:org/name"
_MODEL = ("config.json",)
_TOKENIZER = ("tokenizer.json", "tokenizer.model", "vocab.json")


def check_paths(config: RunConfig) -> None:
    """Every local path that the run will read must be there.

    Raises:
        UserError: naming the key, the path and what is expected.
    """
    sources = dict(config.data.sources) if hasattr(config, "data") else {}
    for name, source in sources.items():
        _check(f"data.sources.{name}.path", source.path, _DATA)
    if isinstance(config, SFTConfig):
        for name, source in config.data.validation.sources.items():
            _check(f"data.validation.sources.{name}.path", source.path, _DATA)
    if isinstance(config, ModelRunConfig):
        if config.model.path is not None:
            _check("model.path", config.model.path, "a Hugging Face folder, or hub:org/name", _MODEL)
        if config.tokenizer.path is not None:
            _check("tokenizer.path", config.tokenizer.path, "a tokenizer's folder, or hub:org/name", _TOKENIZER)
    if isinstance(config, TokenizeConfig):
        _check("tokenizer.path", config.tokenizer.path, "a tokenizer's folder, or hub:org/name", _TOKENIZER)
    if isinstance(config, PretrainConfig):
        _check_mix(config.mix)
    measuring = config.measuring if isinstance(config, MeasuredConfig) else config
    if isinstance(measuring, EvalConfig):
        _check_benchmarks(measuring)
    if isinstance(config, ReportStageConfig):
        for name, path in config.evaluations.items():
            _check(f"evaluations.{name}", path, "the folder of an evaluation that has ended, or its results.json")
    if config.resume not in ("auto", "never"):
        given_checkpoint(config.resume)


def _check_mix(mix: MixConfig) -> None:
    stores = {f"mix.sources.{name}.path": mix.store(name) for name in mix.sources}
    stores |= {f"mix.validation.sources.{name}.path": store.path for name, store in mix.validation.sources.items()}
    for key, path in stores.items():
        if not Path(path).expanduser().is_dir():
            raise UserError(f"{key}={path}: no such folder; give a store that 'dsm stage=tokenize' wrote")


def _check_benchmarks(config: EvalConfig) -> None:
    root = config.data_root
    if root is not None and not Path(root).expanduser().is_dir():
        raise UserError(f"data_root={root}: no such folder; give the one that holds the benchmarks' files, or null")
    for name, benchmark in config.benchmarks.items():
        data = benchmark.data
        if data.path is not None:
            _check(f"benchmarks.{name}.data.path", data.path, _DATA)
        elif root is not None and data.file is not None and not (Path(root).expanduser() / data.file).exists():
            raise UserError(f"data_root={root}: {data.file} is not in it; give benchmarks.{name}.data.path=FILE")


def _check(key: str, path: str, wanted: str, one_of: tuple[str, ...] = ()) -> None:
    """A file or folder that is there, or a hub id; with `one_of`, a folder that holds one of these files."""
    if path.startswith(HUB_PREFIX):
        if not _HUB_NAME.fullmatch(path):
            raise UserError(f"{key}={path}: no name of a repository; give {wanted}")
        return
    found = Path(path).expanduser()
    if not found.exists():
        raise UserError(f"{key}={path}: no such file or folder; give {wanted}")
    if one_of and not found.is_dir():
        raise UserError(f"{key}={path}: not a folder; give {wanted}")
    if one_of and not any((found / name).is_file() for name in one_of):
        raise UserError(f"{key}={path}: no {one_of[0]} in it; give {wanted}")
