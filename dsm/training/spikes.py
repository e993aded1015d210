"""Spikes of the loss and of the gradient norm: found before the update that they would spoil, listed, and dealt with.

A step is compared with the `window` steps before it, robustly. For x, the loss in nats or the logarithm of the gradient
norm before clipping,

    z = (x - median) / max(1.4826 MAD, floor),      MAD = median |x_i - median|,

and the step is a spike where z of either exceeds its setting and at least `min_history` steps have been seen. 1.4826
makes the scale a standard deviation for normal noise; the norm's logarithm, because it varies by factors; the floors,
because a window without noise would call anything a spike. Only rises count.

Every step enters the window, spikes too. With mean and standard deviation (OLMo-core's skipped steps) one spike widens
the range for the next and the whole window would have to be kept clean of them; median and MAD hardly notice. And a
run whose loss has really moved is taken at its new level after half a window, where a window of accepted steps would
never accept it. Where the mix of the data changes by plan, the window starts anew.
"""

from __future__ import annotations

import json
import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Literal

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from dsm.config.spikes import SpikeConfig
from dsm.errors import SpikeError
from dsm.runtime.metrics import rewind
from dsm.training.step import UpdateModule

log = logging.getLogger("dsm")

Verdict = Literal["apply", "skip"]
LOSS_FLOOR = 0.01
"""Nats: what the loss of one batch differs by from the next's even where it is large."""
NORM_FLOOR = 0.05
"""Of the norm's logarithm: five per cent."""
_MAD_TO_SIGMA = 1.4826  # 1 / (quantile 3/4 of the standard normal distribution)


def robust_z(x: float, history: Sequence[float], floor: float) -> float:
    """Standard deviations that `x` lies above the median of `history` (not empty), by its MAD, `floor` at least."""
    middle = median(history)
    scale = _MAD_TO_SIGMA * median(abs(value - middle) for value in history)
    return (x - middle) / max(scale, floor)


class SpikeGuard(Callback):
    """Judges each step before its update; its window goes into the checkpoint with the other callbacks' state.

    What is judged is summed over all ranks, so each rank comes to the same verdict by itself. Rank 0 (`first`) lists
    spikes in `file`, a line each: step (as metrics.jsonl counts), loss, gradient norm, their z and medians, what was
    done, and `sequences`, the first and the one after the last of the batch in the order of the whole run.

    Args:
        config: the settings.
        file: spikes.jsonl of the run.
        first_sequence: `StepStream.first_sequence`: the sequence that a step begins with.
        mix_changes: sequences at which the data's mix changes by plan.
        first: whether this process writes the file.

    Attributes:
        metrics: of the newest step, by their names in the log; z only where there is enough history.
    """

    def __init__(
        self,
        config: SpikeConfig,
        file: Path,
        first_sequence: Callable[[int], int],
        *,
        mix_changes: Sequence[int] = (),
        first: bool = True,
    ) -> None:
        self.config, self.file, self.first = config, file, first
        self.first_sequence = first_sequence
        self.mix_changes = tuple(mix_changes)
        self.metrics: dict[str, float] = {}
        self._losses: deque[float] = deque(maxlen=config.window)
        self._norms: deque[float] = deque(maxlen=config.window)  # their logarithms
        self._spikes = self._skipped = self._in_a_row = 0

    def judge(self, loss: float, grad_norm: float, step: int) -> Verdict:
        """What becomes of step number `step` (from 0), before its update; call it once a step, on every rank.

        Args:
            loss: of the whole batch, finite.
            grad_norm: of the whole batch, before clipping, finite.
            step: steps made before this one.

        Raises:
            SpikeError: it is a spike and the policy is stop, or skip and too many came in a row.
        """
        sequences = self.first_sequence(step), self.first_sequence(step + 1)
        if any(sequences[0] <= change < sequences[1] for change in self.mix_changes):
            self._losses.clear()
            self._norms.clear()
        log_norm = math.log(max(grad_norm, 1e-30))
        found = self._compare(loss, log_norm)
        spike = bool(found) and self._exceeds(found)
        self._losses.append(loss)
        self._norms.append(log_norm)
        self._spikes += spike
        self._in_a_row = self._in_a_row + 1 if spike else 0
        self._skipped += spike and self.config.policy == "skip"
        zs = {name: found[name] for name in ("loss_z", "grad_norm_z") if found}
        counts = {"count": self._spikes, "skipped": self._skipped}
        self.metrics = {f"spike/{name}": float(value) for name, value in (zs | counts).items()}
        if not spike:
            return "apply"
        self._tell({"step": step + 1, "loss": loss, "grad_norm": grad_norm, **found, "sequences": list(sequences)})
        return "skip" if self.config.policy == "skip" else "apply"

    def _compare(self, loss: float, log_norm: float) -> dict[str, float]:
        """z and the median that it is taken from, of loss and norm; nothing before there is enough history."""
        if len(self._losses) < self.config.min_history:
            return {}
        return {
            "loss_z": robust_z(loss, self._losses, LOSS_FLOOR),
            "grad_norm_z": robust_z(log_norm, self._norms, NORM_FLOOR),
            "loss_median": median(self._losses),
            "grad_norm_median": math.exp(median(self._norms)),
        }

    def _exceeds(self, found: dict[str, float]) -> bool:
        limits = {"loss_z": self.config.loss_sigmas, "grad_norm_z": self.config.grad_norm_sigmas}
        return any(limit is not None and found[name] > limit for name, limit in limits.items())

    def _tell(self, row: dict[str, Any]) -> None:
        """List a spike; end the run where it has to."""
        policy, most = self.config.policy, self.config.max_in_a_row
        over = policy == "skip" and self._in_a_row > most
        action = "stop" if over else policy
        if self.first:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**row, "action": action}) + "\n")
        first, end = row["sequences"]
        text = (
            f"loss {row['loss']:.4f} (median {row['loss_median']:.4f}, {row['loss_z']:+.1f} sigmas), gradient norm"
            f" {row['grad_norm']:.3g} (median {row['grad_norm_median']:.3g}, {row['grad_norm_z']:+.1f} sigmas),"
            f" sequences {first:,} to {end - 1:,}, see {self.file}"
        )
        if action != "stop":
            log.warning("step %d is a spike: %s", row["step"], text)
            return
        if over:
            raise SpikeError(
                f"spikes.max_in_a_row={most}: step {row['step']} is one spike more than that in a row: {text}; lower"
                " optim.lr, look at the data, or let it through from the last checkpoint with spikes=log resume=RUN"
            )
        raise SpikeError(
            f"spikes.policy=stop: step {row['step']} is a spike: {text}; its update was not made; from the run's last"
            " checkpoint, spikes=skip resume=RUN goes on past it and spikes=log resume=RUN lets it through"
        )

    # -- the checkpoint and the log -----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The window and the counts, as plain numbers."""
        return {
            "losses": list(self._losses),
            "log_norms": list(self._norms),
            "spikes": self._spikes,
            "skipped": self._skipped,
            "in_a_row": self._in_a_row,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put them back; of a window that was longer, the newest."""
        self._losses = deque(state_dict["losses"], maxlen=self.config.window)
        self._norms = deque(state_dict["log_norms"], maxlen=self.config.window)
        self._spikes, self._skipped = state_dict["spikes"], state_dict["skipped"]
        self._in_a_row = state_dict["in_a_row"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the spikes of steps that are about to be made again."""
        assert isinstance(pl_module, UpdateModule)
        if self.first:
            rewind(self.file, pl_module.progress.step)
