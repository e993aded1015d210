"""What a micro-batch knows of its tokens, by name."""

from __future__ import annotations

import torch
from torch import Tensor

from dsm.data.batch import MicroBatch
from dsm.ops.logprobs import IGNORE


def stream(name: str, logprobs: Tensor, batch: MicroBatch) -> Tensor:
    """That stream, (T,); zeros in a micro-batch of nothing.

    Raises:
        ValueError: tokens are trained on that lack it.
    """
    found = batch.streams.get(name)
    if found is not None:
        return found
    if bool((batch.targets != IGNORE).any()):
        raise ValueError(f"the micro-batch has no stream {name!r} (it has {', '.join(batch.streams) or 'none'})")
    return torch.zeros_like(logprobs)


def old_logprobs(logprobs: Tensor, batch: MicroBatch) -> Tensor:
    """Log-probabilities before the update, (T,), without gradient: on the first update they are today's."""
    found = batch.streams.get("old")
    return logprobs.detach() if found is None else found
