"""Preferences between two answers to one prompt: DPO, in the paper's form and in the usual one.

    J = E over pairs of log sigma(Delta),   Delta = beta (margin of the better - margin of the worse)

The margin of an answer is the mean over its tokens of log(pi / reference) in Eq. 12, and the sum in DPO. The gradient
coefficient of every token of the better answer is beta sigma(-Delta), of the worse one its negative (Eq. 14 drops
beta and is written for single tokens, which is undefined for unequal lengths); under `sum`, |o| times that, for Eq. 5
divides by |o|.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional

from dsm.data.batch import MicroBatch
from dsm.objectives.sequences import sequence_sums, spread, trained_lengths
from dsm.ops.logprobs import IGNORE


def pair_margins(
    logprobs: Tensor, reference: Tensor, preferred: Tensor, batch: MicroBatch, over: Literal["mean", "sum"]
) -> Tensor:
    """Margin of the better answer minus that of the worse one, of each pair; none in a micro-batch of nothing.

    Args:
        preferred: (T,) 1 at the tokens of a better answer, -1 at those of a worse one.
        batch: the two answers of a pair are adjacent documents.

    Returns:
        (pairs,).
    """
    documents = len(batch.varlen.lengths)
    if documents % 2:
        if bool((batch.targets != IGNORE).any()):
            raise ValueError(f"{documents} documents in a micro-batch of pairs")
        return logprobs[:0]
    margins = sequence_sums(preferred * (logprobs - reference), batch)
    if over == "mean":
        margins = margins / trained_lengths(batch)
    return margins.view(-1, 2).sum(1)


def preference(
    logprobs: Tensor, reference: Tensor, preferred: Tensor, batch: MicroBatch, beta: float, over: Literal["mean", "sum"]
) -> Tensor:
    """log sigma(Delta) of the pair at every token of both its answers, (T,).

    Under the normalisation 'sequence' (weights 1 / |o|, divided by the number of sequences, two a pair) this sums to
    the mean of log sigma(Delta) over the pairs.
    """
    delta = beta * pair_margins(logprobs, reference, preferred, batch, over)
    if not len(delta):
        return logprobs * 0  # a rank without work
    return spread(functional.logsigmoid(delta).repeat_interleave(2), batch)
