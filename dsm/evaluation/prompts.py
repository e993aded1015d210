"""From an item to the tokens a model continues.

Base models see worked examples and the item as plain text; tuned models see the question with the instruction they were
tuned on, in their chat form. What is the same for all items of a benchmark - exemplars, format, instruction - has one
hash, so that two results can be known to come from the same prompt.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from dsm.config.benchmark import BenchmarkConfig, FewShotConfig, Prompting, ZeroShotConfig
from dsm.data.formats import (
    CHAT,
    PLAIN,
    ChatTemplate,
    Segment,
    question_suffix,
    render_prompt,
    tokenise_example,
)
from dsm.data.layouts import Turn
from dsm.data.prompts import has_own_chat_form
from dsm.errors import UserError
from dsm.evaluation.benchmarks import Item
from dsm.evaluation.columns import LETTERS, put
from dsm.evaluation.exemplars import Exemplar, load_exemplars

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ANSWER = "{answer}"


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model is given for one item.

    `text` leaves special tokens out where the template is ours. `shots` exemplars are in it. `space` is what an answer
    begins with: the end of a prompt has no white space of its own.
    """

    text: str
    input_ids: tuple[int, ...]
    shots: int
    space: str


class Prompter:
    """Asks the items of one benchmark in one way.

    Args:
        name: the benchmark's key under `benchmarks`, for messages.
        positions: of the model; a prompt must leave room for an answer within them. None = unlimited.
        max_new_tokens: tokens of an answer; None = the benchmark's own limit. Choices to be scored take what they need.
        chat: the chat form of zero-shot prompts; None = the tokenizer's own where it has one, else the paper's.
        root: the run's data_root, for exemplars from a split of the data.

    Raises:
        UserError: if the exemplars cannot be read, or there are fewer than `shots`.
    """

    def __init__(
        self,
        name: str,
        config: BenchmarkConfig,
        prompting: Prompting,
        tokenizer: PreTrainedTokenizerBase,
        *,
        positions: int | None = None,
        max_new_tokens: int | None = None,
        chat: ChatTemplate | None = None,
        root: str | None = None,
    ) -> None:
        self.name, self.config, self.prompting, self.tokenizer = name, config, prompting, tokenizer
        self.protocol = config.protocol(prompting)
        self.max_new_tokens = max_new_tokens or config.max_new_tokens
        self._positions = positions
        self._chat = chat or (None if has_own_chat_form(tokenizer) else CHAT)
        self._exemplars: str | list[Exemplar] = []
        if isinstance(self.protocol, FewShotConfig) and self.protocol.shots:
            self._exemplars = load_exemplars(name, config, root=root)

    def render(self, item: Item) -> Prompt:
        """The item's prompt.

        Raises:
            UserError: if it leaves no room for the answer in the model's positions.
        """
        exemplars = self._exemplars_for(item)
        prompt = self._render(item, exemplars)
        room = None if self._positions is None else self._positions - self._answer_tokens(item)
        if room is None or len(prompt.input_ids) <= room:
            return prompt
        drop = isinstance(self.protocol, FewShotConfig) and self.protocol.fit == "fewer_shots"
        if drop and not isinstance(exemplars, str):
            for first in range(1, len(exemplars) + 1):
                shorter = self._render(item, exemplars[first:])
                if len(shorter.input_ids) <= room:
                    return shorter
        raise UserError(self._too_long(item, prompt))

    def continuations(self, item: Item) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """Prompt and continuation of each choice, as token ids, for `RolloutEngine.score`; kind=choices.

        Prompt and choice are tokenised as one text, for a token may reach over the border between them. The prompt
        ends where the first choice departs from it or from another one: it is the same for all choices of an item.
        """
        prompt = self.render(item)
        shown = LETTERS if self.config.likelihood.continuation == "letter" else item.choices
        exemplars = self._exemplars_for(item)
        kept = exemplars if isinstance(exemplars, str) else exemplars[len(exemplars) - prompt.shots :]
        whole = [
            self._render(item, kept, ending=prompt.space + text).input_ids
            for text, _ in zip(shown, item.choices, strict=False)
        ]
        border = min(_common_prefix(prompt.input_ids, ids) for ids in whole)
        return [(ids[:border], ids[border:]) for ids in whole]

    @cached_property
    def sha256(self) -> str:
        """SHA-256 (hex) of what the prompts of all items share: the prompt of the question '{question}'."""
        groups = {table: f"{{{table}}}" for table in self.config.data.groups}
        frame = self._render(Item(id="", question="{question}", gold="", groups=groups), self._exemplars_for(None))
        by_group = [] if isinstance(self._exemplars, str) else [e for e in self._exemplars if e.groups]
        said = [frame.text, [[e.question, e.answer, dict(e.groups)] for e in by_group]]
        return hashlib.sha256(json.dumps(said, ensure_ascii=False, sort_keys=True).encode()).hexdigest()

    # ------------------------------------------------------------ text

    def _exemplars_for(self, item: Item | None) -> str | list[Exemplar]:
        """Those of the item's group; where there are none, those of no group."""
        config = self.protocol
        if isinstance(self._exemplars, str) or not isinstance(config, FewShotConfig):
            return self._exemplars
        group = item.groups.get(config.by) if item is not None and config.by is not None else None
        own = [exemplar for exemplar in self._exemplars if config.by in exemplar.groups]
        own = [exemplar for exemplar in own if exemplar.groups[str(config.by)] == group]
        return (own or [exemplar for exemplar in self._exemplars if not exemplar.groups])[: config.shots]

    def _few_shot_text(self, item: Item, exemplars: str | Sequence[Exemplar], config: FewShotConfig) -> tuple[str, str]:
        """The text and the white space that an answer begins with."""
        before, _, after = config.shot.partition(_ANSWER)
        parts = [put(config.instruction, **item.groups)] if config.instruction else []
        if isinstance(exemplars, str):
            parts.append(exemplars)
            shots = config.shots
        else:
            shots = len(exemplars)
            for number, exemplar in enumerate(exemplars, start=1):
                parts.append(put(before, question=exemplar.question, number=str(number)) + exemplar.answer + after)
        asked = before.rstrip()
        parts.append(put(asked, question=item.question, number=str(shots + 1)))
        return config.separator.join(parts), before[len(asked) :]

    def _zero_shot_text(self, item: Item, config: ZeroShotConfig) -> str:
        suffix = config.suffix
        if suffix is None:
            suffix = question_suffix(item.question, "cot" if config.tool == "none" else config.tool, config.language)
        return put(config.template, question=item.question, suffix=suffix)

    def _render(self, item: Item, exemplars: str | Sequence[Exemplar], ending: str = "") -> Prompt:
        """The prompt, and `ending` as the beginning of the answer."""
        config = self.protocol
        if isinstance(config, FewShotConfig):
            text, space = self._few_shot_text(item, exemplars, config)
            shots = config.shots if isinstance(exemplars, str) else len(exemplars)
            return self._encode(render_prompt([Turn("user", text, False)], PLAIN), ending, shots, space)
        text = self._zero_shot_text(item, config)
        if self._chat is not None:
            segments = render_prompt([Turn("user", text, False)], self._chat)
            return self._encode(segments, ending, 0, self._chat.answer_space)
        messages = [{"role": "user", "content": text}]
        text = str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)) + ending
        return Prompt(text, tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"]), 0, "")

    def _encode(self, segments: list[Segment], ending: str, shots: int, space: str) -> Prompt:
        segments[-1] = replace(segments[-1], text=segments[-1].text + ending)
        input_ids, _ = tokenise_example(segments, self.tokenizer)
        return Prompt("".join(segment.text for segment in segments), tuple(input_ids), shots, space)

    # ------------------------------------------------------------ room

    def _answer_tokens(self, item: Item) -> int:
        if self.config.kind != "choices":
            return self.max_new_tokens
        if self.config.likelihood.continuation == "letter":
            return 2
        return max(len(f" {choice}".encode()) for choice in item.choices)  # no tokenizer needs more than one a byte

    def _too_long(self, item: Item, prompt: Prompt) -> str:
        settings = [] if self.config.kind == "choices" else [f"max_new_tokens={self.max_new_tokens}"]
        fit = ""
        if prompt.shots:
            settings.append(f"benchmarks.{self.name}.few_shot.shots={prompt.shots}")
            fit = (
                f", or set benchmarks.{self.name}.few_shot.fit=fewer_shots"
                if not isinstance(self._exemplars, str)
                else ""
            )
        lower = f"; lower {' or '.join(settings)}{fit}" if settings else ""
        return (
            f"benchmarks.{self.name}: the prompt of item {item.id} has {len(prompt.input_ids)} tokens and its answer"
            f" may have {self._answer_tokens(item)}, more than the model's {self._positions} positions{lower}"
        )


def _common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(first), len(second)))
