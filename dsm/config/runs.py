"""Run folders. The same command finds the same folder, so running it again goes on where it stopped.

A folder's name ends in a hash of the settings that make the result; what only concerns watching or storing is left out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsm.config.run import RunConfig
from dsm.config.stages import result_settings
from dsm.errors import UserError
from dsm.files import atomic_write_text, clear_partial_files

MANIFEST = "checkpoint.json"
"""The file that tells a checkpoint's folder from any other (dsm/training/checkpoint/folder.py)."""


@dataclass(frozen=True)
class RunFolder:
    """Where a run lives and what it starts from.

    Attributes:
        path: the folder.
        checkpoint: what to go on from; None = from the start.
        finished: the metrics of a run that has already ended, if it has.
    """

    path: Path
    checkpoint: Path | None = None
    finished: dict[str, Any] | None = None

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def export(self) -> Path:
        """The Hugging Face folder that the run leaves."""
        return self.path / "export"


def settings_hash(config: RunConfig) -> str:
    """Eight hex digits of what makes this run's result."""
    text = json.dumps(result_settings(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def run_path(config: RunConfig) -> Path:
    """The folder of a run, whether or not it is there; `resume=never` may move on to a numbered one beside it."""
    return Path(config.paths.runs) / config.stage / f"{config.name}-{settings_hash(config)}"


def checkpoints_in(folder: Path) -> list[Path]:
    """The complete checkpoints, fewest steps first; unfinished ones bear another name and are never seen."""
    return sorted(path for path in folder.glob("step-*") if path.is_dir())


def newest_checkpoint(folder: Path) -> Path | None:
    """The complete checkpoint with the most steps."""
    return max(checkpoints_in(folder), default=None)


def given_checkpoint(resume: str) -> Path:
    """What `resume=PATH` names: a checkpoint, or the newest one of a run.

    Raises:
        UserError: there is none.
    """
    path, wanted = Path(resume).expanduser(), "allowed: auto, never, a checkpoint (a folder step-*) or a run's folder"
    if not path.exists():
        raise UserError(f"resume={resume}: no such folder; {wanted}")
    if (path.name.startswith("step-") and path.is_dir()) or (path / MANIFEST).is_file():
        return path
    found = newest_checkpoint(path) or newest_checkpoint(path / "checkpoints")
    if found is None:
        raise UserError(f"resume={resume}: no checkpoint there; {wanted}")
    return found


def open_run(config: RunConfig, lock: Callable[[Path], None] = lambda folder: None) -> RunFolder:
    """Find or make the folder of a run, by `resume`: auto | never | PATH (a checkpoint or a run's folder).

    Args:
        lock: called with the folder before anything in it is touched; refuses one that another run writes to.
    """
    start = None if config.resume in ("auto", "never") else given_checkpoint(config.resume)
    path = run_path(config)
    try:
        path = _new_folder(path) if config.resume == "never" else path
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"paths.runs={config.paths.runs}: cannot make {path} ({error.strerror})") from None
    lock(path)
    run = RunFolder(path)
    clear_partial_files(run.checkpoints)
    metrics = path / "metrics.json"
    finished = json.loads(metrics.read_text()) if metrics.is_file() else None
    atomic_write_text(path / "config.yaml", _as_yaml(config))
    return RunFolder(path, newest_checkpoint(run.checkpoints) or start, finished)


def _new_folder(base: Path) -> Path:
    """The folder, or the first numbered one beside it, that is not there yet; two runs at once get two."""
    path, attempt = base, 2
    while True:
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            path, attempt = base.with_name(f"{base.name}-{attempt}"), attempt + 1


def _as_yaml(config: RunConfig) -> str:
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(config.model_dump()))
