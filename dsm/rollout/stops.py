"""Stop strings, matched exactly on decoded text, at the price of a table look-up for almost every token.

What a token adds to a text depends on its neighbours (bytes of one character, blanks at the start), so text is only
ever taken from decoding all of a sample's tokens. That happens when the newest token could complete a stop string:
when its own text begins with what ends the string, or holds all of it, or when it has no certain text of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

UNCERTAIN = "\ufffd"
"""What tokenizers decode bytes to that are no character yet."""


class Detokenizer:
    """Text of token ids, and which tokens may complete a stop string."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> None:
        self.tokenizer, self.vocab_size = tokenizer, vocab_size
        self._pieces: list[str] | None = None
        self.completing = lru_cache(maxsize=64)(self._completing)

    def text(self, token_ids: Sequence[int]) -> str:
        """Decoded as it stands, without special tokens and without any tidying up of blanks."""
        return self.tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def find(self, token_ids: Sequence[int], stops: Sequence[str]) -> tuple[str, str] | None:
        """The text before the first stop string, and that string (the longer of two that start together); or None."""
        text = self.text(token_ids)
        found = [(text.find(stop), -len(stop), stop) for stop in stops if stop in text]
        if not found:
            return None
        start, _, stop = min(found)
        return text[:start], stop

    def _completing(self, stops: tuple[str, ...]) -> NDArray[np.bool_]:
        """(V,) whether a token, not a sample's first, may be the one with which one of the strings is complete."""
        if self._pieces is None:
            self._pieces = self._pieces_in_context()
        may = np.ones(self.vocab_size, dtype=bool)
        for token, piece in enumerate(self._pieces):
            may[token] = not piece or UNCERTAIN in piece or any(_may_complete(piece, stop) for stop in stops)
        return may

    def _pieces_in_context(self) -> list[str]:
        """What each token adds after an ordinary one; empty where that cannot be told."""
        ids = range(min(len(self.tokenizer), self.vocab_size))
        anchor = next((token for token in ids if (text := self.text([token])).isascii() and text.isalnum()), None)
        if anchor is None:
            return []
        before = self.text([anchor])
        texts = self.tokenizer.batch_decode(
            [[anchor, token] for token in ids], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return [text[len(before) :] if text.startswith(before) else "" for text in texts]


def _may_complete(piece: str, stop: str) -> bool:
    return stop in piece or any(piece.startswith(stop[i:]) for i in range(len(stop)))
