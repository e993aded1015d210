"""What the disk has to say about a configuration, still before anything heavy is imported."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from pathlib import Path

from dsm.config.base import HUB_PREFIX
from dsm.config.engine import INSTALL_VLLM, VLLMConfig
from dsm.config.evaluation import EvalConfig
from dsm.config.in_training import MeasuredConfig
from dsm.config.mix import MixConfig
from dsm.config.pretrain import PretrainConfig
from dsm.config.report import ReportStageConfig
from dsm.config.reward_model import LabelConfig, RewardTrainingConfig
from dsm.config.rl import RLConfig
from dsm.config.rollout import RolloutsConfig
from dsm.config.run import ModelRunConfig, RunConfig, SFTConfig
from dsm.config.runs import given_checkpoint
from dsm.config.store import TokenizeConfig
from dsm.errors import UserError

_HUB_NAME = re.compile(r"hub:[\w.-]+(/[\w.-]+)?(:[\w.-]+)?")
_DATA = "a data file, a folder of them, or hub:org/name"
_MODEL = ("config.json",)
_TOKENIZER = ("tokenizer.json", "tokenizer.model", "vocab.json")
_coming: ContextVar[tuple[Path, ...]] = ContextVar("coming", default=())


@contextmanager
def coming(folders: Iterable[Path]) -> Iterator[None]:
    """For this long, what lies in these folders counts as there: earlier steps of a pipeline will write it."""
    token = _coming.set(tuple(folders))
    try:
        yield
    finally:
        _coming.reset(token)


def _exists(path: Path) -> bool:
    return path.exists() or _is_coming(path)


def _is_coming(path: Path) -> bool:
    return any(path.is_relative_to(folder) for folder in _coming.get())


def check_paths(config: RunConfig) -> None:
    """Every local path that the run will read must be there.

    Raises:
        UserError: naming the key, the path and what is expected.
    """
    for name, source in dict(getattr(getattr(config, "data", None), "sources", {})).items():
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
    if isinstance(config, RLConfig | RolloutsConfig):
        _check_asked(config)
    if isinstance(config, RLConfig):
        _check_rl(config)
    if isinstance(config, RewardTrainingConfig) and config.data.replay.path is not None:
        _check("data.replay.path", config.data.replay.path, f"a folder of rollouts, {_DATA}")
    if isinstance(config, LabelConfig):
        _check("data.path", config.data.path, "a folder of rollouts, as stage=rollouts leaves it")
    measuring = config.measuring if isinstance(config, MeasuredConfig) else config
    if isinstance(measuring, EvalConfig):
        _check_benchmarks(measuring)
        if measuring.reward_model is not None:
            _check("reward_model.path", measuring.reward_model.path, "the export/ of a stage=reward run", _MODEL)
    if isinstance(config, ReportStageConfig):
        for name, path in config.evaluations.items():
            _check(f"evaluations.{name}", path, "the folder of an evaluation that has ended, or its results.json")
        for name, path in config.curves.items():
            _check(f"curves.{name}", path, "the folder of a run that measured benchmarks while it trained")
        for name, path in config.runs.items():
            _check(f"runs.{name}", path, "the folder of a run that has ended")
    if isinstance(getattr(config, "engine", None), VLLMConfig) and find_spec("vllm") is None:
        raise UserError(f"engine=vllm: vLLM is not installed here; {INSTALL_VLLM}")
    if config.resume not in ("auto", "never"):
        given_checkpoint(config.resume)


def _check_mix(mix: MixConfig) -> None:
    stores = {f"mix.sources.{name}.path": mix.store(name) for name in mix.sources}
    stores |= {f"mix.validation.sources.{name}.path": store.path for name, store in mix.validation.sources.items()}
    for key, path in stores.items():
        if not Path(path).expanduser().is_dir() and not _is_coming(Path(path)):
            raise UserError(f"{key}={path}: no such folder; give a store that 'dsm stage=tokenize' wrote")


def _check_asked(config: RLConfig | RolloutsConfig) -> None:
    prompts = config.prompts
    for name, source in prompts.sources.items() if prompts is not None else ():
        _check(f"prompts.sources.{name}.path", source.path, _DATA)
    if prompts is not None and prompts.difficulty is not None:
        _check("prompts.difficulty.path", prompts.difficulty.path, "a JSONL file with pass rates")
    for key, path in config.reward.paths.items():
        _check(key, path, "a reward model's folder, as stage=reward leaves it", _MODEL)


def _check_rl(config: RLConfig) -> None:
    if config.critic.path is not None:
        _check("critic.path", config.critic.path, "a reward model's folder, or hub:org/name", _MODEL)
    if config.rollout.store is not None:
        _check("rollout.store", config.rollout.store, "a folder of rollouts, as stage=rollouts leaves it")


def _check_benchmarks(config: EvalConfig) -> None:
    root = config.data_root
    if root is not None and not Path(root).expanduser().is_dir() and not _is_coming(Path(root)):
        raise UserError(f"data_root={root}: no such folder; give the one that holds the benchmarks' files, or null")
    for name, benchmark in config.benchmarks.items():
        data = benchmark.data
        if data.path is not None:
            _check(f"benchmarks.{name}.data.path", data.path, _DATA)
        elif root is not None and data.file is not None and not _exists(Path(root).expanduser() / data.file):
            raise UserError(f"data_root={root}: {data.file} is not in it; give benchmarks.{name}.data.path=FILE")


def _check(key: str, path: str, wanted: str, one_of: tuple[str, ...] = ()) -> None:
    """A file or folder that is there, or a hub id; with `one_of`, a folder that holds one of these files."""
    if path.startswith(HUB_PREFIX):
        if not _HUB_NAME.fullmatch(path):
            raise UserError(f"{key}={path}: no name of a repository; give {wanted}")
        return
    found = Path(path).expanduser()
    if _is_coming(found):
        return
    if not found.exists():
        raise UserError(f"{key}={path}: no such file or folder; give {wanted}")
    if one_of and not found.is_dir():
        raise UserError(f"{key}={path}: not a folder; give {wanted}")
    if one_of and not any((found / name).is_file() for name in one_of):
        raise UserError(f"{key}={path}: no {one_of[0]} in it; give {wanted}")
