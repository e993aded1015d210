"""The store's files: what goes in comes out at any position, damage is named, datatrove's folders open as they are."""

from __future__ import annotations

import os
import pickle
import random
import shutil
import struct
from collections.abc import Callable
from itertools import accumulate, product
from pathlib import Path

import numpy as np
import pytest

from dsm.data.store import TokenStore, reader
from dsm.data.store.manifest import StoreTokenizer, token_type
from dsm.data.store.writer import AppendedFile, StoreWriter, write_store
from dsm.errors import UserError

TOKENIZER = StoreTokenizer(fingerprint="a" * 64, vocab_size=70_000, eos_id=1, bos_id=None)


def some_documents(count: int = 300, largest_id: int = 69_999) -> list[list[int]]:
    rng = random.Random(0)
    return [[rng.randint(0, largest_id) for _ in range(rng.randint(1, 80))] for _ in range(count)]


DOCUMENTS = some_documents()
FLAT = np.concatenate([np.array(ids, np.uint32) for ids in DOCUMENTS])
ENDS = list(accumulate(map(len, DOCUMENTS)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of many small shards."""
    path = tmp_path_factory.mktemp("store") / "a"
    manifest = write_store(path, DOCUMENTS, TOKENIZER, shard_tokens=700)
    assert len(manifest.shards) > 10
    return path


def write_foreign(folder: Path, files: dict[str, list[list[int]]], code: str = "H") -> Path:
    """As datatrove's TokenizedFile does: tokens packed little-endian, an index of uint64 ends, no manifest."""
    for name, documents in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(struct.pack(f"<{len(ids)}{code}", *ids) for ids in documents))
        ends = list(accumulate(map(len, documents)))
        path.with_name(f"{path.name}.index").write_bytes(struct.pack(f"<{len(ends)}Q", *ends))
        path.with_name(f"{path.name}.metadata").write_text(f"gpt2|2\n{ends[-1] if ends else 0}\n0 T")
    return folder


# ---------------------------------------------------------------- reading


def test_every_stretch_reads_as_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_OPEN_SHARDS", 2)
    store = TokenStore.open(folder, vocab_size=70_000)
    assert (store.tokens, store.documents, store.dtype) == (len(FLAT), len(DOCUMENTS), "uint32")
    rng = random.Random(1)
    borders = [0, store.tokens, *(end for end in ENDS if rng.random() < 0.2)]
    places = [
        sorted(rng.choice((rng.choice(borders), rng.randint(0, len(FLAT)))) for _ in range(2)) for _ in range(2000)
    ]
    together = store.read_many(*np.asarray(places).T)
    for (start, stop), part in zip(places, together, strict=True):
        assert np.array_equal(store.read(start, stop), FLAT[start:stop])
        assert np.array_equal(part, FLAT[start:stop])
    assert store.read_many(*np.zeros((2, 0), dtype=np.int64)) == []
    assert store.ends.dtype == np.int64
    assert store.ends.tolist() == ENDS
    store.verify()


def test_a_read_inside_a_shard_is_a_view_of_the_file_and_cannot_be_written(folder: Path) -> None:
    store = TokenStore.open(folder)
    part = store.read(10, 20)
    assert part.base is not None
    assert np.shares_memory(part, store.read(10, 20))
    with pytest.raises(ValueError, match="read-only"):
        part[0] = 1


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (5, 4), (0, len(FLAT) + 1), (len(FLAT) + 1, len(FLAT) + 1)])
def test_positions_outside_are_refused(folder: Path, start: int, stop: int) -> None:
    store = TokenStore.open(folder)
    with pytest.raises(IndexError):
        store.read(start, stop)
    with pytest.raises(IndexError):
        store.read_many(np.asarray([0, start]), np.asarray([1, stop]))


def test_copies_read_in_other_processes(folder: Path) -> None:
    store = TokenStore.open(folder)
    store.read(0, 5)
    assert len(pickle.dumps(store)) < 10_000  # of names and sizes, none of tokens
    assert np.array_equal(pickle.loads(pickle.dumps(store)).read(600, 900), FLAT[600:900])
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(store.read(0, len(FLAT)), FLAT) and store.ends[-1] == len(FLAT) else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_small_ids_take_two_bytes() -> None:
    assert [token_type(size) for size in (300, 65_536, 65_537)] == ["uint16", "uint16", "uint32"]


def test_the_fingerprint_is_of_tokens_and_documents_only(folder: Path, tmp_path: Path) -> None:
    fingerprint = TokenStore.open(folder).fingerprint
    shutil.copytree(folder, tmp_path / "elsewhere")
    assert TokenStore.open(tmp_path / "elsewhere").fingerprint == fingerprint
    others = {
        "token": [[DOCUMENTS[0][0] ^ 1, *DOCUMENTS[0][1:]], *DOCUMENTS[1:]],
        "border": [DOCUMENTS[0] + DOCUMENTS[1], *DOCUMENTS[2:]],
        "order": [*DOCUMENTS[1:], DOCUMENTS[0]],
    }
    for name, documents in others.items():
        assert write_store(tmp_path / name, documents, TOKENIZER, shard_tokens=700).fingerprint != fingerprint
    other = TOKENIZER.model_copy(update={"fingerprint": "b" * 64})
    assert write_store(tmp_path / "tokenizer", DOCUMENTS, other, shard_tokens=700).fingerprint != fingerprint


# ---------------------------------------------------------------- damage

DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (lambda p: p.rename(p.with_name("gone")), "no such folder"),
    "empty folder": (lambda p: [file.unlink() for file in p.iterdir()], r"neither manifest.json nor .ds files"),
    "a shard is missing": (lambda p: (p / "00003.ds").unlink(), "00003.ds is missing"),
    "an index is missing": (lambda p: (p / "00003.ds.index").unlink(), "00003.ds.index is missing"),
    "a shard is short": (lambda p: os.truncate(p / "00002.ds", 100), "00002.ds has 100 bytes"),
    "the ends are short": (lambda p: os.truncate(p / "document_ends.bin", 8), "document_ends.bin has 8 bytes"),
    "the manifest was edited": (
        lambda p: (p / "manifest.json").write_text((p / "manifest.json").read_text().replace("uint32", "uint16")),
        "contradicts itself",
    ),
    "the manifest is cut": (lambda p: os.truncate(p / "manifest.json", 50), "manifest.json is not one of version 1"),
    "a later version": (
        lambda p: (p / "manifest.json").write_text(
            (p / "manifest.json").read_text().replace('version": 1', 'version": 2')
        ),
        r"not one of version 1 \(version",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_store_is_one_clear_line(case: str, folder: Path, tmp_path: Path) -> None:
    harm, message = DAMAGE[case]
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    harm(copy)
    with pytest.raises(UserError, match=rf"mix\.sources\.web\.path=.*{message}") as raised:
        TokenStore.open(copy, key="mix.sources.web.path")
    assert "\n" not in str(raised.value)


def test_a_model_with_too_few_embeddings_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"path=.*70,000 ids, the model 69,999 embeddings"):
        TokenStore.open(folder, vocab_size=69_999)


@pytest.mark.parametrize("file", ["00004.ds", "00004.ds.index", "document_ends.bin"])
def test_verify_names_the_file_with_a_flipped_bit(file: str, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    content = bytearray((tmp_path / "copy" / file).read_bytes())
    content[len(content) // 2] ^= 4
    (tmp_path / "copy" / file).write_bytes(content)
    with pytest.raises(UserError, match=rf"{file} is damaged"):
        TokenStore.open(tmp_path / "copy").verify()


# ---------------------------------------------------------------- datatrove's folders

SHORT = [[1, 2, 3], [65_535], [4, 5, 6, 7], [8]]


def test_datatrove_folders_open_as_they_are(tmp_path: Path) -> None:
    files = {"b/00001_shuffled.ds": SHORT[2:], "a_00000.ds": SHORT[:2], "c.ds": [], "validation/00000.ds": [[9]]}
    store = TokenStore.open(write_foreign(tmp_path, files), vocab_size=65_536)
    assert (store.dtype, store.tokens, store.documents, store.tokenizer_hash) == ("uint16", 9, 4, None)
    assert store.read(0, 9).tolist() == [1, 2, 3, 65_535, 4, 5, 6, 7, 8]
    assert store.ends.tolist() == [3, 4, 8, 9]
    store.verify()
    assert store.validation is not None
    assert TokenStore.open(store.validation).read(0, 1).tolist() == [9]
    wide = TokenStore.open(write_foreign(tmp_path / "wide", {"00000.ds": DOCUMENTS}, "I"))
    assert (wide.dtype, wide.ends.tolist()) == ("uint32", ENDS)
    assert np.array_equal(wide.read(0, wide.tokens), FLAT)


def test_the_fingerprint_of_a_datatrove_folder_is_of_its_content(tmp_path: Path) -> None:
    first = TokenStore.open(write_foreign(tmp_path / "a", {"0.ds": SHORT})).fingerprint
    assert TokenStore.open(write_foreign(tmp_path / "b", {"other_name.ds": SHORT})).fingerprint == first
    assert TokenStore.open(write_foreign(tmp_path / "c", {"0.ds": [[1, 2, 4], *SHORT[1:]]})).fingerprint != first
    assert TokenStore.open(write_foreign(tmp_path / "d", {"0.ds": [[1, 2], [3], *SHORT[1:]]})).fingerprint != first


def _widen(folder: Path) -> None:
    write_foreign(folder, {"1.ds": SHORT}, "I")


FOREIGN_DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no index": (lambda p: (p / "0.ds.index").unlink(), "0.ds has no 0.ds.index"),
    "cut short": (lambda p: os.truncate(p / "0.ds", 10), r"0.ds \(10 bytes\) does not fit its index \(9 tokens\)"),
    "ends that fall": (lambda p: (p / "0.ds.index").write_bytes(struct.pack("<3Q", 4, 3, 9)), "does not fit its index"),
    "two types": (_widen, "uint16 tokens, others uint32"),
    "no tokens": (lambda p: write_foreign(p, {"0.ds": []}), "hold no tokens"),
}


@pytest.mark.parametrize("case", FOREIGN_DAMAGE)
def test_a_damaged_datatrove_folder_is_one_clear_line(case: str, tmp_path: Path) -> None:
    harm, message = FOREIGN_DAMAGE[case]
    harm(write_foreign(tmp_path, {"0.ds": SHORT}))
    with pytest.raises(UserError, match=message):
        TokenStore.open(tmp_path)


def test_ids_beyond_the_model_are_found_in_a_datatrove_folder(tmp_path: Path) -> None:
    write_foreign(tmp_path, {"0.ds": SHORT})
    with pytest.raises(UserError, match=r"0\.ds holds the id 65,535, the model has 65,535 embeddings"):
        TokenStore.open(tmp_path, vocab_size=65_535)


# ---------------------------------------------------------------- writing


def test_a_shard_ends_with_the_document_that_fills_it_however_documents_arrive(tmp_path: Path) -> None:
    stores = []
    for step in (1, 7, 1000):
        writer = StoreWriter(tmp_path / str(step), "uint32", shard_tokens=100)
        for first in range(0, len(DOCUMENTS), step):
            some = DOCUMENTS[first : first + step]
            writer.append(np.concatenate([np.array(ids, np.uint32) for ids in some]), np.array([len(x) for x in some]))
        stores.append(writer.finish(TOKENIZER))
    assert stores[0] == stores[1] == stores[2]
    for shard in stores[0].shards[:-1]:
        assert 100 <= shard.tokens < 100 + 80


def test_a_writer_goes_on_from_its_state_whatever_was_written_since(tmp_path: Path) -> None:
    def write(writer: StoreWriter, documents: list[list[int]]) -> None:
        for ids in documents:
            writer.append(np.array(ids, np.uint32), np.array([len(ids)]))
        writer.sync()

    whole = write_store(tmp_path / "whole", DOCUMENTS, TOKENIZER, shard_tokens=500)
    for stopped, lost in product((0, 150, len(DOCUMENTS)), (1, 60)):
        folder = tmp_path / f"{stopped}-{lost}"
        before = StoreWriter(folder, "uint32", shard_tokens=500)
        write(before, DOCUMENTS[:stopped])
        state = before.state
        write(before, DOCUMENTS[stopped : stopped + lost])
        after = StoreWriter(folder, "uint32", shard_tokens=500, state=state)
        write(after, DOCUMENTS[stopped:])
        assert after.finish(TOKENIZER) == whole
        TokenStore.open(folder).verify()


def test_a_file_shorter_than_it_was_is_not_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"123")
    with pytest.raises(UserError, match="shorter than it was"):
        AppendedFile(tmp_path / "a", 4)
