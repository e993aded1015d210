"""Estimators of KL(pi || reference) from samples of pi, a number a token (Schulman, "Approximating KL divergence").

With d = log reference - log pi of the sampled token:

| name | value        | expectation under pi | gradient of its expectation's estimate                       |
|------|--------------|----------------------|--------------------------------------------------------------|
| k1   | -d           | KL(pi || ref)        | E[grad] = 0: in a loss it only adds noise; for rewards       |
| k2   | d^2 / 2      | biased               | E[grad] = grad KL(pi || ref)                                 |
| k3   | e^d - d - 1  | KL(pi || ref)        | E[grad] = grad KL(ref || pi); Eq. 4, coefficient Eq. 21      |

k3 is never negative, and 0 only where the two agree. Times the ratio pi / pi_old (`kl.weighted`; DeepSeek-V3.2, TRL's
default since 1.16) its gradient is -log r instead of 1 - r, and so that of KL(pi || ref) in expectation.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def k1(logprobs: Tensor, reference: Tensor) -> Tensor:
    """log pi - log reference, (T,)."""
    return logprobs - reference


def k2(logprobs: Tensor, reference: Tensor) -> Tensor:
    """Half the squared log-ratio, (T,)."""
    return (logprobs - reference).square() / 2


def k3(logprobs: Tensor, reference: Tensor) -> Tensor:
    """r - log r - 1, r = reference / pi (Eq. 4), (T,).

    exp(d) - 1 is taken as one function: near d = 0, where a policy starts, the value is about d^2 / 2, and the
    rounding of exp(d) near 1 would be larger.
    """
    difference = reference - logprobs
    return torch.expm1(difference) - difference


ESTIMATORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"k1": k1, "k2": k2, "k3": k3}
