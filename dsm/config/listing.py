"""What conf/ offers, read off its files alone: quick enough for `dsm --help`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from functools import cache
from pathlib import Path


@cache
def conf_dir() -> Path:
    """The configuration folder: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


@cache
def groups() -> dict[str, list[str]]:
    """Every group of conf/ and its options; Hydra's own groups apart."""
    root = conf_dir()
    found: dict[str, list[str]] = {}
    for file in sorted(root.rglob("*.yaml")):
        parts = file.relative_to(root).with_suffix("").parts
        if len(parts) > 1 and parts[0] != "hydra":
            found.setdefault(parts[0], []).append("/".join(parts[1:]))
    return found


def summaries(group: str) -> dict[str, str]:
    """Every option of a group and the first comment of its file."""
    found = {}
    for option in groups()[group]:
        lines = (conf_dir() / group / f"{option}.yaml").read_text(encoding="utf-8").splitlines()
        found[option] = next((line[2:] for line in lines if line.startswith("# ") and "@package" not in line), "")
    return found


def stage_groups(stage: str) -> list[str]:
    """The groups that a stage brings."""
    from omegaconf import OmegaConf  # --help does without

    settings = OmegaConf.to_object(OmegaConf.load(conf_dir() / "stage" / f"{stage}.yaml"))
    assert isinstance(settings, dict)
    return [group.lstrip("/") for entry in settings["defaults"] if isinstance(entry, dict) for group in entry]


def closest(word: str, allowed: Iterable[str]) -> str:
    """' (did you mean ...?)' where something is close enough, else the empty string."""
    match = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return f" (did you mean {match[0]}?)" if match else ""
