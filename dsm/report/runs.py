"""Run folders of any stage, read back: their settings, their metrics over steps and at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from dsm.errors import UserError


@dataclass(frozen=True)
class Run:
    """One run that has ended.

    Attributes:
        name: in `runs`.
        label: what the report calls it.
        folder: where it lies.
        stage: of `dsm`.
        config: config.yaml.
        rows: the lines of metrics.jsonl; a step that a resumed run did again counts with its last word.
        final: metrics.json.
    """

    name: str
    label: str
    folder: Path
    stage: str
    config: dict[str, Any]
    rows: tuple[dict[str, Any], ...]
    final: dict[str, Any]

    @property
    def seconds(self) -> float | None:
        """That the run took, where its stage says so."""
        seconds = self.final.get("seconds")
        return float(seconds) if isinstance(seconds, int | float) else None

    def series(self, key: str, over: str = "step") -> tuple[list[float], list[float]]:
        """(values of `over`, values of `key`) of the rows that have both, in order."""
        points = {float(row[over]): float(row[key]) for row in self.rows if _number(row.get(key)) and over in row}
        return [place for place, _ in sorted(points.items())], [value for _, value in sorted(points.items())]

    def keys(self, prefix: str) -> list[str]:
        """What follows the prefix in the names of the metrics of steps, in order of appearance."""
        found = dict.fromkeys(key for row in self.rows for key in row if key.startswith(prefix))
        return [key.removeprefix(prefix) for key in found]


def load_runs(runs: Mapping[str, str], label: Callable[[str], str]) -> list[Run]:
    """Read them; `label` says what the report calls a run.

    Raises:
        UserError: a folder that is no run's, or of a run that has not ended.
    """
    return [_load(name, label(name), Path(path).expanduser()) for name, path in runs.items()]


def _load(name: str, label: str, folder: Path) -> Run:
    key = f"runs.{name}={folder}"
    if not (folder / "config.yaml").is_file():
        raise UserError(f"{key}: no run's folder: it holds no config.yaml")
    if not (folder / "metrics.json").is_file():
        raise UserError(f"{key}: the run has not ended: it holds no metrics.json; run its command again")
    config: Any = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    file = folder / "metrics.jsonl"
    try:
        final = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
        rows = tuple(_lines(file)) if file.is_file() else ()
    except ValueError as error:
        raise UserError(f"{key}: its metrics cannot be read ({error})") from None
    return Run(name, label, folder, str(config["stage"]), config, rows, final)


def _lines(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("\n"):  # the last line of a run that was killed may be torn
                yield json.loads(line)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def of_stage(runs: Sequence[Run], *stages: str) -> list[Run]:
    """The runs of these stages."""
    return [run for run in runs if run.stage in stages]
