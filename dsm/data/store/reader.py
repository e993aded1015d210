"""Reading a store: tokens by position, straight from the page cache."""

from __future__ import annotations

import mmap
from bisect import bisect_right
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsm.data.store.foreign import foreign_shards
from dsm.data.store.manifest import (
    ENDS,
    ENDS_DTYPE,
    INDEX_DTYPE,
    MANIFEST,
    VALIDATION,
    Manifest,
    TokenType,
    file_sha256,
    file_type,
    read_manifest,
)
from dsm.errors import UserError

Tokens = NDArray[np.unsignedinteger[Any]]

_OPEN_SHARDS = 256  # each keeps a file descriptor, of which a process may have 1,024
_HASHING_THREADS = 8


class TokenStore:
    """The tokens of one source as a single sequence that documents divide.

    Opening reads the manifest and asks for file sizes; tokens are mapped shard by shard when they are first read. A
    copy made by fork or pickle maps for itself.

    Attributes:
        path: the folder.
        tokens, documents: how many there are.
        dtype: 'uint16' or 'uint32'.
        fingerprint: hex digest of the content; equal for equal tokens and documents, wherever they lie.
        tokenizer_hash: fingerprint of the tokenizer; None where the store does not say.
        manifest: everything that `stage=tokenize` noted; None for a folder that datatrove wrote.
    """

    def __init__(
        self,
        path: Path,
        dtype: TokenType,
        shards: list[tuple[Path, int, int]],
        fingerprint: str,
        manifest: Manifest | None,
    ) -> None:
        """`shards`: file, tokens and documents of each; use `open`."""
        self.path, self.dtype, self.fingerprint, self.manifest = path, dtype, fingerprint, manifest
        self._files = [file for file, _, _ in shards]
        self._starts = [0]
        for _, tokens, _ in shards:
            self._starts.append(self._starts[-1] + tokens)
        self._borders = np.asarray(self._starts, dtype=np.int64)
        self.tokens = self._starts[-1]
        self.documents = sum(documents for _, _, documents in shards)
        self.tokenizer_hash = manifest.tokenizer.fingerprint if manifest else None
        self._type = file_type(dtype)
        self._maps: OrderedDict[int, Tokens] = OrderedDict()
        self._ends: NDArray[np.int64] | None = None

    @classmethod
    def open(cls, path: str | Path, *, vocab_size: int | None = None, key: str = "path") -> TokenStore:
        """Open the folder that `stage=tokenize` wrote, or one of datatrove's `.ds` files as it is.

        Args:
            vocab_size: rows of the model's embedding; a store with larger ids is refused.
            key: the config key that errors name.

        Raises:
            UserError: no store there, a damaged one, or one of a larger vocabulary.
        """
        folder, name = Path(path).expanduser(), f"{key}={path}"
        if not folder.is_dir():
            raise UserError(
                f"{name}: no such folder; give a store that 'dsm stage=tokenize' wrote, or one of .ds files"
            )
        if not (folder / MANIFEST).is_file():
            dtype, shards, fingerprint = foreign_shards(folder, name, vocab_size)
            return cls(folder, dtype, shards, fingerprint, None)
        manifest = read_manifest(folder, name)
        if vocab_size is not None and manifest.tokenizer.vocab_size > vocab_size:
            raise UserError(
                f"{name}: its tokenizer has {manifest.tokenizer.vocab_size:,} ids, the model {vocab_size:,} embeddings;"
                " tokenize with the model's own tokenizer"
            )
        listed = [(folder / shard.file, shard.tokens, shard.documents) for shard in manifest.shards]
        return cls(folder, manifest.dtype, listed, manifest.fingerprint, manifest)

    def read(self, start: int, stop: int) -> Tokens:
        """Tokens [start, stop): a read-only view of the file inside one shard, a copy across several.

        Raises:
            IndexError: not 0 <= start <= stop <= tokens.
        """
        shard = bisect_right(self._starts, start) - 1
        first = self._starts[shard]
        if 0 <= start <= stop and shard + 1 < len(self._starts) and stop <= self._starts[shard + 1]:
            return self._map(shard)[start - first : stop - first]
        if not 0 <= start <= stop <= self.tokens:
            raise IndexError(f"tokens [{start}, {stop}) of {self.tokens}")
        parts = []
        while start < stop:
            end = min(stop, self._starts[shard + 1])
            parts.append(self._map(shard)[start - self._starts[shard] : end - self._starts[shard]])
            start, shard = end, shard + 1
        return np.concatenate(parts) if parts else np.empty(0, self._type)

    def read_many(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> list[Tokens]:
        """Stretches of tokens as `read` gives them, found together.

        Args:
            starts, stops: (N,) each.

        Raises:
            IndexError: as in `read`.
        """
        shards = np.searchsorted(self._borders[1:-1], starts, side="right")
        first, end = self._borders[shards], self._borders[shards + 1]
        of_each = shards.tolist()
        maps = {shard: self._map(shard) for shard in set(of_each)}
        places = zip(of_each, (starts - first).tolist(), (stops - first).tolist(), strict=True)
        found = [maps[shard][start:stop] for shard, start, stop in places]
        for odd in np.flatnonzero((starts < first) | (stops < starts) | (stops > end)).tolist():
            found[odd] = self.read(int(starts[odd]), int(stops[odd]))  # across shards, or not there
        return found

    @property
    def ends(self) -> NDArray[np.int64]:
        """(documents,) where each document ends, its end token included; the first begins at 0.

        Mapped from the disk; joined in memory, 8 bytes a document, only for datatrove's folders.
        """
        if self._ends is None:
            if self.manifest is not None:
                self._ends = mapped(self.path / ENDS, ENDS_DTYPE)
            else:
                indices = [mapped(file.with_name(f"{file.name}.index"), INDEX_DTYPE) for file in self._files]
                shifted = [index.astype(np.int64) + start for index, start in zip(indices, self._starts, strict=False)]
                self._ends = np.concatenate(shifted)
        return self._ends

    @property
    def validation(self) -> Path | None:
        """The folder of the documents held out of this store, if some were."""
        folder = self.path / VALIDATION
        return folder if folder.is_dir() else None

    def verify(self) -> None:
        """Read everything and compare it with the manifest's checksums; a datatrove folder brings none to compare.

        Raises:
            UserError: naming the first file that is not what was written.
        """
        if self.manifest is None:
            return
        wanted = {shard.file: shard.sha256 for shard in self.manifest.shards}
        wanted |= {f"{shard.file}.index": shard.index_sha256 for shard in self.manifest.shards}
        with ThreadPoolExecutor(_HASHING_THREADS) as pool:
            found = pool.map(file_sha256, [self.path / file for file in wanted])
            for (file, checksum), actual in zip(wanted.items(), found, strict=True):
                if actual != checksum:
                    raise UserError(f"{self.path}: {file} is damaged (its SHA-256 is not that of {MANIFEST})")
        first = 0
        for shard, start in zip(self.manifest.shards, self._starts, strict=False):
            index = mapped(self.path / f"{shard.file}.index", INDEX_DTYPE)
            part = self.ends[first : first + shard.documents]
            if not np.array_equal(index.astype(np.int64) + start, part):
                raise UserError(f"{self.path}: {ENDS} is damaged (it differs from {shard.file}.index)")
            first += shard.documents

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_maps": OrderedDict(), "_ends": None}

    def __repr__(self) -> str:
        return f"TokenStore({str(self.path)!r}: {self.documents:,} documents, {self.tokens:,} tokens)"

    def _map(self, shard: int) -> Tokens:
        if (tokens := self._maps.get(shard)) is not None:
            return tokens
        tokens = mapped(self._files[shard], self._type)
        while len(self._maps) >= _OPEN_SHARDS:  # views that were handed out keep theirs alive
            self._maps.popitem(last=False)
        self._maps[shard] = tokens
        return tokens


def mapped(file: Path, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A file as a read-only array. A plain ndarray: slicing one is several times faster than slicing np.memmap."""
    with file.open("rb") as stream:
        if not file.stat().st_size:
            return np.empty(0, dtype)
        return np.frombuffer(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ), dtype)
