"""Records into pages: what a page may look like, why a record is none, and the table of them all."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
import zstandard
from fastwarc.stream_io import BrotliWriter
from warc_lab import PACKED, http, page, warc_record

from dsm.corpus.executors import LocalExecutor
from dsm.corpus.pages import PAGE_SCHEMA, PageTable
from dsm.corpus.read import PagesStep, Record, Skipped, count_words, estimate_tokens, read_tasks, records
from dsm.corpus.steps import run_step
from dsm.corpus.web import dechunked, iso_date
from dsm.errors import UserError

# ---------------------------------------------------------------- pages


def fate(tmp_path: Path, record: bytes) -> Record | str:
    """What becomes of one record."""
    path = tmp_path / "one.warc"
    path.write_bytes(record)
    found = list(records(path))
    assert len(found) == 1
    return found[0].reason if isinstance(found[0], Skipped) else found[0]


def brotli(data: bytes) -> bytes:
    out = io.BytesIO()
    writer = BrotliWriter(out)
    writer.write(data)
    writer.close()
    return out.getvalue()


def chunks(data: bytes) -> bytes:
    pieces = [data[at : at + 50] for at in range(0, len(data), 50)]
    return b"".join(b"%x;ext=1\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


raw_deflate = zlib.compressobj(wbits=-15)
PAYLOADS = {
    "plain": http(page(1)),
    "gzip": http(gzip.compress(page(1)), Content_Encoding="gzip"),
    "zlib": http(zlib.compress(page(1)), Content_Encoding="deflate"),
    "deflate": http(raw_deflate.compress(page(1)) + raw_deflate.flush(), Content_Encoding="deflate"),
    "brotli": http(brotli(page(1)), Content_Encoding="br"),
    "zstd": http(zstandard.compress(page(1)), Content_Encoding="zstd"),
    "two": http(gzip.compress(brotli(page(1))), Content_Encoding="br, gzip"),
    "chunked": http(chunks(page(1)), Transfer_Encoding="chunked"),
    "chunked gzip": http(chunks(gzip.compress(page(1))), Transfer_Encoding="chunked", Content_Encoding="gzip"),
    "not gzip": http(page(1), Content_Encoding="gzip"),
    "not chunked": http(page(1), Transfer_Encoding="Chunked"),
    "unknown encoding": http(page(1), Content_Encoding="utf-8"),
    "xhtml": http(page(1), content_type="application/xhtml+xml; charset=utf-8"),
    "no type": http(page(1), content_type=None),
    "xml type": http(page(1), content_type="TEXT/XML"),
    "odd status": http(page(1), status="206 Partial"),
    "newlines only": http(b"").replace(b"\r\n", b"\n") + page(1),
}


@pytest.mark.parametrize("kind", PAYLOADS)
def test_payloads(tmp_path: Path, kind: str) -> None:
    found = fate(tmp_path, warc_record(1, PAYLOADS[kind]))
    assert isinstance(found, Record)
    assert found.payload == page(1)
    assert found.digest == xxhash.xxh3_64_intdigest(page(1))
    assert (found.url, found.date, found.kind) == ("http://example.org/1", "2020-01-01T00:00:00Z", "html")


REASONS = {
    "not_html": http(page(1), content_type="image/png"),
    "http_status": http(page(1), status="404 Not Found"),
    "bad_http": b"no such thing\r\n\r\n" + page(1),
    "empty": http(b" \r\n"),
    "bad_encoding": http(gzip.compress(page(1))[:8], Content_Encoding="gzip"),
}


@pytest.mark.parametrize("reason", REASONS)
def test_records_that_are_no_pages(tmp_path: Path, reason: str) -> None:
    assert fate(tmp_path, warc_record(1, REASONS[reason])) == reason


def test_kinds_of_records(tmp_path: Path) -> None:
    for kind in ("warcinfo", "request", "metadata", "revisit", "continuation"):
        assert fate(tmp_path, warc_record(1, http(page(1)), kind)) == f"type_{kind}"
    assert fate(tmp_path, warc_record(1, b"x", "strange")) == "type_unknown"
    assert fate(tmp_path, warc_record(1, http(page(1)), WARC_Target_URI=" ")) == "no_url"
    resource = fate(tmp_path, warc_record(1, page(1), "resource", Content_Type="text/html"))
    assert isinstance(resource, Record)
    assert resource.payload == page(1)
    text = fate(tmp_path, warc_record(1, "Sätze 中文\n".encode(), "conversion", Content_Type="text/plain"))
    assert isinstance(text, Record)
    assert (text.payload, text.kind) == ("Sätze 中文\n", "text")


@pytest.mark.parametrize(
    ("header", "charset"),
    [
        ("text/html; charset=GB2312", "gb2312"),
        ("text/html; charset=nonsense", None),
        ("text/html; charset=base64", None),
    ],
)
def test_charsets_that_python_does_not_know_are_dropped(tmp_path: Path, header: str, charset: str | None) -> None:
    found = fate(tmp_path, warc_record(1, http(page(1), content_type=header)))
    assert isinstance(found, Record)
    assert found.charset == charset


def test_odd_addresses_and_dates(tmp_path: Path) -> None:
    found = fate(tmp_path, warc_record(1, http(page(1)), WARC_Target_URI="<http://a.b/c>", WARC_Date="2008-10-294T05"))
    assert isinstance(found, Record)
    assert (found.url, found.date) == ("http://a.b/c", "2008-10-29")


def test_small_parts() -> None:
    assert dechunked(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\nrest") == b"abcde"
    assert dechunked(b"3\r\nabc\r\nzz\r\nde") == b"abczz\r\nde"
    assert iso_date("2020-01-02 03:04:05.5+01:00 x") == "2020-01-02T03:04:05.5+01:00"
    assert iso_date("yesterday") == ""
    assert count_words("two words") == 2
    assert count_words("求 x 的值。") == 4 + 1
    assert estimate_tokens("1234567890") == 3
    assert estimate_tokens("求解方程吗") == 3


# ---------------------------------------------------------------- rows


def test_json_lines(tmp_path: Path) -> None:
    rows: list[object] = [
        {"text": "one", "url": "http://a.b/1", "date": "2020-01-01"},
        {"content": "two", "metadata": {"url": "http://a.b/2", "date_download": "2020-01-02T00:00:00Z"}},
        {"text": "three", "id": "http://a.b/3", "meta": json.dumps({"timestamp": "2020-01-03 01:00:00"})},
        {"text": "four", "id": 4},
        {"html": "<p>five</p>", "url": "http://a.b/5"},
        {"text": " "},
        {"words": 7},
        ["eight"],
    ]
    lines = [json.dumps(row).encode() for row in rows] + [b"{broken", b"\xff\xfe", b"", b'{"text": "last"}']
    expected = [
        ("one", "http://a.b/1", "2020-01-01"),
        ("two", "http://a.b/2", "2020-01-02T00:00:00Z"),
        ("three", "http://a.b/3", "2020-01-03T01:00:00"),
        ("four", "", ""),
        ("<p>five</p>", "http://a.b/5", ""),
        "empty",
        "no_text_field",
        "bad_json",
        "bad_json",
        "bad_json",
        ("last", "", ""),
    ]
    for suffix, pack in PACKED.items():
        path = tmp_path / f"rows.jsonl{suffix}"
        path.write_bytes(pack(b"\n".join(lines)))
        found = list(records(path))
        assert [r.reason if isinstance(r, Skipped) else (r.payload, r.url, r.date) for r in found] == expected
        assert [r.offset for r in found][-2:] == [10, 12]
    path = tmp_path / "broken.jsonl.gz"
    path.write_bytes(gzip.compress(lines[0] + b"\n") + gzip.compress(lines[1] + b"\n")[:20] + gzip.compress(lines[2]))
    found = list(records(path))
    assert [r.reason if isinstance(r, Skipped) else r.payload for r in found] == ["one", "broken_compression", "three"]


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    table = pa.table({"url": [f"http://a.b/{n}" for n in range(40)], "text": [f"{n} {n * n}" for n in range(40)]})
    pq.write_table(table, path, row_group_size=10, compression="zstd")
    assert [r.payload for r in records(path) if isinstance(r, Record)] == table.column("text").to_pylist()
    column = pq.ParquetFile(path).metadata.row_group(1).column(1)
    data = bytearray(path.read_bytes())
    data[column.dictionary_page_offset : column.dictionary_page_offset + column.total_compressed_size] = bytes(
        column.total_compressed_size
    )
    path.write_bytes(data)
    fates = Counter(r.reason if isinstance(r, Skipped) else "out" for r in records(path))
    assert fates == {"out": 30, "broken_row_group": 10}
    path.write_bytes(b"PAR1 nothing")
    assert [r.reason for r in records(path) if isinstance(r, Skipped)] == ["unreadable_file"]


def test_which_files_are_read(tmp_path: Path) -> None:
    names = ["b/x.warc.gz", "b/y.WARC", "a/z.warc.wet.gz", "c.jsonl.zst", "d.parquet", "e/1.html", "e/2.htm", "f.txt"]
    for name in [*names, ".hidden.warc", "b/x warc.warc"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    tasks = read_tasks(tmp_path)
    assert [task.sources for task in tasks] == [
        ("a/z.warc.wet.gz",),
        ("b/x warc.warc",),
        ("b/x.warc.gz",),
        ("b/y.WARC",),
        ("c.jsonl.zst",),
        ("d.parquet",),
        ("e/1.html", "e/2.htm"),
    ]
    assert len({task.name for task in tasks}) == 7
    assert [task.name for task in read_tasks(tmp_path / "b" / "x.warc.gz")] == ["x.warc.gz"]
    with pytest.raises(UserError, match=r"^crawl.path=.*f.txt: holds no file of a crawl; allowed are .warc"):
        read_tasks(tmp_path / "f.txt")
    with pytest.raises(UserError, match="does not exist"):
        read_tasks(tmp_path / "g.warc")


# ---------------------------------------------------------------- the page table


def test_the_page_table(tmp_path: Path) -> None:
    paragraph = "<p>" + "The integral of the function is finite because the series converges absolutely. " * 9 + "</p>"
    html = f"<html><body><h1>Theorem</h1>{paragraph}</body></html>".encode()
    parts = [
        warc_record(0, b"software: x\r\n", "warcinfo", Content_Type="application/warc-fields"),
        warc_record(1, http(html), WARC_Target_URI="https://www.Example.org/a/?utm_source=x"),
        warc_record(2, http(html, status="500 Oops")),
        b"junk\r\n\r\n",
        warc_record(3, "数学 \\(x^2\\) 定理".encode(), "conversion", Content_Type="text/plain"),
    ]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.warc.gz").write_bytes(b"".join(gzip.compress(part) for part in parts))
    (tmp_path / "in" / "b.jsonl").write_text('{"text": "one text without an address"}\n' * 2)
    manifest = run_step(PagesStep(), read_tasks(tmp_path / "in"), tmp_path / "steps" / "pages", LocalExecutor(0))
    total = manifest.total()
    facts = {name: count for name, count in total.items() if not name.startswith("_")}
    assert facts == {"in": 7, "out": 4, "type_warcinfo": 1, "http_status": 1, "not_a_record": 1}
    table = PageTable(tmp_path)
    assert table.shards == ["a.warc.gz", "b.jsonl"]
    first = table.read("a.warc.gz", PAGE_SCHEMA.names)
    assert first.schema.names == PAGE_SCHEMA.names
    page_row, wet_row = first.to_pylist()
    assert page_row["url"] == "https://www.Example.org/a/?utm_source=x"
    assert page_row["url_hash"] == xxhash.xxh3_64_intdigest(b"example.org/a")
    assert (page_row["domain"], page_row["path"], page_row["source"]) == ("example.org", "/a", "a.warc.gz")
    assert page_row["offset"] == len(gzip.compress(parts[0]))
    assert page_row["length"] == len(gzip.compress(parts[1]))
    assert page_row["language"] == "en"
    assert "converges absolutely" in page_row["text"]
    assert page_row["words"] == len(page_row["text"].split())
    assert (wet_row["formulas"], wet_row["extractor"], wet_row["url"]) == (1, "", "http://example.org/3")
    hashes = table.read("b.jsonl", ["url_hash"]).column("url_hash").to_pylist()
    assert len(set(hashes)) == 2, "pages without an address are not one page"
    assert total["_tokens"] == sum(sum(part.column("tokens").to_pylist()) for _, part in table.tables(["tokens"]))
