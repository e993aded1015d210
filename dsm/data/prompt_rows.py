"""From a row of any layout to a question with all that rewards may want to know of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dsm.answers.boxes import boxes
from dsm.config.prompts import PromptSourceConfig
from dsm.data.formats import Example, format_record, question_suffix
from dsm.data.layouts import Turn
from dsm.data.records import Record, Rejected, raw_row, read_records

_STAND_IN = "."  # an answer where none is needed, so that rows of any layout are read by the same code


@dataclass(frozen=True)
class Asked:
    """A row as a question.

    Attributes:
        turns: the conversation up to the question, instruction included.
        question: the last question, without the instruction.
        columns: the whole row, with `gold` and `solution` where they were asked for.
        location: where it was read.
    """

    turns: tuple[Turn, ...]
    question: str
    columns: dict[str, Any]
    location: str

    def rejected(self, reason: str) -> Rejected:
        """The row set aside after all."""
        return Rejected(self.location, reason, raw_row(self.columns))


def read_questions(source: PromptSourceConfig, key: str) -> Iterator[Asked | Rejected]:
    """Every row as a question, or with the reason why not, in order.

    Raises:
        UserError: the source cannot be read (see `read_records`).
    """
    for record in read_records(source.path, split=source.split, key=f"{key}.path"):
        if isinstance(record, Rejected):
            yield record
            continue
        example = format_record(*_with_answer(record, source))
        yield example if isinstance(example, Rejected) else _asked(example, record, source)


def _with_answer(record: Record, source: PromptSourceConfig) -> tuple[Record, PromptSourceConfig]:
    """The row in a layout that instruction data have: with an answer, and messages as messages."""
    names = {"question": "question", "answer": "answer"} | source.columns
    row, question = dict(record.row), record.row.get(names["question"])
    if isinstance(question, list):  # a conversation that ends with the question
        answer = _STAND_IN if source.gold == "none" else row.get(names["answer"])
        row = {"messages": [*question, {"role": "assistant", "content": answer}]}
        source = source.model_copy(update={"layout": "messages", "columns": {}})
    elif source.gold == "none" and source.layout in ("auto", "columns"):
        row.setdefault(names["answer"], _STAND_IN)
    return Record(row, record.location), source


def _asked(example: Example, record: Record, source: PromptSourceConfig) -> Asked | Rejected:
    last = max(i for i, turn in enumerate(example.turns) if turn.role == "user")
    turns = example.turns[: last + 1]
    question = turns[-1].content.rstrip()
    if source.suffix:
        question = question.removesuffix(question_suffix(question, source.style, source.language)).rstrip()
    columns = dict(record.row)
    solution = "".join(turn.content for turn in example.turns[last + 1 :]).strip()
    asked = Asked(turns, question, columns, record.location)
    if source.gold == "answer":
        columns["gold"] = solution
    elif source.gold == "boxed":
        found = boxes(solution)
        if not found or not found[-1].content.strip():
            return asked.rejected("no box in the solution (gold=boxed)")
        columns |= {"gold": found[-1].content.strip(), "solution": solution}
    return asked
