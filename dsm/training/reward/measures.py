"""How good a reward model is: does it put right before wrong, and does it mean the probabilities it says?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
BINS = 10


def auc(scores: Floats, good: NDArray[np.bool_]) -> float | None:
    """The chance that a good one has the higher score of a good and a bad one, a tie counting half.

    It is the area under the ROC curve (Mann-Whitney's U over the number of such pairs); None where all are of one kind.
    """
    positives = int(np.count_nonzero(good))
    negatives = len(good) - positives
    if not positives or not negatives:
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # from 1, equal scores sharing their mean
    return float((ranks[good].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def pair_accuracy(scores: Floats, good: NDArray[np.bool_], groups: NDArray[np.integer]) -> float | None:
    """`auc` among the solutions of each question, over all its pairs of a right and a wrong one together."""
    won, pairs = 0.0, 0
    for members in _members(groups):
        right, wrong = scores[members[good[members]]], scores[members[~good[members]]]
        pairs += len(right) * len(wrong)
        won += float(((right[:, None] > wrong) + 0.5 * (right[:, None] == wrong)).sum())
    return won / pairs if pairs else None


def best_of_n(scores: Floats, good: NDArray[np.bool_], groups: NDArray[np.integer]) -> tuple[float, float] | None:
    """(accuracy of the solution with the highest score, of one at random), over the questions with several solutions.

    Equally high ones share the choice.
    """
    best, mean = [], []
    for members in _members(groups):
        if len(members) > 1:
            top = members[scores[members] == scores[members].max()]
            best.append(float(good[top].mean()))
            mean.append(float(good[members].mean()))
    return (float(np.mean(best)), float(np.mean(mean))) if best else None


def _members(groups: NDArray[np.integer]) -> list[NDArray[np.int64]]:
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)


def calibration_error(probabilities: Floats, labels: Floats) -> float:
    """Expected calibration error: |mean probability - mean label| in ten equal bins, weighted by their sizes."""
    bins = np.minimum((probabilities * BINS).astype(np.int64), BINS - 1)
    gaps = np.bincount(bins, probabilities - labels, minlength=BINS)
    return float(np.abs(gaps).sum() / len(labels))


def brier(probabilities: Floats, labels: Floats) -> float:
    """Mean squared distance of probability and label."""
    return float(np.mean((probabilities - labels) ** 2))
