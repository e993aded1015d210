"""Rows of text with judgements in them: five forms, told apart by their keys.

{"prompt", "completion", "label"}          one solution: right or wrong (true, false, or a number from 0 to 1)
{"prompt", "chosen", "rejected"}           a pair of solutions, the better one first
{"prompt", "steps", "labels"}              a solution in steps, each judged ("completions" for "steps" does too)
{"input", "label"}                         Math-Shepherd: "question Step 1: ... ки\\nStep 2: ... ки", and the same
                                           text with + or - in place of each ки
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dsm.data.layouts import RowError

STEP_TAG = "ки"
_FIRST_STEP = "Step 1:"


@dataclass(frozen=True)
class Judged:
    """A solution and what is known of it.

    Attributes:
        prompt, solution: text; steps stand on lines of their own.
        label: of the whole solution, 0 (wrong) to 1 (right); None where nothing is said of it.
        step_ends: where in `solution` each judged step ends, in characters, rising: its line end, or the text's end.
        step_labels: of each of these, 0 to 1.
    """

    prompt: str
    solution: str
    label: float | None = None
    step_ends: tuple[int, ...] = ()
    step_labels: tuple[float, ...] = ()


def read_row(row: Mapping[str, Any]) -> list[Judged]:
    """The solutions of a row; two, the better one first, of a pair.

    Raises:
        RowError: the row has none of the forms, or its parts do not go together.
    """
    if "chosen" in row or "rejected" in row:
        prompt = _text(row, "prompt")
        pair = [Judged(prompt, _text(row, key), label) for key, label in (("chosen", 1.0), ("rejected", 0.0))]
        if pair[0].solution == pair[1].solution:
            raise RowError("chosen and rejected are the same text")
        return pair
    if "labels" in row:
        steps = row.get("steps", row.get("completions"))
        if not isinstance(steps, Sequence) or isinstance(steps, str) or not all(isinstance(s, str) for s in steps):
            raise RowError("labels go with steps, a list of strings")
        labels = row["labels"]
        if not isinstance(labels, Sequence) or isinstance(labels, str):
            raise RowError("labels must be a list")
        label = _label(row["label"], "label") if row.get("label") is not None else None
        return [_in_steps(_text(row, "prompt"), steps, [_label(value, "labels") for value in labels], label)]
    if "input" in row and "label" in row:
        return [_shepherd(_text(row, "input"), _text(row, "label"))]
    if "completion" in row and "label" in row:
        return [Judged(_text(row, "prompt"), _text(row, "completion"), _label(row["label"], "label"))]
    raise RowError(
        f"columns {', '.join(map(str, row))} are none of (prompt, completion, label), (prompt, chosen, rejected),"
        " (prompt, steps, labels), (input, label)"
    )


def _in_steps(prompt: str, steps: Sequence[str], labels: Sequence[float], label: float | None = None) -> Judged:
    if len(steps) != len(labels):
        raise RowError(f"{len(steps)} steps have {len(labels)} labels")
    texts = [step.strip() for step in steps]
    if not texts or not all(texts):
        raise RowError("there is a step without text" if texts else "there is no step")
    ends, solution = [], ""
    for text in texts:
        solution += ("\n" if solution else "") + text
        ends.append(len(solution))
    return Judged(prompt, solution, label, tuple(ends), tuple(labels))


def _shepherd(text: str, judged: str) -> Judged:
    """Math-Shepherd's line; its last step says whether the answer is right."""
    parts = text.split(STEP_TAG)
    if len(parts) < 2 or _FIRST_STEP not in parts[0]:
        raise RowError(f"input needs '{_FIRST_STEP}' and a {STEP_TAG} behind each step")
    labels, place = [], 0
    for part in parts[:-1]:
        place += len(part)
        mark = judged[place : place + 1]
        if not judged.startswith(part, place - len(part)) or mark not in ("+", "-"):
            raise RowError(f"label must be the input with + or - in place of each {STEP_TAG}")
        labels.append(float(mark == "+"))
        place += 1
    question, _, first = parts[0].partition(_FIRST_STEP)
    if not question.strip():
        raise RowError(f"there is no question before '{_FIRST_STEP}'")
    return _in_steps(question.strip(), [_FIRST_STEP + first, *parts[1:-1]], labels, labels[-1])


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise RowError(f"{key} must be a text that is not empty")
    return value


def _label(value: Any, key: str) -> float:
    """0 to 1; + and - are read as well."""
    if isinstance(value, str) and value in ("+", "-"):
        return float(value == "+")
    if isinstance(value, bool | int | float) and 0 <= float(value) <= 1:
        return float(value)
    raise RowError(f"{key}: {value!r} is neither true, false nor a number from 0 to 1")
