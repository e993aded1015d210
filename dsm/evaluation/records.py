"""What an evaluation keeps of every item, and the file it keeps it in.

Each rank appends finished items to a file of its own, a line an item. An interrupted evaluation goes on with the items
that are left, on any number of ranks; none is answered twice. In the end there is one file in the benchmark's order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from dsm.files import atomic_write_text


@dataclass(frozen=True)
class Sample:
    """One answer of the model and what became of it.

    Attributes:
        output: the model's text; of a tool-integrated answer the whole transcript.
        answer: what was taken out of it to be compared; None where nothing was found.
        rule: how the answer was found.
        flags: what is odd about the text (several boxes, ...).
        verdict: correct | wrong | ungradable.
        reason: the layer that decided, or why nothing could be decided.
        tokens: tokens that the model wrote.
        finish_reason: how generation ended.
        klass: the answer's equivalence class among the item's samples (`class` in the file); None = no answer.
        score: a reward model's, 0 to 1; None where none was asked.
        detail: more that belongs to the kind of benchmark (runs of programs, scores of choices).
    """

    output: str
    answer: str | None
    rule: str
    verdict: str
    reason: str
    flags: tuple[str, ...] = ()
    tokens: int = 0
    finish_reason: str = ""
    klass: int | None = None
    score: float | None = None
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ItemRecord:
    """One item of a benchmark with all its samples."""

    benchmark: str
    id: str
    question: str
    prompt: str
    gold: str
    groups: dict[str, str]
    samples: tuple[Sample, ...]

    def with_classes(self, classes: Sequence[int | None]) -> ItemRecord:
        """The same with each sample's equivalence class."""
        samples = tuple(replace(sample, klass=klass) for sample, klass in zip(self.samples, classes, strict=True))
        return replace(self, samples=samples)

    def as_json(self) -> dict[str, Any]:
        """The record as it stands in the file."""
        row = asdict(self)
        for sample in row["samples"]:
            sample["class"] = sample.pop("klass")
        return row


class ItemStore:
    """The records of one benchmark in a run's folder: `NAME.jsonl`, and `NAME.rank-N.part` while it is under way."""

    def __init__(self, folder: Path, benchmark: str, rank: int) -> None:
        self.path = folder / f"{benchmark}.jsonl"
        self._part = folder / f"{benchmark}.rank-{rank}.part"

    def append(self, record: ItemRecord) -> None:
        """Keep a finished item: one write of one line, so a kill leaves whole lines and at most one torn one."""
        with self._part.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record.as_json(), ensure_ascii=False) + "\n")

    def gather(self, order: Iterable[str] = ()) -> list[dict[str, Any]]:
        """All ranks' records in one file, by the order of ids; returns them. Rank 0 alone calls this.

        A torn last line is left out (its item is answered again); an item that stands twice counts once.
        """
        parts = sorted(self.path.parent.glob(f"{self.path.stem}.rank-*.part"))
        found: dict[str, dict[str, Any]] = {}
        for file in (self.path, *parts):
            for row in _whole_lines(file):
                found.setdefault(row["id"], row)
        places = {name: place for place, name in enumerate(order)}
        rows = sorted(found.values(), key=lambda row: places.get(row["id"], len(places)))
        if rows:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write_text(self.path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        for file in parts:
            file.unlink()
        return rows


def _whole_lines(file: Path) -> list[dict[str, Any]]:
    if not file.is_file():
        return []
    rows = []
    for line in file.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and "id" in row:
            rows.append(row)
    return rows
