"""What one process does: a slice of the input in, the tokens of its documents out.

It imports neither torch nor transformers, and its tokenizer uses one thread: the processes share the cores.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from multiprocessing import connection, parent_process

import numpy as np
from numpy.typing import NDArray

from dsm.data.records import RAW_CHARS
from dsm.data.store.documents import Aside, Text, read_slice
from dsm.data.store.manifest import TokenType, file_sha256, file_type
from dsm.data.store.slices import FileEnd, LineBlock, LineRange, Slice, Source, WholeFiles
from dsm.errors import UserError

HELD_OUT_DTYPE = np.dtype([("hash", "<u8"), ("tokens", "<i8"), ("bytes", "<i8")])
_BATCH_CHARS = 1 << 20


@dataclass(frozen=True)
class Encoding:
    """How texts become ids.

    Attributes:
        tokenizer: the JSON of a fast tokenizer.
        vocab_size: its ids are smaller.
        dtype: of the ids as they are stored.
        eos_id, bos_id: put at the end and the beginning of every document, unless None.
        control_ids: special tokens, which no text may become.
        held_out: share of the documents that may be held out, chosen by a hash of their text.
        seed: key of that hash.
    """

    tokenizer: str
    vocab_size: int
    dtype: TokenType
    eos_id: int | None
    bos_id: int | None
    control_ids: tuple[int, ...]
    held_out: float
    seed: int


@dataclass
class Part:
    """What a slice became.

    Attributes:
        tokens, lengths: documents to train on, end to end, and the tokens of each.
        text_bytes: UTF-8 bytes of these documents.
        held_tokens, held: documents that may be held out, and hash, tokens and bytes of each.
        lines: lines in the slice, blank ones too; 0 where it is not made of lines.
        rejected: rows set aside.
        checksums: SHA-256 of the files that it read whole.
    """

    slice: Slice
    tokens: NDArray[np.unsignedinteger]
    lengths: NDArray[np.int64]
    text_bytes: int
    held_tokens: NDArray[np.unsignedinteger]
    held: NDArray[np.void]
    lines: int = 0
    rejected: list[Aside] = field(default_factory=list)
    checksums: list[str] = field(default_factory=list)

    @classmethod
    def of_checksum(cls, end: FileEnd, checksum: str, dtype: TokenType) -> Part:
        """The end of a file: no documents, its SHA-256."""
        part = _Collected(file_type(dtype)).part(end)
        part.checksums.append(checksum)
        return part


class Tokeniser:
    """Texts to ids, slices to parts."""

    def __init__(self, encoding: Encoding) -> None:
        from tokenizers import Tokenizer

        self.encoding = encoding
        self._backend = Tokenizer.from_str(encoding.tokenizer)
        self._backend.no_truncation()
        self._backend.no_padding()
        self._backend.encode_special_tokens = True  # "<|eos|>" inside a text is text
        self._type = file_type(encoding.dtype)
        self._is_control = np.zeros(encoding.vocab_size, bool)
        self._is_control[list(encoding.control_ids)] = True
        self._before = [] if encoding.bos_id is None else [encoding.bos_id]
        self._after = [] if encoding.eos_id is None else [encoding.eos_id]
        self._held_below = int(encoding.held_out * 2**64)
        self._key = f"dsm held out {encoding.seed}".encode()

    def part(self, source: Source, piece: Slice) -> Part:
        """All documents of a slice."""
        collected = _Collected(self._type)
        batch: list[Text] = []
        chars = items = 0
        for item in read_slice(source, piece):
            items += 1
            if isinstance(item, Aside):
                collected.rejected.append(item)
            elif item is not None:
                if chars + len(item.text) > _BATCH_CHARS and batch:
                    self._add(batch, collected)
                    batch, chars = [], 0
                batch.append(item)
                chars += len(item.text)
        if batch:
            self._add(batch, collected)
        collected.rejected.sort(key=lambda aside: (aside.place.file, aside.place.row))
        part = collected.part(piece)
        part.lines = items if isinstance(piece, LineRange | LineBlock) else 0
        if isinstance(piece, WholeFiles):
            part.checksums = [checksum(source, file) for file in range(piece.file, piece.file + piece.count)]
        return part

    def _add(self, batch: Sequence[Text], collected: _Collected) -> None:
        for item, ids in zip(batch, self._encode([item.text for item in batch]), strict=True):
            if isinstance(ids, str):
                collected.rejected.append(Aside(item.place, ids, item.text[:RAW_CHARS]))
                continue
            content = item.text.encode()
            digest = blake2b(content, digest_size=8, key=self._key).digest()
            number = int.from_bytes(digest, "little")
            collected.add(ids, len(content), number if number < self._held_below else None)

    def _encode(self, texts: list[str]) -> list[NDArray[np.unsignedinteger] | str]:
        """The ids of each text, or why there are none."""
        try:
            encodings = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # the library's panics are no Exceptions
            if len(texts) == 1:
                return [f"the tokenizer fails: {str(error).splitlines()[0] if str(error) else type(error).__name__}"]
            return [self._encode([text])[0] for text in texts]
        return [self._ids(encoding.ids) for encoding in encodings]

    def _ids(self, ids: list[int]) -> NDArray[np.unsignedinteger] | str:
        if not ids:
            return "becomes no token"
        array = np.array([*self._before, *ids, *self._after], self._type)
        text = array[len(self._before) : len(array) - len(self._after)]
        if (controls := self._is_control[text]).any():
            return f"text becomes a control token (id {int(text[controls.argmax()])})"
        return array


class _Collected:
    """Documents on their way into a part."""

    def __init__(self, dtype: np.dtype[np.unsignedinteger]) -> None:
        self.training: list[NDArray[np.unsignedinteger]] = []
        self.held_out: list[NDArray[np.unsignedinteger]] = []
        self.facts: list[tuple[int, int, int]] = []
        self.rejected: list[Aside] = []
        self.text_bytes = 0
        self._empty = np.empty(0, dtype)

    def add(self, ids: NDArray[np.unsignedinteger], size: int, held_hash: int | None) -> None:
        """One document; `held_hash` if it may be held out."""
        if held_hash is None:
            self.training.append(ids)
            self.text_bytes += size
        else:
            self.held_out.append(ids)
            self.facts.append((held_hash, len(ids), size))

    def part(self, piece: Slice) -> Part:
        return Part(
            slice=piece,
            tokens=np.concatenate([self._empty, *self.training]),
            lengths=np.array([len(ids) for ids in self.training], np.int64),
            text_bytes=self.text_bytes,
            held_tokens=np.concatenate([self._empty, *self.held_out]),
            held=np.array(self.facts, HELD_OUT_DTYPE),
            rejected=self.rejected,
        )


def checksum(source: Source, file: int) -> str:
    """SHA-256 (hex) of one file of a source."""
    try:
        return file_sha256(source.files[file])
    except OSError as error:
        raise UserError(f"{source.name}: {source.shown(file)} cannot be read ({error.strerror})") from error


# ---------------------------------------------------------------- in a process of a pool

_tokeniser: Tokeniser
_sources: Mapping[str, Source]


def start(encoding: Encoding, sources: Mapping[str, Source]) -> None:
    """Make this process ready for `tokenise` and `hash_file`; it ends when its parent does, however that ended."""
    global _tokeniser, _sources
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at the terminal is the parent's affair
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threading.Thread(target=_follow_parent, daemon=True).start()
    _tokeniser, _sources = Tokeniser(encoding), sources


def tokenise(source: str, piece: Slice) -> Part:
    """One slice of a source."""
    part = _tokeniser.part(_sources[source], piece)
    if isinstance(piece, LineBlock):
        part.slice = replace(piece, content=b"")  # the way back is for the tokens
    return part


def hash_file(source: str, file: int) -> str:
    """`checksum` of one file of a source."""
    return checksum(_sources[source], file)


def _follow_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
