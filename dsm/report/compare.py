"""Evaluations side by side: what may be compared, how far models are apart, and which items show it.

Two numbers of one benchmark compare only where both models had the same items under the same protocol. A difference of
items (data hash, number, questions, golds) rules a comparison out; one of protocol (prompt, shots, grader, limits)
leaves it standing but is said loudly.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

from dsm.evaluation.intervals import Paired, paired, relative_improvement
from dsm.evaluation.loading import Bounds, Entry, Evaluation, Record
from dsm.evaluation.metrics import natural_key
from dsm.report.seeds import tints
from dsm.report.text import visible

PERSONAL = {"model", "weights", "seed"}
"""Words of a protocol's keys that belong to one evaluation: two of them may differ there and still compare."""

CURVES = {"pass": "pass_at", "maj": "maj_at", "weighted": "weighted_at", "best": "best_of"}
"""Votes by name, and where `Metrics` has their curves over k."""


@dataclass(frozen=True)
class Setting:
    """One setting of the protocol: its value in each evaluation, None where the benchmark was not run."""

    key: str
    values: tuple[str | None, ...]

    @property
    def differs(self) -> bool:
        """Do the evaluations that ran the benchmark disagree?"""
        return len({value for value in self.values if value is not None}) > 1


@dataclass(frozen=True)
class Row:
    """A line of the results: one metric of one benchmark, a cell for each evaluation (None where it has no number)."""

    metric: str
    cells: tuple[Bounds | None, ...]
    best: frozenset[int]
    relative: tuple[float | None, ...]


@dataclass(frozen=True)
class Benchmark:
    """One benchmark across all evaluations; sequences are in their order.

    Attributes:
        base: the evaluation whose items and protocol the others are held against: the baseline, or where that did not
            run this benchmark the first that did.
        entries: what each evaluation found; None where it did not run this benchmark.
        foreign: evaluations whose items are not those of `base`; their numbers are compared with nothing.
        unlike: evaluations with the items of `base` under another protocol.
        pairs: each evaluation against the baseline on the same items; None for the baseline itself, for foreign ones
            and where items are missing.
    """

    name: str
    title: str
    base: int
    entries: tuple[Entry | None, ...]
    items: tuple[dict[str, Record] | None, ...]
    protocol: tuple[Setting, ...]
    foreign: frozenset[int]
    unlike: frozenset[int]
    rows: tuple[Row, ...]
    pairs: tuple[Paired | None, ...]
    reference: dict[str, float]

    def shared_ids(self) -> list[str]:
        """Ids of the items that every evaluation of this benchmark has, in the first one's order."""
        have = [records for index, records in enumerate(self.items) if records and index not in self.foreign]
        return [key for key in have[0] if all(key in records for records in have)] if have else []


@dataclass(frozen=True)
class Comparison:
    """All that a report shows; `baseline` is an index into `labels`."""

    labels: tuple[str, ...]
    models: tuple[str, ...]
    baseline: int
    benchmarks: tuple[Benchmark, ...]

    @property
    def tints(self) -> list[int]:
        """The colour of each evaluation by number; the seeds of one method share one."""
        return tints(self.labels)

    def references(self) -> list[str]:
        """Names of all reference numbers, those that most benchmarks have first."""
        counts = Counter(name for benchmark in self.benchmarks for name in benchmark.reference)
        return [name for name, _ in counts.most_common()]

    def warnings(self) -> list[tuple[str, str]]:
        """(benchmarks' titles, what is wrong) for everything that makes numbers incomparable, the worst first."""
        first, second = defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
        for benchmark in self.benchmarks:
            base = self.labels[benchmark.base]
            foreign = ", ".join(self.labels[index] for index in sorted(benchmark.foreign))
            if foreign:
                text = f"{foreign}: not the items of {base}. The numbers are not comparable and are not compared."
                first[text].append(benchmark.title)
            unlike = ", ".join(self.labels[index] for index in sorted(benchmark.unlike))
            if unlike:
                keys = ", ".join(setting.key for setting in benchmark.protocol if setting.differs)
                text = f"{unlike}: not the protocol of {base} ({keys}). A gap may be the protocol's, not the model's."
                second[text].append(benchmark.title)
        return [("; ".join(titles), text) for found in (first, second) for text, titles in found.items()]


def compare(evaluations: Sequence[Evaluation], baseline: int, *, seed: int = 0) -> Comparison:
    """Put evaluations side by side; benchmarks come in the order in which they are first met."""
    names = dict.fromkeys(name for evaluation in evaluations for name in evaluation.results.benchmarks)
    return Comparison(
        labels=tuple(visible(evaluation.label) for evaluation in evaluations),
        models=tuple(visible(evaluation.results.model) for evaluation in evaluations),
        baseline=baseline,
        benchmarks=tuple(_benchmark(name, evaluations, baseline, seed) for name in names),
    )


def _benchmark(name: str, evaluations: Sequence[Evaluation], baseline: int, seed: int) -> Benchmark:
    entries = tuple(evaluation.results.benchmarks.get(name) for evaluation in evaluations)
    items = tuple(evaluation.items.get(name) for evaluation in evaluations)
    present = [index for index, entry in enumerate(entries) if entry is not None]
    base = baseline if baseline in present else present[0]
    protocols = [None if entry is None else flat_protocol(entry.protocol) for entry in entries]
    foreign = frozenset(i for i in present if _other_items(entries, items, protocols, base, i))
    unlike = frozenset(i for i in present if protocols[i] != protocols[base]) - foreign
    keys = dict.fromkeys(key for protocol in protocols if protocol is not None for key in protocol)
    return Benchmark(
        name=name,
        base=base,
        title=visible(next((entry.title for entry in entries if entry is not None and entry.title), name)),
        entries=entries,
        items=items,
        protocol=tuple(
            Setting(key, tuple(None if protocol is None else protocol.get(key, "–") for protocol in protocols))
            for key in keys
        ),
        foreign=foreign,
        unlike=unlike,
        rows=tuple(_rows(entries, foreign, baseline)),
        pairs=tuple(None if i in foreign else _pair(items, baseline, i, seed) for i in range(len(entries))),
        reference={visible(key): value for entry in entries if entry for key, value in entry.reference.items()},
    )


def flat_protocol(protocol: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as {"sampling.temperature": "0.7"}, values as JSON, without what is `PERSONAL`."""
    flat: dict[str, str] = {}
    for key, value in protocol.items():
        if PERSONAL & set(re.split(r"[._]", key)):
            continue
        if isinstance(value, Mapping):
            flat |= flat_protocol(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return flat


def _other_items(
    entries: Sequence[Entry | None],
    items: Sequence[dict[str, Record] | None],
    protocols: Sequence[dict[str, str] | None],
    base: int,
    other: int,
) -> bool:
    """Did `other` answer other items than `base`: by its data hash, their number, or the items themselves?"""
    left, right = entries[base], entries[other]
    assert left is not None
    assert right is not None
    if left.n != right.n or _data(protocols[base]) != _data(protocols[other]):
        return True
    mine, theirs = items[base], items[other]
    if mine is None or theirs is None or mine is theirs:
        return False
    return {key: (r.question, r.gold) for key, r in mine.items()} != {
        key: (r.question, r.gold) for key, r in theirs.items()
    }


def _data(protocol: Mapping[str, str] | None) -> dict[str, str]:
    return {key: value for key, value in (protocol or {}).items() if "data" in key.split(".")[-1]}


def _rows(entries: Sequence[Entry | None], foreign: frozenset[int], baseline: int) -> Iterator[Row]:
    """Accuracy, then each vote at the largest k that all evaluations which have it share."""
    yield _row("accuracy", [None if entry is None else entry.metrics.accuracy for entry in entries], foreign, baseline)
    for name, attribute in CURVES.items():
        curves = [{} if entry is None else getattr(entry.metrics, attribute) for entry in entries]
        shared = set.intersection(*(set(curve) for curve in curves if curve)) if any(curves) else set()
        if shared:
            k = max(shared, key=int)
            yield _row(f"{name}@{k}", [curve.get(k) for curve in curves], foreign, baseline)


def _row(metric: str, cells: Sequence[Bounds | None], foreign: frozenset[int], baseline: int) -> Row:
    values = [None if cell is None or i in foreign else cell.value for i, cell in enumerate(cells)]
    known = [value for value in values if value is not None]
    best = frozenset(i for i, value in enumerate(values) if value is not None and value == max(known))
    relative = [None if i == baseline else relative_improvement(values[baseline], v) for i, v in enumerate(values)]
    return Row(metric, tuple(cells), best if len(known) > 1 else frozenset(), tuple(relative))


def _pair(items: Sequence[dict[str, Record] | None], baseline: int, other: int, seed: int) -> Paired | None:
    mine, theirs = items[baseline], items[other]
    if other == baseline or mine is None or theirs is None or not mine or mine.keys() != theirs.keys():
        return None
    return paired([r.accuracy for r in mine.values()], [theirs[key].accuracy for key in mine], seed=seed)


def cross_table(records: Mapping[str, Record]) -> tuple[str, str, dict[str, dict[str, tuple[int, float]]]] | None:
    """(kind of the rows, kind of the columns, {row: {column: (items, accuracy)}}) of the first two kinds of groups.

    The kind with more names makes the rows. None where there are not two kinds with at least two names each.
    """
    names: defaultdict[str, set[str]] = defaultdict(set)
    for record in records.values():
        for kind, name in record.groups.items():
            names[kind].add(name)
    kinds = sorted((kind for kind in names if len(names[kind]) > 1), key=lambda kind: (-len(names[kind]), kind))[:2]
    if len(kinds) < 2:
        return None
    cells: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for record in records.values():
        if kinds[0] in record.groups and kinds[1] in record.groups:
            cells[record.groups[kinds[0]], record.groups[kinds[1]]].append(record.accuracy)
    rows, columns = (sorted(names[kind], key=natural_key) for kind in kinds)
    table = {
        row: {name: (len(found), sum(found) / len(found)) for name in columns if (found := cells.get((row, name)))}
        for row in rows
    }
    return kinds[0], kinds[1], table


@dataclass(frozen=True)
class Shown:
    """An item for the browser: its record in each evaluation (None where absent), and whether models clearly differ."""

    key: str
    records: tuple[Record | None, ...]
    differs: bool

    @property
    def first(self) -> Record:
        """One of the records, for what they share: question, gold, groups."""
        return next(record for record in self.records if record is not None)


def choose_items(benchmark: Benchmark, limit: int) -> list[Shown]:
    """Up to `limit` items to look at: in turns one where models clearly differ and one of each other kind.

    Within a kind, items are taken in the order of a hash of their id: a sample of the whole benchmark, always the same.
    """
    kinds: defaultdict[str, list[Shown]] = defaultdict(list)
    for key in benchmark.shared_ids():
        records = tuple(
            records.get(key) if records and index not in benchmark.foreign else None
            for index, records in enumerate(benchmark.items)
        )
        statuses = {record.status for record in records if record is not None}
        differs = _differs(records)
        kind = "differs" if differs else "mixed" if len(statuses) > 1 else statuses.pop()
        kinds[kind].append(Shown(key, records, differs))
    for shown in kinds.values():
        shown.sort(key=lambda item: hashlib.sha256(item.key.encode(errors="replace")).digest())
    chosen: list[Shown] = []
    turns = ("differs", "wrong", "differs", "mixed", "differs", "ungradable", "correct")
    for kind in cycle(turns):
        if len(chosen) >= limit or not any(kinds.values()):
            break
        if kinds[kind]:
            chosen.append(kinds[kind].pop(0))
    return sorted(chosen, key=lambda item: (not item.differs, natural_key(item.key)))


def _differs(records: Sequence[Record | None]) -> bool:
    """Do models differ by at least half of their samples, or in what kind of failure it is? Less may be chance."""
    shares = [record.accuracy for record in records if record is not None]
    gap = max(shares) - min(shares)
    return gap >= 0.5 or (gap == 0 and len({record.status for record in records if record is not None}) > 1)
