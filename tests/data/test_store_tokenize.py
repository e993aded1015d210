"""From rows to tokens: the rows that `read_records` gives, as the tokenizer alone encodes them; none goes missing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dsm.data.records import Rejected, read_records
from dsm.data.store import documents, slices
from dsm.data.store.documents import Aside, Place, Text, kind_of, read_slice
from dsm.data.store.slices import LineBlock, Source
from dsm.data.store.worker import Tokeniser
from dsm.data.tokenizer import BOS, EOS
from dsm.errors import UserError
from tests.data.store_lab import (
    FORMS,
    encoding,
    source_of,
    texts,
    tokenizer,
)


def read_all(source: Source) -> list[Text | Aside]:
    """Every item of every slice, lines counted from the start of their files."""
    items: list[Text | Aside] = []
    lines = 0
    for piece in slices.slices(source):
        lines = 0 if piece.number == 0 else lines
        read = list(read_slice(source, piece))
        of_lines = isinstance(piece, slices.LineRange | LineBlock)
        for item in read:
            if item is not None:
                row = item.place.row + (lines if of_lines else 0)
                items.append(replace(item, place=Place(item.place.file, row)))
        lines += len(read) if of_lines else 0
    return items


def reference(path: Path, source: Source) -> list[tuple[str, str]]:
    """(location, text or reason) by `read_records` and three lines of our own."""
    expected = []
    for row in read_records(str(path), allow_nan=True):
        if isinstance(row, Rejected):
            expected.append((row.location, kind_of(row.reason)))
        elif not isinstance(row.row.get("text"), str):
            expected.append((row.location, "no text"))
        elif not row.row["text"]:
            expected.append((row.location, "empty"))
        else:
            lone = any(0xD800 <= ord(character) < 0xE000 for character in row.row["text"])
            expected.append((row.location, "not valid Unicode" if lone else row.row["text"]))
    return expected


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("slice_bytes", [37, 999, 1 << 20])
def test_slices_of_any_size_hold_the_rows_that_read_records_gives(form: str, slice_bytes: int, tmp_path: Path) -> None:
    path = tmp_path / form
    FORMS[form](path)
    source = source_of(path, slice_bytes)
    found = []
    for item in read_all(source):
        location = f"{source.files[item.place.file]}:{item.place.row}"
        is_field = isinstance(item, Aside) and "field" in item.reason
        found.append(
            (location, item.text if isinstance(item, Text) else "no text" if is_field else kind_of(item.reason))
        )
    assert found == reference(path, source)
    assert len(found) > 40 or form.startswith("cut")


@pytest.mark.parametrize("form", ["a.jsonl", "cut.jsonl.gz", "a.parquet", "folder"])
def test_slices_go_on_from_any_position(form: str, tmp_path: Path) -> None:
    FORMS[form](tmp_path / form)
    source = source_of(tmp_path / form, 700)
    whole = list(slices.slices(source))
    assert len(whole) > 5
    for i, piece in enumerate(whole):
        assert list(slices.slices(source, (piece.file, piece.number))) == whole[i:]
        assert piece.next == (
            (whole[i + 1].file, whole[i + 1].number) if i + 1 < len(whole) else (len(source.files), 0)
        )
    assert sum(piece.weight for piece in whole) <= sum(source.sizes)


def test_texts_are_documents_whole_or_by_line(tmp_path: Path) -> None:
    contents = {"a.txt": "one\ntwo\n\nthree", "b.txt": " \n", "c.py": "x = 1\n", "d.md": "no text here"}
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "e.txt").write_bytes(b"\xffbroken")
    suffixes = [".txt", ".py"]
    whole = read_all(source_of(tmp_path, text_suffixes=suffixes))
    assert [(i.place.file, i.text) for i in whole if isinstance(i, Text)] == [(0, contents["a.txt"]), (2, "x = 1\n")]
    assert [(i.place, i.reason) for i in whole if isinstance(i, Aside)] == [
        (Place(1, 0), "empty"),
        (Place(3, 0), "not valid UTF-8 (byte 1)"),
    ]
    lines = read_all(source_of(tmp_path, text_suffixes=suffixes, text_unit="line"))
    assert [i.text for i in lines if isinstance(i, Text)] == ["one", "two", "three", "x = 1"]


def test_fields_are_joined_and_must_all_be_there(tmp_path: Path) -> None:
    rows = [{"a": "x", "b": "y", "c": 1}, {"a": "x"}, {"a": "x", "b": None}, {"b": ["y"], "a": ""}, {"a": "", "b": "z"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = read_all(source_of(tmp_path / "a.jsonl", fields=["b", "a"], separator=" | "))
    assert [item.text if isinstance(item, Text) else item.reason for item in found] == [
        "y | x",
        "no field 'b'",
        "field 'b' is null, not text",
        "field 'b' is a list, not text",
        "z | ",
    ]


def test_what_is_too_long_is_set_aside_and_lines_without_end_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "LONGEST_DOCUMENT", 40)
    (tmp_path / "a.txt").write_text("x" * 41)
    (tmp_path / "b.jsonl").write_text('{"text": "' + "x" * 41 + '"}\n{"text": "x"}\n')
    found = read_all(source_of(tmp_path))
    assert [isinstance(item, Aside) and kind_of(item.reason).startswith("longer than") for item in found] == [1, 1, 0]
    monkeypatch.setattr(slices, "LONGEST_LINE", 50)
    with pytest.raises(UserError, match=r"b\.jsonl has a line of over"):
        read_all(source_of(tmp_path))


def test_other_encodings_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n', encoding="utf-16")
    with pytest.raises(UserError, match="is UTF-16; save it as UTF-8"):
        read_all(source_of(tmp_path / "a.jsonl"))


# ---------------------------------------------------------------- encoding


def naive(text: str) -> list[int]:
    """Specials taken for text by cutting inside their name: no merge crosses a bracket and a bar of another class."""
    ids = tokenizer().backend_tokenizer
    assert not any(name in text for name in (EOS, BOS))
    return [*ids.encode(text, add_special_tokens=False).ids, tokenizer().eos_token_id]


def part_of(rows: list[str], tmp_path: Path, **options: Any) -> Any:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    source = source_of(tmp_path / "a.jsonl", 1 << 20)
    return Tokeniser(encoding(0.0, **options)).part(source, next(slices.slices(source)))


def test_documents_are_what_the_tokenizer_makes_of_them_and_end(tmp_path: Path) -> None:
    plain = [text for text in texts() if EOS not in text]
    part = part_of(plain, tmp_path)
    assert part.tokens.tolist() == [token for text in plain for token in naive(text)]
    assert part.lengths.tolist() == [len(naive(text)) for text in plain]
    assert part.text_bytes == sum(len(text.encode()) for text in plain)
    bos = part_of(plain[:1], tmp_path, bos_id=0, eos_id=None)
    assert bos.tokens.tolist() == [0, *naive(plain[0])[:-1]]


@pytest.mark.parametrize("text", [EOS, f"a {EOS}{BOS} b", f"{BOS}<|pad|><|reserved_0|>", "<|eos|" + ">"])
def test_names_of_control_tokens_inside_texts_are_text(text: str, tmp_path: Path) -> None:
    tokens = part_of([text], tmp_path).tokens.tolist()
    assert not set(tokens[:-1]) & set(range(8))
    assert tokenizer().decode(tokens[:-1]) == text


def test_a_text_that_would_become_a_control_token_is_set_aside(tmp_path: Path) -> None:
    letter = tokenizer().backend_tokenizer.encode("a", add_special_tokens=False).ids[0]
    part = part_of(["bbb", "aaa", "ccc"], tmp_path, control_ids=(letter,))
    assert len(part.lengths) == 2
    assert [(aside.place.row, aside.reason) for aside in part.rejected] == [
        (2, f"text becomes a control token (id {letter})")
    ]


def test_a_text_that_the_tokenizer_cannot_take_does_not_take_others_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Panic(BaseException):
        pass

    class Moody:
        def __init__(self, backend: Any) -> None:
            self.backend = backend

        def encode_batch_fast(self, rows: list[str], **options: Any) -> Any:
            if "bad" in rows:
                raise Panic("no such luck")
            return self.backend.encode_batch_fast(rows, **options)

    source = source_of_texts(["x", "bad", "y"], tmp_path)
    tokeniser = Tokeniser(encoding(0.0))
    monkeypatch.setattr(tokeniser, "_backend", Moody(tokeniser._backend))
    part = tokeniser.part(source, next(slices.slices(source)))
    assert part.tokens.tolist() == naive("x") + naive("y")
    assert [aside.reason for aside in part.rejected] == ["the tokenizer fails: no such luck"]


def source_of_texts(rows: list[str], tmp_path: Path) -> Source:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    return source_of(tmp_path / "rows.jsonl", 1 << 20)
