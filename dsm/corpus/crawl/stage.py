"""`stage=crawl`: write the crawl, its truth, the seed, the rules, the benchmarks and the texts that are no pages."""

from __future__ import annotations

import json
import logging
import os
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dsm.config.crawl import CrawlConfig, CrawlStageConfig
from dsm.corpus.crawl.benchmark import Benchmarks, benchmarks
from dsm.corpus.crawl.mathematics import SEED_REGISTERS
from dsm.corpus.crawl.pages import World, make_page, truth, write_document
from dsm.corpus.crawl.plan import Amounts, Planned, draw_plan
from dsm.corpus.crawl.prose import OFFICES
from dsm.corpus.crawl.readme import readme
from dsm.corpus.crawl.sites import draw_sites, rules
from dsm.corpus.crawl.texts import recipes
from dsm.corpus.crawl.texts.write import SOURCES, write_texts
from dsm.corpus.crawl.warc import WarcWriter
from dsm.files import atomic_directory, atomic_write_text
from dsm.runtime.light import light_session

log = logging.getLogger("dsm")

TRUTH_SCHEMA = pa.schema(
    [
        *(("source", pa.string()), ("offset", pa.int64()), ("url", pa.string()), ("canonical", pa.string())),
        *(("domain", pa.string()), ("kind", pa.string()), ("language", pa.string()), ("register", pa.string())),
        *(("is_math", pa.bool_()), ("article", pa.string()), ("family", pa.string())),
        *(("planted", pa.list_(pa.string())), ("decoys", pa.list_(pa.string()))),
        *(("formulas", pa.list_(pa.string())), ("encoding", pa.string())),
    ]
)
_NOISE = 0.02  # of the seed is no mathematics
_CONTENT_TYPES = {"pdf": "application/pdf", "image": "image/png"}
_STATUS = {"error": "404 Not Found", "redirect": "301 Moved Permanently"}


def make_crawl(config: CrawlStageConfig) -> dict[str, Any]:
    """Write `<run>/export/`; returns how many pages of which kind there are."""
    with light_session(config) as run:
        if run.finished is not None:
            log.info("finished before: %s (resume=never makes it anew)", run.path)
            return run.finished
        asked = config.crawl
        with atomic_directory(run.export) as folder:
            final = write_crawl(folder, asked, config.seed)
        log.info(
            "%s pages of %d domains in %s; %s are mathematics",
            f"{final['pages']:,}",
            asked.domains,
            run.export,
            f"{final['math/pages']:,}",
        )
        final["export"] = str(run.export)
        atomic_write_text(run.path / "metrics.json", json.dumps(final, indent=2) + "\n")
        return final


def write_crawl(folder: Path, asked: CrawlConfig, seed: int) -> dict[str, Any]:
    """Everything that lies under `export/`, into an empty folder; returns the counts."""
    world = _world(asked, seed)
    (folder / "crawl").mkdir()
    names = file_names(asked)
    workers = min(asked.workers or os.cpu_count() or 1, len(names))
    jobs = [(folder, asked, seed, number) for number in range(len(names))]
    texts = [(folder / "texts", asked, seed, source) for source in SOURCES if asked.texts]
    if texts:
        (folder / "texts").mkdir()
    if workers == 1:
        tables = [_write_file(job) for job in jobs]
        for job in texts:
            _write_source(job)
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            written = pool.map(_write_source, texts)
            tables = list(pool.map(_write_file, jobs))
            list(written)
    table = pa.concat_tables(tables)
    pq.write_table(table, folder / "truth.parquet", compression="zstd")
    (folder / "rules.txt").write_text("\n".join(rules(world.sites)) + "\n", encoding="utf-8")
    _write_jsonl(folder / "seed.jsonl", _seed_documents(world, asked.seed_documents))
    (folder / "benchmark").mkdir()
    for name, rows in world.benchmarks.rows.items():
        _write_jsonl(folder / "benchmark" / f"{name}.jsonl", (row.columns() for row in rows))
    functions = map(recipes.examination, recipes.held_out(seed, asked.held_out_rows))
    _write_jsonl(folder / "benchmark" / "held_out_code.jsonl", functions)
    counts = count(table)
    (folder / "README.md").write_text(readme(asked, counts, table), encoding="utf-8")
    return counts


def file_names(asked: CrawlConfig) -> list[str]:
    """The names of the WARC files, those of an earlier crawl first."""
    days = len(asked.dates)
    dates = sorted(asked.dates[number % days] for number in range(asked.files))
    return [f"crawl-{date}-{number:05}.warc.gz" for number, date in enumerate(dates)]


def count(table: pa.Table) -> dict[str, Any]:
    """How many records of which kind the truth tells of."""
    rows = table.select(
        ["kind", "canonical", "is_math", "article", "register", "language", "planted", "decoys"]
    ).to_pylist()
    pages = [row for row in rows if row["kind"] == "page"]
    mathematics = [row for row in pages if row["is_math"]]
    kinds = Counter(row["kind"] for row in rows)
    registers = Counter(row["register"] for row in mathematics)
    return {
        "pages": len(pages),
        "addresses": len({row["canonical"] for row in pages}),
        "articles": len({row["article"] for row in pages}),
        "math/pages": len(mathematics),
        "math/articles": len({row["article"] for row in mathematics}),
        "planted": sum(bool(row["planted"]) for row in pages),
        "decoys": sum(bool(row["decoys"]) for row in pages),
        **{f"records/{kind}": kinds[kind] for kind in sorted(kinds) if kind != "page"},
        **{f"math/{register}": registers[register] for register in sorted(registers)},
    }


def _world(asked: CrawlConfig, seed: int) -> World:
    sites = draw_sites(asked.domains, seed)
    return World(seed, sites, _benchmarks(asked, seed), asked.planted)


def _benchmarks(asked: CrawlConfig, seed: int) -> Benchmarks:
    return benchmarks(seed, asked.benchmark_rows, asked.held_out_rows)


def _write_file(job: tuple[Path, CrawlConfig, int, int]) -> pa.Table:
    """One WARC file; the truth about its records."""
    folder, asked, seed, number = job
    world = _world(asked, seed)
    amounts = Amounts(asked.pages, asked.url_duplicates, asked.near_duplicates, asked.broken)
    planned = draw_plan(asked.domains, amounts, asked.files, seed)[number]
    name = file_names(asked)[number]
    with (folder / "crawl" / name).open("wb") as file:
        writer = WarcWriter(file, name, name[6:16])
        rows = [_write_record(writer, world, one) | {"source": name} for one in planned]
    return pa.Table.from_pylist(rows, TRUTH_SCHEMA)


def _write_source(job: tuple[Path, CrawlConfig, int, str]) -> None:
    """One of the sources that are no web pages."""
    folder, asked, seed, source = job
    functions = recipes.held_out(seed, asked.held_out_rows)
    write_texts(folder, source, asked.texts, seed, _benchmarks(asked, seed), functions)


def _write_record(writer: WarcWriter, world: World, planned: Planned) -> dict[str, Any]:
    """Write one record; the truth about it."""
    page = make_page(world, planned)
    site = world.sites[planned.site]
    row = truth(page, planned, site)
    kind = planned.extra
    if kind is None:
        stated = f"text/html; charset={page.charset}" if planned.number % 2 else "text/html"
        return row | {"offset": writer.response(page.url, page.html, content_type=stated)}
    body = page.html
    if kind in ("empty", "redirect"):
        body = b""
    elif kind in ("pdf", "image"):
        start = b"%PDF-1.4\n" if kind == "pdf" else b"\x89PNG\r\n\x1a\n"
        body = start + random.Random(planned.number).randbytes(2000)
    damage = kind if kind in ("truncated", "short", "long", "headless") else ""
    stated = "text/html; charset=utf-8" if kind == "charset" else _CONTENT_TYPES.get(kind, "text/html")
    status = _STATUS.get(kind, "200 OK")
    offset = writer.response(page.url, body, status=status, content_type=stated, damage=damage)
    return {"offset": offset, "url": page.url, "canonical": page.canonical, "domain": site.domain, "kind": kind}


def _seed_documents(world: World, number: int) -> Iterator[dict[str, str]]:
    """Positives: pages of the registers that the seed knows, of other sites, as text."""
    for place in range(number):
        rng = random.Random(f"seed document {world.seed} {place}")
        content = rng.choice(SEED_REGISTERS) if rng.random() > _NOISE else rng.choice(["article", *OFFICES])
        document = write_document(world, content, place, "en", rng, "")
        url = f"https://openmath.example/{content}/{place}"
        yield {"text": document.plain(), "url": url, "language": "en"}


def _write_jsonl(path: Path, rows: Any) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
