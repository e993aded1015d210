"""From rewards to advantages, in numpy: once an exploration, on the host, before any gradient.

A group is all samples of one prompt. Groups may have unequal sizes and lie in any order: nothing is reshaped. Equal
rewards are found by comparing them, never by a small standard deviation: the mean of seven times 0.1 is not 0.1, and
(r - mean) / (std + 1e-9) of them is of the order of 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def normalised(values: Floats, ddof: int, eps: float) -> Floats:
    """(v - mean) / (std + eps); all 0 where the values are equal, or a single one.

    Args:
        values: (n,).
        ddof: std divides by n - ddof.
    """
    if len(values) < 2 or (values == values[0]).all():
        return np.zeros(len(values))
    return (values - values.mean()) / (values.std(ddof=ddof) + eps)


def members(group: Ints) -> list[Ints]:
    """The samples of each group, in the order of their numbers."""
    order = np.argsort(group, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(group[order])) + 1) if len(group) else []


def equal_groups(values: NDArray, group: Ints) -> list[int]:
    """Numbers of the groups whose values are all the same, a group of one among them; in order of first appearance."""
    same = [samples for samples in members(group) if (values[samples] == values[samples[0]]).all()]
    return [int(group[samples[0]]) for samples in sorted(same, key=lambda samples: int(samples[0]))]


def group_outcome(reward: Floats, group: Ints, ddof: int, eps: float) -> Floats:
    """Outcome supervision (4.1.2): the reward normalised among the samples of its prompt.

    Args:
        reward: (n,).
        group: (n,) group numbers.

    Returns:
        (n,); every token of a sample has its sample's advantage.
    """
    advantages = np.zeros(len(reward))
    for samples in members(group):
        advantages[samples] = normalised(reward[samples], ddof, eps)
    return advantages


def mean_only(reward: Floats, group: Ints) -> Floats:
    """r - mean r (Dr. GRPO): a prompt that is nearly always or nearly never solved gets no larger weight. (n,)."""
    advantages = np.zeros(len(reward))
    for samples in members(group):
        values = reward[samples]
        if not (values == values[0]).all():
            advantages[samples] = values - values.mean()
    return advantages


def leave_one_out(reward: Floats, group: Ints) -> Floats:
    """r - mean of the others (RLOO), which is mean-only times n / (n - 1); 0 for a group of one. (n,)."""
    advantages = mean_only(reward, group)
    for samples in members(group):
        if len(samples) > 1:
            advantages[samples] *= len(samples) / (len(samples) - 1)
    return advantages


def process(
    step_rewards: Sequence[ArrayLike],
    step_ends: Sequence[ArrayLike],
    lengths: Ints,
    group: Ints,
    ddof: int,
    eps: float,
) -> list[Floats]:
    """Process supervision (4.1.3): A_t = sum of the normalised rewards of the steps with index(j) >= t.

    The rewards of all steps of all samples of a prompt are normalised together. A token inside a step has that step's
    own reward too; what comes after the last step has 0.

    Args:
        step_rewards: (K_i,) for each of n samples.
        step_ends: (K_i,) for each, never falling: the step's last token among the sample's lengths[i] tokens.

    Returns:
        (lengths[i],) for each sample.
    """
    rewards = [np.asarray(values, dtype=np.float64) for values in step_rewards]
    ends = [np.asarray(values, dtype=np.int64) for values in step_ends]
    advantages = [np.zeros(length) for length in lengths]
    for samples in members(group):
        counts = [len(rewards[i]) for i in samples]
        pooled = normalised(np.concatenate([rewards[i] for i in samples]), ddof, eps)
        for i, own in zip(samples, np.split(pooled, np.cumsum(counts)[:-1]), strict=True):
            if len(own) != len(ends[i]):
                raise ValueError(f"sample {i} has {len(own)} step rewards and {len(ends[i])} step ends")
            if len(own) and not (ends[i][0] >= 0 and (np.diff(ends[i]) >= 0).all() and ends[i][-1] < lengths[i]):
                raise ValueError(f"sample {i}: step ends {ends[i].tolist()} must not fall inside {lengths[i]} tokens")
            to_come = own[::-1].cumsum()[::-1]
            covered = np.diff(ends[i], prepend=-1)
            advantages[i][: covered.sum()] = np.repeat(to_come, covered)
    return advantages


def gae(
    rewards: Sequence[Floats], values: Sequence[ArrayLike], gamma: float, lam: float
) -> tuple[list[Floats], list[Floats]]:
    """Generalised advantage estimation (Schulman et al. 2016) over the tokens of each sample.

        A_t = sum over l >= 0 of (gamma lam)^l delta_(t+l),   delta_t = r_t + gamma V_(t+1) - V_t,   V after the end = 0

    Args:
        rewards: (|o_i|,) for each sample; the reward that follows each token.
        values: (|o_i|,) for each; the critic's V before each token.

    Returns:
        advantages and returns (advantage + value), (|o_i|,) for each sample.
    """
    lengths = [len(own) for own in rewards]
    reward, value = np.zeros((2, len(lengths), max(lengths, default=0) + 1))
    for i, length in enumerate(lengths):
        reward[i, :length], value[i, :length] = rewards[i], values[i]
    advantage = np.zeros_like(value)
    # Behind its end a sample is all zero, so one backward sweep serves all lengths.
    for t in range(advantage.shape[1] - 2, -1, -1):
        delta = reward[:, t] + gamma * value[:, t + 1] - value[:, t]
        advantage[:, t] = delta + gamma * lam * advantage[:, t + 1]
    advantages = [advantage[i, :length] for i, length in enumerate(lengths)]
    return advantages, [own + value[i, : len(own)] for i, own in enumerate(advantages)]


def preference_pairs(score: NDArray, group: Ints, per_group: int | None) -> list[tuple[int, int]]:
    """(better, worse) samples of one prompt: the best with the worst, the second best with the second worst, ...

    Args:
        score: (n,) what makes a sample better; equal ones make no pair.
        per_group: pairs of one prompt at most.
    """
    pairs = []
    for samples in members(group):
        ranked = samples[np.argsort(-score[samples].astype(np.float64), kind="stable")]
        found = [
            (int(better), int(worse))
            for better, worse in zip(ranked[: len(ranked) // 2], ranked[::-1], strict=False)
            if score[better] > score[worse]
        ]
        pairs += found[:per_group]
    return pairs
