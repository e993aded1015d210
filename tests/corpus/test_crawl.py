"""The made-up crawl is what its truth says: for any reader, from any number of processes, whatever it is asked for."""

from __future__ import annotations

import json
import random
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from fastwarc.warc import ArchiveIterator, WarcRecordType

from dsm.cli import main
from dsm.config.compose import compose_config
from dsm.config.crawl import CrawlConfig, CrawlStageConfig
from dsm.corpus.annotations import Decisions
from dsm.corpus.crawl.benchmark import benchmarks, decoy, plant
from dsm.corpus.crawl.mathematics import SEED_REGISTERS
from dsm.corpus.crawl.stage import write_crawl
from dsm.corpus.crawl.texts.recipes import held_out
from dsm.corpus.crawl.texts.write import SOURCES, write_texts
from dsm.corpus.read import Skipped, records
from dsm.corpus.urls import canonical_url, domain_of, path_of
from dsm.errors import UserError

SMALL: dict[str, Any] = {
    "pages": 900,
    "domains": 50,
    "files": 3,
    "seed_documents": 60,
    "benchmark_rows": 20,
    "held_out_rows": 20,
}
SMALL |= {"planted": 0.1, "workers": 1}


def asked(**changed: Any) -> CrawlConfig:
    overrides = [f"crawl.{key}={value}" for key, value in (SMALL | changed).items()]
    config = compose_config(["stage=crawl", *overrides])
    assert isinstance(config, CrawlStageConfig)
    return config.crawl


@pytest.fixture(scope="module")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crawl")
    write_crawl(folder, asked(), 0)
    return folder


@pytest.fixture(scope="module")
def truth(crawl: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(crawl / "truth.parquet").to_pylist()
    return rows


@pytest.fixture(scope="module")
def pages(crawl: Path) -> dict[tuple[str, int], bytes]:
    """What our reader finds: (file, offset) -> HTML."""
    found = [record for file in sorted((crawl / "crawl").iterdir()) for record in records(file)]
    return {
        (record.source, record.offset): record.payload
        for record in found
        if not isinstance(record, Skipped) and isinstance(record.payload, bytes)
    }


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def text_of(html: bytes) -> str:
    return html.decode("gb18030" if b'charset="gb18030"' in html else "utf-8", errors="replace")


def test_workers_change_nothing_and_another_seed_everything(crawl: Path, tmp_path: Path) -> None:
    (tmp_path / "same").mkdir()
    write_crawl(tmp_path / "same", asked(workers=2), 0)
    assert files_of(crawl) == files_of(tmp_path / "same")
    (tmp_path / "other").mkdir()
    write_crawl(tmp_path / "other", asked(pages=400), 1)
    for name in ("rules.txt", "seed.jsonl", "benchmark/planted_en.jsonl", "benchmark/held_out_zh.jsonl"):
        assert set((crawl / name).read_text().splitlines()).isdisjoint(
            (tmp_path / "other" / name).read_text().splitlines()
        )


def test_every_page_is_where_the_truth_says_and_the_damaged_are_not(
    truth: list[dict[str, Any]], pages: dict[tuple[str, int], bytes]
) -> None:
    kinds = Counter(row["kind"] for row in truth)
    assert kinds["page"] == SMALL["pages"]
    assert sum(kinds.values()) == SMALL["pages"] + 27  # a share of 0.03
    readable = {(row["source"], row["offset"]) for row in truth if row["kind"] in ("page", "charset")}
    assert set(pages) == readable


def test_another_reader_opens_every_record_that_is_not_damaged(crawl: Path, truth: list[dict[str, Any]]) -> None:
    whole = {(row["source"], row["offset"]): row for row in truth if row["kind"] == "page"}
    for (source, offset), row in list(whole.items())[:100]:
        with (crawl / "crawl" / source).open("rb") as file:
            file.seek(offset)
            record = next(iter(ArchiveIterator(file, record_types=WarcRecordType.response)))
            assert record.headers["WARC-Target-URI"] == row["url"]
            assert record.http_headers is not None
            assert record.http_headers.status_code == 200
            assert record.verify_payload_digest()


def test_spellings_of_an_address_mean_one_page_with_one_content(truth: list[dict[str, Any]]) -> None:
    of_address = defaultdict(list)
    for row in truth:
        if row["kind"] == "page":
            of_address[row["canonical"]].append(row)
    spelled = [rows for rows in of_address.values() if len(rows) > 1]
    assert sum(len(rows) - 1 for rows in of_address.values()) == round(0.06 * SMALL["pages"])
    assert any(len({row["url"] for row in rows}) > 1 for rows in spelled)
    for address, rows in of_address.items():
        assert {canonical_url(row["url"]) for row in rows} == {canonical_url(address)}
        assert len({row["article"] for row in rows}) == 1
    assert len({canonical_url(address) for address in of_address}) == len(of_address)


def test_copies_share_their_sentences_and_families_only_their_words(
    truth: list[dict[str, Any]], pages: dict[tuple[str, int], bytes]
) -> None:
    def sentences(row: dict[str, Any]) -> set[str]:
        html = text_of(pages[row["source"], row["offset"]])
        return {re.sub(r"<[^>]*>", "", block) for block in re.findall(r"<(?:p|li)>(.{40,}?)</(?:p|li)>", html)}

    of_article: dict[str, dict[str, Any]] = defaultdict(dict)
    of_family: dict[str, dict[str, Any]] = defaultdict(dict)
    for row in truth:
        if row["kind"] == "page":
            of_article[row["article"]][row["canonical"]] = row
            if row["family"]:
                of_family[row["family"]][row["article"]] = row
    copies = [list(rows.values())[:2] for rows in of_article.values() if len(rows) > 1]
    assert len(copies) > 20
    alike = [first for first, second in copies if len(sentences(first) & sentences(second)) >= 1]
    assert len(alike) > 0.5 * len(copies)  # others have a design or formulas in between
    variants = [list(rows.values()) for rows in of_family.values() if len(rows) > 1]
    assert len(variants) > 3
    for first, second, *_ in variants:
        assert first["article"] != second["article"]


def test_planted_texts_stand_in_their_pages_and_decoys_share_nothing(
    crawl: Path, truth: list[dict[str, Any]], pages: dict[tuple[str, int], bytes]
) -> None:
    rows = {
        path.stem: [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in (crawl / "benchmark").iterdir()
    }
    assert {name: len(of) for name, of in rows.items()} == dict.fromkeys(rows, 20)
    known, planted = benchmarks(0, 20, 20), 0
    for row in truth:
        if row["kind"] != "page":
            continue
        text = text_of(pages[row["source"], row["offset"]])
        for label in row["planted"]:
            name, number, field = label.split()
            assert rows[name][int(number)][field] in text, label
            planted += 1
        if not row["planted"]:
            for block in re.findall(r"<p>([^<]+)</p>", text):
                assert known.is_clean(block), block
    assert planted > 20
    assert sum(bool(row["decoys"]) for row in truth) > 5


def test_held_out_problems_stand_in_no_page_and_can_be_chosen(crawl: Path, pages: dict[tuple[str, int], bytes]) -> None:
    everything = b"\n".join(pages.values())
    for language in ("en", "zh"):
        for line in (crawl / "benchmark" / f"held_out_{language}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            assert row["question"].encode() not in everything
            assert row["choices"][row["right"]] == row["answer"]
            assert row["gold"] in row["answer"]
            assert len(set(row["choices"])) == 4


def test_rules_accept_the_mathematics_of_mathematical_sites_alone(crawl: Path, truth: list[dict[str, Any]]) -> None:
    decisions = Decisions.from_rules(crawl / "rules.txt")
    rows = [row for row in truth if row["kind"] == "page"]
    accepted = decisions.accepts(
        [domain_of(row["url"]) for row in rows], [path_of(row["url"]) for row in rows]
    ).tolist()
    assert all(row["is_math"] for row, yes in zip(rows, accepted, strict=True) if yes)
    mathematics = [yes for row, yes in zip(rows, accepted, strict=True) if row["is_math"]]
    assert 0.7 < sum(mathematics) / len(mathematics) < 1  # the rest are strays and print versions


def test_the_seed_knows_some_registers_only(crawl: Path, truth: list[dict[str, Any]]) -> None:
    seed = [json.loads(line) for line in (crawl / "seed.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(seed) == SMALL["seed_documents"]
    contents = Counter(row["url"].split("/")[3] for row in seed)
    assert set(SEED_REGISTERS) <= set(contents)
    assert sum(contents[name] for name in SEED_REGISTERS) >= 0.9 * len(seed)
    assert not re.search("[\u4e00-\u9fff]", "".join(row["text"] for row in seed))
    missing = {row["register"] for row in truth if row["is_math"]} - set(SEED_REGISTERS)
    assert {"stories", "worksheet", "zh_stories", "zh_notes"} <= missing


def test_a_decoy_is_never_what_is_planted() -> None:
    known = benchmarks(3, 20, 5)
    for number in range(30):
        rng = random.Random(number)
        name = rng.choice(["planted_en", "planted_zh", "planted_short"])
        text, label = plant(rng, known, name)
        assert not known.is_clean(text)
        assert label.startswith(f"{name} ")
        assert known.is_clean(decoy(rng, known, name))


@pytest.mark.parametrize(
    "wrong", [{"files": 2}, {"domains": 200}, {"dates": '["2024-02-26","2023-01-01"]'}, {"near_duplicates": 0.48}]
)
def test_what_cannot_be_made_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        asked(**wrong)


def test_the_stage_runs_once(tmp_path: Path) -> None:
    settings = (f"crawl.{key}={value}" for key, value in (SMALL | {"pages": 400}).items())
    command = ["stage=crawl", f"paths.runs={tmp_path}", *settings]
    assert main(command) == 0
    (run,) = (tmp_path / "crawl").iterdir()
    before = files_of(run / "export")
    assert json.loads((run / "metrics.json").read_text())["pages"] == 400
    assert "400 HTML pages" in before["README.md"].decode()
    assert main(command) == 0
    assert files_of(run / "export") == before


def test_texts_that_are_no_pages_come_when_asked_for(crawl: Path, tmp_path: Path) -> None:
    """They change nothing else, and more processes nothing at all."""
    write_crawl(tmp_path, asked(texts=30, workers=2), 0)
    written, before = files_of(tmp_path), files_of(crawl)
    assert set(written) - set(before) == {f"texts/{name}.jsonl.gz" for name in SOURCES}
    assert {name for name, content in before.items() if written[name] != content} == {"README.md"}
    write_texts(tmp_path, "code", 30, 0, benchmarks(0, 20, 20), held_out(0, 20))
    assert (tmp_path / "code.jsonl.gz").read_bytes() == written["texts/code.jsonl.gz"]
