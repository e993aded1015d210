"""Instruction data as token arrays: read, formatted and tokenised once, then mapped from disk.

The cache is keyed by what the tokens depend on (the sources' bytes and settings, the template, the tokenizer), so it
can neither go stale nor be mixed up, and every rank and every restart reads the same arrays.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from dsm.config.data import SourceConfig
from dsm.data.batch import Document
from dsm.data.formats import TEMPLATES, Example, load_source, tokenise
from dsm.data.order import PackedOrder
from dsm.data.permutation import splitmix64
from dsm.data.records import Rejected, content_fingerprint
from dsm.data.tokenizer import tokenizer_fingerprint
from dsm.errors import UserError
from dsm.files import atomic_directory, digest, sole_writer

_FORMAT = 1  # raise it when the arrays' meaning changes


@dataclass(frozen=True)
class TokenisedExamples:
    """Examples as views into flat arrays: choosing and cutting examples copies no token.

    Attributes:
        ids: int32, the tokens of all examples.
        trained: bool, beside `ids`: the tokens that the loss is taken on.
        starts: (N,) int64; example i is ids[starts[i]:starts[i] + lengths[i]].
        lengths: (N,) int64.
        sources: (N,) int64, number of the source.
        questions: (N,) uint64, a hash of everything before the first trained token.
    """

    ids: NDArray[np.int32]
    trained: NDArray[np.bool_]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    sources: NDArray[np.int64]
    questions: NDArray[np.uint64]

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.starts)

    def __getitem__(self, example: int) -> Document:
        """One example."""
        span = slice(self.starts[example], self.starts[example] + self.lengths[example])
        return Document(self.ids[span], self.trained[span], int(self.sources[example]))

    def select(self, examples: NDArray[np.integer] | NDArray[np.bool_]) -> TokenisedExamples:
        """Some of the examples, by number or by mask."""
        return replace(
            self,
            starts=self.starts[examples],
            lengths=self.lengths[examples],
            sources=self.sources[examples],
            questions=self.questions[examples],
        )


@dataclass(frozen=True)
class PackedExamples:
    """The packed sequences of a run, as `dsm.data.stream` reads them."""

    examples: TokenisedExamples
    order: PackedOrder

    def __getitems__(self, numbers: Sequence[int]) -> list[list[Document]]:
        """The examples of each of these sequences."""
        return [[self.examples[int(example)] for example in self.order[number]] for number in numbers]


@dataclass(frozen=True)
class SourceReport:
    """What became of one source's rows."""

    name: str
    examples: int
    rejected: int
    tokens: int
    trained_tokens: int


@dataclass(frozen=True)
class TokenisedSources:
    """Sources that lie tokenised in the cache.

    Attributes:
        folder: their arrays, and rejected.jsonl: the rows set aside, one JSON object a line with its reason.
        facts: what the tokens depend on, by name; equal facts mean equal arrays.
    """

    folder: Path
    facts: dict[str, str]

    def examples(self) -> TokenisedExamples:
        """The arrays, the large ones mapped from the disk."""
        large = {name: np.load(self.folder / f"{name}.npy", mmap_mode="r") for name in ("ids", "trained")}
        names = ("starts", "lengths", "sources", "questions")
        return TokenisedExamples(**large, **{name: np.load(self.folder / f"{name}.npy") for name in names})

    def reports(self) -> list[SourceReport]:
        """What became of each source's rows."""
        return [SourceReport(**report) for report in json.loads((self.folder / "report.json").read_text())]

    @property
    def rejected(self) -> Path:
        """The rows set aside."""
        return self.folder / "rejected.jsonl"


def tokenise_sources(
    sources: Mapping[str, SourceConfig],
    template: str,
    tokenizer: PreTrainedTokenizerBase,
    cache: Path,
    key: str = "data.sources",
) -> TokenisedSources:
    """Tokenise the sources, or find them tokenised.

    Raises:
        UserError: a source cannot be read, or none of its rows can be used.
    """
    facts = {}
    for name, source in sources.items():
        content = content_fingerprint(source.path, split=source.split, key=f"{key}.{name}.path")
        facts[f"{key}.{name}"] = digest(source.model_dump(exclude={"path", "weight"}), content)
    facts |= {"data.template": template, "tokenizer": tokenizer_fingerprint(tokenizer), "format": str(_FORMAT)}
    folder = cache / f"instructions-{digest(list(facts.items()))[:16]}"  # a list: the sources' order is their number
    with sole_writer(folder):
        if not folder.is_dir():
            _write(sources, template, tokenizer, folder, key)
    return TokenisedSources(folder, facts)


def _write(
    sources: Mapping[str, SourceConfig], template: str, tokenizer: PreTrainedTokenizerBase, folder: Path, key: str
) -> None:
    ids: list[NDArray[np.int32]] = []
    trained: list[NDArray[np.bool_]] = []
    numbers: list[int] = []
    reports: list[SourceReport] = []
    with atomic_directory(folder) as partial, (partial / "rejected.jsonl").open("w") as rejected:
        for number, (name, source) in enumerate(sources.items()):
            examples: list[Example] = []
            set_aside = 0
            for row in load_source(source, key=f"{key}.{name}"):
                if isinstance(row, Rejected):
                    rejected.write(json.dumps({"source": name, **asdict(row)}, ensure_ascii=False) + "\n")
                    set_aside += 1
                else:
                    examples.append(row)
            first = len(ids)
            for example_ids, example_trained in tokenise(examples, tokenizer, TEMPLATES[template]):
                ids.append(np.asarray(example_ids, dtype=np.int32))
                trained.append(np.asarray(example_trained, dtype=np.bool_))
            numbers += [number] * len(examples)
            reports.append(
                SourceReport(
                    name,
                    len(examples),
                    set_aside,
                    sum(map(len, ids[first:])),
                    sum(int(mask.sum()) for mask in trained[first:]),
                )
            )
        np.save(partial / "ids.npy", np.concatenate(ids))
        np.save(partial / "trained.npy", np.concatenate(trained))
        lengths = np.asarray(list(map(len, ids)), dtype=np.int64)
        np.save(partial / "lengths.npy", lengths)
        np.save(partial / "starts.npy", np.cumsum(lengths) - lengths)
        np.save(partial / "sources.npy", np.asarray(numbers, dtype=np.int64))
        questions = [hash_tokens(row[: int(mask.argmax())]) for row, mask in zip(ids, trained, strict=True)]
        np.save(partial / "questions.npy", np.asarray(questions, dtype=np.uint64))
        (partial / "report.json").write_text(json.dumps([asdict(report) for report in reports]))


def hash_tokens(ids: NDArray[np.integer]) -> int:
    """64 bits that tell one text's tokens from another's of the same dtype."""
    return int.from_bytes(hashlib.sha256(ids.tobytes()).digest()[:8], "little")


class Asked(Protocol):
    """Rows of which each answers a question."""

    @property
    def questions(self) -> NDArray[np.uint64]:
        """(N,) which question each answers."""
        ...

    def __len__(self) -> int:
        """How many there are."""
        ...

    def select(self, chosen: NDArray[np.bool_], /) -> Self:
        """Some of them."""
        ...


Rows = TypeVar("Rows", bound=Asked)


def hold_out(rows: Rows, fraction: float, most: int) -> tuple[Rows, Rows]:
    """Split off a share of the questions: (training, held out).

    All rows of a question go to the same side. Which questions are held out depends on nothing but their text, so it
    stays the same under another seed or when sources are added.
    """
    questions, which, counts = np.unique(rows.questions, return_inverse=True, return_counts=True)
    order = np.argsort(splitmix64(questions), kind="stable")
    held = np.zeros(len(questions), dtype=np.bool_)
    held[order[np.cumsum(counts[order]) <= min(fraction * len(rows), most)]] = True
    return rows.select(~held[which]), rows.select(held[which])


def fit_context(examples: TokenisedExamples, context: int, policy: str) -> tuple[TokenisedExamples, dict[str, int]]:
    """Deal with examples longer than the context.

    Args:
        policy: 'drop' leaves them out, 'cut' drops their end, 'split' makes pieces of at most `context` tokens. Pieces
            with no trained token teach nothing and are left out.

    Returns:
        the examples, and the counts {'too_long': ..., 'left_out': ...} where there were any too long.
    """
    too_long = examples.lengths > context
    if not too_long.any():
        return examples, {}
    if policy == "drop":
        return examples.select(~too_long), {"too_long": int(too_long.sum()), "left_out": int(too_long.sum())}
    pieces = np.where(too_long & (policy == "split"), -(-examples.lengths // context), 1)
    owner = np.repeat(np.arange(len(examples)), pieces)
    offset = context * (np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces))
    cut = examples.select(owner)
    cut = replace(cut, starts=cut.starts + offset, lengths=np.minimum(cut.lengths - offset, context))
    # A piece's first token is never a target, so it cannot be what makes the piece worth keeping.
    teaches = [not long or bool(cut[i].trained[1:].any()) for i, long in enumerate(too_long[owner])]
    return cut.select(np.asarray(teaches)), {"too_long": int(too_long.sum()), "left_out": teaches.count(False)}


def require_examples(examples: TokenisedExamples, context: int) -> None:
    """Refuse an empty set before a model is built for it."""
    if not len(examples):
        raise UserError(
            f"data.context={context}: no training example is left that fits; raise it, or data.too_long=cut or split"
        )
