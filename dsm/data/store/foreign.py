"""Folders of datatrove's `.ds` files, which come without a manifest: what their own bytes tell."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import cast

import numpy as np

from dsm.data.store.manifest import INDEX_DTYPE, TOKENS, VALIDATION, TokenType, file_type
from dsm.errors import UserError

_BLOCK = 1 << 20
_BLOCKS = 64


def foreign_shards(
    folder: Path, name: str, vocab_size: int | None
) -> tuple[TokenType, list[tuple[Path, int, int]], str]:
    """Type, shards (file, tokens, documents) in order of their names, and fingerprint.

    Subfolders count too, but for a `validation` at the top, which is a store of its own. The size of a token follows
    from a file's size and its last document end. The fingerprint covers type, sizes, indices and 64 blocks of 1 MiB
    evenly over each shard (all of it up to 64 MiB): reading terabytes at each start is out of the question, so a
    change between blocks that moves no document end goes unseen. Stores with a manifest have whole checksums.

    Raises:
        UserError: no `.ds` files, one without an index or that contradicts it, mixed types, ids beyond `vocab_size`.
    """
    files = [file for file in sorted(folder.rglob(f"*{TOKENS}")) if file.relative_to(folder).parts[0] != VALIDATION]
    if not files:
        raise UserError(
            f"{name}: neither manifest.json nor {TOKENS} files in it; give a folder of 'dsm stage=tokenize'"
        )
    digest, shards, sizes = hashlib.sha256(), [], set[int]()
    for file in files:
        shown = file.relative_to(folder)
        index = file.with_name(f"{file.name}.index")
        if not index.is_file():
            raise UserError(f"{name}: {shown} has no {index.name} beside it; write it with datatrove's save_index=True")
        ends = np.fromfile(index, INDEX_DTYPE)
        tokens, size = int(ends[-1]) if len(ends) else 0, file.stat().st_size
        if size not in (2 * tokens, 4 * tokens) or (ends[1:] < ends[:-1]).any():
            raise UserError(
                f"{name}: {shown} ({size:,} bytes) does not fit its index ({tokens:,} tokens); it is damaged"
            )
        if tokens:
            sizes.add(size // tokens)
        shards.append((file, tokens, len(ends)))
        digest.update(f"{tokens},{size},{len(ends)};".encode())
        digest.update(ends.tobytes())
    if len(sizes) > 1:
        raise UserError(f"{name}: some {TOKENS} files hold uint16 tokens, others uint32; keep them in separate folders")
    if not sizes:
        raise UserError(f"{name}: its {TOKENS} files hold no tokens")
    dtype = cast("TokenType", f"uint{8 * sizes.pop()}")
    for file, _, _ in shards:
        for block in _blocks(file):
            digest.update(block)
            largest = int(np.frombuffer(block, file_type(dtype)).max())
            if vocab_size is not None and largest >= vocab_size:
                shown = file.relative_to(folder)
                raise UserError(
                    f"{name}: {shown} holds the id {largest:,}, the model has {vocab_size:,} embeddings;"
                    " tokenize with the model's own tokenizer"
                )
    return dtype, shards, digest.hexdigest()


def _blocks(file: Path) -> list[bytes]:
    """64 blocks over a file, the first and the last among them; all blocks of a small one."""
    count = -(-file.stat().st_size // _BLOCK)
    chosen = sorted({i * (count - 1) // (_BLOCKS - 1) for i in range(_BLOCKS)}) if count > _BLOCKS else range(count)
    blocks = []
    with file.open("rb") as stream:
        for number in chosen:
            stream.seek(number * _BLOCK)
            blocks.append(stream.read(_BLOCK))
    return blocks
