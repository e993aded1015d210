"""Worked examples for few-shot prompts: our own, a user's file, or items of another split of the data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dsm.config.benchmark import BenchmarkConfig
from dsm.config.listing import closest, conf_dir
from dsm.data.layouts import RowError
from dsm.errors import UserError
from dsm.evaluation.benchmarks import data_source, load_items, write_choices
from dsm.evaluation.columns import fill, places, read_choices

SPLIT_PREFIX = "split:"


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A worked example. One with `groups` is for the items of those groups, see `few_shot.by`."""

    question: str
    answer: str
    groups: Mapping[str, str] = field(default_factory=dict)


def load_exemplars(name: str, config: BenchmarkConfig, *, root: str | None = None) -> str | list[Exemplar]:
    """The exemplars of a benchmark: a list of at least `shots` of them, or one text to be used as it is.

    Raises:
        UserError: naming benchmarks.NAME.few_shot.exemplars, if they cannot be read or are too few.
    """
    few_shot = config.few_shot
    assert few_shot.exemplars is not None  # the schema has seen to it
    key = f"benchmarks.{name}.few_shot.exemplars={few_shot.exemplars}"
    if few_shot.exemplars.startswith(SPLIT_PREFIX):
        exemplars = _from_split(name, config, few_shot.exemplars.removeprefix(SPLIT_PREFIX), root)
    else:
        found = _from_file(few_shot.exemplars, key)
        if isinstance(found, str):
            return found
        exemplars = [_exemplar(row, number, config, key) for number, row in enumerate(found, start=1)]
    if len(exemplars) < few_shot.shots:
        raise UserError(f"benchmarks.{name}.few_shot.shots={few_shot.shots}: {key} holds {len(exemplars)} only")
    return exemplars


def _from_split(name: str, config: BenchmarkConfig, split: str, root: str | None) -> list[Exemplar]:
    """The items of another split, answered by their golds."""
    path, _ = data_source(name, config.data, root)
    if Path(path).is_file():
        raise UserError(
            f"benchmarks.{name}.few_shot.exemplars={SPLIT_PREFIX}{split}: {path} is one file and has no splits; give "
            f"FILE.json, or benchmarks.{name}.few_shot.shots=0"
        )
    data = config.data.model_copy(update={"split": split, "subsample": None})
    items, _ = load_items(name, config.model_copy(update={"data": data}), root=root)
    by = config.few_shot.by
    groups = [{by: item.groups[by]} if by is not None else {} for item in items]
    return [Exemplar(item.question, item.gold, group) for item, group in zip(items, groups, strict=True)]


def _from_file(where: str, key: str) -> str | list[Any]:
    """The content of FILE.json, of the entry NAME in FILE.json:NAME, or of one of our own files."""
    path, has_entry, entry = where.rpartition(".json:")
    path = f"{path}.json" if has_entry else where
    entry = entry if has_entry else ""
    ours = conf_dir() / "benchmark" / "exemplars"
    file = Path(path).expanduser() if path.endswith(".json") else ours / f"{path}.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        names = ", ".join(sorted(own.stem for own in ours.glob("*.json")))
        raise UserError(
            f"{key}: {file} cannot be read ({error.strerror}); give FILE.json[:NAME], split:NAME or one of {names}"
        ) from None
    except ValueError as error:  # not UTF-8, not JSON
        raise UserError(f"{key}: {file} is not valid JSON ({str(error).splitlines()[0]})") from None
    if isinstance(content, dict):
        if entry not in content:
            raise UserError(f"{key}: no entry {entry!r}{closest(entry, content)}; {file} has {', '.join(content)}")
        content = content[entry]
        if isinstance(content, dict):
            content = content.get("few_shot_prompt")
    elif entry:
        raise UserError(f"{key}: {file} holds a list, not named entries; leave :{entry} out")
    if not isinstance(content, str | list):
        raise UserError(f"{key}: must be a list of {{question, answer}}, or hold a few_shot_prompt that is text")
    return content


def _exemplar(row: Any, number: int, config: BenchmarkConfig, key: str) -> Exemplar:
    """{question, answer}, and perhaps choices, or the group it is for."""
    said = row if isinstance(row, dict) else {}
    question, answer = said.get("question"), said.get("answer")
    if not (isinstance(question, str) and question.strip() and isinstance(answer, str) and answer.strip()):
        raise UserError(f"{key}: entry {number} must be an object whose question and answer are texts")
    if "choices" in said:
        try:
            shown = write_choices(read_choices(said["choices"], "choices"), config.data)
        except RowError as error:
            raise UserError(f"{key}: entry {number}: {error}") from None
        columns = [column for place in places(config.data.question) for column in place.split("|")]
        question = fill(config.data.question, dict.fromkeys(columns, question) | {"choices": shown})
    by = config.few_shot.by
    return Exemplar(question, answer, {by: str(said[by])} if by is not None and by in said else {})
