"""How accuracy rose while models were trained: the evaluations of runs, read off their metrics (paper's Figure 5)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from dsm.errors import UserError

_PREFIX, _SUFFIX = "eval/", "/accuracy"


@dataclass(frozen=True)
class Learning:
    """One benchmark over the training of several models.

    Attributes:
        benchmark: its name.
        unit: what `lines` count: samples (of runs of stage=rl) or steps.
        lines: run -> (units, accuracy) of each evaluation, in order.
    """

    benchmark: str
    unit: str
    lines: dict[str, list[tuple[float, float]]]


def load_learning(runs: Mapping[str, str]) -> list[Learning]:
    """What runs measured while they trained, a benchmark at a time.

    Args:
        runs: label -> folder of a run that had `evaluation=...`.

    Raises:
        UserError: a folder without metrics, or whose run measured nothing.
    """
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    sizes = {label: _samples_per_step(Path(folder)) for label, folder in runs.items()}
    in_samples = all(sizes.values())
    for label, folder in runs.items():
        rows = _rows(label, Path(folder))
        names = sorted({key for row in rows for key in row if key.startswith(_PREFIX) and key.endswith(_SUFFIX)})
        if not names:
            raise UserError(f"curves.{label}={folder}: the run measured no benchmark; evaluation=small switches it on")
        unit = sizes[label] if in_samples else 1.0
        for name in names:
            # A resumed run may have measured a step again: the last word counts.
            points = {row["step"] * unit: float(row[name]) for row in rows if name in row}
            benchmark = name.removeprefix(_PREFIX).removesuffix(_SUFFIX)
            found.setdefault(benchmark, {})[label] = sorted(points.items())
    return [Learning(name, "samples" if in_samples else "steps", lines) for name, lines in found.items()]


def _rows(label: str, folder: Path) -> list[dict[str, Any]]:
    try:
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]
    except (OSError, ValueError) as error:
        raise UserError(
            f"curves.{label}={folder}: no metrics.jsonl of a run there ({str(error).splitlines()[0]})"
        ) from None


def _samples_per_step(folder: Path) -> float:
    """Answers that an optimiser step of `stage=rl` stands for; 0 of another stage."""
    file = folder / "config.yaml"
    config: Any = OmegaConf.to_container(OmegaConf.load(file)) if file.is_file() else {}
    if config.get("stage") != "rl":
        return 0.0
    trainer = config["trainer"]
    return float(trainer["prompts_per_step"] * config["rollout"]["group_size"] / trainer["updates"])
