"""What the disk has to say about a configuration, still before anything heavy is imported."""

from __future__ import annotations

from pathlib import Path

from dsm.config.run import RunConfig, SFTConfig
from dsm.errors import UserError

HUB_PREFIX = "hub:"


def check_paths(config: RunConfig) -> None:
    """Every local path that the run will read must be there.

    Raises:
        UserError: naming the key, the path and what is expected.
    """
    sources = dict(config.data.sources) if hasattr(config, "data") else {}
    for name, source in sources.items():
        _check(f"data.sources.{name}.path", source.path, "a data file, a folder of them, or hub:org/name")
    if isinstance(config, SFTConfig):
        for name, source in config.data.validation.sources.items():
            _check(f"data.validation.sources.{name}.path", source.path, "a data file, a folder of them, or hub:org/name")
        if config.model.path is not None:
            _check("model.path", config.model.path, "a Hugging Face folder, or hub:org/name", folder=True)
        if config.tokenizer.path is not None:
            _check("tokenizer.path", config.tokenizer.path, "a tokenizer's folder, or hub:org/name", folder=True)
    if config.resume not in ("auto", "never") and not Path(config.resume).exists():
        raise UserError(f"resume={config.resume}: no such file or folder; allowed: auto, never, a checkpoint or a run's folder")


def _check(key: str, path: str, wanted: str, *, folder: bool = False) -> None:
    if path.startswith(HUB_PREFIX):
        return
    found = Path(path).expanduser()
    if not found.exists():
        raise UserError(f"{key}={path}: no such file or folder; give {wanted}")
    if folder and not found.is_dir():
        raise UserError(f"{key}={path}: not a folder; give {wanted}")
