"""What conf/ offers, read off its files alone: quick enough for `dsm --help`."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from dsm.errors import UserError

OWN_CONF = "DSM_CONF"
"""The variable that names the user's own folder of settings; what a run starts in its turn inherits it."""


@cache
def conf_dir() -> Path:
    """The configuration folder: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "conf"
    return inside if inside.is_dir() else package.parent / "conf"


def own_conf_dir() -> Path | None:
    """A folder of the user's own beside ours: `--config-dir DIR`, or DSM_CONF.

    Raises:
        UserError: there is no such folder, or a file of it has the name of one of ours.
    """
    given = os.environ.get(OWN_CONF)
    if not given:
        return None
    own = Path(given).expanduser().resolve()
    if not own.is_dir():
        raise UserError(f"--config-dir {given}: no such folder (it holds files such as algorithm/NAME.yaml)")
    for file in own.rglob("*.yaml") if own != conf_dir().resolve() else ():
        name = file.relative_to(own)
        if (conf_dir() / name).exists():
            raise UserError(f"--config-dir {given}: {name} is there already, in dsm itself; give yours another name")
    return own


def conf_dirs() -> list[Path]:
    """Where options are looked for: ours, the user's own."""
    own = own_conf_dir()
    return [conf_dir()] if own is None else [conf_dir(), own]


def groups() -> dict[str, list[str]]:
    """Every group and its options; Hydra's own groups apart."""
    return _groups(tuple(conf_dirs()))


@cache
def _groups(roots: tuple[Path, ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for root in roots:
        for file in sorted(root.rglob("*.yaml")):
            parts = file.relative_to(root).with_suffix("").parts
            if len(parts) > 1 and parts[0] != "hydra":
                if root != conf_dir():
                    _check_package(file, parts[0], "/".join(parts[1:]))
                found.setdefault(parts[0], []).append("/".join(parts[1:]))
    return {group: found[group] for group in sorted(found)}


def _check_package(file: Path, group: str, option: str) -> None:
    """See that a file of the user's own says where its settings belong, where Hydra would put them in a wrong place.

    Raises:
        UserError: it does not, though all of ours in its group do, and it is no mere part named as its folder.
    """
    ours = [(other, _package(other)) for other in (conf_dir() / group).glob("*.yaml")]
    wanted = {package.replace(other.stem, "OPTION") for other, package in ours if package}
    misplaced = wanted != {"_global_"} or "override /" in file.read_text(encoding="utf-8")
    if len(wanted) == 1 and all(package for _, package in ours) and misplaced and not _package(file):
        line = f"# @package {wanted.pop().replace('OPTION', option)}"
        raise UserError(f"{file}: must begin with the line '{line}', as those of conf/{group} do")


def _package(file: Path) -> str:
    """What its settings belong to, by the line that says so; empty where Hydra decides by the folder."""
    with file.open(encoding="utf-8") as lines:
        found = (line.partition("@package")[2].strip() for line in lines if line.startswith("# @package"))
        return next(found, "")


def summaries(group: str) -> dict[str, str]:
    """Every option of a group and the first comment of its file."""
    found = {}
    for option in groups()[group]:
        file = next(file for root in conf_dirs() if (file := root / group / f"{option}.yaml").is_file())
        lines = file.read_text(encoding="utf-8").splitlines()
        found[option] = next((line[2:] for line in lines if line.startswith("# ") and "@package" not in line), "")
    return found


def stage_groups(stage: str) -> list[str]:
    """The groups that a stage brings."""
    from omegaconf import OmegaConf  # --help does without

    settings = OmegaConf.to_container(OmegaConf.load(conf_dir() / "stage" / f"{stage}.yaml"))
    assert isinstance(settings, dict)
    return [group.lstrip("/") for entry in settings["defaults"] if isinstance(entry, dict) for group in entry]


def closest(word: str, allowed: Iterable[str]) -> str:
    """' (did you mean ...?)' where something is close enough, else the empty string."""
    match = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return f" (did you mean {match[0]}?)" if match else ""


def is_own(group: str, option: str) -> bool:
    """Is this option of a group a file of the user's own?"""
    own = own_conf_dir()
    return own is not None and (own / group / f"{option}.yaml").is_file()


def elsewhere(group: str, option: str) -> str:
    """' (FILE lies in no folder GROUP)' where the user's own folder has it in another place, else ''."""
    own = own_conf_dir()
    file = next(iter(sorted(own.rglob(f"{option}.yaml"))), None) if own is not None else None
    return f" ({file} lies in no folder {group})" if file is not None else ""
