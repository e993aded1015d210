"""Of the pages of one address one is kept, and which one does not depend on how the work was shared out."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from step_lab import content

from dsm.corpus.executors import LocalExecutor
from dsm.corpus.pages import PageTable
from dsm.corpus.read import PagesStep, read_tasks
from dsm.corpus.steps import Manifest, run_step
from dsm.corpus.url_duplicates import run_urls
from dsm.corpus.urls import canonical_url
from dsm.errors import UserError

DATES = ["", "2020-01-01T00:00:00Z", "2019-12-31T23:30:00-01:00", "2020-06-01", "2021-01-01 10:00:00", "not a date"]
SPELLINGS = ["http://a.org/{}", "https://www.A.org/{}/?utm_source=x", "http://a.org:80/{}#top"]


@pytest.fixture(scope="module")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest, list[list[tuple[str, str]]]]:
    """Some shards of pages, and the address and date of each."""
    run = tmp_path_factory.mktemp("crawl")
    rng = random.Random(0)
    shards = []
    (run / "in").mkdir()
    for number in range(4):
        rows = [(rng.choice(SPELLINGS).format(rng.randrange(40)), rng.choice(DATES)) for _ in range(60)]
        rows += [("", "")] * 3
        lines = [json.dumps({"text": "some text", "url": url, "date": date}) for url, date in rows]
        (run / "in" / f"{number}.jsonl").write_text("\n".join(lines))
        shards.append(rows)
    manifest = run_step(PagesStep(), read_tasks(run / "in"), run / "steps" / "pages", LocalExecutor(0))
    return run, manifest, shards


def test_the_earliest_page_is_kept(crawl: tuple[Path, Manifest, list[list[tuple[str, str]]]]) -> None:
    run, pages, shards = crawl
    told = run_urls(pages, run / "steps" / "urls", LocalExecutor(0)).total()
    seconds = {"2020-01-01T00:00:00Z": 1, "2019-12-31T23:30:00-01:00": 2, "2020-06-01": 3, "2021-01-01 10:00:00": 4}
    best: dict[str, tuple[int, int, int]] = {}
    for number, rows in enumerate(shards):
        for row, (url, date) in enumerate(rows):
            page = canonical_url(url) or f"{number} {row}"
            best[page] = min(best.get(page, (9, 9, 9)), (seconds.get(date, 5), number, row))
    kept = {place[1:] for place in best.values()}
    table = PageTable(run)
    for number, (_, columns) in enumerate(table.tables(["duplicate_url"])):
        marks = columns.column("duplicate_url").to_pylist()
        assert marks == [(number, row) not in kept for row in range(len(shards[number]))]
    assert told == {"in": 4 * 63, "out": len(kept), "duplicate_url": 4 * 63 - len(kept)}


def test_how_many_buckets_changes_nothing(
    crawl: tuple[Path, Manifest, list[list[tuple[str, str]]]], tmp_path: Path
) -> None:
    """Nor in what order the shards come."""
    _, pages, _ = crawl
    run_urls(pages, tmp_path / "a" / "urls", LocalExecutor(0))
    backwards = Manifest(pages.step, pages.folder, dict(reversed(pages.shards.items())))
    run_urls(backwards, tmp_path / "b" / "urls", LocalExecutor(0), pages_per_bucket=7)
    ours, theirs = (
        {name: data for name, data in content(tmp_path / folder / "urls").items() if name.endswith(".parquet")}
        for folder in "ab"
    )
    assert ours == theirs
    assert len(ours) == 4
    assert len(list((tmp_path / "b" / "urls-buckets").glob("*/losers.npy"))) == 36


def test_a_table_that_does_not_fit_is_refused(crawl: tuple[Path, Manifest, list[list[tuple[str, str]]]]) -> None:
    run, pages, _ = crawl
    run_urls(pages, run / "steps" / "urls", LocalExecutor(0))
    table = PageTable(run)
    first, second = table.shards[:2]
    assert table.read(first, ["url", "duplicate_url"]).num_columns == 2
    with pytest.raises(UserError, match="cannot be read"):
        table.read(first, ["duplicate_of"])
    with pytest.raises(ValueError, match="say which"):
        table.read(first, ["score"])
    column = pq.ParquetFile(table.pages_file(second)).metadata.row_group(0).column(1)
    data = bytearray(table.pages_file(second).read_bytes())
    data[column.dictionary_page_offset + column.total_compressed_size // 2] ^= 1
    table.pages_file(second).write_bytes(data)
    with pytest.raises(UserError, match=r"cannot be read \(.*run the same command again"):
        table.read(second, ["url"])
    table.column_file(second, "duplicate_url").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="cannot be read"):
        table.read(second, ["duplicate_url"])
