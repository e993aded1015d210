"""From a row's columns to what an item needs: texts by template, choices, the reference answer.

Data sets write the same thing in many ways: choices as a list, as labelled strings or in one line; the answer as text,
at the end of a solution, as a letter or a number. Each way is read by one small function here, and whatever does not
fit is a `RowError` that says why.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dsm.answers.boxes import boxes
from dsm.config.benchmark import PLACE
from dsm.data.layouts import RowError

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

# ---------------------------------------------------------------- templates


def fill(template: str, row: Mapping[str, Any], *, strip: bool = True, trim: str = "") -> str:
    """The template with every `{column}` replaced; `{a|b}` is the first the row has, `{a.0.b}` a path into it.

    Lists are written one element a line, whole floats as integers. `strip` takes white space off every value, `trim`
    these characters off its end.

    Raises:
        RowError: if a column is missing, or what it holds cannot be written as text.
    """

    def value(place: re.Match[str]) -> str:
        text = as_text(lookup(place[1], row), place[1])
        text = text.strip() if strip else text
        return text.rstrip(trim) if trim else text

    return PLACE.sub(value, template)


def put(template: str, **texts: str) -> str:
    """The template with every `{name}` of these names replaced and nothing else, whatever the texts hold."""
    names = re.compile("|".join(re.escape(f"{{{name}}}") for name in texts))
    return names.sub(lambda place: texts[place[0][1:-1]], template) if texts else template


def places(template: str) -> list[str]:
    """What stands between the braces of a template, in order."""
    return PLACE.findall(template)


def lookup(place: str, row: Mapping[str, Any]) -> Any:
    """The first of the columns or paths `a|b|c.0.d` that the row has a value for.

    Raises:
        RowError: if it has none of them.
    """
    for path in place.split("|"):
        value = at(row, path)
        if value is not None:
            return value
    raise RowError(f"has no column {' or '.join(map(repr, place.split('|')))}; its keys are {', '.join(map(str, row))}")


def at(row: Mapping[str, Any], path: str) -> Any:
    """What lies at `a.0.b`, or at the column of that very name; None where there is nothing."""
    if path in row:
        return row[path]
    value: Any = row
    for part in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    return value


def as_text(value: Any, name: str) -> str:
    """A cell as text with LF line ends; 72.0 is 72 (readers make ints floats), a list is one element a line.

    Raises:
        RowError: for what is neither text nor a finite number nor a list of them, or cannot be encoded.
    """
    if isinstance(value, list | tuple):
        return "\n".join(as_text(part, name) for part in value)
    if isinstance(value, float) and math.isfinite(value):
        value = str(int(value)) if value.is_integer() else repr(value)
    elif isinstance(value, int):  # True and False too: answers of yes-or-no questions
        value = str(value)
    if not isinstance(value, str):
        raise RowError(f"column {name!r} must be text or a finite number, not {json.dumps(value, default=str)[:40]}")
    try:
        value.encode("utf-8")  # JSON can spell half a surrogate pair, which no tokenizer takes
    except UnicodeEncodeError:
        raise RowError(f"column {name!r} holds half a surrogate pair") from None
    return value.replace("\r\n", "\n")


# ---------------------------------------------------------------- choices


def read_choices(value: Any, name: str) -> tuple[str, ...]:
    """The texts of the choices, without their letters.

    Args:
        value: a list of texts, labelled in order ('(A) 1', 'B. 2', ...) or not; a mapping that has such a list under
            'text'; or one text 'A) 1 B) 2 ...'.

    Raises:
        RowError: if there are fewer than two or more than 26, or one is empty.
    """
    if isinstance(value, Mapping) and "text" in value:
        value = value["text"]
    if isinstance(value, str):
        parts = _split_line(value)
        if parts is None:
            raise RowError(f"column {name!r} holds no choices labelled A, B, ...: {value[:40]!r}")
    elif isinstance(value, list | tuple):
        parts = _without_labels([as_text(part, name).strip() for part in value])
    else:
        raise RowError(f"column {name!r} must be a list of choices or one text, not {type(value).__name__}")
    if not 2 <= len(parts) <= len(LETTERS):
        raise RowError(f"column {name!r} holds {len(parts)} choices; allowed are 2 to {len(LETTERS)}")
    if "" in parts:
        raise RowError(f"column {name!r}: choice {LETTERS[parts.index('')]} is empty")
    return tuple(parts)


def _label(letter: str) -> str:
    return rf"(?:\({letter}\)|{letter}[).:．、])\s*"


def _without_labels(parts: Sequence[str]) -> list[str]:
    found = [re.match(_label(letter), part) for letter, part in zip(LETTERS, parts, strict=False)]
    if len(parts) <= len(LETTERS) and all(found):
        return [part[label.end() :].strip() for label, part in zip(found, parts, strict=True) if label]
    return list(parts)


def _split_line(line: str) -> list[str] | None:
    """Cut at A, B, C, ... in this order; a letter that stands for something else in a choice comes out of order."""
    starts: list[tuple[int, int]] = []
    position = 0
    for letter in LETTERS:
        label = re.compile(rf"(?:^|(?<=\s)){_label(letter)}").search(line, position)
        if label is None:
            break
        starts.append(label.span())
        position = label.end()
    if not starts or line[: starts[0][0]].strip():
        return None
    ends = [start for start, _ in starts[1:]] + [len(line)]
    return [line[begin:end].strip() for (_, begin), end in zip(starts, ends, strict=True)]


# ---------------------------------------------------------------- reference answers

Gold = tuple[str, ...]
"""The reference answer: one text, or several where all of them are asked for."""


def read_gold(form: str, text: str, question: str, choices: Sequence[str]) -> Gold:
    """The reference answer that a filled `data.gold` holds, by `data.gold_form`.

    Raises:
        RowError: if there is none.
    """
    gold = tuple(part for part in (part.strip() for part in _FORMS[form](text, question, choices)) if part)
    if not gold:
        raise RowError(f"no reference answer (gold_form={form}) in {text[-40:]!r}")
    return gold


def _hashes(text: str, question: str, choices: Sequence[str]) -> Gold:
    _, mark, answer = text.rpartition("####")
    return (re.sub(r"(?<=\d),(?=\d{3})", "", answer),) if mark else ()


def _boxed(text: str, question: str, choices: Sequence[str]) -> Gold:
    r"""The last box; all of them where the question asks for a list and the solution boxes its members one by one."""
    found = [box.content.strip() for box in boxes(text)]
    asks_list = re.search(r"separated\s+by\s+(?:a\s+)?comma", question) is not None
    if asks_list and len(set(found)) > 1 and not any("," in box for box in found):
        return tuple(dict.fromkeys(found))
    return tuple(found[-1:])


def _choice(text: str, question: str, choices: Sequence[str]) -> Gold:
    """'B', '(B)', 'A, C' or 'ACD', several letters in alphabetical order; or a choice's number, from 0."""
    if text.strip().isdecimal():
        if int(text) >= len(choices):
            raise RowError(f"the answer {text[:40]!r} is no number of a choice, 0 to {len(choices) - 1}")
        return (LETTERS[int(text)],)
    letters = re.sub(r"[^A-Za-z]", "", text).upper()
    allowed = LETTERS[: len(choices)]
    if strange := [letter for letter in letters if letter not in allowed]:
        raise RowError(f"the answer {text[:40]!r} names choice {strange[0]}; there are {', '.join(allowed) or 'none'}")
    return ("".join(sorted(set(letters))),)


def _list(text: str, question: str, choices: Sequence[str]) -> Gold:
    """'$1$;$2$' as ('1', '2')."""
    return tuple(re.sub(r"^\$([^$]*)\$$", r"\1", part.strip()) for part in re.split(r"[;；]", text))


_FORMS: dict[str, Callable[[str, str, Sequence[str]], Gold]] = {
    "text": lambda text, question, choices: (text,),
    "hashes": _hashes,
    "boxed": _boxed,
    "choice": _choice,
    "list": _list,
}
