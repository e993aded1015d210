"""From tokens to completions: where each sample ends, what it says, and when a request has all its samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dsm.rollout.batch import Sample
from dsm.rollout.engine import Completion, FinishReason, OnDone, Request
from dsm.rollout.stops import Detokenizer


class Collector:
    """Hears of every token and keeps what is finished."""

    def __init__(
        self, requests: Sequence[Request], detokenizer: Detokenizer, eos_ids: frozenset[int], on_done: OnDone | None
    ) -> None:
        self.detokenizer, self.eos_ids, self.on_done = detokenizer, eos_ids, on_done
        self.completing = [  # of each request: the tokens after which its text must be looked at
            detokenizer.completing(request.sampling.stop) if request.sampling.stop else None for request in requests
        ]
        self.completions: list[list[Completion | None]] = [[None] * request.sampling.n for request in requests]
        self.missing = [request.sampling.n for request in requests]

    def results(self) -> list[list[Completion]]:
        """All completions, once there are none missing."""
        assert not any(self.missing)
        return [[completion for completion in row if completion is not None] for row in self.completions]

    def take(self, sample: Sample, token: int, logprob: float) -> bool:
        """Append a sample's newest token; True if that finishes it."""
        ids = sample.token_ids
        ids.append(token)
        sample.logprobs.append(logprob)
        if token in self.eos_ids:
            self._finish(sample, self.detokenizer.text(ids[:-1]), "eos")
            return True
        completing = self.completing[sample.request]
        # What the first token says depends on no neighbour, so the table does not know it.
        if completing is not None and (completing[token] or len(ids) == 1):
            found = self.detokenizer.find(ids, sample.sampling.stop)
            if found is not None:
                self._finish(sample, found[0], "stop", found[1])
                return True
        if len(ids) == sample.limit:
            self._finish(sample, self.detokenizer.text(ids), "length")
            return True
        return False

    def _finish(self, sample: Sample, text: str, reason: FinishReason, stop: str | None = None) -> None:
        row = self.completions[sample.request]
        row[sample.index] = Completion(tuple(sample.token_ids), tuple(sample.logprobs), text, reason, stop)
        self.missing[sample.request] -= 1
        if not self.missing[sample.request] and self.on_done is not None:
            with torch.inference_mode(False):  # a caller's tensors are its own
                self.on_done(sample.request, [completion for completion in row if completion is not None])
