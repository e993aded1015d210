"""The steps of a run: step s of rank r is computed from (s, r), so one integer is all the state there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from torch.utils.data import DataLoader, Dataset, Sampler

from dsm.data.batch import Document, StepBatch, step_batch


class Rows(Protocol):
    """The packed sequences of a run, counted from its start, in any order."""

    def __getitems__(self, numbers: Sequence[int]) -> Sequence[Sequence[Document]]:
        """The documents of each of these sequences."""
        ...


@dataclass
class StepStream(Dataset[StepBatch]):
    """This rank's share of every step.

    Attributes:
        rows: the packed sequences.
        sequences_per_step: in one step, over all ranks; a fraction is met exactly over many steps.
        sequences: in the whole run; the last step takes what is left.
        tokens_per_microbatch: packed tokens computed at once.
        rank: which share is this process's.
        shares: how many there are.
        workers: processes that prepare steps ahead; they change nothing else.
        batch: makes a step of rows; of none too, for every rank must take part in the gradient's sum.
    """

    rows: Rows
    sequences_per_step: int | Fraction
    sequences: int
    tokens_per_microbatch: int
    rank: int = 0
    shares: int = 1
    workers: int = 0
    batch: Callable[[Sequence[Sequence[Document]], int], StepBatch] = step_batch

    @property
    def steps(self) -> int:
        """Steps in the whole run."""
        return -(-self.sequences // self.sequences_per_step)

    def first_sequence(self, step: int) -> int:
        """The sequence that a step begins with; of `steps`, the number of all."""
        return min(int(step * self.sequences_per_step), self.sequences)

    @property
    def mean_attended_length(self) -> float:
        """Tokens that a token attends to on average, in this rank's part of the first step."""
        attended = [batch.varlen.mean_attended_length for batch in self[0].microbatches]
        return sum(attended) / len(attended)

    def __getitem__(self, step: int) -> StepBatch:
        """This rank's part of one step."""
        first, last = self.first_sequence(step), self.first_sequence(step + 1)
        mine = range(first + self.rank, last, self.shares)
        return self.batch(self.rows.__getitems__(mine) if mine else [], self.tokens_per_microbatch)

    def __len__(self) -> int:
        """Steps in the whole run."""
        return self.steps

    def loader(self, first_step: Callable[[], int]) -> DataLoader[StepBatch]:
        """The steps from `first_step()` on, in order, for Lightning; it is asked when the loop begins."""
        return DataLoader(self, batch_size=None, sampler=_StepsFrom(first_step, self.steps), num_workers=self.workers)


@dataclass
class _StepsFrom(Sampler[int]):
    """The numbers of the steps still to come."""

    first_step: Callable[[], int]
    steps: int

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first_step(), self.steps))

    def __len__(self) -> int:
        return max(0, self.steps - self.first_step())
