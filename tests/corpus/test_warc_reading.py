"""Every good record of a crawl is kept, every other counted once, whatever is broken around it."""

from __future__ import annotations

import gzip
import io
import random
import re
from collections import Counter
from pathlib import Path

import pytest
import zstandard
from warc_lab import ACCIDENTS, PACKED, damaged, http, page, warc_record

from dsm.corpus.members import members
from dsm.corpus.read import Skipped, records
from dsm.corpus.warc import Lost, RawRecord, split


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
