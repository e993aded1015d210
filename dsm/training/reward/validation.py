"""How good the reward model is on held-out solutions, while it learns: `validation/...` beside the loss.

All ranks' values are gathered and measured together, in the order of the solutions, so the numbers depend on neither
the number of ranks nor the micro-batches.

| name                     | of                                                                              |
|--------------------------|---------------------------------------------------------------------------------|
| loss                     | the objective: pairs of held-out solutions, or each scored token                |
| auc, accuracy            | right and wrong solutions, of all questions together                            |
| step_auc, step_accuracy  | good and bad steps (process)                                                    |
| pair_accuracy            | right against wrong solutions of the same question                              |
| best_of_n, mean_of_n     | questions with several solutions: the best score's accuracy, one's at random    |
| calibration, brier       | the sigmoids of values as probabilities (not of pairs, whose zero is arbitrary) |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from dsm.config.reward_model import Reduction
from dsm.data.packing import pack
from dsm.models.reward import Supervision
from dsm.objectives.normalise import Normalisation
from dsm.ops.logprobs import IGNORE
from dsm.rewards.reward_model import reduced
from dsm.runtime import watch
from dsm.runtime.launch import World
from dsm.training.callbacks import Validation
from dsm.training.reward.batch import collate_values
from dsm.training.reward.data import Solutions
from dsm.training.reward.measures import auc, best_of_n, brier, calibration_error, pair_accuracy
from dsm.training.reward.module import Objective
from dsm.training.step import UpdateModule

Values = Mapping[int, Sequence[float]]
"""By number of solution: the values of its scored tokens."""


class RewardValidation(Validation):
    """Measures held-out solutions; `every` and when it is due are as for the loss of other stages."""

    def __init__(
        self,
        solutions: Solutions,
        pairs: NDArray[np.int64],
        supervision: Supervision,
        objective: Objective,
        reduction: Reduction,
        tokens_per_microbatch: int,
        every: int | None,
        world: World,
    ) -> None:
        super().__init__([], ["held out"] if len(solutions) else [], every)
        self.solutions, self.pairs, self.world = solutions, pairs, world
        self.supervision, self.objective, self.reduction = supervision, objective, reduction
        # The ranks of one tensor group compute the same.
        mine = np.arange(world.data_rank, len(solutions), world.data_size)
        limit = max(tokens_per_microbatch, int(solutions.lengths.max(initial=1)))
        rows = pack(solutions.lengths, mine, limit, "random")
        self.rows = [[int(number) for number in rows[row]] for row in range(len(rows))]

    @torch.no_grad()
    def measure(self, module: UpdateModule) -> dict[str, float]:
        """The table above, on all ranks."""
        module.eval()
        mine: dict[int, list[float]] = {}
        batches = [collate_values([self.solutions[number] for number in row]) for row in self.rows]
        for place, batch in enumerate(module.as_many_everywhere(batches)):
            watch.progress("validation")
            batch = batch.to(module.device)
            with module.autocast():
                values = module.model.values(batch.input_ids, batch.varlen)  # type: ignore[operator]
            scored = values[batch.targets != IGNORE].tolist()
            for number in self.rows[place] if place < len(self.rows) else ():
                count = int(self.solutions.mark_counts[number])
                mine[number], scored = scored[:count], scored[count:]
        module.train()
        found = {number: values for part in self.world.gather(mine) for number, values in part.items()}
        metrics = self.metrics(found, module.settings.loss.normalisation)
        return {f"validation/{name}": value for name, value in metrics.items() if value is not None}

    def metrics(self, values: Values, normalisation: Normalisation) -> dict[str, float | None]:
        """The numbers, without those that nothing can be said of."""
        solutions = self.solutions
        numbers = range(len(solutions))
        flat = np.asarray([value for number in numbers for value in values[number]])
        labels = np.concatenate([self._labels(number) for number in numbers]).astype(np.float64)
        owners = np.repeat(np.arange(len(solutions)), solutions.mark_counts)
        good = labels > 0.5
        metrics: dict[str, float | None] = {}
        if self.objective == "pairwise":
            last = flat  # one value a solution
            margins = last[self.pairs[:, 0]] - last[self.pairs[:, 1]] if len(self.pairs) else np.zeros(0)
            metrics["loss"] = float(np.logaddexp(0, -margins).mean()) if len(margins) else None
        else:
            losses = labels * np.logaddexp(0, -flat) + (1 - labels) * np.logaddexp(0, flat)
            each = np.bincount(owners, losses, minlength=len(solutions)) / solutions.mark_counts
            metrics["loss"] = float(each.mean() if normalisation == "sequence" else losses.mean())
            probabilities = _sigmoid(flat)
            metrics["calibration"] = calibration_error(probabilities, labels)
            metrics["brier"] = brier(probabilities, labels)
        name = "step_" if self.supervision == "process" else ""
        metrics[f"{name}auc"] = auc(flat, good)
        if self.objective == "pointwise":
            metrics[f"{name}accuracy"] = float(((flat > 0) == good).mean())
        return metrics | self._of_solutions(values)

    def _of_solutions(self, values: Values) -> dict[str, float | None]:
        """What the scores of whole solutions are good for, where it is known which of them are right."""
        solutions = self.solutions
        known = np.flatnonzero(~np.isnan(solutions.outcomes))
        if self.supervision == "process":
            scores = np.asarray([reduced(_sigmoid(np.asarray(values[int(n)])), self.reduction) for n in known])
        else:
            scores = np.asarray([values[int(n)][0] for n in known])
        right, groups = solutions.outcomes[known] > 0.5, solutions.questions[known]
        best = best_of_n(scores, right, groups)
        told: dict[str, float | None] = {"pair_accuracy": pair_accuracy(scores, right, groups)}
        if self.supervision == "process":
            told["auc"] = auc(scores, right)
        return told | ({"best_of_n": best[0], "mean_of_n": best[1]} if best else {})

    def _labels(self, number: int) -> NDArray[np.float32]:
        first = int(self.solutions.mark_starts[number])
        return self.solutions.labels[first : first + int(self.solutions.mark_counts[number])]


def _sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(-np.logaddexp(0, -values))
