"""What an algorithm did to a step's tokens, as sums that add up over micro-batches and ranks.

The gradient coefficient is had by autograd of the objective itself at the log-probabilities, so it is true of every
algorithm: c_t = (1 / w_t) d(sum of w * objective) / d log pi_t, the factor of Eq. 5. Of names that start with "max/"
the largest is wanted, not the sum.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from dsm.data.batch import MicroBatch
from dsm.objectives.kl import k1, k3
from dsm.objectives.policy import PolicyTerm
from dsm.objectives.streams import old_logprobs
from dsm.ops.logprobs import IGNORE

EDGES = (-4.0, -2.0, -1.0, -0.5, -0.1, -0.01, 0.0, 0.01, 0.1, 0.5, 1.0, 2.0, 4.0)
"""Borders of the histogram of coefficients; a first and a last bin are open, and an exact zero is in none of them."""


def bin_names() -> list[str]:
    """Names of the histogram's bins, from the most negative."""
    inner = [f"{low:g}_to_{high:g}" for low, high in pairwise(EDGES)]
    return [f"below_{EDGES[0]:g}", *inner, f"above_{EDGES[-1]:g}"]


def coefficients(
    objective: Callable[[Tensor, Tensor, MicroBatch], Tensor],
    logprobs: Tensor,
    entropy: Tensor,
    weights: Tensor,
    batch: MicroBatch,
) -> Tensor:
    """The gradient coefficient of Eq. 5 at every token, (T,); 0 where nothing is trained.

    Args:
        weights: (T,) of the run's normalisation.
    """
    with torch.enable_grad():
        leaf = logprobs.detach().requires_grad_()
        total = (objective(leaf, entropy.detach(), batch) * weights).sum()
        (gradient,) = torch.autograd.grad(total, leaf)
    return torch.where(weights > 0, gradient / weights, 0)


def observe_all(
    objective: Callable[[Tensor, Tensor, MicroBatch], Tensor],
    term: PolicyTerm | None,
    engine_cap: float | None,
    logprobs: Tensor,
    entropy: Tensor,
    weights: Tensor,
    batch: MicroBatch,
) -> dict[str, Tensor]:
    """Sums over the trained tokens; every micro-batch, one of nothing too, has the same names in the same order."""
    trained = batch.targets != IGNORE
    coefficient = coefficients(objective, logprobs, entropy, weights, batch)[trained]
    logprobs, old = logprobs.detach()[trained], old_logprobs(logprobs.detach(), batch)[trained]
    sums = {
        "coefficient/positive": (coefficient > 0).sum(),
        "coefficient/negative": (coefficient < 0).sum(),
        "coefficient/zero": (coefficient == 0).sum(),
        "coefficient/mean": coefficient.sum(),
        "coefficient/abs": coefficient.abs().sum(),
        "max/coefficient/abs": _largest(coefficient.abs()),
    }
    bins = torch.bucketize(coefficient[coefficient != 0], torch.tensor(EDGES, device=coefficient.device), right=True)
    counts = torch.bincount(bins, minlength=len(EDGES) + 1)
    sums |= {f"coefficient/bin/{name}": count for name, count in zip(bin_names(), counts, strict=True)}
    reference = _known("reference", batch, trained)
    here = logprobs if len(reference) else reference
    sums |= {"kl/k1": k1(here, reference).sum(), "kl/k3": k3(here, reference).sum(), "kl/known": _count(reference)}
    engine = _known("engine", batch, trained)
    gap = (old if len(engine) else engine) - engine
    weight = gap.exp()
    sums |= {
        "engine/kl": (-gap).sum(),  # samples are the engine's, so this is KL(engine || trainer)
        "engine/gap_abs": gap.abs().sum(),
        "max/engine/gap_abs": _largest(gap.abs()),
        "engine/weight_raw": weight.sum(),
        "max/engine/weight_raw": _largest(weight),
        "engine/weight": (weight if engine_cap is None else weight.clamp(max=engine_cap)).sum(),
        "engine/weight_clipped": (weight > (engine_cap or torch.inf)).sum(),
        "engine/known": _count(engine),
    }
    if term is not None:
        sums |= _ratios(term, logprobs, batch, trained)
    return sums


def _ratios(term: PolicyTerm, logprobs: Tensor, batch: MicroBatch, trained: Tensor) -> dict[str, Tensor]:
    """The ratio that the term clips, raw and clipped, and how many tokens the clip acts on."""
    everywhere = torch.zeros(len(trained), dtype=logprobs.dtype, device=logprobs.device)
    everywhere[trained] = logprobs
    old = batch.streams.get("old", everywhere)
    ratio = term.ratio(everywhere, old, batch)[trained]
    held = ratio.clamp(term.low, term.high)
    advantage = _known("advantage", batch, trained)
    below, above = ratio < term.low, ratio > term.high
    if not term.two_sided and len(advantage):
        below, above = below & (advantage < 0), above & (advantage > 0)
    return {
        "ratio/mean": ratio.sum(),
        "max/ratio": _largest(ratio),
        "ratio/clipped_mean": held.sum(),
        "max/ratio_clipped": _largest(held),
        "clip/low": below.sum(),
        "clip/high": above.sum(),
    }


def tell_all(sums: dict[str, float], tokens: int) -> dict[str, float]:
    """Means over the tokens of a step; what is known of no token is left out."""
    known = {name.removesuffix("/known"): count for name, count in sums.items() if name.endswith("/known")}
    told = {}
    for name, value in sums.items():
        group = name.removeprefix("max/").split("/")[0]
        if name.endswith("/known") or known.get(group, 1) == 0:
            continue
        if name.startswith("max/"):
            told[f"train/{name.removeprefix('max/')}_max"] = value
        else:
            told[f"train/{name}"] = value / max(known.get(group, tokens), 1)
    return told


def _known(name: str, batch: MicroBatch, trained: Tensor) -> Tensor:
    """A stream at the trained tokens, or an empty tensor."""
    found = batch.streams.get(name)
    return torch.zeros(0, device=trained.device) if found is None else found[trained]


def _count(values: Tensor) -> Tensor:
    return torch.tensor(float(len(values)), device=values.device)


def _largest(values: Tensor) -> Tensor:
    return values.max() if len(values) else torch.zeros((), device=values.device)
