"""Choices by likelihood: the answer is the choice that the model finds the most probable after the prompt.

No text is generated. A long choice has more tokens to lose probability on, so its log-probability may be taken per
token or per byte; bytes do not depend on the tokenizer (lm-evaluation-harness calls that acc_norm).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from dsm.evaluation.benchmarks import Item
from dsm.evaluation.columns import LETTERS
from dsm.evaluation.prompts import Prompter

Normalisation = Literal["none", "length", "bytes"]


class _Scorer(Protocol):
    def score(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[list[float]]: ...


@dataclass(frozen=True, slots=True)
class ChoiceScores:
    """Of each choice of an item: its log-probability in nats, its tokens, and its UTF-8 bytes."""

    logprobs: tuple[float, ...]
    tokens: tuple[int, ...]
    bytes: tuple[int, ...]

    def chosen(self, normalisation: Normalisation = "none") -> str:
        """The letter of the best choice, the first of equals."""
        scores = self.normalised(normalisation)
        return LETTERS[scores.index(max(scores))]

    def normalised(self, normalisation: Normalisation) -> tuple[float, ...]:
        """The log-probabilities as they are, per token (`length`) or per byte."""
        sizes = {"none": (1,) * len(self.logprobs), "length": self.tokens, "bytes": self.bytes}[normalisation]
        return tuple(logprob / size for logprob, size in zip(self.logprobs, sizes, strict=True))


def score_choices(items: Sequence[Item], prompter: Prompter, engine: _Scorer) -> list[ChoiceScores]:
    """Score the choices of all items in one call of the engine.

    Raises:
        UserError: if a prompt does not fit the model's positions.
    """
    pairs = [prompter.continuations(item) for item in items]
    scored = iter(engine.score([pair for of_item in pairs for pair in of_item]))
    letters = prompter.config.likelihood.continuation == "letter"
    scores = []
    for item, of_item in zip(items, pairs, strict=True):
        texts = LETTERS[: len(item.choices)] if letters else item.choices
        logprobs = [next(scored) for _ in of_item]
        scores.append(
            ChoiceScores(
                tuple(map(sum, logprobs)), tuple(map(len, logprobs)), tuple(len(text.encode()) for text in texts)
            )
        )
    return scores
