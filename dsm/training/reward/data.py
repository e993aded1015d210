"""Judged solutions as token arrays: read and tokenised once, by rank 0, then mapped from the disk by all.

Whatever they come from, rollouts or rows of text, they are the same here: tokens of question and solution, the places
whose values are trained, and a label for each place. Of outcomes the one place is the last token; of processes it is
the last token of each step.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from dsm.config.reward_model import RewardSourceConfig
from dsm.data.batch import Document
from dsm.data.formats import TEMPLATES, ChatTemplate, Example, question_suffix, render
from dsm.data.instructions import hash_tokens
from dsm.data.layouts import RowError, Turn
from dsm.data.records import Record, Rejected, content_fingerprint, raw_row, read_records
from dsm.data.tokenizer import tokenizer_fingerprint
from dsm.errors import UserError
from dsm.files import atomic_directory, digest, sole_writer
from dsm.models.reward import Supervision
from dsm.runtime import watch
from dsm.training.reward.batch import LABEL
from dsm.training.reward.rollouts import holds_rollouts, read_rollouts, rollouts_fingerprint
from dsm.training.reward.rows import Judged, read_row

_FORMAT = 1  # raise it when the arrays' meaning changes


@dataclass(frozen=True)
class Tokenised:
    """One judged solution.

    Attributes:
        ids: tokens of question and solution.
        prompt: how many of them are the question's.
        outcome: 0 to 1; NaN where nothing is known.
        marks: places in `ids` of the last tokens of the judged steps.
        labels: of these steps.
    """

    ids: NDArray[np.int64]
    prompt: int
    outcome: float
    marks: NDArray[np.int64]
    labels: NDArray[np.float64]


@dataclass(frozen=True)
class Solutions:
    """Solutions as views into flat arrays.

    Attributes:
        ids: int32, the tokens of all.
        starts, lengths: (D,) int64; solution d is ids[starts[d]:starts[d] + lengths[d]].
        sources: (D,) int64, number of the source.
        questions: (D,) uint64, a hash of the question's tokens.
        outcomes: (D,) float32; NaN where nothing is known.
        partners: (D,) int64; 1 for the first of a given pair (the second follows), else 0 or 2 (the second).
        marks, labels: int32 and float32, places whose values are trained and what they judge.
        mark_starts, mark_counts: (D,) int64, as `starts` and `lengths`.
    """

    ids: NDArray[np.int32]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    sources: NDArray[np.int64]
    questions: NDArray[np.uint64]
    outcomes: NDArray[np.float32]
    partners: NDArray[np.int64]
    marks: NDArray[np.int32]
    labels: NDArray[np.float32]
    mark_starts: NDArray[np.int64]
    mark_counts: NDArray[np.int64]

    def __len__(self) -> int:
        """The number of solutions."""
        return len(self.starts)

    def __getitem__(self, number: int) -> Document:
        """One solution; `trained` marks the scored tokens (`dsm.training.reward.batch`)."""
        length, first = int(self.lengths[number]), int(self.starts[number])
        span = slice(self.mark_starts[number], self.mark_starts[number] + self.mark_counts[number])
        scored = np.zeros(length, dtype=np.bool_)
        scored[self.marks[span]] = True
        labels = np.zeros(length, dtype=np.float32)
        labels[self.marks[span]] = self.labels[span]
        return Document(self.ids[first : first + length], scored, int(self.sources[number]), streams={LABEL: labels})

    def select(self, chosen: NDArray[np.integer] | NDArray[np.bool_]) -> Solutions:
        """Some of them, by number or by mask."""
        names = ("starts", "lengths", "sources", "questions", "outcomes", "partners", "mark_starts", "mark_counts")
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})


@dataclass(frozen=True)
class SourceReport:
    """What became of one source's rows."""

    name: str
    solutions: int
    rejected: int
    tokens: int
    scored: int
    good: float


@dataclass(frozen=True)
class TokenisedSolutions:
    """Sources that lie tokenised in the cache, and what their tokens depend on."""

    folder: Path
    facts: dict[str, str]

    def solutions(self) -> Solutions:
        """The arrays, the tokens mapped from the disk."""
        small = [name for name in Solutions.__dataclass_fields__ if name != "ids"]
        ids = np.load(self.folder / "ids.npy", mmap_mode="r")
        return Solutions(ids, **{name: np.load(self.folder / f"{name}.npy") for name in small})

    @cached_property
    def reports(self) -> list[SourceReport]:
        """What became of each source's rows."""
        return [SourceReport(**report) for report in json.loads((self.folder / "report.json").read_text())]

    @property
    def rejected(self) -> Path:
        """The rows set aside, with their reasons."""
        return self.folder / "rejected.jsonl"


def tokenise_solutions(
    sources: Mapping[str, RewardSourceConfig],
    supervision: Supervision,
    labels: str,
    template: str,
    tokenizer: PreTrainedTokenizerBase,
    cache: Path,
) -> TokenisedSolutions:
    """Tokenise the sources, or find them tokenised.

    Raises:
        UserError: a source cannot be read, was written with another tokenizer, or none of its rows can be used.
    """
    facts = {}
    for name, source in sources.items():
        key = f"data.sources.{name}.path"
        if holds_rollouts(source.path):
            content = rollouts_fingerprint(source.path, key)
        else:
            content = content_fingerprint(source.path, split=source.split, key=key)
        facts[f"data.sources.{name}"] = digest(source.model_dump(exclude={"path", "weight"}), content)
    facts |= {"data.template": template, "data.labels": labels, "supervision": supervision, "format": str(_FORMAT)}
    facts["tokenizer"] = tokenizer_fingerprint(tokenizer)
    folder = cache / f"judged-{digest(list(facts.items()))[:16]}"
    with sole_writer(folder):
        if not folder.is_dir():
            _write(sources, supervision, labels, template, tokenizer, folder)
    return TokenisedSolutions(folder, facts)


def _write(
    sources: Mapping[str, RewardSourceConfig],
    supervision: Supervision,
    labels: str,
    template: str,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
) -> None:
    found: list[Tokenised] = []
    numbers: list[int] = []
    partners: list[int] = []
    reports = []
    with atomic_directory(folder) as partial, (partial / "rejected.jsonl").open("w") as rejected:
        for number, (name, source) in enumerate(sources.items()):
            first, set_aside = len(found), Counter[str]()
            for row in _rows(source, f"data.sources.{name}", supervision, tokenizer, TEMPLATES[template]):
                watch.progress("tokenising", watch.SLOW)
                if isinstance(row, Rejected):
                    rejected.write(json.dumps({"source": name, **asdict(row)}, ensure_ascii=False) + "\n")
                    set_aside[row.reason] += 1
                    continue
                found += [_scored(solution, supervision, labels) for solution in row]
                numbers += [number] * len(row)
                partners += [0] if len(row) == 1 else [1, 2]
                if source.limit is not None and len(found) - first >= source.limit:
                    break
            if len(found) == first:
                reason = set_aside.most_common(1)[0][0] if set_aside else "there are none"
                raise UserError(
                    f"data.sources.{name}.path={source.path}: none of its {set_aside.total()} rows can be used for"
                    f" supervision={supervision}; {reason}"
                )
            mine = found[first:]
            every = np.concatenate([solution.labels for solution in mine])
            tokens = sum(len(solution.ids) for solution in mine)
            reports.append(
                SourceReport(name, len(mine), set_aside.total(), tokens, len(every), float((every > 0.5).mean()))
            )
        _save(partial, found, numbers, partners)
        (partial / "report.json").write_text(json.dumps([asdict(report) for report in reports]))


def _save(folder: Path, found: list[Tokenised], numbers: list[int], partners: list[int]) -> None:
    lengths = np.asarray([len(solution.ids) for solution in found], dtype=np.int64)
    counts = np.asarray([len(solution.marks) for solution in found], dtype=np.int64)
    arrays: dict[str, NDArray[Any]] = {
        "ids": np.concatenate([solution.ids for solution in found]).astype(np.int32),
        "starts": np.cumsum(lengths) - lengths,
        "lengths": lengths,
        "sources": np.asarray(numbers, dtype=np.int64),
        "questions": np.asarray([hash_tokens(solution.ids[: solution.prompt]) for solution in found], dtype=np.uint64),
        "outcomes": np.asarray([solution.outcome for solution in found], dtype=np.float32),
        "partners": np.asarray(partners, dtype=np.int64),
        "marks": np.concatenate([solution.marks for solution in found]).astype(np.int32),
        "labels": np.concatenate([solution.labels for solution in found]).astype(np.float32),
        "mark_starts": np.cumsum(counts) - counts,
        "mark_counts": counts,
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


def _rows(
    source: RewardSourceConfig,
    key: str,
    supervision: Supervision,
    tokenizer: PreTrainedTokenizerBase,
    template: ChatTemplate,
) -> Iterator[list[Tokenised] | Rejected]:
    """The solutions of each row, or why it cannot be used."""
    if holds_rollouts(source.path):
        for found in read_rollouts(source.path, supervision, tokenizer, f"{key}.path"):
            yield found if isinstance(found, Rejected) else [Tokenised(*found)]
        return
    for record in read_records(source.path, split=source.split, key=f"{key}.path"):
        if isinstance(record, Rejected):
            yield record
            continue
        try:
            yield _of_text(record, source, supervision, tokenizer, template)
        except RowError as error:
            yield Rejected(record.location, str(error), raw_row(record.row))


def _of_text(
    record: Record,
    source: RewardSourceConfig,
    supervision: Supervision,
    tokenizer: PreTrainedTokenizerBase,
    template: ChatTemplate,
) -> list[Tokenised]:
    judged = read_row(record.row)
    if supervision == "process" and not all(solution.step_ends for solution in judged):
        raise RowError("supervision=process needs steps with labels")
    if supervision == "outcome" and not all(solution.label is not None for solution in judged):
        raise RowError("supervision=outcome needs a label of the whole solution")
    return [tokenise(solution, tokenizer, template, suffix=source.suffix) for solution in judged]


def tokenise(
    judged: Judged, tokenizer: PreTrainedTokenizerBase, template: ChatTemplate, *, suffix: bool = False
) -> Tokenised:
    """Question and solution as a policy that was tuned with this template reads and writes them, the end included.

    As in rollouts (`dsm.rollout.steps`), a step ends with the token that brings its line end into the text, the last
    one with the last token before the EOS.
    """
    question = judged.prompt
    if suffix and not question.rstrip().endswith(instruction := question_suffix(question, "cot")):
        question = f"{question.rstrip()}\n{instruction}"
    turns = (Turn("user", question, False), Turn("assistant", judged.solution, True))
    special = {"bos_token": tokenizer.bos_token_id, "eos_token": tokenizer.eos_token_id}
    ids: list[int] = []
    prompt, marks = 0, []
    for segment in render(Example(turns, "", "", "cot"), template):
        if segment.special is not None:
            ids += [special[segment.special]] if special[segment.special] is not None else []
            continue
        encoded = tokenizer(
            segment.text, add_special_tokens=False, split_special_tokens=True, return_offsets_mapping=True
        )
        if segment.train:
            prompt = len(ids)
            begins = np.asarray([begin for begin, _ in encoded["offset_mapping"]])
            ends = len(template.answer_space) + np.asarray(judged.step_ends, dtype=np.int64)
            marks = list(len(ids) + np.searchsorted(begins, ends, side="right") - 1)
        ids += encoded["input_ids"]
    outcome = float("nan") if judged.label is None else judged.label
    labels = np.asarray(judged.step_labels, dtype=np.float64)
    return Tokenised(np.asarray(ids, dtype=np.int64), prompt, outcome, np.asarray(marks, dtype=np.int64), labels)


def _scored(solution: Tokenised, supervision: Supervision, labels: str) -> Tokenised:
    """With the marks that are trained: the steps', or the last token. A hard label: some completion has succeeded."""
    if supervision == "process":
        return replace(solution, labels=(solution.labels > 0).astype(np.float64)) if labels == "hard" else solution
    return replace(solution, marks=np.asarray([len(solution.ids) - 1]), labels=np.asarray([solution.outcome]))
