"""The files of conf/ as Hydra's source of them: each is read once for as long as it stays as it is, and by libyaml.

Hydra reads a file again for every composition, with a parser in Python that takes a third of the composition's time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from omegaconf import OmegaConf
from omegaconf._utils import get_yaml_loader


def _loader() -> Any:
    """OmegaConf's loader: which numbers are floats, that a key stands once. Its parser is libyaml's, ten times faster
    than PyYAML's own, where PyYAML has been built with it."""
    theirs: Any = get_yaml_loader()
    if not yaml.__with_libyaml__:
        return theirs

    class Loader(yaml.cyaml.CParser, theirs):
        def __init__(self, stream: Any) -> None:
            yaml.cyaml.CParser.__init__(self, stream)
            yaml.constructor.SafeConstructor.__init__(self)
            yaml.resolver.Resolver.__init__(self)

    return Loader


_LOADER = _loader()


class ConfSource(FileConfigSource):
    """A folder of settings, named to Hydra as `conf://FOLDER`."""

    @staticmethod
    def scheme() -> str:
        """What its names begin with."""
        return "conf"

    def load_config(self, config_path: str) -> ConfigResult:
        """One file.

        Raises:
            ConfigLoadError: there is none.
        """
        file = Path(self.path, self._normalize_file_name(config_path))
        try:
            written = file.stat().st_mtime_ns
        except FileNotFoundError:
            raise ConfigLoadError(f"Config not found : {file}") from None
        settings, header = _read(file, written)
        # A new one each time: what is composed is made of its nodes.
        return ConfigResult(self.provider, self.full_path(), OmegaConf.create(settings), dict(header))


SourcesRegistry.instance().register(ConfSource)


@lru_cache(maxsize=1024)
def _read(file: Path, written: int) -> tuple[Any, dict[str, str | None]]:
    """Settings, and what the comment at its head says to Hydra (`@package`)."""
    text = file.read_text(encoding="utf-8")
    settings = yaml.load(text, Loader=_LOADER)
    return {} if settings is None else settings, ConfigSource._get_header_dict(text[:512])


def versions(folder: str | Path) -> Iterator[tuple[str, int]]:
    """Every file of a folder and of those in it, with the time when it was written, in nanoseconds."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from versions(entry.path)
            else:
                yield entry.path, entry.stat().st_mtime_ns
