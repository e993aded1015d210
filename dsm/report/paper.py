"""The paper's own numbers: its Tables 1 to 9, and what can be read off its Figures 5 to 7 (paper.yaml, in percent)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from dsm.config.listing import closest
from dsm.errors import UserError


@dataclass(frozen=True)
class PaperTable:
    """One table of the paper; a row has a number in percent for each column, None where the paper has none."""

    name: str
    title: str
    setting: str
    columns: tuple[str, ...]
    rows: dict[str, tuple[float | None, ...]]


@dataclass(frozen=True)
class PaperModel:
    """A model of the paper: benchmark -> percent, and the tables that say so."""

    name: str
    sources: str
    numbers: dict[str, float]


@cache
def _content() -> dict[str, Any]:
    content: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(Path(__file__).with_name("paper.yaml")))
    return content


def paper_tables(names: Sequence[str]) -> list[PaperTable]:
    """The tables of these names.

    Raises:
        UserError: the paper has no such table.
    """
    known = _content()["tables"]
    _check(names, known, "paper_tables", "table")
    return [_table(name) for name in names]


def paper_models(names: Sequence[str]) -> list[PaperModel]:
    """The models of these names.

    Raises:
        UserError: the paper has no such model.
    """
    known = _content()["models"]
    _check(names, known, "paper", "model of the paper")
    found = []
    for name in names:
        row: str = known[name]["name"]
        numbers: dict[str, float] = {}
        for table in map(_table, known[name]["tables"]):
            pairs = zip(table.columns, table.rows[row], strict=True)
            numbers |= {column: value for column, value in pairs if value is not None}
        found.append(PaperModel(row, ", ".join(table.replace("_", " ") for table in known[name]["tables"]), numbers))
    return found


def _table(name: str) -> PaperTable:
    found = _content()["tables"][name]
    rows = {row: tuple(values) for row, values in found["rows"].items()}
    return PaperTable(name, found["title"], found["setting"], tuple(found["columns"]), rows)


def _check(names: Sequence[str], known: dict[str, Any], key: str, what: str) -> None:
    for name in names:
        if name not in known:
            raise UserError(f"{key}={name}: no such {what}; allowed: {', '.join(known)}{closest(name, known)}")
