"""The paper's own numbers: its Tables 1 to 9, and what can be read off its Figures 5 to 7 (paper.yaml, in percent)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf


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
    """The tables of these names, which are those of paper.yaml (and of `stage=report paper_tables`)."""
    return [_table(name) for name in names]


def paper_models(names: Sequence[str]) -> list[PaperModel]:
    """The models of these names, which are those of paper.yaml (and of `stage=report paper`)."""
    found = []
    for name in names:
        row: str = _content()["models"][name]["name"]
        sources: list[str] = _content()["models"][name]["tables"]
        numbers: dict[str, float] = {}
        for table in map(_table, sources):
            pairs = zip(table.columns, table.rows[row], strict=True)
            numbers |= {column: value for column, value in pairs if value is not None}
        told = ", ".join(source.removeprefix("table_") for source in sources)
        found.append(PaperModel(row, f"Table{'s' * (len(sources) > 1)} {told}", numbers))
    return found


def _table(name: str) -> PaperTable:
    found = _content()["tables"][name]
    rows = {row: tuple(values) for row, values in found["rows"].items()}
    return PaperTable(name, found["title"], found["setting"], tuple(found["columns"]), rows)
