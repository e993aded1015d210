"""Which prompts are asked next: a walk along an endless order, past those that have become too easy or too hard.

The order is a pure function of the seed. How far the walk has come depends on what was left out, so that is part of the
checkpoint: a place, how many prompts were drawn, and the last pass rate of each where a curriculum looks at them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dsm.config.rl import CurriculumConfig
from dsm.data.prompt_order import PromptOrder
from dsm.errors import UserError


class Draw:
    """The walk.

    Attributes:
        place: the next place in the order.
        drawn: prompts drawn so far: the number of the next group.
        rates: the last pass rate of each prompt, by its number.
        skipped: prompts that were passed by in the last draw.
    """

    def __init__(self, order: PromptOrder, config: CurriculumConfig) -> None:
        self.order, self.config = order, config
        self.place = self.drawn = self.skipped = 0
        self.rates: dict[int, float] = {}
        self.choosy = config.min_pass_rate > 0 or config.max_pass_rate < 1

    def next(self, count: int) -> list[int]:
        """The numbers of so many prompts.

        Raises:
            UserError: a whole epoch has none that is worth asking.
        """
        found: list[int] = []
        self.skipped = 0
        while len(found) < count:
            numbers = self.order.numbers(self.place, count - len(found))
            good = [number for number in numbers if self._worth_asking(number)]
            self.place += len(numbers)
            self.skipped += len(numbers) - len(good)
            found += good
            if self.skipped > self.epoch and not found:
                raise UserError(
                    f"curriculum.min_pass_rate={self.config.min_pass_rate}, max_pass_rate={self.config.max_pass_rate}:"
                    " no prompt is left between them; widen them, or end the run before"
                )
        self.drawn += count
        return found

    def record(self, rates: Mapping[int, float]) -> None:
        """What share of its last group was correct, by number of the prompt."""
        if self.choosy:
            self.rates |= rates

    @property
    def retired(self) -> int:
        """Prompts that are not asked again."""
        return sum(not self._worth_asking(number) for number in self.rates)

    def _worth_asking(self, number: int) -> bool:
        rate = self.rates.get(number)
        return rate is None or self.config.min_pass_rate <= rate <= self.config.max_pass_rate

    @property
    def epoch(self) -> int:
        """Prompts of one pass."""
        return self.order.end(0)

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"place": self.place, "drawn": self.drawn, "rates": {str(k): v for k, v in self.rates.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put it back."""
        self.place, self.drawn = state["place"], state["drawn"]
        self.rates = {int(number): rate for number, rate in state["rates"].items()}
