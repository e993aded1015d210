"""The reference answer in a row's columns."""

from __future__ import annotations

import re
from typing import Literal

from dsm.answers import extract
from dsm.rollout.record import Prompt

Form = Literal["auto", "text", "hashes", "boxed"]
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3})")


class NoGoldError(Exception):
    """A row lacks a column, or the column lacks what is looked for; the text says which."""


def column(prompt: Prompt, names: str) -> str:
    """The text of the first of the columns `a|b` that the row has; 72.0 is 72, a list is one element a line.

    Raises:
        NoGoldError: if it has none of them.
    """
    for name in names.split("|"):
        value = prompt.columns.get(name)
        if value is not None:
            return _text(value)
    wanted = " or ".join(map(repr, names.split("|")))
    raise NoGoldError(f"the row has no column {wanted}; it has {', '.join(map(str, prompt.columns)) or 'none'}")


def _text(value: object) -> str:
    if isinstance(value, list | tuple):
        return "\n".join(map(_text, value))
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)


def read_gold(prompt: Prompt, names: str, form: Form) -> str:
    """The reference answer of a row.

    Raises:
        NoGoldError: if there is none.
    """
    text = column(prompt, names).strip()
    gold: str | None = text
    if form == "hashes" or (form == "auto" and "####" in text):
        _, mark, answer = text.rpartition("####")
        gold = _THOUSANDS.sub("", answer.strip()) if mark else None
    elif form == "boxed" or (form == "auto" and "\\boxed" in text):
        gold = extract(text, "boxed").answer
    if not gold:
        raise NoGoldError(f"column {names!r} holds no reference answer (gold_form={form}): {text[-40:]!r}")
    return gold
