"""What every generation engine does, and the records that go in and come out.

An engine knows tokens and the weights it was last given. It knows no rewards, no benchmarks and no chat formats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor

from dsm.models.wrapper import CausalLM

FinishReason = Literal["stop", "eos", "length"]


@dataclass(frozen=True)
class Sampling:
    """How to continue one prompt.

    `temperature` 0 is greedy. `top_p` below 1 keeps the smallest set of most probable tokens whose probability reaches
    it (equal ones stay together). `n` samples are drawn; the noise of each is a function of (prompt, `seed`, its index
    of the n, position) and of nothing else. A sample ends at the first of `stop` in its text, at an end-of-sequence id,
    or after `max_new_tokens`. Raises ValueError for what cannot be.
    """

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    n: int = 1
    stop: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens={self.max_new_tokens}: at least 1")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise ValueError(f"temperature={self.temperature}: a number from 0 (greedy) up")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p={self.top_p}: above 0 and at most 1")
        if self.n < 1:
            raise ValueError(f"n={self.n}: at least 1")
        if not isinstance(self.stop, tuple) or not all(isinstance(stop, str) and stop for stop in self.stop):
            raise ValueError(f"stop={self.stop!r}: a tuple of strings, none of them empty")
        if not -(2**63) <= self.seed < 2**64:
            raise ValueError(f"seed={self.seed}: must fit 64 bits")


@dataclass(frozen=True)
class Request:
    """A prompt as token ids, at least one, and how to continue it."""

    input_ids: tuple[int, ...]
    sampling: Sampling

    def __post_init__(self) -> None:
        if not self.input_ids:
            raise ValueError("a prompt needs at least one token")


@dataclass(frozen=True)
class Completion:
    """One sample.

    `token_ids` are all tokens that were drawn, with the end-of-sequence id where `finish_reason` is "eos" and with the
    tokens that spell the stop string where it is "stop": what a policy must be trained on. `logprobs` (nats, one a
    token) are those of the distribution softmax(logits / temperature) over the whole vocabulary, before top-p, and of
    softmax(logits) for greedy samples: `CausalLM.logprobs` at the same temperature gives the same. `text` is the
    decoded text without special tokens, cut before the stop string. `stop` is the string that ended it, if one did.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    finish_reason: FinishReason
    stop: str | None = None


OnDone = Callable[[int, list[Completion]], None]
"""Called with the index of a request and its n completions as soon as the last of them is there."""
Weights = CausalLM | Mapping[str, Tensor]
"""A model, or its `model.state_dict()` by transformers' names (without the wrapper's prefix)."""


class RolloutEngine(Protocol):
    """Generates with a copy of a policy's weights; only `sync` changes them."""

    policy_version: int
    """0 at first, one more after each `sync`."""

    def generate(self, requests: Sequence[Request], on_done: OnDone | None = None) -> list[list[Completion]]:
        """The n completions of each request, in the order of the requests."""
        ...

    def score(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[list[float]]:
        """Log-probability (nats, temperature 1) of each token of each continuation after its prompt."""
        ...

    def sync(self, weights: Weights) -> None:
        """Take over new weights."""
        ...

    def free(self) -> None:
        """Give memory back, weights included; `sync` must come before the next call of another method."""
        ...
