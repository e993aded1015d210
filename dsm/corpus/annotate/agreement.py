"""Do two annotators agree? Cohen's kappa over the prefixes that both have a say on, and where they differ.

A prefix counts where one of them gave a final verdict (accept, reject or unsure) and the other's, given there or
inherited from a shorter prefix, is final too. So who accepts a whole domain and who splits it are compared where the
second one has decided.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from dsm.corpus.annotations import Decisions


@dataclass(frozen=True)
class Conflict:
    """A prefix on which annotators differ: who said what."""

    domain: str
    prefix: str
    verdicts: dict[str, str]


@dataclass(frozen=True)
class Agreement:
    """How two annotators compare.

    Attributes:
        items: prefixes on which both have a say.
        agreed: those on which they say the same.
        kappa: Cohen's; None where chance alone explains everything (no items, or one verdict for all by both).
        conflicts: where they differ.
    """

    first: str
    second: str
    items: int
    agreed: int
    kappa: float | None
    conflicts: tuple[Conflict, ...]


def agreements(decisions: Decisions) -> list[Agreement]:
    """Of every two annotators."""
    return [agreement(decisions, first, second) for first, second in combinations(decisions.annotators, 2)]


def agreement(decisions: Decisions, first: str, second: str) -> Agreement:
    """Of two annotators."""
    pairs, conflicts = list[tuple[str, str]](), list[Conflict]()
    for domain, prefix in sorted(decisions.of(first).keys() | decisions.of(second).keys()):
        one, other = decisions.verdict(domain, prefix, first), decisions.verdict(domain, prefix, second)
        if one is None or other is None or "split" in (one.verdict, other.verdict):
            continue
        pairs.append((one.verdict, other.verdict))
        if one.verdict != other.verdict:
            conflicts.append(Conflict(domain, prefix, {first: one.verdict, second: other.verdict}))
    return Agreement(first, second, len(pairs), len(pairs) - len(conflicts), kappa(pairs), tuple(conflicts))


def kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Cohen's kappa: (observed - expected) / (1 - expected) agreement, expected from each one's own frequencies."""
    if not pairs:
        return None
    total = len(pairs)
    observed = sum(one == other for one, other in pairs) / total
    ones, others = (Counter(side) for side in zip(*pairs, strict=True))
    expected = sum(ones[verdict] * others[verdict] for verdict in ones) / total**2
    return None if expected == 1 else (observed - expected) / (1 - expected)


def all_conflicts(found: Iterable[Agreement]) -> dict[tuple[str, str], dict[str, str]]:
    """(domain, prefix) -> who said what, over all pairs of annotators."""
    merged: dict[tuple[str, str], dict[str, str]] = {}
    for one in found:
        for conflict in one.conflicts:
            merged.setdefault((conflict.domain, conflict.prefix), {}).update(conflict.verdicts)
    return merged
