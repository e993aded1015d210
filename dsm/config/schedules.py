"""Learning rates as pure functions of the step: nothing to save, nothing to restore, the same after a resume."""

from __future__ import annotations

import math

from dsm.config.training import CosineConfig, MultiStepConfig, SchedulerConfig, WSDConfig


def learning_rate(schedule: SchedulerConfig, peak: float, step: int, total_steps: int) -> float:
    """The rate of one step.

    Args:
        schedule: its shape.
        peak: the rate that the shape is relative to.
        step: 0-based; the first of `warmup_steps` steps gets peak / warmup_steps, the last of them the peak.
        total_steps: the budget in steps.
    """
    if step < schedule.warmup_steps:
        return peak * (step + 1) / schedule.warmup_steps
    return peak * _ratio(schedule, step, total_steps)


def _ratio(schedule: SchedulerConfig, step: int, total_steps: int) -> float:
    if isinstance(schedule, MultiStepConfig):
        passed = [factor for at, factor in _drops(schedule, total_steps) if step >= at]
        return passed[-1] if passed else 1.0
    if isinstance(schedule, CosineConfig):
        span = max(1, total_steps - schedule.warmup_steps)
        progress = min(1.0, (step - schedule.warmup_steps) / span)
        return schedule.final_ratio + (1 - schedule.final_ratio) * 0.5 * (1 + math.cos(math.pi * progress))
    if isinstance(schedule, WSDConfig):
        decay = round(total_steps * schedule.decay_fraction)
        start = total_steps - decay
        if step < start or not decay:
            return 1.0
        return schedule.final_ratio + (1 - schedule.final_ratio) * (total_steps - step) / (decay + 1)
    return 1.0


def _drops(schedule: MultiStepConfig, total_steps: int) -> list[tuple[int, float]]:
    # Rounded up: a drop "after 80 %" comes once 80 % have been made. The tiny term undoes 0.07 * 100 = 7.000...1.
    steps = [math.ceil(milestone * total_steps - 1e-9) for milestone in schedule.milestones]
    return list(zip(steps, schedule.factors, strict=True))


def milestones(schedule: SchedulerConfig, peak: float, total_steps: int) -> list[tuple[int, float]]:
    """(step, rate) at the points worth telling a person: start, end of warm-up, every drop or start of decay, end."""
    points = {0, total_steps - 1, max(0, min(schedule.warmup_steps, total_steps) - 1)}
    if isinstance(schedule, MultiStepConfig):
        points |= {step for step, _ in _drops(schedule, total_steps) if step < total_steps}
    if isinstance(schedule, WSDConfig):
        points.add(total_steps - round(total_steps * schedule.decay_fraction))
    return [(step, learning_rate(schedule, peak, step, total_steps)) for step in sorted(points) if step < total_steps]
