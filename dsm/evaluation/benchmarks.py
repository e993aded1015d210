"""The items of a benchmark: rows read by its configuration, bad ones set aside, golds that equal themselves.

A row becomes an `Item` or, with its place and reason, a `Rejected`; nothing is lost in between. What an evaluation
measured has to be sayable later, so the items have a fingerprint.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from dsm.config.base import HUB_PREFIX
from dsm.config.benchmark import BenchmarkConfig, BenchmarkDataConfig
from dsm.data.layouts import RowError
from dsm.data.records import SUFFIXES, Record, Rejected, raw_row, read_records
from dsm.errors import UserError
from dsm.evaluation.columns import LETTERS, fill, lookup, places, put, read_choices, read_gold


@dataclass(frozen=True, slots=True)
class Item:
    """One problem of a benchmark.

    `gold` is the reference answer as one text, `golds` its parts: several where all of them are asked for. Choices are
    named by letters: the gold of an item with choices is 'B', or 'ACD' where several are right. `groups` says to which
    row of which table it counts, as {"subject": "Algebra", "level": "5"}. `tests` and `entry_point` are for code.
    """

    id: str
    question: str
    gold: str
    choices: tuple[str, ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)
    golds: tuple[str, ...] = ()
    tests: str = ""
    entry_point: str = ""


@dataclass(frozen=True, slots=True)
class BadGold:
    """An item whose reference answer is not judged equal to itself."""

    id: str
    gold: str
    reason: str


class _Verdict(Protocol):
    @property
    def correct(self) -> bool: ...
    @property
    def reason(self) -> str: ...


class _Pool(Protocol):
    def grade(self, pairs: Sequence[tuple[str, str | None]]) -> Sequence[_Verdict]: ...


def data_source(name: str, data: BenchmarkDataConfig, root: str | None = None) -> tuple[str, str]:
    """Where a benchmark's rows lie: its own path, its file below `root` (the run's data_root), or the hub.

    Returns:
        The path, or hub:org/name, and the setting that it comes from, for messages.

    Raises:
        UserError: if none of them is set, or `root` is and has no such file.
    """
    if data.path is not None:
        return data.path, f"benchmarks.{name}.data.path"
    if root is not None and data.file is not None:
        path = Path(root).expanduser() / data.file
        if path.exists():
            return str(path), "data_root"
        raise UserError(f"data_root={root}: {data.file} is not in it; give benchmarks.{name}.data.path=FILE")
    if data.hub is not None:
        return data.hub, f"benchmarks.{name}.data.hub"
    below = f", or data_root, the folder that holds {data.file}" if data.file is not None else ""
    raise UserError(f"benchmarks.{name}.data.path: must be given (benchmarks.{name}.data.path=FILE){below}")


def load_items(
    name: str, config: BenchmarkConfig, *, root: str | None = None, limit: int | None = None
) -> tuple[list[Item], list[Rejected]]:
    """Read a benchmark.

    Args:
        name: its key under `benchmarks`, for messages.
        root: the run's data_root, a folder with the files of many benchmarks.
        limit: only the first so many good items, after the subsample.

    Returns:
        The items in the order of the data, and the rows set aside.

    Raises:
        UserError: if the data cannot be read, no row can be used, or two items have the same id.
    """
    items: list[Item] = []
    rejected: list[Rejected] = []
    seen: dict[str, str] = {}
    path, key = data_source(name, config.data, root)
    for number, record in enumerate(_records(path, config.data, key), start=1):
        item = format_item(record, config, number)
        if isinstance(item, Rejected):
            rejected.append(item)
            continue
        assert isinstance(record, Record)
        if item.id in seen:
            where = f"{seen[item.id]} and {record.location}"
            raise UserError(f"benchmarks.{name}.data.id={config.data.id}: {where} have the same id {item.id!r}")
        seen[item.id] = record.location
        items.append(item)
    if not items:
        first = rejected[0]
        raise UserError(
            f"{key}={path}: none of its {len(rejected)} rows can be used as benchmarks.{name}.data says; "
            f"the first: {first.location}: {first.reason}"
        )
    if config.data.subsample is not None:
        items = _subsample(items, config.data.subsample, config.data.seed)
    return items[:limit], rejected


def format_item(record: Record | Rejected, config: BenchmarkConfig, number: int) -> Item | Rejected:
    """One row as an `Item`, or `Rejected` with the reason; a row already rejected passes through.

    Args:
        number: the row's number, from 1: its id where none is configured.
    """
    if isinstance(record, Rejected):
        return record
    try:
        return _item(record.row, config, number)
    except RowError as error:
        return Rejected(record.location, str(error), raw_row(record.row))


def _item(row: dict[str, Any], config: BenchmarkConfig, number: int) -> Item:
    data, is_code = config.data, config.kind == "code"
    choices: tuple[str, ...] = ()
    if data.choices is not None:
        (column,) = places(data.choices)
        choices = read_choices(lookup(column, row), column)
        row = row | {"choices": write_choices(choices, data)}
    question = _filled(  # the white space of a program means something
        "question", data.question, row, strip=not is_code, trim=data.trim
    )
    if not question.strip():
        raise RowError("the question is empty")
    item = Item(
        id=_filled("id", data.id, row) if data.id is not None else str(number),
        question=question,
        gold="",
        choices=choices,
        groups={
            table: _group(table, _filled(f"groups.{table}", template, row)) for table, template in data.groups.items()
        },
        tests=_filled("tests", data.tests or "", row, strip=False),
        entry_point=_filled("entry_point", data.entry_point or "", row),
    )
    if not item.id:
        raise RowError("the id is empty")
    if is_code:
        if not item.tests.strip():
            raise RowError("the tests are empty")
        return replace(item, gold=_filled("gold", data.gold, row, strip=False) if data.gold else "")
    golds = read_gold(data.gold_form, _filled("gold", data.gold, row), question, choices)
    if config.kind == "choices" and (len(golds[0]) != 1 or golds[0] not in LETTERS[: len(choices)]):
        raise RowError(f"the answer {golds[0]!r} is not one choice, which kind=choices needs")
    return replace(item, gold=", ".join(golds), golds=golds)


def _filled(setting: str, template: str, row: dict[str, Any], *, strip: bool = True, trim: str = "") -> str:
    """`fill`, whose errors name the setting."""
    try:
        return fill(template, row, strip=strip, trim=trim)
    except RowError as error:
        raise RowError(f"data.{setting}={template}: {error}") from None


def write_choices(choices: Sequence[str], data: BenchmarkDataConfig) -> str:
    """Choices as a question shows them, by `data.choice` and `data.choice_separator`."""
    shown = (put(data.choice, letter=letter, text=text) for letter, text in zip(LETTERS, choices, strict=False))
    return data.choice_separator.join(shown)


def _group(table: str, value: str) -> str:
    """'Level 5' in the table 'level' is '5'."""
    head, _, tail = value.partition(" ")
    return tail if tail and head.lower() == table.lower() else value


def _records(path: str, data: BenchmarkDataConfig, key: str) -> Iterator[Record | Rejected]:
    for subset in data.subsets or [""]:
        where = path
        if subset:
            where = f"{path}:{subset}" if path.startswith(HUB_PREFIX) else _subset_file(path, subset, key)
        split = None if os.path.isfile(where) else data.split
        for row in read_records(where, split=split, key=key, allow_nan=data.nan is not None):
            if isinstance(row, Record):
                said = row.row if data.nan is None else _without_nan(row.row, data.nan)
                row = replace(row, row=said | {"subset": subset} if subset else said)
            yield row


def _without_nan(value: Any, text: str) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(part, text) for key, part in value.items()}
    if isinstance(value, list):
        return [_without_nan(part, text) for part in value]
    return text if isinstance(value, float) and math.isnan(value) else value


def _subset_file(folder: str, subset: str, key: str) -> str:
    for suffix in SUFFIXES:
        if (file := Path(folder, subset + suffix)).is_file():
            return str(file)
    raise UserError(f"{key}={folder}: has no {subset}.jsonl (or {', '.join(SUFFIXES[1:])}), one of the subsets")


def _subsample(items: Sequence[Item], size: int, seed: int) -> list[Item]:
    """The items whose hashed ids are the smallest: independent of their order, and nested for growing sizes."""

    def rank(item: Item) -> bytes:
        return hashlib.sha256(f"{seed}:{item.id}".encode()).digest()

    chosen = {item.id for item in sorted(items, key=rank)[:size]}
    return [item for item in items if item.id in chosen]


# ---------------------------------------------------------------- what was measured


def check_golds(items: Sequence[Item], pool: _Pool) -> list[BadGold]:
    """The items whose reference answer is not judged equal to itself; their verdicts would mean nothing."""
    judged = [item for item in items if not item.tests]
    verdicts = pool.grade([(item.gold, item.gold) for item in judged])
    return [
        BadGold(item.id, item.gold, verdict.reason)
        for item, verdict in zip(judged, verdicts, strict=True)
        if not verdict.correct
    ]


def items_fingerprint(items: Sequence[Item]) -> str:
    """SHA-256 (hex) of all that items say, in order: what was measured, wherever it was read from."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(json.dumps(asdict(item), ensure_ascii=False, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()
