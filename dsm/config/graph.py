"""Which steps of a pipeline may run beside one another, and how long the rest of them will take."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, TypeVar

_PRIOR = 0.1  # of all expected seconds: what one short first step says of a machine is not believed wholly


class Node(Protocol):
    """What is asked of a step."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def fed_by(self) -> Collection[str]:
        """The names of the steps that it waits for."""
        ...

    @property
    def seconds(self) -> float | None:
        """What it took where the pipeline was written; None where nobody said."""
        ...

    @property
    def ranks(self) -> int:
        """How many processes it is."""
        ...


Step = TypeVar("Step", bound=Node)


def startable(waiting: Sequence[Step], ended: Collection[str], running: Collection[Node], at_once: int) -> list[Step]:
    """Those that may start now: in the order written, fed by nothing that has not ended, as long as there are places.

    A step of several ranks takes as many places, all of them if it has more; none behind it in the order takes those
    that it waits for.
    """
    places = at_once - sum(node.ranks for node in running)
    found: list[Step] = []
    for step in waiting:
        if all(name in ended for name in step.fed_by):
            if min(step.ranks, at_once) > places:
                break
            places -= step.ranks
            found.append(step)
    return found


def seconds_needed(steps: Sequence[Node], left: Mapping[str, float], running: Collection[str], at_once: int) -> float:
    """Seconds until all steps have ended, started as `startable` says.

    Args:
        left: the seconds of each step that has not ended.
        running: those of them that have begun.
        at_once: how many may run at the same time.
    """
    nodes = {step.name: step for step in steps}
    waiting = [step for step in steps if step.name in left and step.name not in running]
    ended = {step.name for step in steps if step.name not in left}
    ends = [(left[name], name) for name in running]
    heapq.heapify(ends)
    now = 0.0
    while waiting or ends:
        for step in startable(waiting, ended, [nodes[name] for _, name in ends], at_once):
            waiting.remove(step)
            heapq.heappush(ends, (now + left[step.name], step.name))
        now, name = heapq.heappop(ends)
        ended.add(name)
    return now


def time_left(
    steps: Sequence[Node], ended: Mapping[str, float | None], running: Mapping[str, float], at_once: int
) -> float | None:
    """Seconds until all have ended, by the steps' own `seconds` and this machine's speed so far; None: nobody knows.

    Args:
        ended: the seconds that each step took here; None where nobody saw it run.
        running: the seconds that each of these runs already.
        at_once: how many may run at the same time.
    """
    rest = {step.name: step.seconds for step in steps if step.name not in ended}
    if any(seconds is None for seconds in rest.values()):
        return None
    expected = {step.name: step.seconds or 0.0 for step in steps}
    seen = {name: seconds for name, seconds in ended.items() if seconds is not None and expected[name]}
    ratio = _ratio(expected, seen)
    # One that runs longer than it should says something of this machine too.
    ratio = _ratio(expected, seen | {name: took for name, took in running.items() if took > ratio * expected[name]})
    left = {name: max(ratio * expected[name] - running.get(name, 0.0), 0.0) for name in rest}
    return seconds_needed(steps, left, running, at_once)


def _ratio(expected: Mapping[str, float], seen: Mapping[str, float]) -> float:
    """How much longer steps take here than where they were written."""
    prior = _PRIOR * sum(expected.values())
    return (sum(seen.values()) + prior) / (sum(expected[name] for name in seen) + prior) if prior else 1.0
