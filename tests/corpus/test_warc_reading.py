"""Every good record of a crawl is kept, every other counted once, whatever is broken around it."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import zlib
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
import zstandard
from fastwarc.stream_io import BrotliWriter
from warc_lab import ACCIDENTS, PACKED, damaged, http, page, warc_record

from dsm.corpus.executors import LocalExecutor
from dsm.corpus.members import members
from dsm.corpus.pages import PAGE_SCHEMA, PageTable
from dsm.corpus.read import PagesStep, Record, Skipped, count_words, estimate_tokens, read_tasks, records
from dsm.corpus.steps import run_step
from dsm.corpus.warc import Lost, RawRecord, split
from dsm.corpus.web import dechunked, iso_date
from dsm.errors import UserError


def cut(data: bytes, suffix: str = "") -> tuple[list[bytes], list[str]]:
    """The bodies of the records in some bytes, the reasons why there are no others."""
    found = list(split(members(io.BytesIO(data), suffix)))
    bodies = [item.block.split(b"\r\n\r\n", 1)[-1] for item in found if isinstance(item, RawRecord)]
    return bodies, [item.reason for item in found if isinstance(item, Lost)]


# ---------------------------------------------------------------- records


@pytest.mark.parametrize("packing", PACKED)
def test_records_and_their_places(packing: str) -> None:
    packed = [PACKED[packing](warc_record(n, http(page(n)))) for n in range(20)]
    found = [item for item in split(members(io.BytesIO(b"".join(packed)))) if isinstance(item, RawRecord)]
    assert [item.block for item in found] == [http(page(n)) for n in range(20)]
    newlines = 4 if packing == "" else 0
    offset = 0
    for item, data in zip(found, packed, strict=True):
        assert (item.offset, item.length) == (offset, len(data) - newlines)
        offset += len(data)


@pytest.mark.parametrize("packing", PACKED)
def test_it_does_not_matter_where_a_packer_cuts(packing: str) -> None:
    """One member for all, or members that end within records."""
    plain = b"".join(warc_record(n, http(page(n))) for n in range(20))
    bodies = [page(n) for n in range(20)]
    assert cut(PACKED[packing](plain)) == (bodies, [])
    for size in (3, 100, 777, 5000):
        pieces = [plain[at : at + size] for at in range(0, len(plain), size)][: 400 if size == 3 else None]
        whole = b"".join(pieces).count(b"</html>\r\n\r\n")
        found, lost = cut(b"".join(PACKED[packing](piece) for piece in pieces))
        assert found == bodies[:whole]
        assert len(lost) == (size == 3)


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("accident", ACCIDENTS)
def test_an_accident_costs_one_record(packing: str, accident: str) -> None:
    """Its neighbours are all there; it is told once, unless it went unnoticed or harmed nothing."""
    rng = random.Random(f"{packing} {accident}")
    bodies = [page(n) for n in range(8)]
    packed = [PACKED[packing](warc_record(n, http(page(n)))) for n in range(8)]
    for _ in range(25):
        number = rng.randrange(8)
        broken = damaged(packed[number], accident, rng)
        found, lost = cut(b"".join([*packed[:number], broken, *packed[number + 1 :]]), packing)
        neighbours = [body for n, body in enumerate(bodies) if n != number]
        kept = [body for body in found if body in neighbours]
        if packing == "" and number and kept != neighbours:  # no frame tells where the one before it ends
            assert kept == [body for n, body in enumerate(bodies) if n not in (number, number - 1)]
            continue
        assert kept == neighbours
        assert len(lost) <= 1
        if packing in (".gz", ".zst"):  # they have checksums: nothing wrong passes for right
            assert len(lost) == 1 or found == bodies
            assert all(body in bodies for body in found)


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("change", [-40, -1, 1, 3, 40, 100_000, 10**9, 10**17])
def test_a_wrong_length_costs_one_record(packing: str, change: int) -> None:
    blocks = [http(page(n)) for n in range(5)]
    parts = [warc_record(n, block) for n, block in enumerate(blocks)]
    parts[2] = warc_record(2, blocks[2], Content_Length=str(len(blocks[2]) + change))
    found, lost = cut(b"".join(PACKED[packing](part) for part in parts))
    if change == 3:  # the newlines behind it: as good as right
        assert found[2].removesuffix(b"\r\n\r") == page(2)
        return
    if change > 1 << 26:
        assert lost == ["too_large"]
        assert found == [page(n) for n in (0, 1, 3, 4)]
        return
    assert found[:2] == [page(0), page(1)]
    assert found[-2:] == [page(3), page(4)]
    assert (len(found), lost) in [(4, ["wrong_length"]), (5, [])]
    if change in (-40, 40, 100_000):
        assert lost == ["wrong_length"]


def test_headers_that_say_nothing() -> None:
    good = warc_record(0, http(page(0)))
    for broken in (b"WARC/1.0\r\nWARC-Type: response\r\n\r\nwhat?\r\n\r\n", b"WARC/1.0\r\n\r\n", b"junk\r\n\r\n"):
        found, lost = cut(broken + good)
        assert found == [page(0)]
        assert lost in (["bad_header"], ["not_a_record"])
        found, lost = cut(gzip.compress(good) + gzip.compress(broken) + gzip.compress(good))
        assert (found, len(lost)) == ([page(0)] * 2, 1)


def test_the_good_records_before_the_break_of_a_long_member() -> None:
    """All in one gzip member, its second half gone."""
    rng = random.Random(0)
    bodies = [rng.randbytes(3000).hex().encode() for _ in range(100)]
    packed = gzip.compress(b"".join(warc_record(n, http(body)) for n, body in enumerate(bodies)))
    found, lost = cut(packed[: len(packed) // 2])
    assert found == bodies[: len(found)]
    assert len(found) >= 48
    assert lost == ["truncated"]
    broken = bytearray(packed)
    broken[len(packed) // 2] ^= 255
    found, lost = cut(bytes(broken) + gzip.compress(warc_record(1, http(b"after"))))
    assert found[:48] == bodies[:48]
    assert found[-1] == b"after"
    assert lost


def test_a_zstd_dictionary_before_the_records() -> None:
    """As in the WARC-Zstandard draft: in a frame that is to be skipped."""
    content = zstandard.train_dictionary(4096, [page(n) for n in range(200)]).as_bytes()
    dictionary = zstandard.ZstdCompressionDict(content)
    compressor = zstandard.ZstdCompressor(dict_data=dictionary)
    for stored in (content, zstandard.compress(content)):
        frame = b"\x5d\x2a\x4d\x18" + len(stored).to_bytes(4, "little") + stored
        packed = [compressor.compress(warc_record(n, http(page(n)))) for n in range(5)]
        assert cut(frame + b"".join(packed)) == ([page(n) for n in range(5)], [])


def test_nothing_and_padding() -> None:
    assert cut(b"") == ([], [])
    one = gzip.compress(warc_record(0, http(page(0))))
    assert cut(one + bytes(1000) + one + bytes(70_000)) == ([page(0), page(0)], [])


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


# ---------------------------------------------------------------- real files


def walked(data: bytes) -> list[bytes] | None:
    """An independent reader of unpacked WARCs: the blocks, or None if anything at all is odd."""
    blocks = []
    while data:
        head, found, rest = data.partition(b"\r\n\r\n")
        lengths = re.findall(rb"(?im)^content-length: *(\d+)\r?$", head)
        if not found or len(lengths) != 1 or not head.startswith(b"WARC/"):
            return None
        size = int(lengths[0])
        block, data = rest[:size], rest[size:]
        if len(block) < size or not (data.startswith(b"\r\n\r\n") or not data):
            return None
        blocks.append(block)
        data = data.lstrip(b"\r\n")
    return blocks


def test_real_files_hold_what_another_reader_finds(shared_data: Path) -> None:
    clean, odd = 0, set()
    for path in sorted((shared_data / "web").glob("*/*")):
        if path.suffix == ".lz4" or not re.search(r"\.(warc|wet|wat)(\.gz)?$", path.name):
            continue
        data = path.read_bytes()
        try:
            blocks = walked(gzip.decompress(data) if path.suffix == ".gz" else data)
        except EOFError:
            blocks = None
        found = list(split(members(io.BytesIO(data))))
        if blocks is None:
            odd.add(path.name)
            continue
        clean += 1
        assert [item.block for item in found if isinstance(item, RawRecord)] == blocks, path
        assert len(found) == len(blocks), path
    assert clean >= 20
    assert odd == {"clipped.warc.gz", "example-trunc.warc", "example-wrong-chunks.warc.gz"}  # see the next test


def test_real_files_that_are_broken(shared_data: Path) -> None:
    """Counted by hand."""
    web = shared_data / "web"
    expected = {
        "resiliparse/clipped.warc.gz": (0, {"truncated": 1}),
        "warcio/example-trunc.warc": (3, {"wrong_length": 1}),  # its second response lacks its end
        "warcio/example-bad.warc.gz.bad": (6, {}),  # all in one gzip member
        "warcio/example-wrong-chunks.warc.gz": (2, {}),  # a record in two members, one a newline too short
        "resiliparse/warcfile.warc.lz4": (50, {}),
        "warcio/bad.arc": (0, {"not_a_record": 1}),
    }
    for name, (good, reasons) in expected.items():
        found = list(split(members(io.BytesIO((web / name).read_bytes()))))
        assert sum(isinstance(item, RawRecord) for item in found) == good, name
        assert Counter(item.reason for item in found if isinstance(item, Lost)) == reasons, name


def test_one_archive_in_three_packings_is_one_archive(shared_data: Path) -> None:
    folder = shared_data / "web" / "resiliparse"
    found = []
    for suffix in ("", ".gz", ".lz4"):
        rows = list(records(folder / f"warcfile.warc{suffix}"))
        found.append([r.reason if isinstance(r, Skipped) else (r.url, r.digest, r.charset) for r in rows])
    assert found[0] == found[1] == found[2]
    assert sum(isinstance(row, tuple) for row in found[0]) == 16
