"""Mining a crawl: our whole chain beside datatrove's default chain, same pages, one core each, in one run.

    python scripts/bench/mine.py --peer DATATROVE_VENV/bin/python                       # 2,000 made-up pages
    python scripts/bench/mine.py --peer ... --html ../shared/data/web/trafilatura       # and real pages, 10 copies each

The peer's environment: datatrove[io]==0.10.1 'trafilatura<1.12' lxml_html_clean 'xxhash<4' spacy
fasttext-numpy2-wheel tokenizers fasteners ('datatrove[processing]' beside trafilatura 2 resolves to datatrove 0.2).

Both chains read WARC, extract, find near-duplicates (14 x 8 MinHash) and score pages with one and the same fastText
model. Ours also keeps formulas, marks copies of addresses and writes the page table. Seconds are of CPU, which others
on the machine do not change. Beside them stands what each stage would cost for the 40 billion pages that the paper
started from, at the measured rate per page: all is taken as linear, which the peer's clustering is not. Pages of Common
Crawl have about 85 kB of HTML, and reading and extraction grow with that: look at the real pages.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mine_peer import peak_mb

PAPER_PAGES = 40e9
GOAL, DECONTAMINATION_GOAL = 3.0, 10.0
_PAGE_LIMIT = 1000  # of the decontamination, which is measured on the first so many pages


def ours(crawl: Path, out: Path, model: Path, texts: Path) -> None:
    """Our chain in this process; prints a line of JSON."""
    from dsm.corpus.contamination import BenchmarkText, Decontaminator
    from dsm.corpus.executors import LocalExecutor
    from dsm.corpus.near import MinHash
    from dsm.corpus.near_steps import run_near
    from dsm.corpus.pages import COLUMNS, PAGES, PageTable
    from dsm.corpus.read import PagesStep, read_tasks
    from dsm.corpus.rounds_steps import ScoreStep
    from dsm.corpus.steps import Task, run_step
    from dsm.corpus.url_duplicates import run_urls

    executor, steps, seconds = LocalExecutor(0), out / "steps", dict[str, float]()
    lap = _Lap(seconds)
    pages = run_step(PagesStep(tokenizer=None), read_tasks(crawl), steps / "pages", executor)
    lap("read, extract")
    urls = run_urls(pages, steps / "urls", executor)
    lap("addresses")
    near = run_near(pages, urls, steps, executor, minhash=MinHash(ngram=5, bands=14, rows=8))
    lap("near-duplicates")
    tasks = [
        Task(name, (shard.path(PAGES), model, urls.shards[name].path(COLUMNS), near.shards[name].path(COLUMNS)))
        for name, shard in pages.shards.items()
    ]
    run_step(ScoreStep(1, _classifier()), tasks, steps / "round-1" / "score", executor)
    lap("classify")
    tables = [table for _, table in PageTable(out).tables(["text", "duplicate_of", "duplicate_url"])]
    found = [text for table in tables for text in table.column("text").to_pylist()]
    kept = sum(
        other == 0 and not copy
        for table in tables
        for other, copy in zip(table["duplicate_of"].to_pylist(), table["duplicate_url"].to_pylist(), strict=True)
    )
    rows = [json.loads(line)["text"] for line in texts.read_text(encoding="utf-8").splitlines()]
    finder = Decontaminator([BenchmarkText("all", str(number), "question", row) for number, row in enumerate(rows)])
    sample = found[:_PAGE_LIMIT]
    before = time.process_time()
    cleaned = list(finder.clean_all(sample))
    rate = len(cleaned) / (time.process_time() - before)
    result = {
        "seconds": seconds,
        "pages": len(found),
        "left": kept,
        "chars": sum(map(len, found)),
        "peak_mb": peak_mb(),
        "decontaminated": rate,
    }
    print("RESULT " + json.dumps(result))


class _Lap:
    """Puts down the CPU seconds since it was last asked."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds, self._last = seconds, time.process_time()

    def __call__(self, name: str) -> None:
        now = time.process_time()
        self._seconds[name], self._last = now - self._last, now


def _classifier() -> Any:
    from omegaconf import OmegaConf

    from dsm.config.mine import ClassifierConfig

    conf = Path(__file__).resolve().parents[2] / "conf" / "stage" / "mine.yaml"
    settings: Any = OmegaConf.to_container(OmegaConf.load(conf).classifier)
    return ClassifierConfig(**settings)


def make_crawl(folder: Path, pages: int) -> None:
    """Made-up pages, and what belongs to them."""
    from omegaconf import OmegaConf

    from dsm.config.crawl import CrawlConfig
    from dsm.corpus.crawl.stage import write_crawl

    conf = Path(__file__).resolve().parents[2] / "conf" / "stage" / "crawl.yaml"
    settings: Any = OmegaConf.to_container(OmegaConf.load(conf).crawl)
    changed = {"pages": pages, "domains": max(24, min(200, pages // 40)), "files": 3, "workers": 1, "broken": 0.0}
    folder.mkdir(parents=True)
    write_crawl(folder, CrawlConfig(**settings | changed), 0)


def pack_html(files: list[Path], copies: int, folder: Path) -> None:
    """Real pages as a WARC file; each copy has another address and one line more, so that it is a page of its own."""
    from dsm.corpus.crawl.warc import WarcWriter

    folder.mkdir(parents=True)
    with (folder / "real.warc.gz").open("wb") as file:
        writer = WarcWriter(file, "real.warc.gz", "2024-02-26")
        for copy in range(copies):
            for path in files:
                writer.response(f"https://site{copy}.example/{path.name}", path.read_bytes() + b"<p>%d</p>" % copy)


def train_model(made: Path, model: Path) -> None:
    """One model for both: the seed against made-up pages of other kinds."""
    from dsm.corpus.classifier import normalise, train
    from dsm.corpus.crawl import vocabulary
    from dsm.corpus.crawl.pen import Pen
    from dsm.corpus.crawl.prose import article

    seed = [json.loads(line)["text"] for line in (made / "seed.jsonl").read_text(encoding="utf-8").splitlines()]
    lines = []
    for number, text in enumerate(seed):
        other = article(Pen(random.Random(number), 0), vocabulary.TOPICS[number % len(vocabulary.TOPICS)], "en")
        lines += [f"__label__math {normalise(text)}", f"__label__other {normalise(other.plain())}"]
    examples = model.with_suffix(".txt")
    examples.write_text("\n".join(lines) + "\n", encoding="utf-8")
    train(examples, model, _classifier())


def measure(command: list[str]) -> dict[str, Any]:
    """Run a chain in a process of its own; its result, the seconds it took and its largest memory."""
    began = time.monotonic()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    out, errors = process.communicate()
    lines = [line for line in out.splitlines() if line.startswith("RESULT ")]
    if process.returncode or not lines:
        raise SystemExit(f"{command[1]} failed:\n{errors[-3000:]}")
    result: dict[str, Any] = json.loads(lines[-1].removeprefix("RESULT "))
    return result | {"wall": time.monotonic() - began}


def show(title: str, results: dict[str, dict[str, Any]]) -> None:
    """The table of one crawl."""
    print(f"\n{title}")
    pages = max(result["pages"] for result in results.values())  # that went in; some extractors leave nothing of some

    def rate(result: dict[str, Any]) -> float:
        return pages / sum(result["seconds"].values())

    for name, result in results.items():
        each = result["chars"] / max(1, result["pages"])
        print(
            f"  {name}: {rate(result):.1f} pages a CPU second, {result['wall']:.1f} s wall, peak"
            f" {result['peak_mb']:.0f} MB; text of {result['pages']:,} of {pages:,} pages, {each:.0f} characters"
            f" each, {result['left']:,} without duplicates; decontamination {result['decontaminated']:.0f} a CPU second"
        )
        stages = result["seconds"] | {"all": sum(result["seconds"].values())}
        for stage, seconds in stages.items():
            per_page = seconds / pages
            hours = per_page * PAPER_PAGES / 3600
            print(f"    {stage:26} {per_page * 1e3:8.2f} ms a page  {hours:12,.0f} core-hours for 40B pages")
    if len(results) == 2:
        mine, peer = results.values()
        for what, ratio, goal in (
            ("whole chain", rate(mine) / rate(peer), GOAL),
            ("decontamination", mine["decontaminated"] / peer["decontaminated"], DECONTAMINATION_GOAL),
        ):
            print(f"  {what}: {ratio:.1f} x the peer (goal {goal:g} x) {'ok' if ratio >= goal else 'MISSED'}")


def main() -> None:
    """Make the pages, run both chains on each crawl, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="a Python that has datatrove; without it only our chain runs")
    parser.add_argument("--pages", type=int, default=2000, help="made-up pages")
    parser.add_argument("--html", type=Path, action="append", default=[], help="a folder of real pages, *.html")
    parser.add_argument("--copies", type=int, default=10, help="of each real page")
    parser.add_argument("--chain", nargs=4, type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.chain:
        ours(*asked.chain)
        return
    with tempfile.TemporaryDirectory(prefix="bench-mine-") as name:
        work = Path(name)
        make_crawl(work / "made", asked.pages)
        crawls = {f"{asked.pages:,} made-up pages": work / "made" / "crawl"}
        for folder in asked.html:
            files = sorted(folder.rglob("*.html"))
            target = work / f"real-{folder.name}"
            pack_html(files, asked.copies, target)
            kilobytes = sum(file.stat().st_size for file in files) / len(files) / 1000
            crawls[f"{len(files)} real pages of {folder}, {kilobytes:.0f} kB, {asked.copies} times"] = target
        train_model(work / "made", work / "model.bin")
        texts = work / "texts.jsonl"
        benchmarks = sorted((work / "made" / "benchmark").glob("planted_*"))
        rows = [json.loads(line) for path in benchmarks for line in path.read_text(encoding="utf-8").splitlines()]
        lines = [json.dumps({"text": row[key]}) for row in rows for key in ("question", "answer")]
        texts.write_text("\n".join(lines), encoding="utf-8")
        for number, (title, crawl) in enumerate(crawls.items()):
            results = {}
            for peer, start in (("dsm", [sys.executable, __file__, "--chain"]), ("datatrove", [asked.peer])):
                if start[0] is None:
                    continue
                script = [] if peer == "dsm" else [str(Path(__file__).with_name("mine_peer.py"))]
                out = work / f"{peer}-{number}"
                out.mkdir()
                results[peer] = measure([*start, *script, *map(str, (crawl, out, work / "model.bin", texts))])
            show(title, results)


if __name__ == "__main__":
    main()
