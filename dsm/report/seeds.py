"""Several trainings of one method: labels that differ by a number alone ("GRPO, seed 0", "grpo-1") are its seeds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from dsm.report.charts import Line

_SEED = re.compile(r"(.+?)(?:, seed |-)\d+")


def methods(labels: Sequence[str]) -> list[str]:
    """The method of each label: what it has in common with its other seeds, or the label itself where it is alone."""
    stems = [found[1] if (found := _SEED.fullmatch(label)) else label for label in labels]
    return [stem if stems.count(stem) > 1 else label for stem, label in zip(stems, labels, strict=True)]


def tints(labels: Sequence[str]) -> list[int]:
    """A number of a colour for each label, the same for the seeds of one method."""
    found = methods(labels)
    order = list(dict.fromkeys(found))
    return [order.index(method) for method in found]


def averaged(lines: Sequence[Line]) -> list[Line]:
    """One line a method: the mean over its seeds as far as all of them go, in a band from the least to the most."""
    found = methods([line.label for line in lines])
    merged = []
    for method in dict.fromkeys(found):
        members = [line for line, name in zip(lines, found, strict=True) if name == method and line.x]
        if len(members) < 2:
            merged += members
            continue
        shared = set.intersection(*(set(line.x) for line in members))
        tables = [dict(zip(line.x, line.y, strict=True)) for line in members]
        x = sorted(shared)
        rows = [[table[place] for table in tables] for place in x]
        merged.append(
            replace(
                members[0],
                label=method,
                x=x,
                y=[fmean(row) for row in rows],
                low=[min(row) for row in rows],
                high=[max(row) for row in rows],
            )
        )
    return [line for line in merged if line.x]
