"""Documents into micro-batches in which a prompt stands once, however many of its answers follow.

The first document of a prompt is whole. Of the others only the prompt's last token, which predicts the first of the
answer, and what comes after it are laid down; the rest of the prompt is their prefix (`Varlen.prefixes`). With answers
as long as their prompts that is nearly half of all tokens. Gradients are the same but for the order of sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from dsm.data.batch import Document, MicroBatch, StepBatch, collate, step_batch
from dsm.ops.varlen import Varlen

Prompt = tuple[int, bytes]
"""How many tokens, and which."""


@dataclass
class _Sheet:
    """A micro-batch that is being filled."""

    documents: list[Document] = field(default_factory=list)
    prefixes: list[tuple[int, int]] = field(default_factory=list)
    size: int = 0
    prompts: dict[Prompt, int] = field(default_factory=dict)
    """Where the first document of each prompt begins."""

    def cost(self, unit: Sequence[Document]) -> int:
        """Tokens that it would grow by."""
        known, tokens = set(self.prompts), 0
        for document in unit:
            prompt = _prompt(document)
            tokens += len(document.ids) - (prompt[0] if prompt in known else 0)
            known.add(prompt)
        return tokens

    def add(self, document: Document) -> None:
        """Lay it down, or what of it is not there yet."""
        prompt = _prompt(document)
        first = self.prompts.setdefault(prompt, self.size)
        count = prompt[0] if first < self.size else 0
        self.prefixes.append((first, count))
        self.documents.append(_after(document, count))
        self.size += len(document.ids) - count

    def batch(self) -> MicroBatch:
        """As it is computed."""
        batch = collate(self.documents)
        return replace(batch, varlen=Varlen.from_lengths(batch.varlen.lengths, prefixes=self.prefixes))


def shared_batch(units: Sequence[Sequence[Document]], tokens_per_microbatch: int) -> StepBatch:
    """`step_batch`, with prompts computed once a micro-batch; `positions` and the limit count what is computed."""
    if not units:
        return step_batch([], tokens_per_microbatch)
    sheets = [_Sheet()]
    for unit in units:
        if sheets[-1].size and sheets[-1].size + sheets[-1].cost(unit) > tokens_per_microbatch:
            sheets.append(_Sheet())
        for document in unit:
            sheets[-1].add(document)
    trained = [document.trained_tokens for unit in units for document in unit]
    return StepBatch(
        microbatches=[sheet.batch() for sheet in sheets],
        sequences=sum(count > 0 for count in trained),
        tokens=sum(trained),
        positions=sum(sheet.size for sheet in sheets),
    )


def _prompt(document: Document) -> Prompt:
    """What another document may share: all before the last token that stands before the first trained one."""
    count = max(int(document.trained.argmax()) - 1, 0)
    return count, document.ids[:count].tobytes()


def _after(document: Document, count: int) -> Document:
    streams = {name: values[count:] for name, values in document.streams.items()}
    return document._replace(ids=document.ids[count:], trained=document.trained[count:], streams=streams)
