"""How the sum over tokens is normalised: token weights here, the division by a count in the step and nowhere else.

    J = (1 / N) * sum over sequences i, tokens t of  w_it * objective_it

| normalisation | w_it            | N, over the whole optimiser step and all ranks | where                       |
|---------------|-----------------|------------------------------------------------|-----------------------------|
| sequence      | 1 / |o_i|       | sequences                                      | Eq. 3 and Eq. 6 of the paper |
| token         | 1               | trained tokens                                 | language-model pre-training |
| constant      | 1               | sequences x a fixed length                     | Dr. GRPO                    |

|o_i| counts the trained tokens of sequence i. Some variants put only the policy term under a common length M and leave
the KL penalty outside the token sum, as a mean over the answer's own tokens (`algorithm=grpo_seed`):

    (1 / G) sum_i [ (1 / M) sum_t min(...)_it  -  beta (1 / |o_i|) sum_t KL_it ]

That is `constant` with constant_length M, and the penalty times M / |o_i| in the objective (`kl.common_length`).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from dsm.ops.varlen import Varlen

Normalisation = Literal["sequence", "token", "constant"]


def token_weights(trained: Tensor, varlen: Varlen, normalisation: Normalisation) -> Tensor:
    """The weights w of the table above.

    Args:
        trained: (T,) bool, the positions whose target is trained on.
        varlen: the sequences' layout in the T positions.

    Returns:
        (T,) fp32; zero where nothing is trained.
    """
    weights = trained.float()
    if normalisation != "sequence":
        return weights
    before = torch.nn.functional.pad(trained.long().cumsum(0), (1, 0))
    borders = varlen.cu_seqlens.long()
    per_sequence = before[borders[1:]] - before[borders[:-1]]
    lengths = borders.diff()
    return weights / per_sequence.clamp(min=1).repeat_interleave(lengths, output_size=trained.numel())


def normaliser(normalisation: Normalisation, sequences: int, tokens: int, constant_length: int | None = None) -> int:
    """N of the table above, from the counts of one optimiser step over all its micro-batches (and ranks)."""
    if normalisation == "sequence":
        return sequences
    if normalisation == "token":
        return tokens
    if constant_length is None:
        raise ValueError("normalisation 'constant' needs constant_length")
    return sequences * constant_length
