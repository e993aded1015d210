"""The reference of the KL penalty: a frozen copy of the policy as it was when the run began.

It scores with the trainer's own forward pass. On the device it costs a copy of the weights; offloaded it lies in the
host's memory between explorations and is copied over for the time that it scores.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import torch

from dsm.config.rl import ReferenceConfig
from dsm.data.batch import Document
from dsm.models.sharding import stream_weights
from dsm.models.wrapper import CausalLM
from dsm.training.rl.scoring import PerToken, Scorer

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Reference:
    """A frozen model and where it waits."""

    def __init__(
        self, model: CausalLM, config: ReferenceConfig, precision: str, device: torch.device, tokens_per_microbatch: int
    ) -> None:
        self.model = model.requires_grad_(False).eval()
        self.offloaded = config.placement == "cpu" and device.type != "cpu"
        self.device = device
        self.fingerprint = fingerprint(self.model)
        self._scorer = Scorer(self.model, precision, device, tokens_per_microbatch)
        if not self.offloaded and model.sharding is None:
            self.model.to(device)

    def logprobs(self, documents: Sequence[Document], temperature: float) -> PerToken:
        """Log-probability of each trained token under the reference."""
        if not self.offloaded:
            return self._scorer.logprobs(documents, temperature)
        self.model.to(self.device)
        try:
            return self._scorer.logprobs(documents, temperature)
        finally:
            self.model.to("cpu")
            torch.cuda.empty_cache()


def fingerprint(model: CausalLM) -> str:
    """SHA-256 over names and sums of bit patterns: weights that differ by rounding alone differ in it.

    Of a sharded model all ranks must ask together.
    """
    sums = {
        name: int(weight.contiguous().view(_BITS[weight.element_size()]).sum(dtype=torch.int64))
        for name, weight in stream_weights(model)
    }
    return hashlib.sha256(json.dumps(sorted(sums.items())).encode()).hexdigest()
