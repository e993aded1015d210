"""A made-up mined run to annotate: the folders and columns that `stage=mine` leaves, with pages worth looking at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from dsm.corpus.domains import DOMAINS, domain_counts, merge_counts, with_candidates
from dsm.corpus.executors import LocalExecutor
from dsm.corpus.pages import PAGE_SCHEMA, PAGES, write_columns, write_table
from dsm.corpus.steps import Task, run_step
from dsm.corpus.urls import domain_of, path_of, url_hash


@dataclass(frozen=True)
class Page:
    """What a made-up page is like."""

    url: str
    text: str = "A page."
    score: float = 0.1
    collected: bool = False
    language: str = "en"
    duplicate: bool = False  # of another's URL
    near: bool = False  # a near-duplicate of another


@dataclass(frozen=True)
class _Given:
    """A step whose results are given."""

    name: str
    tables: Mapping[str, Any]
    version: str = "1"

    def settings(self) -> dict[str, Any]:
        return {}

    def run(self, task: Task, out: Path) -> dict[str, int]:
        given = self.tables[task.name]
        if isinstance(given, dict):
            write_columns(given, out)
            rows = len(next(iter(given.values())))
        else:
            write_table(given, out / (PAGES if self.name == "pages" else DOMAINS))
            rows = len(given)
        return {"in": rows, "out": rows}


def write_run(folder: Path, pages: Sequence[Page], *, shards: int = 2, round: int = 1, min_pages: int = 1) -> Path:
    """A run's folder with one finished round; candidates are domains of which more than 10 % is collected."""
    parts = {f"shard-{number}": pages[number::shards] for number in range(shards)}
    tables = {name: _page_table(part) for name, part in parts.items()}
    kept = {name: [not (page.duplicate or page.near) for page in part] for name, part in parts.items()}
    collected = {
        name: [page.collected and not (page.duplicate or page.near) for page in part] for name, part in parts.items()
    }
    score = {
        name: [float("nan") if page.duplicate or page.near else page.score for page in part]
        for name, part in parts.items()
    }
    counts = [
        domain_counts(
            tables[name]["domain"],
            tables[name]["tokens"].to_numpy(),
            pa.array(kept[name]).to_numpy(zero_copy_only=False),
            pa.array(collected[name]).to_numpy(zero_copy_only=False),
        )
        for name in parts
    ]
    found = with_candidates(merge_counts(counts), 0.1, min_pages)
    steps: dict[str, Mapping[str, Any]] = {
        "pages": tables,
        "urls": {name: {"duplicate_url": pa.array([page.duplicate for page in part])} for name, part in parts.items()},
        "near": {
            name: {"duplicate_of": pa.array([(1 << 64) - 1 if page.near else 0 for page in part], pa.uint64())}
            for name, part in parts.items()
        },
        f"round-{round}/score": {name: {"score": pa.array(score[name], pa.float32())} for name in parts},
        f"round-{round}/cut": {name: {"collected": pa.array(collected[name])} for name in parts},
        f"round-{round}/domains": {"all": found},
    }
    executor = LocalExecutor(workers=0)
    for name, given in steps.items():
        run_step(_Given(name, given), [Task(task, ()) for task in given], folder / "steps" / name, executor)
    return folder


def _page_table(pages: Iterable[Page]) -> pa.Table:
    rows = [
        {
            "url_hash": url_hash(page.url),
            "url": page.url,
            "domain": domain_of(page.url),
            "path": path_of(page.url),
            "source": "crawl.warc.gz",
            "offset": number,
            "length": len(page.text),
            "digest": number,
            "date": "",
            "language": page.language,
            "words": len(page.text.split()),
            "tokens": max(1, len(page.text) // 4),
            "formulas": page.text.count("$") // 2,
            "extractor": "1",
            "text": page.text,
        }
        for number, page in enumerate(pages)
    ]
    return pa.Table.from_pylist(rows, schema=PAGE_SCHEMA)


MATHS = r"Show that $e^{i\pi} + 1 = 0$ and that $$\sum_{n\ge1} \frac{1}{n^2} = \frac{\pi^2}{6}.$$ It costs $5."


def made_pages() -> list[Page]:
    """math.org: 60 pages gained under /q, 20 under /users, 4 at the root; puzzles.org: 30 gained; full.org: none."""
    pages = [Page(f"http://www.math.org/q/{n}/title-{n}", MATHS, 0.9, collected=n < 20) for n in range(80)]
    pages += [Page(f"http://math.org/users/{n}", "A person.", 0.05) for n in range(20)]
    pages += [Page(f"http://math.org/page{n}", "About us.", 0.2) for n in range(4)]
    pages += [Page(f"http://math.org/q/{n}/title-{n}?again", MATHS, duplicate=True) for n in range(5)]
    pages += [Page(f"http://math.org/q/{n}/copy", MATHS, near=True) for n in range(5)]
    pages += [Page(f"http://puzzles.org/all/of/it/{'ab'[n % 2]}/{n}", MATHS, 0.7, collected=n < 10) for n in range(40)]
    pages += [Page(f"http://news.org/{n}", "<script>document.title='gone'</script>", 0.1) for n in range(50)]
    pages += [Page(f"http://small.org/only/{n}", MATHS, 0.99, collected=n == 0) for n in range(2)]
    pages += [Page("http://full.org/only", MATHS, 0.99, collected=True)]
    return pages
