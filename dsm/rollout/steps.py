"""Where the steps of a solution end, as places among its tokens: what a process reward is given for.

Every kind of step begins a line, so a border is a line end, and the token that a step ends with is the one that brings
this line end into the text. Which one that is only the decoded text can tell: a token of many tokenizers holds a line
end and more, and bytes of one character are spread over several. Line ends are counted, not characters: decoding the
first k tokens never shows fewer of them than decoding fewer tokens.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dsm.config.rollout import StepsConfig
from dsm.rollout.record import Steps
from dsm.rollout.stops import Detokenizer

_LINE_END = ("\n",)


def step_starts(text: str, config: StepsConfig) -> list[int]:
    """Where each step of a text begins, in characters; the first at 0. Steps joined are the text, none is blank."""
    match config.split:
        case "lines":
            borders = [found.end() for found in re.finditer(r"\n\s*", text)]
            borders = [text.rfind("\n", 0, end) + 1 for end in borders]  # a line's indentation belongs to it
        case "paragraphs":
            borders = [text.rfind("\n", 0, found.end()) + 1 for found in re.finditer(r"\n[^\S\n]*\n\s*", text)]
        case "marker":
            borders = [found.start() for found in re.finditer(rf"^[^\S\n]*(?:{config.marker})", text, re.MULTILINE)]
    starts = [0]
    for border in borders:
        if text[starts[-1] : border].strip() and text[border:].strip():
            starts.append(border)
    return starts


class StepFinder:
    """Finds the ends of steps with one tokenizer."""

    def __init__(self, detokenizer: Detokenizer, config: StepsConfig) -> None:
        self.detokenizer, self.config = detokenizer, config

    def ends(self, token_ids: Sequence[int], *, ended: bool) -> list[int]:
        """The place of the last token of each step of an answer, rising; the last is its last token before the EOS.

        `ended` says that the last token is an EOS. An answer that says nothing is one step.
        """
        said = token_ids[: len(token_ids) - 1] if ended else token_ids
        if not said:
            return [len(token_ids) - 1] if token_ids else []
        text = self.detokenizer.text(said)
        line_ends = [text.count("\n", 0, start) for start in step_starts(text, self.config)[1:]]
        places = self._may_end_a_line(said) if line_ends else []
        found = [
            places[bisect_left(places, count, key=lambda k: self.detokenizer.text(said[: k + 1]).count("\n"))]
            for count in line_ends
        ]
        return list(dict.fromkeys([*found, len(said) - 1]))

    def _may_end_a_line(self, token_ids: Sequence[int]) -> list[int]:
        """Places of the tokens that may bring a line end into the text; the last place is always among them."""
        may = self.detokenizer.completing(_LINE_END)
        ids = np.asarray(token_ids)
        known = ids < len(may)
        candidates = ~known | may[np.where(known, ids, 0)]
        candidates[[0, -1]] = True  # what a first token says depends on no neighbour: the table does not know it
        return np.flatnonzero(candidates).tolist()


def chosen_ends(ends: Sequence[int], action_mask: NDArray[np.bool_]) -> Steps:
    """The ends of steps moved back to tokens that the policy chose: (K,), rising.

    A step that ends within what a tool has put in ends with the last token before it; one that lies in there whole is
    none of the policy's.
    """
    last = np.maximum.accumulate(np.where(action_mask, np.arange(len(action_mask)), -1))
    moved = last[np.asarray(ends, dtype=np.int64)] if len(ends) else np.zeros(0, dtype=np.int64)
    return np.unique(moved[moved >= 0]).astype(np.int64)
