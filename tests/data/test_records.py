"""Good rows all come out, bad ones are set aside with place and reason, what cannot be read is one clear line."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from dsm.data.records import RAW_CHARS, Record, Rejected, content_fingerprint, read_records
from dsm.errors import UserError

ROWS: list[dict[str, Any]] = [{"question": f"{i} + {i}? 多少", "answer": str(2 * i)} for i in range(50)]
LINES = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in ROWS)
LINE = b'{"question": "1 + 1?", "answer": "2"}'


def rows_of(path: Path, **options: Any) -> list[dict[str, Any]]:
    records = list(read_records(str(path), **options))
    assert all(isinstance(record, Record) for record in records)
    return [record.row for record in records if isinstance(record, Record)]


def write_folder(path: Path, data: bytes = b"") -> None:
    (path / "nested").mkdir(parents=True)
    (path / "b.jsonl").write_bytes(LINES[: LINES.index(b"\n", 600) + 1])
    (path / "nested" / "c.jsonl.gz").write_bytes(gzip.compress(LINES[LINES.index(b"\n", 600) + 1 :]))
    (path / "README.md").write_text("not data")
    (path / ".hidden.jsonl").write_text("not data")


def write_saved_dataset(path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_list(ROWS).save_to_disk(path)


GOOD: dict[str, Callable[[Path], Any]] = {
    "a.jsonl": lambda p: p.write_bytes(LINES),
    "no_newline_at_end.jsonl": lambda p: p.write_bytes(LINES.rstrip()),
    "bom_and_crlf.jsonl": lambda p: p.write_bytes(b"\xef\xbb\xbf" + LINES.replace(b"\n", b"\r\n")),
    "blank_lines.jsonl": lambda p: p.write_bytes(LINES.replace(b"\n", b"\n\n  \n")),
    "a.jsonl.gz": lambda p: p.write_bytes(gzip.compress(LINES)),
    "two_members.jsonl.gz": lambda p: p.write_bytes(gzip.compress(LINES[:100]) + gzip.compress(LINES[100:])),
    "a.jsonl.zst": lambda p: p.write_bytes(zstandard.compress(LINES)),
    "two_frames.jsonl.zst": lambda p: p.write_bytes(zstandard.compress(LINES[:100]) + zstandard.compress(LINES[100:])),
    "list.json": lambda p: p.write_bytes(b"\xef\xbb\xbf" + json.dumps(ROWS, indent=1).encode()),
    "lines.json": lambda p: p.write_bytes(LINES),
    "a.parquet": lambda p: pq.write_table(pa.Table.from_pylist(ROWS), p, row_group_size=7),
    "folder": write_folder,
    "saved": write_saved_dataset,
}


@pytest.mark.parametrize("name", GOOD)
def test_every_kind_of_source_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    GOOD[name](tmp_path / name)
    assert rows_of(tmp_path / name) == ROWS


def test_lines_longer_than_a_chunk_and_chunks_of_one_byte_give_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dsm.data.records._CHUNK_BYTES", 1)
    for name in ("a.jsonl", "a.jsonl.gz", "two_frames.jsonl.zst"):
        GOOD[name](tmp_path / name)
        assert rows_of(tmp_path / name) == ROWS


def test_locations_count_lines_from_one_and_blank_ones_too(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b"\n" + LINE + b"\n\n" + LINE)
    assert [record.location for record in read_records(str(file))] == [f"{file}:2", f"{file}:4"]


# A broken file -> its good rows around what is set aside: (number of good rows, place of the rejected, reason, raw).
BROKEN_ROWS: dict[str, tuple[str, Callable[[], bytes], int, int, str]] = {
    "not_json": ("x.jsonl", lambda: LINE + b"\nquestion: 1\n" + LINE, 2, 2, "not valid JSON"),
    "cut_off_line": ("x.jsonl", lambda: LINE + b"\n" + LINE[:20], 1, 2, "not valid JSON"),
    "two_rows_on_a_line": ("x.jsonl", lambda: LINE + LINE + b"\n" + LINE, 1, 1, "Extra data"),
    "array_row": ("x.jsonl", lambda: LINE + b'\n["q", "a"]\n' + LINE, 2, 2, "must be a JSON object, this is a list"),
    "string_row": ("x.jsonl", lambda: LINE + b'\n"q"', 1, 2, "must be a JSON object, this is a str"),
    "null_row": ("x.jsonl", lambda: b"null\n" + LINE, 1, 1, "must be a JSON object, this is a NoneType"),
    "not_utf8": ("x.jsonl", lambda: b'{"question": "\xff"}\n' + LINE, 1, 1, "not valid UTF-8 (byte 15 of the line)"),
    "latin1": ("x.jsonl", lambda: LINE + '\n{"question": "é"}'.encode("latin-1"), 1, 2, "not valid UTF-8"),
    "nan": ("x.jsonl", lambda: LINE + b'\n{"answer": NaN}\n' + LINE, 2, 2, "NaN or an infinite number"),
    "infinite": ("x.jsonl", lambda: b'{"a": [{"b": 1e999}]}\n' + LINE, 1, 1, "NaN or an infinite number"),
    "deep": ("x.jsonl", lambda: LINE + b"\n" + b"[" * 100_000, 1, 2, "not readable as JSON"),
    "huge_number": ("x.jsonl", lambda: b'{"a": ' + b"9" * 5000 + b"}\n" + LINE, 1, 1, "not readable as JSON"),
    "list_with_string": ("x.json", lambda: b"[" + LINE + b', "q", ' + LINE + b"]", 2, 2, "this is a str"),
    "list_with_nan": ("x.json", lambda: b"[" + LINE + b', {"answer": NaN}]', 1, 2, "NaN"),
    "bad_line_in_json": ("x.json", lambda: LINE + b"\n{oops\n" + LINE, 2, 2, "not valid JSON"),
    "cut_gzip": ("x.jsonl.gz", lambda: gzip.compress(LINES)[:-9], 50, 51, "truncated gzip stream"),
    "wrong_crc": ("x.jsonl.gz", lambda: gzip.compress(LINES)[:-8] + bytes(8), 50, 51, "not valid gzip"),
    "gzip_then_garbage": ("x.jsonl.gz", lambda: gzip.compress(LINES) + b"garbage", 50, 51, "not valid gzip"),
    "zstd_then_garbage": ("x.jsonl.zst", lambda: zstandard.compress(LINES) + b"garbage!", 50, 51, "not valid zstd"),
    "cut_second_frame": (
        "x.jsonl.zst",
        lambda: zstandard.compress(LINES) + zstandard.compress(LINES)[:-5],
        50,
        51,
        "truncated zstd stream",
    ),
}


@pytest.mark.parametrize("case", BROKEN_ROWS)
def test_broken_rows_are_set_aside_and_the_rest_comes_out(tmp_path: Path, case: str) -> None:
    name, data, good, place, reason = BROKEN_ROWS[case]
    file = tmp_path / name
    file.write_bytes(data())
    records = list(read_records(str(file)))
    rejected = [record for record in records if isinstance(record, Rejected)]
    assert len(records) - len(rejected) == good
    assert [r.location for r in rejected] == [f"{file}:{place}"]
    assert reason in rejected[0].reason
    assert "\n" not in rejected[0].reason
    assert len(rejected[0].raw) <= RAW_CHARS


def test_a_cut_stream_gives_every_row_before_the_cut(tmp_path: Path) -> None:
    """Rows too random to compress, so that the cut falls between rows: all whole lines before it must come out."""
    rows = [{"answer": os.urandom(500).hex()} for _ in range(400)]
    lines = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    writer = zstandard.ZstdCompressor().compressobj()
    flushed = writer.compress(lines) + writer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    for name, data in (("x.jsonl.gz", gzip.compress(lines)), ("x.jsonl.zst", flushed)):
        file = tmp_path / name
        file.write_bytes(data[: len(data) * 2 // 3])
        *good, last = read_records(str(file))
        assert [record.row for record in good] == rows[: len(good)]  # type: ignore[union-attr]
        assert 200 < len(good) < 300
        assert isinstance(last, Rejected)
        assert "truncated" in last.reason
        assert last.location == f"{file}:{len(good) + 1}"
        assert last.raw.startswith('{"answer": ')


def test_a_damaged_row_group_loses_only_itself(tmp_path: Path) -> None:
    file = tmp_path / "x.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), file, row_group_size=10, compression="gzip", use_dictionary=False)
    group = pq.ParquetFile(file).metadata.row_group(2).column(0)
    data = bytearray(file.read_bytes())
    start = group.data_page_offset
    data[start + 20 : start + group.total_compressed_size] = bytes(group.total_compressed_size - 20)
    file.write_bytes(data)
    records = list(read_records(str(file)))
    assert [r.row for r in records if isinstance(r, Record)] == ROWS[:20] + ROWS[30:]
    assert [r.location for r in records if isinstance(r, Record)][20] == f"{file}:31"
    (lost,) = (r for r in records if isinstance(r, Rejected))
    assert lost.location == f"{file}:21"
    assert lost.reason.startswith("row group 2 is damaged, rows 21 to 30 are lost (")


# A source that cannot be read at all -> words of the one line that says so.
UNREADABLE: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "missing": ("x.jsonl", lambda p: None, "does not exist"),
    "typo": ("train.jsonl", lambda p: p.with_name("trains.jsonl").write_bytes(LINE), "did you mean"),
    "missing_folder": ("no/where/x.jsonl", lambda p: None, "nor does"),
    "suffix": ("x.csv", lambda p: p.write_text("q,a"), "unsupported kind of file; allowed are .jsonl, .jsonl.gz"),
    "empty": ("x.jsonl", lambda p: p.write_bytes(b""), "holds no rows"),
    "blank": ("x.jsonl", lambda p: p.write_bytes(b"\n \n\r\n"), "holds no rows"),
    "only_bom": ("x.jsonl", lambda p: p.write_bytes(b"\xef\xbb\xbf"), "holds no rows"),
    "empty_gzip": ("x.jsonl.gz", lambda p: p.write_bytes(gzip.compress(b"")), "holds no rows"),
    "empty_zstd": ("x.jsonl.zst", lambda p: p.write_bytes(b""), "holds no rows"),
    "empty_json": ("x.json", lambda p: p.write_bytes(b" "), "holds no rows"),
    "empty_list": ("x.json", lambda p: p.write_bytes(b"[]"), "holds no rows"),
    "empty_parquet": ("x.parquet", lambda p: pq.write_table(pa.table({"a": pa.array([], pa.int64())}), p), "no rows"),
    "not_gzip": ("x.jsonl.gz", lambda p: p.write_bytes(LINES), "is not valid gzip"),
    "cut_gzip_header": ("x.jsonl.gz", lambda p: p.write_bytes(gzip.compress(LINES)[:6]), "truncated gzip"),
    "not_zstd": ("x.jsonl.zst", lambda p: p.write_bytes(LINES), "is not valid zstd"),
    "cut_zstd": ("x.jsonl.zst", lambda p: p.write_bytes(zstandard.compress(LINES)[:9]), "truncated zstd"),
    "utf16": ("x.jsonl", lambda p: p.write_bytes(LINES.decode().encode("utf-16")), "is UTF-16; save it as UTF-8"),
    "json_object": ("x.json", lambda p: p.write_bytes(LINE), "must hold a list of objects"),
    "cut_json": ("x.json", lambda p: p.write_bytes(b"[" + LINE), "not valid JSON"),
    "json_not_utf8": ("x.json", lambda p: p.write_bytes(b'["\xff"]'), "not valid UTF-8"),
    "not_parquet": ("x.parquet", lambda p: p.write_bytes(LINES), "not a readable Parquet file"),
    "cut_parquet": (
        "x.parquet",
        lambda p: (pq.write_table(pa.Table.from_pylist(ROWS), p), p.write_bytes(p.read_bytes()[:-4])),
        "not a readable Parquet file",
    ),
    "empty_folder": ("folder", lambda p: p.mkdir(), "holds no data files"),
    "folder_of_other_files": (
        "folder",
        lambda p: (p.mkdir(), (p / "README.md").write_text("hello")),
        "holds no data files",
    ),
    "folder_named_as_file": ("x.jsonl", lambda p: p.mkdir(), "holds no data files"),
    "damaged_saved_dataset": (
        "saved",
        lambda p: (p.mkdir(), (p / "state.json").write_text("{}"), (p / "dataset_info.json").write_text("{}")),
        "cannot be loaded",
    ),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_cannot_be_read_is_one_line_naming_key_file_and_fault(tmp_path: Path, case: str) -> None:
    name, make, words = UNREADABLE[case]
    make(tmp_path / name)
    with pytest.raises(UserError) as caught:
        list(read_records(str(tmp_path / name), key="data.sources[0].path"))
    message = str(caught.value)
    assert message.startswith(f"data.sources[0].path={tmp_path / name}: ")
    assert words in message
    assert "\n" not in message


def test_a_missing_path_fails_before_the_first_row_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_records(str(tmp_path / "x.jsonl"))


def test_a_file_that_may_not_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Denied by hand: tests may run as root, whom no mode of a file keeps out."""
    file = tmp_path / "x.jsonl"
    file.write_bytes(LINES)

    def denied(self: Path, *args: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(UserError, match=r"x\.jsonl cannot be read \(Permission denied\)"):
        list(read_records(str(file)))
    with pytest.raises(UserError, match=r"x\.jsonl cannot be read \(Permission denied\)"):
        content_fingerprint(str(file))


def test_a_hub_id_without_its_prefix_is_not_downloaded_but_explained() -> None:
    with pytest.raises(UserError, match=r"write hub:some-org-of-ours/sums"):
        read_records("some-org-of-ours/sums")


# ---------------------------------------------------------------- splits and hub


def test_the_split_of_a_folder_is_a_word_of_the_path(tmp_path: Path) -> None:
    for name in ("train-00000-of-00001.jsonl", "test.jsonl", "constrained.jsonl", "train/x.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps({"file": name}))
    chosen = [row["file"] for row in rows_of(tmp_path, split="train")]
    assert chosen == ["train/x.jsonl", "train-00000-of-00001.jsonl"]
    with pytest.raises(UserError, match=r"no file belongs to split=valid; the folder holds constrained\.jsonl"):
        read_records(str(tmp_path), split="valid")
    with pytest.raises(UserError, match="does not apply to a single file"):
        read_records(str(tmp_path / "test.jsonl"), split="test")


def test_the_split_of_a_saved_dataset(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    one, two = datasets.Dataset.from_list(ROWS[:3]), datasets.Dataset.from_list(ROWS[3:5])
    datasets.DatasetDict(train=one, test=two).save_to_disk(tmp_path / "both")
    datasets.DatasetDict(train=one).save_to_disk(tmp_path / "single")
    assert rows_of(tmp_path / "both", split="test") == ROWS[3:5]
    assert rows_of(tmp_path / "single") == ROWS[:3]
    for split in (None, "valid"):
        with pytest.raises(UserError, match=f"split={split} is not one of its splits; allowed are train, test"):
            list(read_records(str(tmp_path / "both"), split=split))


def test_only_a_hub_path_reaches_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    asked = []

    def load(repository: str, config: str | None) -> Any:
        asked.append((repository, config))
        if repository == "org/gone":
            raise datasets.exceptions.DatasetNotFoundError("no such data set\non the hub")
        return datasets.DatasetDict(train=datasets.Dataset.from_list(ROWS))

    monkeypatch.setattr(datasets, "load_dataset", load)
    records = list(read_records("hub:org/sums:main", split="train"))
    assert [record.row for record in records] == ROWS  # type: ignore[union-attr]
    assert records[0].location == "hub:org/sums:main[train]:1"
    assert content_fingerprint("hub:org/sums") == content_fingerprint("hub:org/sums", split="train")
    with pytest.raises(
        UserError, match=r"^path=hub:org/gone: cannot be loaded \(DatasetNotFoundError: no such data set\)$"
    ):
        list(read_records("hub:org/gone"))
    assert asked == [("org/sums", "main"), ("org/sums", None), ("org/sums", None), ("org/gone", None)]


# ---------------------------------------------------------------- fingerprint


def test_fingerprint_follows_names_and_bytes_and_nothing_else(tmp_path: Path) -> None:
    write_folder(tmp_path / "one")
    write_folder(tmp_path / "two")
    first = content_fingerprint(str(tmp_path / "one"))
    assert content_fingerprint(str(tmp_path / "two")) == first  # the folder's own name and times do not count
    assert len(first) == 64
    (tmp_path / "two" / "README.md").write_text("other words")
    assert content_fingerprint(str(tmp_path / "two")) == first  # nor does what is not read
    (tmp_path / "two" / "b.jsonl").rename(tmp_path / "two" / "a.jsonl")  # the order stays
    assert content_fingerprint(str(tmp_path / "two")) != first
    (tmp_path / "two" / "a.jsonl").rename(tmp_path / "two" / "b.jsonl")
    assert content_fingerprint(str(tmp_path / "two")) == first
    (tmp_path / "two" / "b.jsonl").write_bytes(LINES.replace(b"49", b"48"))
    assert content_fingerprint(str(tmp_path / "two")) != first


def test_fingerprint_of_a_saved_dataset_follows_its_rows(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    for name, rows in (("one", ROWS), ("two", ROWS[1:])):
        datasets.Dataset.from_list(rows).save_to_disk(tmp_path / name)
    one = content_fingerprint(str(tmp_path / "one"))
    assert one == content_fingerprint(str(tmp_path / "one"))
    assert one != content_fingerprint(str(tmp_path / "two"))
