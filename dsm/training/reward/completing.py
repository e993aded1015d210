"""Math-Shepherd's labels: a step is as good as what a completer makes of the solution up to there.

From the end of each step, N completions are drawn; how many reach the reference answer is the step's count. Hard label:
any does. Soft label: their share. Nothing is left to complete behind the last step of a finished solution: its own
answer counts N times.

What is drawn from a prefix depends on (seed, its tokens) and on nothing else: solutions that begin alike share the
completions of what they share, and neither the number of ranks nor a restart changes a label.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dsm.answers import GraderPool, extract
from dsm.config.reward_model import CompletionsConfig
from dsm.rollout.engine import Completion, Request, RolloutEngine, Sampling
from dsm.rollout.record import Rollout
from dsm.rollout.stops import Detokenizer
from dsm.runtime import watch


class Labelled(NamedTuple):
    """Of each step of a solution, how many of the N completions reach the answer; why it has none, where so."""

    counts: NDArray[np.int64]
    reason: str = ""


class Completer:
    """Labels steps with a policy's completions.

    Args:
        positions: of the model; a prefix must leave room for a token at least.
    """

    def __init__(
        self,
        engine: RolloutEngine,
        detokenizer: Detokenizer,
        pool: GraderPool,
        config: CompletionsConfig,
        *,
        seed: int,
        positions: int | None,
    ) -> None:
        self.engine, self.detokenizer, self.pool = engine, detokenizer, pool
        self.config, self.seed, self.positions = config, seed, positions

    def label(self, rollouts: Sequence[Rollout], golds: Sequence[str]) -> list[Labelled]:
        """Counts for every step of every rollout, in order; equal prefixes are completed once."""
        prefixes: dict[tuple[tuple[int, ...], str], list[int]] = {}  # with the gold -> correct ones, filled in below
        needed: list[list[tuple[int, ...]]] = []
        for rollout, gold in zip(rollouts, golds, strict=True):
            ends = rollout.step_ends.tolist()
            finished = rollout.finish_reason in ("eos", "stop")
            needed.append([tuple(rollout.token_ids[: end + 1].tolist()) for end in (ends[:-1] if finished else ends)])
            if not self._problem(rollout, needed[-1]):
                prefixes |= {(prefix, gold): [] for prefix in needed[-1]}
        starts = {tuple(rollout.token_ids[: end + 1].tolist()): rollout.prompt_tokens
                  for rollout in rollouts for end in rollout.step_ends.tolist()}  # fmt: skip
        self._complete(prefixes, starts)
        own = self._right([(gold, rollout.text) for rollout, gold in zip(rollouts, golds, strict=True)])
        labelled = []
        for rollout, gold, before, right in zip(rollouts, golds, needed, own, strict=True):
            reason = self._problem(rollout, before)
            if reason:
                labelled.append(Labelled(np.zeros(0, dtype=np.int64), reason))
                continue
            counts = [sum(prefixes[prefix, gold]) for prefix in before]
            if len(counts) < len(rollout.step_ends):
                counts.append(self.config.n * int(right))
            labelled.append(Labelled(np.asarray(counts, dtype=np.int64)))
        return labelled

    def _problem(self, rollout: Rollout, prefixes: Sequence[tuple[int, ...]]) -> str:
        if not len(rollout.step_ends):
            return "no step is marked"
        longest = max(map(len, prefixes), default=0)
        if self.positions is not None and longest >= self.positions:
            return f"a prefix of {longest} tokens leaves no room in the completer's {self.positions} positions"
        return ""

    def _complete(
        self, prefixes: dict[tuple[tuple[int, ...], str], list[int]], starts: dict[tuple[int, ...], int]
    ) -> None:
        """Draw the completions of all prefixes and judge them."""
        golds: dict[tuple[int, ...], list[str]] = {}
        for prefix, gold in prefixes:
            golds.setdefault(prefix, []).append(gold)
        order = list(golds)
        requests = [Request(prefix, self._sampling(prefix)) for prefix in order]
        said = {prefix: self.detokenizer.text(prefix[starts[prefix] :]) for prefix in order}

        def on_done(index: int, completions: Sequence[Completion]) -> None:
            watch.progress("completing", watch.SLOW)
            prefix = order[index]
            for gold in golds[prefix]:
                texts = [(gold, said[prefix] + completion.text) for completion in completions]
                prefixes[prefix, gold].extend(self._right(texts))

        watch.progress("completing", watch.SLOW)
        self.engine.generate(requests, on_done)

    def _sampling(self, prefix: Sequence[int]) -> Sampling:
        config, key = self.config, np.asarray([self.seed, *prefix], dtype=np.int64)
        digest = hashlib.sha256(key.tobytes()).digest()
        return Sampling(
            max_new_tokens=config.max_new_tokens,
            temperature=config.temperature,
            top_p=config.top_p,
            n=config.n,
            stop=tuple(config.stop),
            seed=int.from_bytes(digest[:8], "big") >> 2,  # engines add the number of the sample
        )

    def _right(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """Whether the answer in each text equals its gold."""
        answers = [(gold, extract(text, self.config.extractor).answer) for gold, text in pairs]
        return [verdict.outcome == "correct" for verdict in self.pool.grade(answers)]
