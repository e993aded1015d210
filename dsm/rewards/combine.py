"""From what each part says to one reward: shaping, gates, weights. Pure functions of arrays.

    reward = sum over parts of  weight * clip(scale * value + bias)   where the part's gate is open

None and NaN are not the same here. A part that does not apply to a sample (None) adds nothing; a part that failed
leaves the sample without a reward, if what it failed to say would have counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsm.config.reward import PartConfig, rewards_steps
from dsm.rewards.parts import Marks

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Combined:
    """`reward` (n,) NaN where there is none; `steps` as in `Scored`; `reasons` why not, where no part is to blame."""

    reward: Floats
    steps: list[Floats] | None
    reasons: dict[int, str]


@dataclass(frozen=True)
class _State:
    """A part over n samples: its shaped value (0 where it has none), has it one, has it failed, its gate."""

    shaped: Floats
    there: Mask
    failed: Mask
    open: Mask
    unknown: Mask  # the gate's part has failed


def raw(marks: Marks) -> Floats:
    """(n,) what a part says, NaN where it says nothing."""
    return np.array([np.nan if value is None else value for value in marks.values], dtype=np.float64)


@np.errstate(over="ignore", invalid="ignore")
def combine(configs: Mapping[str, PartConfig], marks: Mapping[str, Marks], steps_of: Sequence[int]) -> Combined:
    """All parts together.

    Args:
        marks: of each part, for the same n samples.
        steps_of: number of steps of each sample.
    """
    n = len(steps_of)
    states: dict[str, _State] = {}
    for name in configs:
        _state(name, configs, marks, states)
    reward, bad, applies = np.zeros(n), np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    for name, config in configs.items():
        if config.weight:
            state = states[name]
            reward += config.weight * np.where(state.open & state.there, state.shaped, 0.0)
            bad |= state.unknown | (state.open & state.failed)
            applies |= ~state.open | state.there
    reasons = dict.fromkeys(np.flatnonzero(~bad & ~applies).tolist(), "no part applies")
    reasons |= dict.fromkeys(np.flatnonzero(~bad & ~np.isfinite(reward)).tolist(), "the sum is not finite")
    reward[bad | ~applies | ~np.isfinite(reward)] = np.nan
    stepwise = any(rewards_steps(config) and config.weight for config in configs.values())
    steps = _steps(configs, marks, states, steps_of, reward) if stepwise else None
    return Combined(reward, steps, reasons)


def shape(config: PartConfig, values: Floats) -> Floats:
    """clip(scale * value + bias)."""
    shaped = config.scale * values + config.bias
    if config.low is None and config.high is None:
        return shaped
    return np.clip(shaped, config.low, config.high)


def _state(
    name: str, configs: Mapping[str, PartConfig], marks: Mapping[str, Marks], states: dict[str, _State]
) -> _State:
    if name in states:
        return states[name]
    config, values = configs[name], raw(marks[name])
    n = len(values)
    there = np.isfinite(values)
    failed = np.zeros(n, dtype=bool)
    failed[list(marks[name].faults)] = True
    is_open, unknown = np.ones(n, dtype=bool), np.zeros(n, dtype=bool)
    if config.gate is not None:
        gate = _state(config.gate, configs, marks, states)
        is_open = gate.open & gate.there & (gate.shaped > 0)
        unknown = gate.unknown | (gate.open & gate.failed)
    shaped = np.where(there, shape(config, np.where(there, values, 0.0)), 0.0)
    states[name] = _State(shaped, there & ~failed, failed, is_open, unknown)
    return states[name]


def _steps(
    configs: Mapping[str, PartConfig],
    marks: Mapping[str, Marks],
    states: Mapping[str, _State],
    steps_of: Sequence[int],
    reward: Floats,
) -> list[Floats]:
    """The rewards of each sample's steps; NaN where the sample has no reward."""
    found = []
    for i, count in enumerate(steps_of):
        total = np.zeros(count)
        for name, config in configs.items():
            state, by_step = states[name], marks[name].steps
            if not (config.weight and state.open[i] and state.there[i]):
                continue
            if not rewards_steps(config):
                total[-1:] += config.weight * state.shaped[i]
            elif by_step is not None and (row := by_step[i]) is not None:
                total += config.weight * shape(config, row)
        found.append(np.full(count, np.nan) if np.isnan(reward[i]) else total)
    return found
