"""The steps of a run as a stream: step s of rank r is computed from (s, r), so one integer is all its state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from torch.utils.data import DataLoader, IterableDataset

from dsm.data.batch import Document, StepBatch, step_batch
from dsm.data.instructions import TokenisedExamples
from dsm.data.order import PackedOrder


@dataclass
class StepStream(IterableDataset[StepBatch]):
    """This rank's share of every step still to come.

    Attributes:
        examples: the tokens.
        order: which examples stand in which packed sequence.
        sequences_per_step: packed sequences in one step, over all ranks.
        sequences: sequences in the whole run; the last step takes what is left.
        tokens_per_microbatch: packed tokens computed at once.
        first_step: called when the stream starts; the number of steps already made.
        rank: this process.
        world_size: all processes.
    """

    examples: TokenisedExamples
    order: PackedOrder
    sequences_per_step: int
    sequences: int
    tokens_per_microbatch: int
    first_step: Callable[[], int] = lambda: 0
    rank: int = 0
    world_size: int = 1

    @property
    def steps(self) -> int:
        """Steps in the whole run."""
        return -(-self.sequences // self.sequences_per_step)

    def step(self, number: int) -> StepBatch:
        """This rank's part of one step."""
        first = number * self.sequences_per_step
        last = min(first + self.sequences_per_step, self.sequences)
        rows = [self._row(i) for i in range(first + self.rank, last, self.world_size)]
        if not rows:
            return replace(step_batch([[self._nothing()]], self.tokens_per_microbatch), positions=0)
        return step_batch(rows, self.tokens_per_microbatch)

    def _row(self, sequence: int) -> list[Document]:
        return [self.examples[int(example)] for example in self.order[sequence]]

    def _nothing(self) -> Document:
        """What a rank without a sequence computes: every rank must take part in the gradient's sum."""
        document = self.examples[0]
        return Document(document.ids[:1], document.trained[:1] & False, document.source)

    def __iter__(self) -> Iterator[StepBatch]:
        """The steps from `first_step()` on."""
        for number in range(self.first_step(), self.steps):
            yield self.step(number)

    def __len__(self) -> int:
        """Steps still to come."""
        return max(0, self.steps - self.first_step())

    def loader(self) -> DataLoader[StepBatch]:
        """For Lightning: a loader that passes the steps on as they are."""
        return DataLoader(self, batch_size=None)
