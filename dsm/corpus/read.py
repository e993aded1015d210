"""The first step: whatever a crawl lies in becomes the page table.

Every record of an input file ends in one of two ways: as a row of pages.parquet, or counted under the reason why not.
Nothing about a file is fatal; what is broken costs itself alone. Text comes from HTML by dsm.corpus.extract; WET and
text rows bring it with them.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import xxhash

from dsm.corpus import urls
from dsm.corpus.members import members
from dsm.corpus.pages import PAGE_SCHEMA, PAGES, PARQUET
from dsm.corpus.rows import json_rows, parquet_rows
from dsm.corpus.steps import Task
from dsm.corpus.warc import Lost, split
from dsm.corpus.web import Document, document_of
from dsm.errors import UserError

log = logging.getLogger("dsm")

VERSION = "1"

_WARC = tuple(f"{name}{packed}" for name in (".warc", ".wet", ".wat") for packed in ("", ".gz", ".zst", ".lz4"))
_LINES = tuple(f"{name}{packed}" for name in (".jsonl", ".ndjson", ".json") for packed in ("", ".gz", ".zst", ".lz4"))
_HTML = (".html", ".htm", ".xhtml")
SUFFIXES = (*_WARC, *_LINES, ".parquet", *_HTML)
_HTML_FILES = 256  # that make one shard
_ROWS, _CHARS = 4096, 1 << 25  # of a row group at most
_SURROGATES = re.compile("[\ud800-\udfff]")
_CJK = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_FORMULA = re.compile(r"\\\(|\\\[|\\begin\{|(?<![\\$\w])\$\$?(?=[^\s$\d])[^$\n]{1,300}\$")
_CANONICAL = re.compile(
    rb"""<link\b(?=[^>]*\brel=["']?canonical\b)[^>]*\bhref=["']?(https?://[^"'\s>]+)"""
    rb"""|<meta\b(?=[^>]*\bproperty=["']?og:url\b)[^>]*\bcontent=["']?(https?://[^"'\s>]+)""",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Record:
    """A page as it was crawled.

    Attributes:
        url: as found; '' where a row or file tells none.
        payload: HTML, in bytes unless it came decoded, or text.
        kind: which of them.
        charset: what the server said, if Python knows it.
        source: the input file.
        offset: where the record begins there (packed bytes); the number of a line or row, from 1.
        length: its (packed) bytes; 0 where it has none of its own.
        digest: xxh3_64 of the payload.
        date: when it was fetched, ISO 8601; '' where unknown.
    """

    url: str
    payload: bytes | str
    kind: Literal["html", "text"]
    charset: str | None
    source: str
    offset: int
    length: int
    digest: int
    date: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """A record that is no page: where it was, why."""

    source: str
    offset: int
    reason: str


def records(path: Path, source: str | None = None) -> Iterator[Record | Skipped]:
    """All records of a file with one of `SUFFIXES`, in order; `source` is what they call it (default: its name).

    Raises:
        UserError: the file cannot be opened.
    """
    source = path.name if source is None else source
    try:
        for offset, length, found in _documents(path):
            if isinstance(found, str):
                yield Skipped(source, offset, found)
            else:
                payload = found.payload if isinstance(found.payload, bytes) else found.payload.encode(errors="replace")
                digest = xxhash.xxh3_64_intdigest(payload)
                yield Record(
                    found.url, found.payload, found.kind, found.charset, source, offset, length, digest, found.date
                )
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error})") from error


def _documents(path: Path) -> Iterator[tuple[int, int, Document | str]]:
    name = path.name.lower()
    if name.endswith(_LINES):
        yield from json_rows(path)
    elif name.endswith(".parquet"):
        yield from parquet_rows(path)
    elif name.endswith(_HTML):
        payload = path.read_bytes()
        found = _CANONICAL.search(payload[: 1 << 16])
        url = (found[1] or found[2]).decode("utf-8", errors="replace") if found else ""
        yield 0, len(payload), Document(url, "", payload, "html") if payload.strip() else "empty"
    else:
        with path.open("rb") as file:
            for raw in split(members(file, path.suffix)):
                if isinstance(raw, Lost):
                    yield raw.offset, 0, raw.reason
                else:
                    yield raw.offset, raw.length, document_of(raw)


# ---------------------------------------------------------------- the step


@dataclass(frozen=True)
class ReadTask(Task):
    """An input file, or some of a folder's HTML files; `sources`: what the table calls them, which the name implies."""

    sources: tuple[str, ...]


def read_tasks(path: Path, key: str = "crawl.path") -> list[ReadTask]:
    """One task for each input file of a folder (or for the one file), in the order of their names.

    Raises:
        UserError: there is none; `key` is what the error names.
    """
    allowed = f"allowed are {', '.join(SUFFIXES)}, or a folder of them"
    if not path.exists():
        raise UserError(f"{key}={path}: does not exist; {allowed}")
    root = path if path.is_dir() else path.parent
    files = sorted(p for p in path.rglob("*") if p.is_file() and p.name[0] != ".") if path.is_dir() else [path]
    chosen = [file for file in files if file.name.lower().endswith(SUFFIXES)]
    if not chosen:
        raise UserError(f"{key}={path}: holds no file of a crawl; {allowed}")
    if others := Counter(file.suffix for file in files if not file.name.lower().endswith(SUFFIXES)):
        kinds = ", ".join(f"{count} {suffix or 'without a suffix'}" for suffix, count in sorted(others.items()))
        log.warning("%s=%s: %d files of other kinds are passed over: %s", key, path, others.total(), kinds)
    tasks: list[ReadTask] = []
    pages: dict[Path, list[Path]] = {}
    for file in chosen:
        if file.name.lower().endswith(_HTML):
            pages.setdefault(file.parent, []).append(file)
        else:
            source = file.relative_to(root).as_posix()
            tasks.append(ReadTask(_task_name(source), (file,), (source,)))
    for folder, group in pages.items():
        for start in range(0, len(group), _HTML_FILES):
            some = group[start : start + _HTML_FILES]
            name = _task_name(f"{folder.relative_to(root).as_posix()}/html-{start // _HTML_FILES:04d}")
            tasks.append(ReadTask(name, tuple(some), tuple(file.relative_to(root).as_posix() for file in some)))
    return sorted(tasks, key=lambda task: task.sources[0])


def _task_name(source: str) -> str:
    """A folder's name that no other source has."""
    name = re.sub(r"[^A-Za-z0-9._=+-]", "-", source).lstrip("._=+-")[-150:].lstrip("._=+-") or "file"
    return (
        name if name == source else f"{name}-{xxhash.xxh3_64_hexdigest(source.encode(errors='surrogateescape'))[:10]}"
    )


@dataclass(frozen=True)
class PagesStep:
    """Read and extract: the page table.

    Attributes:
        tokenizer: a folder with a tokenizer.json, or that file, to count tokens with; None: an estimate.
    """

    tokenizer: str | None = None
    name: str = "pages"

    @property
    def version(self) -> str:
        """Of reading, addresses and extraction."""
        from dsm.corpus import extract

        return f"{VERSION}/{urls.VERSION}/{extract.VERSION}"

    def settings(self) -> dict[str, Any]:
        """The tokenizer by its content."""
        return {"tokenizer": _tokenizer_hash(self.tokenizer) if self.tokenizer else None}

    def run(self, task: Task, out: Path) -> dict[str, int]:
        """Write pages.parquet; counts pages by language, and records that are none by reason."""
        assert isinstance(task, ReadTask)
        counts: Counter[str] = Counter({"in": 0, "out": 0})
        with _Writer(out / PAGES, self.tokenizer) as writer:
            for path, source in zip(task.inputs, task.sources, strict=True):
                for record in records(path, source):
                    counts["in"] += 1
                    fate = record.reason if isinstance(record, Skipped) else writer.add(record)
                    counts[fate or "out"] += 1
        counts.update(writer.facts)
        return dict(sorted(counts.items()))


class _Writer:
    """Rows on their way into pages.parquet, a row group at a time."""

    def __init__(self, path: Path, tokenizer: str | None) -> None:
        self.path, self.tokenizer = path, tokenizer
        self.facts: Counter[str] = Counter()
        self._rows: list[dict[str, Any]] = []
        self._chars = 0

    def __enter__(self) -> _Writer:
        import pyarrow.parquet as pq

        self._file = pq.ParquetWriter(self.path, PAGE_SCHEMA, **PARQUET)
        return self

    def add(self, record: Record) -> str:
        """A page; returns why it is none after all, or ''."""
        from dsm.corpus import extract

        version = ""
        if record.kind == "html":
            try:
                found = extract.extract(record.payload, charset=record.charset)
            except Exception as error:  # one page in millions that a parser cannot bear must not cost the shard
                log.debug("%s at %d: %r", record.source, record.offset, error)
                return "extraction_failed"
            text, formulas, language, version = found.text, found.formulas, found.language, extract.VERSION
            self.facts["_truncated"] += found.truncated
        else:
            text = str(record.payload)
            formulas, language = len(_FORMULA.findall(text)), extract.language_of(text)
        text = _SURROGATES.sub("�", text)
        if not text.strip():
            return "no_text"
        url = _SURROGATES.sub("�", record.url)
        self._rows.append(
            {
                "url_hash": urls.url_hash(url) if url else _hash_of_place(record),
                "url": url,
                "domain": urls.domain_of(url) if url else "",
                "path": urls.path_of(url) if url else "/",
                "source": _SURROGATES.sub("�", record.source),
                "offset": record.offset,
                "length": record.length,
                "digest": record.digest,
                "date": record.date,
                "language": language,
                "words": count_words(text),
                "tokens": 0,
                "formulas": int(formulas),
                "extractor": version,
                "text": text,
            }
        )
        self.facts[f"_language_{language}"] += 1
        self._chars += len(text)
        if len(self._rows) >= _ROWS or self._chars >= _CHARS:
            self._flush()
        return ""

    def _flush(self) -> None:
        import pyarrow as pa

        texts = [row["text"] for row in self._rows]
        counts = [estimate_tokens(text) for text in texts] if self.tokenizer is None else _tokens(self.tokenizer, texts)
        for row, count in zip(self._rows, counts, strict=True):
            row["tokens"] = count
        self.facts["_tokens"] += sum(counts)
        self.facts["_formulas"] += sum(row["formulas"] for row in self._rows)
        self._file.write_table(pa.Table.from_pylist(self._rows, schema=PAGE_SCHEMA))
        self._rows, self._chars = [], 0

    def __exit__(self, *exception: object) -> None:
        if exception[0] is None and self._rows:
            self._flush()
        self._file.close()


def _hash_of_place(record: Record) -> int:
    """The key of a page without an address: no other page may be taken for it."""
    return xxhash.xxh3_64_intdigest(f"{record.source}\n{record.offset}".encode(errors="replace"))


# ---------------------------------------------------------------- counting


def count_words(text: str) -> int:
    """Words between spaces; of Chinese and Japanese every character is one."""
    if text.isascii():
        return len(text.split())
    return len(_CJK.findall(text)) + len(_CJK.sub(" ", text).split())


def estimate_tokens(text: str) -> int:
    """0.6 a Chinese character, 0.3 any other: what DeepSeek says of its tokenizer."""
    wide = 0 if text.isascii() else len(_CJK.findall(text))
    return round(0.6 * wide + 0.3 * (len(text) - wide))


def _tokens(tokenizer: str, texts: list[str]) -> list[int]:
    return [len(found.ids) for found in _load_tokenizer(tokenizer).encode_batch_fast(texts, add_special_tokens=False)]


@lru_cache(maxsize=1)
def _load_tokenizer(path: str) -> Any:
    import os

    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the workers share the cores
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(_tokenizer_file(path)))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # "<|eos|>" inside a text is text
    return tokenizer


def _tokenizer_file(path: str) -> Path:
    file = Path(path).expanduser()
    return file / "tokenizer.json" if file.is_dir() else file


def _tokenizer_hash(path: str) -> str:
    try:
        return xxhash.xxh3_128_hexdigest(_tokenizer_file(path).read_bytes())
    except OSError as error:
        raise UserError(
            f"crawl.tokenizer={path}: holds no tokenizer.json that can be read ({error.strerror})"
        ) from error
