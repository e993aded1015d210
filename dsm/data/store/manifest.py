"""What a token store is on disk.

    NAME/
      00000.ds, 00001.ds, ...   token ids of all documents end to end, little-endian uint16 or uint32
      00000.ds.index, ...       uint64: where each document of that shard ends, counted in its tokens
      document_ends.bin         int64: the same over the whole store
      manifest.json             what this module describes
      sources.jsonl             the files that were read: name, bytes, SHA-256 as sha256sum prints it
      rejected.jsonl            rows set aside, with place and reason (absent when there are none)
      validation/               the held-out documents, a store of its own (absent when there are none)

Shards and their indices are datatrove's format, so its readers open a store of ours and we open a folder of its.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import ValidationError

from dsm.config.base import Schema
from dsm.errors import UserError

MANIFEST, ENDS, SOURCES, REJECTED = "manifest.json", "document_ends.bin", "sources.jsonl", "rejected.jsonl"
VALIDATION = "validation"
TOKENS, INDEX = ".ds", ".ds.index"
INDEX_DTYPE, ENDS_DTYPE = np.dtype("<u8"), np.dtype("<i8")
SMALL_VOCABULARY = 1 << 16
"""The largest vocabulary whose ids fit uint16."""

TokenType = Literal["uint16", "uint32"]


class Shard(Schema):
    """One `.ds` file and its index; `sha256` and `index_sha256` are of the two files."""

    file: str
    documents: int
    tokens: int
    bytes: int
    sha256: str
    index_sha256: str


class StoreTokenizer(Schema):
    """What made the ids: `dsm.data.tokenizer.tokenizer_fingerprint`, their bound, the ids put round every document."""

    fingerprint: str
    vocab_size: int
    eos_id: int | None
    bos_id: int | None


class Manifest(Schema):
    """A whole store. `text_bytes` is the UTF-8 size of its documents, `rejected` counts rows by reason."""

    format: Literal["dsm-tokens"] = "dsm-tokens"
    version: Literal[1] = 1
    fingerprint: str
    dtype: TokenType
    tokenizer: StoreTokenizer
    documents: int
    tokens: int
    text_bytes: int
    shards: list[Shard]
    rejected: dict[str, int]


def token_type(vocab_size: int) -> TokenType:
    """The smallest type that holds every id."""
    return "uint16" if vocab_size <= SMALL_VOCABULARY else "uint32"


def file_type(dtype: TokenType) -> np.dtype[np.unsignedinteger]:
    """The type as it lies on the disk."""
    return np.dtype(dtype).newbyteorder("<")


def store_fingerprint(dtype: TokenType, tokenizer: str, shards: list[Shard]) -> str:
    """SHA-256 (hex) of all that decides which tokens lie where; names, sources and rejected rows do not."""
    content = [dtype, tokenizer, [[s.documents, s.tokens, s.sha256, s.index_sha256] for s in shards]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_manifest(folder: Path, name: str) -> Manifest:
    """The manifest of a store, checked against itself and against the sizes of its files; `name` starts every error.

    Raises:
        UserError: it is damaged or of another version, or a file is missing or of another size.
    """
    path = folder / MANIFEST
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{name}: {MANIFEST} cannot be read ({error.strerror})") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{name}: {MANIFEST} is not one of version 1 ({where}: {first['msg']})") from error
    shards, size = manifest.shards, file_type(manifest.dtype).itemsize
    sums = (sum(s.documents for s in shards), sum(s.tokens for s in shards))
    told = store_fingerprint(manifest.dtype, manifest.tokenizer.fingerprint, shards)
    if sums != (manifest.documents, manifest.tokens) or told != manifest.fingerprint:
        raise UserError(f"{name}: {MANIFEST} contradicts itself; it was edited: make the store again")
    sizes = {shard.file: shard.tokens * size for shard in shards}
    sizes |= {f"{shard.file}.index": shard.documents * INDEX_DTYPE.itemsize for shard in shards}
    sizes[ENDS] = manifest.documents * ENDS_DTYPE.itemsize
    for file, expected in sizes.items():
        found = folder / file
        if not found.is_file():
            raise UserError(f"{name}: {file} is missing; copy the store again, or make it again")
        if (actual := found.stat().st_size) != expected:
            raise UserError(f"{name}: {file} has {actual:,} bytes, {expected:,} in {MANIFEST}; copy or make it again")
    return manifest
