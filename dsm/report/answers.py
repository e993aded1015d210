"""Chapter: the same problems answered by every phase, side by side."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from itertools import cycle, zip_longest

from dsm.evaluation.loading import Record
from dsm.report.compare import Comparison
from dsm.report.phases import Phases
from dsm.report.sections import Answer, Sample, Samples, Section
from dsm.report.text import clip

_TURNS = ("learnt last", "learnt", "learnt last", "never", "learnt", "always", "lost")
"""The order in which kinds of problems take their turn: what was learnt first, what was lost not left out."""


def section(comparison: Comparison, phases: Phases, count: int, output_chars: int) -> Section | None:
    """`count` problems, with the first answer that each phase gave; None where none is asked for."""
    chosen = _choose(comparison, phases, count)
    if not chosen:
        return None
    samples = []
    for title, records in chosen:
        answers = []
        for label, side, record in zip(phases.labels, phases.sides, records, strict=True):
            first = record.samples[0]
            text = clip(first.output.strip(), output_chars)
            answers.append(Answer(label, side[0], first.verdict, text, first.answer, record.right, len(record.samples)))
        samples.append(Sample(title, records[0].question, records[0].gold, answers))
    lead = (
        "The first answer of each model, not the best. Problems are drawn by a hash of their names, in turns of those "
        "that only the last phase solves, that an earlier phase learnt, that none solves, and that training broke."
    )
    return Section("answers", "The same problems, phase by phase", lead, [Samples(samples)])


def _choose(comparison: Comparison, phases: Phases, count: int) -> list[tuple[str, list[Record]]]:
    """(benchmark's title, the record of each phase's first evaluation), benchmarks in turn."""
    queues = []
    for benchmark in comparison.benchmarks:
        if benchmark.name not in phases.benchmarks:
            continue
        found: list[dict[str, Record]] = [benchmark.items[side[0]] or {} for side in phases.sides]
        kinds: defaultdict[str, list[str]] = defaultdict(list)
        for key in sorted(found[0], key=lambda key: hashlib.sha256(key.encode(errors="replace")).digest()):
            kinds[_kind([records[key].samples[0].verdict == "correct" for records in found])].append(key)
        order: list[str] = []
        for turn in cycle(_TURNS):
            if len(order) >= count or not any(kinds.values()):
                break
            if kinds[turn]:
                order.append(kinds[turn].pop(0))
        queues.append([(benchmark.title, [records[key] for records in found]) for key in order])
    mixed = [one for turn in zip_longest(*queues) for one in turn if one is not None]
    return mixed[:count]


def _kind(right: Sequence[bool]) -> str:
    """What became of a problem over the phases."""
    if all(right):
        return "always"
    if not any(right):
        return "never"
    if not right[-1]:
        return "lost"
    return "learnt last" if not right[-2] else "learnt"
