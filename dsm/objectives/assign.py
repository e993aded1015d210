"""Which samples are trained on, and with which numbers at their tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dsm.config.algorithm import AlgorithmConfig, KLConfig, PairsConfig
from dsm.errors import UserError
from dsm.objectives import advantages
from dsm.objectives.custom import load_function
from dsm.objectives.kl import ESTIMATORS
from dsm.objectives.samples import Assigned, PerToken, Samples

Tokens = list[NDArray[np.float64]]
Streams = dict[str, PerToken]

STREAMS = ("old", "reference", "engine")


def assign(config: AlgorithmConfig, samples: Samples) -> Assigned:
    """The samples to train on and their streams.

    Raises:
        ValueError: the samples lack what the algorithm needs.
    """
    for need in config.needs:
        if getattr(samples, "step_rewards" if need == "steps" else need) is None:
            raise ValueError(f"algorithm={config.name}: the samples bring no {need}")
    equal = advantages.equal_groups(samples.reward, samples.group)
    judged = samples.reward if config.saturated_by == "reward" else samples.correct
    saturated = equal if config.saturated_by == "reward" else advantages.equal_groups(judged, samples.group)
    out = np.zeros(len(samples), dtype=bool)
    if config.truncated == "drop":
        out |= samples.truncated
    dropped_truncated = int(out.sum())
    if config.saturated != "keep":
        out |= np.isin(samples.group, saturated)
    groups = len(np.unique(samples.group))
    facts: dict[str, float] = {
        "groups": groups,
        "groups/zero_variance": len(equal),
        "groups/saturated": len(saturated),
        "samples": len(samples),
        "samples/truncated": int(samples.truncated.sum()),
        "samples/dropped_truncated": dropped_truncated,
        "samples/dropped_saturated": int(out.sum()) - dropped_truncated,
    }
    if isinstance(config.advantage, PairsConfig):
        kept, streams = _pairs(config.advantage, samples, ~out)
        paired = {samples.group[better] for better, _ in kept}
        facts |= {"pairs": len(kept), "groups/without_pair": groups - len(paired)}
    else:
        kept = [[i] for i in np.flatnonzero(~out).tolist()]
        streams = _advantages(config, samples)
    facts["samples/trained"] = sum(map(len, kept))
    streams |= {name: given for name in STREAMS if (given := getattr(samples, name)) is not None}
    per_sample = [
        {name: _whole(name, given[i], samples, i) for name, given in streams.items()} for i in range(len(samples))
    ]
    return Assigned(kept, per_sample, facts, saturated)


def _whole(name: str, values: NDArray[Any], samples: Samples, i: int) -> NDArray[np.float32]:
    if values.shape != (samples.lengths[i],):
        raise ValueError(f"sample {i}: {name} of shape {values.shape} for {samples.lengths[i]} tokens")
    return values.astype(np.float32)


def _pairs(config: PairsConfig, samples: Samples, allowed: NDArray[np.bool_]) -> tuple[list[list[int]], Streams]:
    numbers = np.flatnonzero(allowed)
    score = (samples.reward if config.by == "reward" else samples.correct)[numbers]
    found = advantages.preference_pairs(score, samples.group[numbers], config.per_group)
    preferred = np.zeros(len(samples))
    for better, worse in found:
        preferred[numbers[better]], preferred[numbers[worse]] = 1, -1
    return [[int(numbers[i]) for i in pair] for pair in found], {"preferred": _everywhere(preferred, samples)}


def _advantages(config: AlgorithmConfig, samples: Samples) -> Streams:
    settings = config.advantage.model_dump(exclude={"name", "value_clip"})
    penalty = _penalty(config.kl, samples)
    if penalty is not None and config.advantage.name != "gae":
        samples = replace(samples, reward=samples.reward - np.array([own.sum() for own in penalty]))
        penalty = None
    return ADVANTAGES[config.advantage.name](samples, penalty, **settings)


def _penalty(config: KLConfig, samples: Samples) -> Tokens | None:
    """beta times the KL estimate of each token, where it is part of the reward (Eq. 2)."""
    if config.place != "reward" or config.coef == 0:
        return None
    assert samples.old is not None  # `needs`
    assert samples.reference is not None
    estimate = ESTIMATORS[config.estimator]
    both = zip(samples.old, samples.reference, strict=True)
    return [config.coef * estimate(*(torch.from_numpy(own).double() for own in pair)).numpy() for pair in both]


def _everywhere(values: NDArray[Any], samples: Samples) -> Tokens:
    return [np.full(length, value, dtype=np.float64) for value, length in zip(values, samples.lengths, strict=True)]


def _one(samples: Samples, penalty: Tokens | None) -> Streams:
    return {"advantage": _everywhere(np.ones(len(samples)), samples)}


def _correct(samples: Samples, penalty: Tokens | None) -> Streams:
    return {"advantage": _everywhere(samples.correct, samples)}


def _group(samples: Samples, penalty: Tokens | None, ddof: int, eps: float) -> Streams:
    return {"advantage": _everywhere(advantages.group_outcome(samples.reward, samples.group, ddof, eps), samples)}


def _mean_only(samples: Samples, penalty: Tokens | None) -> Streams:
    return {"advantage": _everywhere(advantages.mean_only(samples.reward, samples.group), samples)}


def _leave_one_out(samples: Samples, penalty: Tokens | None) -> Streams:
    return {"advantage": _everywhere(advantages.leave_one_out(samples.reward, samples.group), samples)}


def _process(samples: Samples, penalty: Tokens | None, ddof: int, eps: float) -> Streams:
    assert samples.step_rewards is not None  # `needs`
    if samples.step_ends is None:
        raise ValueError("rewards of steps without their ends")
    steps = samples.step_rewards, samples.step_ends
    return {"advantage": advantages.process(*steps, samples.lengths, samples.group, ddof, eps)}


def _gae(samples: Samples, penalty: Tokens | None, gamma: float, lam: float) -> Streams:
    assert samples.values is not None  # `needs`
    rewards = _everywhere(np.zeros(len(samples)), samples) if penalty is None else [-own for own in penalty]
    for own, reward in zip(rewards, samples.reward, strict=True):
        own[-1:] += reward
    advantage, returns = advantages.gae(rewards, samples.values, gamma, lam)
    return {"advantage": advantage, "returns": returns, "values": samples.values}


def _custom(samples: Samples, penalty: Tokens | None, function: str, options: dict[str, Any]) -> Streams:
    key = "algorithm.advantage.function"
    returned = load_function(function, key)(samples, **options)
    try:
        what = f"{len(returned)} advantages"
        fits = len(returned) == len(samples)
    except TypeError:
        what, fits = f"a {type(returned).__name__}", False
    if not fits:
        raise UserError(f"{key}={function}: returned {what} for {len(samples)} samples; one each, or an array for each")
    advantage = [np.asarray(own, dtype=np.float64) for own in returned]
    advantage = [np.full(n, own) if own.ndim == 0 else own for own, n in zip(advantage, samples.lengths, strict=True)]
    for i, (own, length) in enumerate(zip(advantage, samples.lengths, strict=True)):
        if own.shape != (length,):
            raise UserError(f"{key}={function}: returned shape {own.shape} for sample {i}, which has {length} tokens")
        if not np.isfinite(own).all():
            raise UserError(f"{key}={function}: returned {own[~np.isfinite(own)][0]} for sample {i}; must be finite")
    return {"advantage": advantage}


ADVANTAGES: dict[str, Callable[..., Streams]] = {
    "one": _one,
    "correct": _correct,
    "group": _group,
    "mean_only": _mean_only,
    "leave_one_out": _leave_one_out,
    "process": _process,
    "gae": _gae,
    "custom": _custom,
}
