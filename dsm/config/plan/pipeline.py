"""The plan of a pipeline: its steps in their order, what feeds what, what each trains on, how long it may take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dsm.config.evaluation import EvalConfig
from dsm.config.graph import seconds_needed
from dsm.config.mine import MineConfig
from dsm.config.plan.table import Rows, columns, duration
from dsm.config.references import Step

_NAMED = 4  # benchmarks of an evaluation; of more only their number is told


def pipeline_rows(steps: Sequence[Step], plans: Sequence[Mapping[str, Rows]], at_once: int) -> Rows:
    """A line a step, then the whole.

    Args:
        steps: all of them, in their order.
        plans: the sections of each one's own plan.
        at_once: how many may run at the same time.
    """
    number = {step.name: place for place, step in enumerate(steps, start=1)}
    words = [_what(step, plan) for step, plan in zip(steps, plans, strict=True)]
    width = max(map(len, words))
    table = {
        f"{number[step.name]:>2} {step.name}": [
            step.config.stage,
            _after([number[name] for name in step.fed_by]),
            _time(step),
            what.ljust(width),
        ]
        for step, what in zip(steps, words, strict=True)
    }
    rows = columns(["stage", "after", "time", "what".ljust(width)], table)
    return [*rows, ("together", _together(steps, at_once))]


def _has_ended(step: Step) -> bool:
    return (step.folder / "metrics.json").is_file()


def _after(numbers: Sequence[int]) -> str:
    """The steps that feed one: '1, 3-6'."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in spans)


def _time(step: Step) -> str:
    if _has_ended(step):
        return "ended"
    return "" if step.seconds is None else duration(step.seconds)


def _what(step: Step, plan: Mapping[str, Rows]) -> str:
    """What a step does in a few words, where its stage alone does not say it."""
    match config := step.config:
        case EvalConfig():
            names, answers = list(config.benchmarks), config.sampling.n
            asked = ", ".join(names) if len(names) <= _NAMED else f"{len(names)} benchmarks"
            text = f"{asked}: {answers:,} answer{'s' if answers > 1 else ''} an item"
        case MineConfig():
            text = f"at most {config.rounds.max} rounds"
        case _:
            told = next((words for label, words in plan.get("Steps", []) if label == "steps"), "")
            number, colon, rest = told.partition(": ")
            text = f"{number} steps: {rest}" if colon else told
    return text if step.ranks == 1 else f"{text}; {step.ranks} ranks"


def _together(steps: Sequence[Step], at_once: int) -> str:
    left = {step.name: step.seconds for step in steps if not _has_ended(step)}
    ended = f", {len(steps) - len(left)} of them ended before" if len(left) < len(steps) else ""
    text = f"{len(steps)} steps{ended}, {'one after another' if at_once == 1 else f'{at_once} at once'}"
    unknown = [name for name, seconds in left.items() if seconds is None]
    if unknown:
        return f"{text}; no time is claimed: nobody has said what {unknown[0]} takes (steps.NAME.seconds)"
    seconds = seconds_needed(steps, {name: value or 0.0 for name, value in left.items()}, (), at_once)
    return f"{text}: about {duration(seconds)}, as fast as where it was written"
