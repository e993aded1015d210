"""What a run of `stage=mine` got right, where the truth about its crawl is known (`stage=crawl` writes it).

Every number is a count or a share over pages, and says itself over which: pages read; copies collapsed, missed and
wrongly collapsed; recall and precision of each round after deduplication; planted texts removed, left, and what was
removed without reason; formulas that survived extraction, by their encoding.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from dsm.corpus.pages import PageTable
from dsm.data.records import Record, file_rows
from dsm.errors import UserError

_WORD = re.compile(r"[^\W_]")
_EMPTY = re.compile(
    r"\s+|[{}]|\\(?:left|right|displaystyle|textstyle|limits|mathrm|mathit|operatorname|quad|qquad|[,;:! ])(?![A-Za-z])"
)
_SAME = (
    *((r"\leq", r"\le"), (r"\geq", r"\ge"), (r"\ne ", r"\neq "), (r"\rightarrow", r"\to"), (r"\dfrac", r"\frac")),
    *((r"\tfrac", r"\frac"), (r"\varepsilon", r"\epsilon"), (r"\begin{pmatrix}", r"(\begin{matrix}")),
    *((r"\end{pmatrix}", r"\end{matrix})"), ("−", "-"), (r"\ast", r"\cdot"), (r"\leqslant", r"\le")),
)


@dataclass(frozen=True)
class Truth:
    """The truth about the records of a crawl, by (file, offset); `benchmarks` are the texts that were planted."""

    rows: dict[tuple[str, int], dict[str, Any]]
    benchmarks: dict[str, list[dict[str, str]]]

    @classmethod
    def load(cls, file: Path) -> Truth:
        """`truth.parquet`, and the benchmarks in the folder beside it.

        Raises:
            UserError: it is not there, or is no truth.
        """
        if not file.is_file():
            raise UserError(f"truth={file}: no such file; 'dsm stage=crawl' writes export/truth.parquet")
        table = pq.read_table(file)
        if not {"source", "offset", "kind", "article"} <= set(table.column_names):
            raise UserError(f"truth={file}: no truth about a crawl; 'dsm stage=crawl' writes export/truth.parquet")
        rows = {(row["source"], row["offset"]): row for row in table.to_pylist()}
        names = {label.partition(" ")[0] for row in rows.values() for label in row["planted"] or ()}
        folder = file.parent / "benchmark"
        return cls(rows, {name: _jsonl(folder / f"{name}.jsonl") for name in sorted(names)})

    def text(self, label: str) -> str:
        """The text that 'planted_en 17 question' names."""
        name, number, field = label.split()
        return self.benchmarks[name][int(number)][field]


def compare(run: Path, truth: Path) -> dict[str, float]:
    """All numbers of a finished run, by name.

    pages/*: those of the crawl that can be read, and were. urls/* and near/*: copies are what could be collapsed;
    `collapsed` + `missed` = `copies`; `lost` are addresses (contents) of which no page is left. round-K/*: over the
    pages left by deduplication. contamination/*: over the pages that the last round collected. formulas/*: the mean
    over pages of the share of their formulas that stand in the extracted text.

    Raises:
        UserError: the run has no pages, or does not belong to this truth.
    """
    found = _Found(run, Truth.load(truth))
    numbers: dict[str, float] = {}
    for part in (found.reading, found.addresses, found.copies, found.rounds, found.contamination, found.formulas):
        numbers |= part()
    return numbers


class _Found:
    """The pages of a run beside the truth about them, in the order of the page table."""

    def __init__(self, run: Path, truth: Truth) -> None:
        self.run, self.truth, self.table = run, truth, PageTable(run)
        columns = ["source", "offset", "duplicate_url", "duplicate_of"]
        read = [table.to_pydict() for _, table in self.table.tables(columns)]
        sources = [Path(name).name for part in read for name in part["source"]]
        offsets = [offset for part in read for offset in part["offset"]]
        self.places = {key: place for place, key in enumerate(zip(sources, offsets, strict=True))}
        self.rows = [truth.rows.get(key) for key in zip(sources, offsets, strict=True)]
        if self.rows and not any(self.rows):
            raise UserError(f"truth: it knows none of the {len(self.rows):,} pages of {run}; it is of another crawl")
        self.known = np.array([row is not None and row["kind"] == "page" for row in self.rows], bool)
        self.first = ~np.array([flag for part in read for flag in part["duplicate_url"]], bool) & self.known
        self.kept = (np.array([other for part in read for other in part["duplicate_of"]], np.uint64) == 0) & self.first
        self.is_math = np.array([bool(row and row["is_math"]) for row in self.rows], bool)

    def values(self, column: str) -> list[Any]:
        """A column of the truth; None where there is none."""
        return [row[column] if row else None for row in self.rows]

    @cached_property
    def numbers_of_rounds(self) -> list[int]:
        """The rounds that have cut."""
        folders = self.table.steps.glob("round-*/cut")
        return sorted(int(folder.parent.name.removeprefix("round-")) for folder in folders)

    def collected(self, number: int) -> np.ndarray:
        """(pages,) what a round collected."""
        parts = [table.column("collected").to_numpy() for _, table in self.table.tables(["collected"], number)]
        return np.concatenate(parts) if parts else np.zeros(0, bool)

    def reading(self) -> dict[str, float]:
        there = sum(row["kind"] == "page" for row in self.truth.rows.values())
        unreadable = sum(row is not None and row["kind"] not in ("page", "charset") for row in self.rows)
        return {"pages/there": there, "pages/read": int(self.known.sum()), "pages/read_of_unreadable": unreadable}

    def addresses(self) -> dict[str, float]:
        return _collapsed("urls", self.values("canonical"), self.known, self.first)

    def copies(self) -> dict[str, float]:
        numbers = _collapsed("near", self.values("article"), self.first, self.kept)
        families, articles = self.values("family"), self.values("article")
        members: dict[str, set[str]] = defaultdict(set)
        left: set[str] = set()
        for place in np.flatnonzero(self.first).tolist():
            if families[place]:
                members[families[place]].add(articles[place])
                if self.kept[place]:
                    left.add(articles[place])
        variants = [article for several in members.values() if len(several) > 1 for article in several]
        lost = sum(article not in left for article in variants)
        return numbers | {"near/other_numbers": len(variants), "near/other_numbers_lost": lost}

    def rounds(self) -> dict[str, float]:
        numbers: dict[str, float] = {}
        registers = np.array([register or "" for register in self.values("register")])
        wanted = self.kept & self.is_math
        for number in self.numbers_of_rounds:
            collected = self.collected(number) & self.kept
            right = int((collected & wanted).sum())
            name = f"round-{number}"
            numbers[f"{name}/recall"] = _share(right, int(wanted.sum()))
            numbers[f"{name}/precision"] = _share(right, int(collected.sum()))
            for register in sorted(set(registers[wanted].tolist())):
                of = wanted & (registers == register)
                numbers[f"{name}/recall/{register}"] = _share(int((collected & of).sum()), int(of.sum()))
        return numbers

    def contamination(self) -> dict[str, float]:
        if not self.numbers_of_rounds or not any((self.run / "export").glob("*.jsonl.zst")):
            return {}
        collected = np.flatnonzero(self.collected(self.numbers_of_rounds[-1]) & self.known).tolist()
        final = {self.places[key]: text for key, text in _corpus(self.run / "export") if key in self.places}
        before = self._texts(collected)
        counts = Counter({"planted": 0, "left": 0, "decoys": 0, "decoys_removed": 0, "clean": 0, "clean_removed": 0})
        for place in collected:
            row, text = self.rows[place], final.get(place)
            assert row is not None
            if row["planted"]:
                words = _words(text or "")
                counts["planted"] += 1
                counts["left"] += any(_words(self.truth.text(label)) in words for label in row["planted"])
            else:
                kind = "decoys" if row["decoys"] else "clean"
                counts[kind] += 1
                counts[f"{kind}_removed"] += text is None or _words(text) != _words(before[place])
        return {f"contamination/{name}": value for name, value in counts.items()}

    def formulas(self) -> dict[str, float]:
        shares: dict[str, list[float]] = defaultdict(list)
        wanted = [place for place in np.flatnonzero(self.first).tolist() if (self.rows[place] or {})["formulas"]]
        for place, text in self._texts(wanted).items():
            row = self.rows[place]
            assert row is not None
            bare = bare_formula(text)
            survived = [bare_formula(formula) in bare for formula in row["formulas"]]
            shares[row["encoding"]].append(sum(survived) / len(survived))
        everything = [share for of in shares.values() for share in of]
        numbers = {"formulas/survived": _share(sum(everything), len(everything))}
        return numbers | {f"formulas/survived/{name}": _share(sum(of), len(of)) for name, of in sorted(shares.items())}

    def _texts(self, places: Sequence[int]) -> dict[int, str]:
        """The extracted texts of these pages, shard by shard."""
        texts: dict[int, str] = {}
        first, asked = 0, np.array(sorted(places), np.int64)
        for shard in self.table.shards:
            rows = self.table.read(shard, ["offset"]).num_rows
            here = asked[(asked >= first) & (asked < first + rows)] - first
            if len(here):
                found = self.table.read(shard, ["text"]).column("text").take(here).to_pylist()
                texts |= dict(zip((here + first).tolist(), found, strict=True))
            first += rows
        return texts


def bare_formula(text: str) -> str:
    """LaTeX without what does not change it: blanks, braces, sizes, other names of the same sign."""
    for name, same in _SAME:
        if name in text:
            text = text.replace(name, same)
    return _EMPTY.sub("", text)


def _collapsed(name: str, groups: Sequence[Any], among: np.ndarray, kept: np.ndarray) -> dict[str, float]:
    """How many of the pages `among` others of their group are `kept`: one of each group is right."""
    there = Counter(groups[place] for place in np.flatnonzero(among).tolist())
    left = Counter(groups[place] for place in np.flatnonzero(among & kept).tolist())
    copies = sum(there.values()) - len(there)
    missed = sum(left.values()) - len(left)
    return {
        f"{name}/copies": copies,
        f"{name}/collapsed": copies - missed,
        f"{name}/missed": missed,
        f"{name}/lost": len(there) - len(left),
    }


def _corpus(folder: Path) -> Iterator[tuple[tuple[str, int], str]]:
    for file in sorted(folder.glob("*.jsonl.zst")):
        for row in file_rows(file, "export", allow_nan=False):
            if isinstance(row, Record):
                yield (Path(row.row["source"]).name, row.row["offset"]), row.row["text"]


def _words(text: str) -> str:
    return "".join(_WORD.findall(text.lower()))


def _share(part: float, whole: int) -> float:
    return part / whole if whole else float("nan")


def _jsonl(path: Path) -> list[dict[str, str]]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise UserError(f"truth: {path} is missing; it belongs to truth.parquet") from error
