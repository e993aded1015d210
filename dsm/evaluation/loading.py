"""Evaluations read back from their run folders and checked, so that what builds on them finds what it expects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dsm.errors import UserError

Share = Annotated[float, Field(ge=0, le=1)]
Number = Annotated[int, Field(ge=0)]


class _Read(BaseModel):
    """What a file holds: keys that a later version may add are passed over, wrong types are not."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False, extra="ignore", protected_namespaces=())


class Bounds(_Read):
    """A share and its 95 % interval; the value is None where there were no items."""

    value: Share | None
    low: Share
    high: Share


Curve = dict[Annotated[str, Field(pattern=r"^[1-9][0-9]*$")], Bounds]


class Metrics(_Read):
    """A benchmark's numbers; curves are by k."""

    accuracy: Bounds
    pass_at: Curve = Field(default_factory=dict, alias="pass@k")
    maj_at: Curve = Field(default_factory=dict, alias="maj@k")
    weighted_at: Curve = Field(default_factory=dict, alias="weighted@k")
    best_of: Curve = Field(default_factory=dict, alias="best@k")


class Group(_Read):
    """One group of a benchmark's items."""

    n: Number
    accuracy: Share


class Counts(_Read):
    """Samples of each kind."""

    samples: Number
    correct: Number
    wrong: Number
    ungradable: Number
    no_answer: Number
    length: Number


class Entry(_Read):
    """One benchmark in a `results.json`."""

    title: str = ""
    n: Number
    samples: Number
    protocol: dict[str, Any] = Field(default_factory=dict)
    metrics: Metrics
    groups: dict[str, dict[str, Group]] = Field(default_factory=dict)
    reference: dict[str, Share] = Field(default_factory=dict)
    counts: Counts


class Results(_Read):
    """A `results.json`."""

    model: str
    benchmarks: dict[str, Entry] = Field(min_length=1)


class Sample(_Read):
    """One answer to an item; answers that mean the same share a class, one that cannot be read has none."""

    output: str
    answer: str | None
    verdict: Literal["correct", "wrong", "ungradable"]
    rule: str = ""
    reason: str = ""
    answer_class: int | None = Field(default=None, alias="class")
    tokens: Number = 0
    finish_reason: str = ""


class Record(_Read):
    """One item with all its samples: a line of a benchmark's JSONL."""

    id: str
    question: str
    prompt: str
    gold: str
    groups: dict[str, str] = Field(default_factory=dict)
    samples: list[Sample] = Field(min_length=1)

    @property
    def right(self) -> int:
        """Number of samples that are correct."""
        return sum(sample.verdict == "correct" for sample in self.samples)

    @property
    def accuracy(self) -> float:
        """The share of samples that are correct."""
        return self.right / len(self.samples)

    @property
    def status(self) -> str:
        """correct (all samples), wrong (none, though some could be graded), ungradable (none could), or mixed."""
        verdicts = {sample.verdict for sample in self.samples}
        if "correct" in verdicts:
            return "correct" if len(verdicts) == 1 else "mixed"
        return "wrong" if "wrong" in verdicts else "ungradable"

    def telling(self) -> list[int]:
        """Which samples to look at: the first, and the first with another verdict."""
        firsts = {sample.verdict: index for index, sample in reversed(list(enumerate(self.samples)))}
        return sorted(firsts.values())[:2]

    def slim(self) -> Record:
        """The same without the outputs of all other samples: 64 of 5,000 items each would fill the memory."""
        kept = self.telling()
        samples = [
            sample if index in kept else sample.model_copy(update={"output": ""})
            for index, sample in enumerate(self.samples)
        ]
        return self.model_copy(update={"samples": samples})


Kind = TypeVar("Kind", bound=_Read)


@dataclass(frozen=True)
class Evaluation:
    """One model's evaluation. `items` holds each benchmark's records by id; a benchmark without its JSONL is absent."""

    label: str
    results: Results
    items: dict[str, dict[str, Record]]


def load_evaluation(path: str, label: str, key: str) -> Evaluation:
    """Read an evaluation's `results.json` and, where they lie beside it, its items.

    Args:
        path: the folder of a `stage=eval` run, or a `results.json`.
        label: what to call it.
        key: the config key that errors name.

    Raises:
        UserError: what is missing, unfinished or broken, with its file and place.
    """
    name, found = f"{key}={path}", Path(path).expanduser()
    if not found.exists():
        raise UserError(f"{name}: no such file or folder; give the folder of a stage=eval run, or its results.json")
    file = found / "results.json" if found.is_dir() else found
    if not file.is_file():
        if (found / "config.yaml").is_file():
            raise UserError(f"{name}: holds no results.json: the evaluation has not finished; run its command again")
        raise UserError(f"{name}: holds no results.json; give the folder of a stage=eval run")
    text = _text(file, name)
    results = _checked(Results, text, f"{name}: {file.name}")
    items = {}
    for benchmark in results.benchmarks:
        records = _items_file(file.parent, benchmark)
        if records is not None:
            items[benchmark] = _load_items(records, results.benchmarks[benchmark], name)
    return Evaluation(label, results, items)


def _items_file(folder: Path, benchmark: str) -> Path | None:
    places = (folder / f"{benchmark}.jsonl", folder / "items" / f"{benchmark}.jsonl")
    return next((place for place in places if place.is_file()), None)


def _load_items(file: Path, entry: Entry, name: str) -> dict[str, Record]:
    found: dict[str, Record] = {}
    for number, line in _lines(file, name):
        record = _checked(Record, line, f"{name}: {file.name} line {number}").slim()
        if record.id in found:
            raise UserError(f"{name}: {file.name} line {number}: item {record.id!r} stands there twice")
        found[record.id] = record
    if len(found) != entry.n:
        raise UserError(f"{name}: {file.name} has {len(found)} items, results.json {entry.n}; run the evaluation again")
    return found


def _lines(file: Path, name: str) -> Iterator[tuple[int, str]]:
    """(number from 1, line), split at LF only: U+2028 and the like may stand inside JSON strings."""
    with _readable(file, name), file.open(encoding="utf-8", newline="\n") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, line


def _text(file: Path, name: str) -> str:
    with _readable(file, name):
        return file.read_text(encoding="utf-8")


@contextmanager
def _readable(file: Path, name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{name}: {file.name} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: {file.name} is not valid UTF-8 ({error.reason})") from error


def _checked(kind: type[Kind], text: str, where: str) -> Kind:
    try:
        content = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        reason = f"{error.msg} at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise UserError(f"{where} is not valid JSON: {reason}") from error
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise UserError(f"{where}: {f'{place}: ' if place else ''}{problem['msg']}") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")
