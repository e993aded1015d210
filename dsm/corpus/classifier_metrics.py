"""How good a classifier is on examples that it has not seen: precision, recall, AUC; overall, and domain by domain.

Positives of one site look alike, so examples held out at random flatter the classifier: their neighbours were learnt.
Whole domains held out tell how it does on sites that it does not know, which is what the crawl is made of. Negatives
are random pages and may hold mathematics, so the true figures are a little better.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_DOMAINS = 100


def measure(
    scores: np.ndarray, labels: np.ndarray, splits: Sequence[str], domains: Sequence[str], threshold: float = 0.5
) -> dict[str, Any]:
    """Figures by split ('random', 'domains') and of the domains with the most held-out examples.

    Args:
        scores: (n,) P(positive).
        labels: (n,) bool.
        splits: (n,) how each was held out.
        domains: (n,) '' where unknown.
    """
    kinds = np.array(splits, str)
    found: dict[str, Any] = {
        kind: _figures(scores[kinds == kind], labels[kinds == kind], threshold) for kind in ("random", "domains")
    }
    names, places, sizes = np.unique(np.array(domains, str), return_inverse=True, return_counts=True)
    rows: list[dict[str, Any]] = []
    for index in sorted(range(len(names)), key=lambda index: (-sizes[index], names[index])):
        if names[index] and len(rows) < _DOMAINS:
            mine = places == index
            rows.append({"domain": str(names[index])} | _figures(scores[mine], labels[mine], threshold))
    return found | {"by_domain": rows}


def _figures(scores: np.ndarray, labels: np.ndarray, threshold: float) -> dict[str, float | int | None]:
    called = scores >= threshold
    right = int((called & labels).sum())
    positives, negatives = int(labels.sum()), int((~labels).sum())
    return {
        "positives": positives,
        "negatives": negatives,
        "precision": right / int(called.sum()) if called.any() else None,
        "recall": right / positives if positives else None,
        "auc": auc(scores, labels),
    }


def auc(scores: np.ndarray, labels: np.ndarray) -> float | None:
    """The chance that a positive scores higher than a negative, ties half; None where one kind is missing."""
    positives, negatives = int(labels.sum()), int((~labels).sum())
    if not positives or not negatives:
        return None
    _, places, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(sizes) - (sizes - 1) / 2)[places]
    return float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives))
