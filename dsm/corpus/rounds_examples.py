"""What a round's classifier learns from: positives of the seed, negatives drawn from the crawl.

Who is drawn is decided by a keyed hash of the page or the text, so it depends on neither the order of shards nor their
number: the N examples of the lowest keys are the N that any other reading of the same pages would draw. The order in
which fastText sees them is such a hash too.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash

from dsm.config.mine import ClassifierConfig
from dsm.corpus.classifier import NEGATIVE, POSITIVE, VERSION, Classifier, normalise, reading, train
from dsm.corpus.classifier_metrics import measure
from dsm.corpus.pages import open_parquet, read_parquet, write_table
from dsm.corpus.steps import Task
from dsm.errors import UserError

NEGATIVES, SEED, MODEL, MEASURED = "negatives.parquet", "seed.parquet", "model.bin", "measured.json"
EXAMPLE_SCHEMA = pa.schema([("url_hash", pa.uint64()), ("domain", pa.string()), ("text", pa.string())])
_ALL = 1 << 64


def keys_of(hashes: np.ndarray, seed: int, purpose: str) -> np.ndarray:
    """Uniform uint64 keys of uint64 hashes (splitmix64), other ones for each seed and purpose."""
    salt = np.uint64(xxhash.xxh3_64_intdigest(f"{purpose} {seed}".encode()))
    z = (hashes ^ salt) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def key_limit(wanted: int, there: int) -> int:
    """Keys below it are those of `wanted` of `there` pages at least, but for one run in a billion."""
    if wanted >= there:
        return _ALL
    return min(_ALL, int(_ALL * min(1.0, (wanted + 6 * wanted**0.5 + 20) / there)))


def kept_rows(columns: Sequence[Path], rows: int) -> np.ndarray:
    """(rows,) bool: which pages are no duplicates by these files of the steps `urls` and `near`."""
    kept = np.ones(rows, bool)
    for path in columns:
        for name in pq.read_schema(path).names:
            values = read_parquet(path, [name]).column(name)
            kept &= ~values.to_numpy().astype(bool)
    return kept


def texts_at(pages: Path, rows: np.ndarray) -> Iterator[str]:
    """Texts of some pages of a shard, by row number in rising order; a row group at a time is in memory."""
    with open_parquet(pages) as file:
        first = 0
        for group in range(file.num_row_groups):
            last = first + file.metadata.row_group(group).num_rows
            here = rows[(rows >= first) & (rows < last)]
            if here.size:
                yield from file.read_row_group(group, ["text"]).column("text").take(pa.array(here - first)).to_pylist()
            first = last


def write_examples(pages: Path, rows: np.ndarray, out: Path) -> None:
    """Some pages of a shard as examples."""
    table = read_parquet(pages, ["url_hash", "domain"]).take(pa.array(rows))
    texts = pa.array(list(texts_at(pages, rows)), pa.string())
    write_table(pa.table([*table.columns, texts], schema=EXAMPLE_SCHEMA), out)


@dataclass(frozen=True)
class NegativesStep:
    """Random pages of each shard. Inputs: pages, duplicates, and from round 2 on the domains of the round before."""

    round: int
    seed: int
    limit: int
    version: str = "1"

    @property
    def name(self) -> str:
        """Its folder."""
        return f"round-{self.round}/negatives"

    def settings(self) -> dict[str, Any]:
        """Whose keys are taken."""
        return {"seed": self.seed, "limit": self.limit}

    def run(self, task: Task, out: Path) -> dict[str, int]:
        """Write the pages whose keys are below the limit."""
        pages, *columns = task.inputs
        table = read_parquet(pages, ["url_hash", "domain"])
        eligible = kept_rows([path for path in columns if path.name == "columns.parquet"], len(table))
        counts = {"in": len(table), "duplicate": int((~eligible).sum()), "candidate_domain": 0}
        for path in columns:
            if path.name == "domains.parquet":
                domains = read_parquet(path, ["domain", "candidate"])
                candidates = domains.column("domain").filter(domains.column("candidate"))
                listed = pc.is_in(table.column("domain"), value_set=candidates.combine_chunks()).to_numpy()
                counts["candidate_domain"] = int((eligible & listed).sum())
                eligible &= ~listed
        keys = keys_of(table.column("url_hash").to_numpy(), self.seed, "negatives")
        drawn = eligible if self.limit == _ALL else eligible & (keys < np.uint64(self.limit))
        write_examples(pages, np.flatnonzero(drawn), out / NEGATIVES)
        return counts | {"out": int(drawn.sum()), "not_drawn": int((eligible & ~drawn).sum())}


@dataclass
class Sample:
    """The `size` examples of the lowest keys, of however many come by; their lines wait in a file."""

    size: int
    lines: BinaryIO
    label: str
    reading: dict[str, Any]
    seen: int = 0
    keys: array[int] = field(default_factory=lambda: array("Q"))
    places: list[tuple[int, int, str]] = field(default_factory=list)  # offset, length, domain
    _limit: int = _ALL

    def add(self, key: int, text: str, domain: str) -> None:
        """One more example; an empty one is none."""
        self.seen += 1
        if key >= self._limit:
            return
        line = normalise(text, **self.reading).encode()
        if not line:
            return
        self.keys.append(key)
        self.places.append((self.lines.tell(), len(line), domain))
        self.lines.write(line)
        if len(self.keys) > 2 * self.size + 1000:
            self._shrink()

    def _shrink(self) -> None:
        order, keys = self._lowest()
        self.keys, self.places = array("Q", keys.tolist()), [self.places[i] for i in order]
        if len(order) == self.size:
            self._limit = int(keys[-1]) + 1

    def _lowest(self) -> tuple[np.ndarray, np.ndarray]:
        keys, first = np.unique(np.array(self.keys, np.uint64), return_index=True)
        return first[: self.size], keys[: self.size]

    def drawn(self, at_most: int) -> list[tuple[int, str, int, int, str]]:
        """(key, label, offset, length, domain) of the examples; equal texts are one."""
        order, keys = self._lowest()
        chosen = zip(order[:at_most], keys[:at_most].tolist(), strict=True)
        return [(key, self.label, *self.places[place]) for place, key in chosen]


@dataclass(frozen=True)
class TrainStep:
    """The model of a round. Inputs: the seed corpus, `seed.parquet` of the round before, `negatives.parquet`."""

    round: int
    seed: int
    config: ClassifierConfig
    fields: tuple[str, ...]
    corpus_files: int
    version: str = f"2.{VERSION}"

    @property
    def name(self) -> str:
        """Its folder."""
        return f"round-{self.round}/train"

    def settings(self) -> dict[str, Any]:
        """All that the model depends on besides the examples."""
        return {"seed": self.seed, "fields": self.fields, "classifier": self.config.model_dump()}

    def run(self, task: Task, out: Path) -> dict[str, int]:
        """Draw, train, measure: `model.bin`, `measured.json`."""
        corpus, pages = task.inputs[: self.corpus_files], task.inputs[self.corpus_files :]
        spool, file, rejected = out / "lines", out / "train.txt", 0
        with spool.open("wb") as lines:
            positives = Sample(self.config.positives, lines, POSITIVE, reading(self.config))
            negatives = Sample(self.config.negatives, lines, NEGATIVE, reading(self.config))
            for one in seed_texts(corpus, self.fields):
                if one is None:
                    rejected += 1
                else:
                    positives.add(text_key(one[0], self.seed), *one)
            for path in pages:
                _add_pages(path, positives if path.name == SEED else negatives, self.seed)
        good = positives.drawn(self.config.positives)
        taken = {key for key, *_ in good}
        bad = [one for one in negatives.drawn(self.config.negatives) if one[0] not in taken]
        bad = bad[: max(1, round(self.config.ratio * len(good)))]
        good = good[: max(1, round(len(bad) / self.config.ratio))]
        if not good or not bad:
            name = "seed_corpus.path: holds no text" if not good else "crawl.path: has no page"
            raise UserError(f"{name} that a classifier could learn from (round {self.round})")
        examples = _shuffled(good + bad, self.seed)
        splits = _splits(examples, self.seed, self.config.held_out)
        with spool.open("rb") as lines:
            with file.open("wb") as training:
                for example, split in zip(examples, splits, strict=True):
                    if not split:
                        training.write(example[1].encode() + b" " + _line(lines, example) + b"\n")
            trained = train(file, out / MODEL, self.config)
            model = Classifier(out / MODEL, **reading(self.config))
            held = [(example, split) for example, split in zip(examples, splits, strict=True) if split]
            scores = model.score_lines(_line(lines, example).decode() for example, _ in held)
        labels = np.array([example[1] == POSITIVE for example, _ in held], bool)
        measured = measure(scores, labels, [split for _, split in held], [example[4] for example, _ in held])
        told = {"model": trained.digest, "lr": trained.lr, "positives": len(good), "negatives": len(bad)} | measured
        (out / MEASURED).write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")
        spool.unlink()
        file.unlink()
        used, seen = len(good) + len(bad), positives.seen + negatives.seen
        facts = {"_positives": len(good), "_negatives": len(bad), "_held_out": len(held)}
        return {"in": seen + rejected, "out": used, "not_drawn": seen - used, "rejected": rejected} | facts


def text_key(text: str, seed: int) -> int:
    """The key of an example: equal texts have the same, wherever they come from."""
    return xxhash.xxh3_64_intdigest(text.encode("utf-8", errors="replace"), seed)


def seed_texts(files: Sequence[Path], fields: Sequence[str]) -> Iterator[tuple[str, str] | None]:
    """(text, domain or '') of every row of the seed corpus; None for a row that cannot be used."""
    from dsm.corpus.urls import domain_of
    from dsm.data.records import Rejected, file_rows

    for file in files:
        if file.suffix == ".txt":
            yield file.read_text(encoding="utf-8", errors="replace"), ""
            continue
        for record in file_rows(file, f"seed_corpus.path={file}", True):
            parts = None if isinstance(record, Rejected) else [record.row.get(name) for name in fields]
            if parts is None or isinstance(record, Rejected) or not all(isinstance(part, str) for part in parts):
                yield None
                continue
            url = record.row.get("url")
            yield "\n\n".join(map(str, parts)), domain_of(url) if isinstance(url, str) and url else ""


def _add_pages(path: Path, sample: Sample, seed: int) -> None:
    with open_parquet(path) as file:
        for batch in file.iter_batches(1024, columns=["domain", "text"]):
            for domain, text in zip(batch.column("domain").to_pylist(), batch.column("text").to_pylist(), strict=True):
                sample.add(text_key(text, seed), text, domain)


def _shuffled(examples: list[tuple[int, str, int, int, str]], seed: int) -> list[tuple[int, str, int, int, str]]:
    order = np.argsort(keys_of(np.array([example[0] for example in examples], np.uint64), seed, "order"))
    return [examples[place] for place in order]


def _splits(examples: Sequence[tuple[int, str, int, int, str]], seed: int, share: float) -> list[str]:
    """'' for those to learn from; 'domains' for whole domains held out, 'random' for others."""
    limit = int(share * _ALL)
    random = keys_of(np.array([example[0] for example in examples], np.uint64), seed, "held out").tolist()
    splits = []
    for key, (*_, domain) in zip(random, examples, strict=True):
        whole = bool(domain) and xxhash.xxh3_64_intdigest(domain.encode(), seed) < limit
        splits.append("domains" if whole else "random" if key < limit else "")
    return splits


def _line(lines: BinaryIO, example: tuple[int, str, int, int, str]) -> bytes:
    lines.seek(example[2])
    return lines.read(example[3])
