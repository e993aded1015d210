"""What the values of a reward model are to maximise: log-likelihoods of judgements, one number for each scored token.

    pairwise   log sigma(v+ - v-)                          Bradley-Terry, one solution against another
    pointwise  y log sigma(v) + (1 - y) log sigma(-v)      binary cross-entropy; y is 0, 1 or a share between them

Both are pure functions of tensors; the division by a count is the step's.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def bradley_terry(values: Tensor) -> Tensor:
    """(2P,) values, chosen and rejected in turn -> (2P,), the log-likelihood of a pair on both of its ends.

    Its gradient stands on both ends too, so the count that divides the sum is of ends, not of pairs.
    """
    chosen, rejected = values.view(-1, 2).unbind(1)
    return F.logsigmoid(chosen - rejected).repeat_interleave(2)


def cross_entropy(values: Tensor, labels: Tensor) -> Tensor:
    """(S,) values and labels in [0, 1] -> (S,), the log-likelihood of each label."""
    return labels * F.logsigmoid(values) + (1 - labels) * F.logsigmoid(-values)
