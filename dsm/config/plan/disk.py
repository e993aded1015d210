"""What lies on the disk, as far as a plan needs it: the run's folder, sources, tokenizers, configurations of models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dsm.config.base import HUB_PREFIX
from dsm.config.plan.table import Rows, size
from dsm.config.run import RunConfig
from dsm.config.runs import newest_checkpoint, run_path
from dsm.errors import UserError

ABSENT = "NOT THERE YET"


def folder_rows(config: RunConfig) -> Rows:
    """The folder that the run would use, and what it would find there."""
    path = run_path(config)
    newest = newest_checkpoint(path / "checkpoints")
    if config.resume not in ("auto", "never"):
        state = f"goes on from {newest or config.resume}"
    elif config.resume == "never":
        state = "new" if not path.exists() else "exists, so a new one beside it"
    elif (path / "metrics.json").is_file():
        state = "finished before: its results would be returned; resume=never makes it anew"
    else:
        state = f"goes on from {newest.name}" if newest else "from the start"
    return [("run folder", f"{path} ({state})")]


def source_row(name: str, path: str, more: str = "") -> tuple[str, str]:
    """A data source and how much of it lies there."""
    found = Path(path).expanduser()
    if path.startswith(HUB_PREFIX):
        there = "from the hub"
    elif found.is_file():
        there = size(found.stat().st_size)
    elif found.is_dir():
        files = [file for file in found.rglob("*") if file.is_file()]
        there = f"{len(files):,} files, {size(sum(file.stat().st_size for file in files))}"
    else:
        there = ABSENT
    return name, f"{path} ({', '.join(filter(None, [there, more]))})"


def tokenizer_ids(path: str) -> int | None:
    """Number of ids of a tokenizer on the disk; None where there is none (yet)."""
    backend = read_json(path, "tokenizer.json", "tokenizer.path")
    if backend is None or "vocab" not in backend.get("model", {}):
        return None
    vocab = backend["model"]["vocab"]
    ids = set(vocab.values()) if isinstance(vocab, dict) else set(range(len(vocab)))
    return len(ids | {token["id"] for token in backend.get("added_tokens", [])})


def tokenizer_row(path: str, ids: int | None) -> tuple[str, str]:
    """The tokenizer and its size."""
    return "tokenizer", f"{path} ({f'{ids:,} ids' if ids is not None else 'not read before the run'})"


def read_json(folder: str, name: str, key: str) -> dict[str, Any] | None:
    """A JSON object in a local folder; None where it is not there.

    Raises:
        UserError: it is there and cannot be read.
    """
    if folder.startswith(HUB_PREFIX):
        return None
    file = Path(folder).expanduser() / name
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{key}={folder}: {name} cannot be read ({str(error).splitlines()[0]})") from None
    if not isinstance(content, Mapping):
        raise UserError(f"{key}={folder}: {name} holds no JSON object")
    return dict(content)
