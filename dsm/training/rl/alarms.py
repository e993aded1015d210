"""Signs that a reward is being gamed: answers grow, or one part of the reward rises, while accuracy does not.

Means over the last explorations are compared with those over as many before. An alarm is a warning and a metric; what
to do about it (gate the part instead of adding it, see conf/reward) is the user's to decide.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

log = logging.getLogger("dsm")
LENGTH, ACCURACY = "rollout/length", "rollout/accuracy"


class Alarms:
    """Compares each exploration with those before it.

    Args:
        window: explorations on either side of the comparison.
        length_growth: relative growth of the mean length that counts as growth.
        part_rise: rise of a reward part's mean, as a share of its largest magnitude seen, that counts.
        accuracy_rise: rise of the accuracy that makes either of them welcome.
    """

    def __init__(
        self, window: int = 20, length_growth: float = 0.2, part_rise: float = 0.1, accuracy_rise: float = 0.005
    ) -> None:
        self.window = window
        self.length_growth, self.part_rise, self.accuracy_rise = length_growth, part_rise, accuracy_rise
        self.history: dict[str, list[float]] = {}
        self.sounding: list[str] = []

    def hear(self, facts: Mapping[str, float]) -> dict[str, float]:
        """An exploration's means: `rollout/length`, `rollout/accuracy` and `reward/PART`.

        Returns:
            alarm/NAME = 1 or 0 for each that could be judged; nothing before two windows are full.
        """
        watched = {name: value for name, value in facts.items() if name in (LENGTH, ACCURACY) or _is_part(name)}
        for name, value in watched.items():
            self.history[name] = [*self.history.get(name, []), value][-2 * self.window :]
        if ACCURACY not in facts or len(self.history[ACCURACY]) < 2 * self.window:
            return {}
        found = {}
        improves = self._rise(ACCURACY) >= self.accuracy_rise
        for name, values in self.history.items():
            if name == ACCURACY or len(values) < 2 * self.window:
                continue
            unit = sum(values[: self.window]) / self.window if name == LENGTH else max(map(abs, values))
            limit = self.length_growth if name == LENGTH else self.part_rise
            found[name] = float(not improves and unit > 0 and self._rise(name) / unit >= limit)
        sounding = [name for name, on in found.items() if on]
        for name in sounding:
            if name not in self.sounding:
                log.warning(
                    "alarm: %s rose by %.3g over %d explorations while accuracy did not (%+.3g): is the reward being"
                    " gamed?", name, self._rise(name), self.window, self._rise(ACCURACY),
                )  # fmt: skip
        self.sounding = sounding
        return {f"alarm/{name.rpartition('/')[2]}": on for name, on in found.items()}

    def _rise(self, name: str) -> float:
        values = self.history[name]
        return (sum(values[self.window :]) - sum(values[: self.window])) / self.window

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"history": self.history, "sounding": self.sounding}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put it back."""
        self.history, self.sounding = dict(state["history"]), list(state["sounding"])


def _is_part(name: str) -> bool:
    return name.startswith("reward/") and name not in ("reward/mean", "reward/std")
