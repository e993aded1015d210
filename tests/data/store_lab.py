"""A small corpus in every form that `stage=tokenize` reads, and a run of it without processes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from dsm.config.store import DocumentDataConfig, DocumentSourceConfig, HeldOutConfig, StoreConfig
from dsm.data.problems import generate_problems
from dsm.data.store import worker
from dsm.data.store.manifest import Manifest, StoreTokenizer, token_type
from dsm.data.store.run import TokeniseRun
from dsm.data.store.slices import Source
from dsm.data.store.worker import Encoding, Tokeniser
from dsm.data.tokenizer import EOS, PreTrainedTokenizerFast, tokenizer_fingerprint, train_tokenizer


@cache
def texts() -> list[str]:
    """Sixty texts in two languages, one of them twice, one with a control token's name, one with odd line breaks."""
    problems = generate_problems(57, seed=0, language="mixed")
    some = [f"{problem.question}\n{problem.solution}" for problem in problems]
    return [*some[:20], f"the text {EOS} is text", *some[20:], some[3], "a\u2028b\r\nc\x00d\x85e"]


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(texts() * 3, 600)


ROWS: list[dict[str, Any]] = [{"id": i, "text": text, "score": 0.5} for i, text in enumerate(texts())]
LINES = [json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in ROWS]
BAD = [
    b"\n",
    b'{"text": 3}\n',
    b"{broken\n",
    b'  \r\n{"text": ""}\n{"text": "\\ud800"}\n[1]\n{"title": "x"}\n',
    b'{"text":"\xff"}\n',
]
MIXED = b"".join(line + (BAD[i // 9] if i % 9 == 4 and i < 45 else b"") for i, line in enumerate(LINES))
"""All texts, and eight rows to set aside, and blank lines."""


def write_folder(path: Path) -> None:
    (path / "inner").mkdir(parents=True)
    (path / "a.jsonl").write_bytes(MIXED[:3000].rpartition(b"\n")[0] + b"\n")
    (path / "b.jsonl").touch()
    (path / "inner" / "c.jsonl.gz").write_bytes(gzip.compress(b"".join(LINES)))
    (path / "inner" / "d.json").write_text(json.dumps(ROWS[:5]))
    pq.write_table(pa.Table.from_pylist(ROWS[:7]), path / "inner" / "e.parquet", row_group_size=3)
    (path / "notes.md").write_text("no data")


FORMS: dict[str, Callable[[Path], object]] = {
    "a.jsonl": lambda p: p.write_bytes(MIXED),
    "no_newline_at_end.jsonl": lambda p: p.write_bytes(MIXED.rstrip()),
    "bom.jsonl": lambda p: p.write_bytes(b"\xef\xbb\xbf" + MIXED),
    "a.jsonl.gz": lambda p: p.write_bytes(gzip.compress(MIXED)),
    "two_members.jsonl.gz": lambda p: p.write_bytes(gzip.compress(MIXED[:999]) + gzip.compress(MIXED[999:])),
    "cut.jsonl.gz": lambda p: p.write_bytes(gzip.compress(MIXED, mtime=0)[:-400]),
    "a.jsonl.zst": lambda p: p.write_bytes(zstandard.compress(MIXED)),
    "cut.jsonl.zst": lambda p: p.write_bytes(zstandard.compress(LINES[0]) + zstandard.compress(MIXED)[:-50]),
    "list.json": lambda p: p.write_text(json.dumps([*ROWS, {"text": None}, 5, *ROWS[:3]])),
    "lines.json": lambda p: p.write_bytes(b"".join(LINES)),
    "a.parquet": lambda p: pq.write_table(pa.Table.from_pylist([*ROWS, {"text": ""}, *ROWS[:9]]), p, row_group_size=13),
    "folder": write_folder,
}


def source_of(path: Path, slice_bytes: int = 2000, **data: Any) -> Source:
    """The one source at a path."""
    settings: dict[str, Any] = {"fields": ["text"], "separator": "\n", "text_suffixes": [".txt"], "text_unit": "file"}
    one = DocumentSourceConfig(path=str(path))
    config = DocumentDataConfig(sources={"a": one}, **(settings | data))
    return replace(Source.of("a", one, config), slice_bytes=slice_bytes)


def settings(*, fraction: float = 0.1, most: int = 1000, shard_tokens: int = 900, workers: int = 1) -> StoreConfig:
    held_out = HeldOutConfig(fraction=fraction, max_documents=most)
    return StoreConfig(eos=True, bos=False, held_out=held_out, shard_tokens=shard_tokens, workers=workers)


def encoding(fraction: float = 0.1, seed: int = 0, **options: Any) -> Encoding:
    known = tokenizer()
    facts: dict[str, Any] = {
        "tokenizer": known.backend_tokenizer.to_str(),
        "vocab_size": len(known),
        "dtype": token_type(len(known)),
        "eos_id": known.eos_token_id,
        "bos_id": None,
        "control_ids": tuple(range(8)),
        "held_out": fraction,
        "seed": seed,
    }
    return Encoding(**(facts | options))


def noted() -> StoreTokenizer:
    known = tokenizer()
    return StoreTokenizer(
        fingerprint=tokenizer_fingerprint(known), vocab_size=len(known), eos_id=known.eos_token_id, bos_id=None
    )


tokeniser = cache(Tokeniser)


class InlinePool:
    """What workers do, done at once by the caller."""

    def __init__(self, encoding: Encoding, sources: dict[str, Source]) -> None:
        self.tokeniser, self.sources = tokeniser(encoding), sources

    def submit(self, function: Callable[..., Any], name: str, piece: Any) -> Future[Any]:
        source, future = self.sources[name], Future[Any]()
        hashing = function is worker.hash_file
        future.set_result(worker.checksum(source, piece) if hashing else self.tokeniser.part(source, piece))
        return future


class InlineRun(TokeniseRun):
    """A run in one process."""

    @contextmanager
    def _pool(self, sources: Any) -> Iterator[Any]:
        yield InlinePool(self.encoding, sources)


def run_inline(source: Source, folder: Path, config: StoreConfig | None = None, **options: Any) -> Manifest:
    """The store of one source in `folder/export/a`."""
    config = config or settings()
    run = InlineRun({"a": source}, encoding(config.held_out.fraction, **options), noted(), config)
    return run.run(folder / "work", folder / "export")["a"]


def all_files(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
