"""The loop on a made-up page table whose truth is known: no crawl, no extraction, every step in this process."""

from __future__ import annotations

import copy
import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dsm.config.compose import compose_config
from dsm.config.mine import MineConfig
from dsm.corpus.annotations import Decision, append_rows
from dsm.corpus.executors import LocalExecutor
from dsm.corpus.pages import PAGE_SCHEMA, PageTable, read_parquet, write_columns, write_table
from dsm.corpus.rounds import Loop, Round, Waiting
from dsm.corpus.steps import Manifest, Task, run_step
from dsm.corpus.urls import domain_of, path_of, url_hash

REGISTERS = {
    "algebra": ["group", "ring", "field", "ideal", "kernel", "prime", "sum", "root", "equation", "solve", "x"],
    "geometry": ["triangle", "circle", "angle", "chord", "radius", "tangent", "convex", "area", "equation", "x"],
    "news": ["minister", "match", "goal", "team", "city", "vote", "storm", "police", "film", "travel", "food"],
    "forum": ["user", "post", "reply", "login", "profile", "badge", "member", "thread", "rules", "help", "page"],
}
COMMON = ["the", "of", "and", "is", "a", "to", "in", "that", "we", "it", "for", "on", "with", "as"]
SITES, MATHEMATICAL = 18, 4


@dataclass(frozen=True)
class Page:
    """One made-up page and whether it is mathematics."""

    url: str
    text: str
    math: bool


def _text(rng: random.Random, register: str, words: int = 60) -> str:
    return " ".join(rng.choice(REGISTERS[register] if rng.random() < 0.5 else COMMON) for _ in range(words))


def world() -> tuple[list[Page], list[str], list[str]]:
    """Pages, seed texts, rules: geometry is in no seed text, but on the same sites as algebra."""
    rng, pages = random.Random(0), []
    for site in range(SITES):
        for number in range(30):
            kind = (
                ("algebra", "geometry", "forum")[number % 3] if site < MATHEMATICAL else ("news", "forum")[number % 2]
            )
            path = {"algebra": "questions/a", "geometry": "questions/g", "forum": "users/"}.get(kind, "stories/")
            text = f"{_text(rng, kind)} {number}"
            pages.append(Page(f"https://site{site}.org/{path}{number}", text, kind in ("algebra", "geometry")))
    rng.shuffle(pages)
    rules = [f"site{site}.org/questions" for site in range(SITES)]  # of domains that are no candidates too
    return pages, [_text(rng, "algebra") for _ in range(60)], rules


@dataclass(frozen=True)
class GivenPages:
    """The page table, as if it had been read from a crawl."""

    shards: dict[str, list[Page]]
    name: str = "pages"
    version: str = "1"

    def settings(self) -> dict[str, Any]:
        return {"pages": {name: [page.url for page in pages] for name, pages in self.shards.items()}}

    def run(self, task: Task, out: Path) -> dict[str, int]:
        pages = self.shards[task.name]
        rows = [
            {
                "url_hash": url_hash(page.url),
                "url": page.url,
                "domain": domain_of(page.url),
                "path": path_of(page.url),
                "source": task.name,
                "offset": number,
                "length": 0,
                "digest": number,
                "date": "",
                "language": "en",
                "words": 60,
                "tokens": 80 + len(page.url) % 7,
                "formulas": 0,
                "extractor": "",
                "text": page.text,
            }
            for number, page in enumerate(pages)
        ]
        write_table(pa.Table.from_pylist(rows, schema=PAGE_SCHEMA), out / "pages.parquet")
        return {"in": len(pages), "out": len(pages)}


@dataclass(frozen=True)
class FewDuplicates:
    """Those whose number on their site is 7."""

    name: str = "urls"
    version: str = "1"

    def settings(self) -> dict[str, Any]:
        return {}

    def run(self, task: Task, out: Path) -> dict[str, int]:
        paths = read_parquet(task.inputs[0], ["path"]).column("path").to_pylist()
        duplicate = [path.endswith(("/7", "/a7", "/g7")) for path in paths]
        write_columns({"duplicate_url": pa.array(duplicate)}, out)
        return {"in": len(paths), "out": len(paths) - sum(duplicate), "duplicate_url": sum(duplicate)}


class Mine:
    """A run's folder with pages; `loop` goes round in it."""

    def __init__(self, folder: Path, *, shards: int = 3) -> None:
        self.root, self.executor = folder / "run", LocalExecutor(0)
        self.pages, seed, rules = world()
        folder.mkdir(exist_ok=True)
        (folder / "seed.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in seed))
        (folder / "rules.txt").write_text("\n".join(rules))
        self.settings = {
            "stage": "mine",
            "crawl.path": str(folder),
            "seed_corpus.path": str(folder / "seed.jsonl"),
            "annotation.rules": str(folder / "rules.txt"),
            "classifier.dim": "16",
            "classifier.bucket": "2000",
            "classifier.epochs": "20",
            "classifier.lr": "0.5",
            "classifier.ratio": "3.0",
        }
        steps = self.root / "steps"
        step = GivenPages({f"s{index}": self.pages[index::shards] for index in range(shards)})
        self.table = run_step(step, [Task(name, ()) for name in step.shards], steps / "pages", self.executor)
        tasks = [Task(name, (shard.path("pages.parquet"),)) for name, shard in self.table.shards.items()]
        self.urls = run_step(FewDuplicates(), tasks, steps / "urls", self.executor)

    def loop(self, **settings: str) -> tuple[list[Round], Waiting | None]:
        changed = {key.replace("__", "."): value for key, value in settings.items()}
        config = compose_config([f"{key}={value}" for key, value in (self.settings | changed).items()])
        assert isinstance(config, MineConfig)
        return Loop(config, self.root, self.table, [self.urls], self.executor).run()

    def collected(self, number: int) -> set[str]:
        """Addresses."""
        found: set[str] = set()
        for _, table in PageTable(self.root).tables(["url", "collected"], number):
            found |= set(table.column("url").filter(table.column("collected")).to_pylist())
        return found

    def recall_and_precision(self, number: int) -> tuple[float, float]:
        math = {page.url for page in self.pages if page.math and not page.url.endswith(("/a7", "/g7"))}
        collected = self.collected(number)
        return len(math & collected) / len(math), len(math & collected) / len(collected)

    def hashes(self) -> dict[str, str]:
        return {
            f"{folder.parent.name}/{folder.name}": Manifest.load(folder).hash
            for folder in sorted(self.root.glob("steps/round-*/*"))
        }

    def made(self) -> dict[str, int]:
        """When each task was done."""
        files = self.root.glob("steps/round-*/*/*/done.json")
        return {str(file.parent.relative_to(self.root)): file.stat().st_mtime_ns for file in files}


@pytest.fixture(scope="module")
def mined(tmp_path_factory: pytest.TempPathFactory) -> tuple[Mine, list[Round]]:
    """A run that nobody disturbs."""
    mine = Mine(tmp_path_factory.mktemp("mine") / "a")
    rounds, waiting = mine.loop()
    assert waiting is None
    return mine, rounds


def test_annotation_finds_what_the_seed_does_not_know(mined: tuple[Mine, list[Round]]) -> None:
    mine, rounds = mined
    recalls, precisions = zip(*(mine.recall_and_precision(one.number) for one in rounds), strict=True)
    assert recalls[0] < 0.6  # geometry is on the same sites, but not in the seed
    assert recalls[-1] >= 0.99
    assert min(precisions) >= 0.98
    assert rounds[-1].facts["overlap"] >= 0.98  # which ends the loop
    assert len(rounds) == 3
    for one in rounds[1:]:
        before, now = mine.collected(one.number - 1), mine.collected(one.number)
        assert (
            one.facts["overlap"] == len(before & now) / len(now) == pytest.approx(one.facts["overlap_tokens"], abs=0.02)
        )


def test_who_joins_the_seed_is_under_an_accepted_path_of_a_candidate_and_was_not_collected(
    mined: tuple[Mine, list[Round]],
) -> None:
    mine, rounds = mined
    domains = read_parquet(rounds[0].steps["domains"].files("domains.parquet")[0], ["domain", "candidate"]).to_pylist()
    candidates = {row["domain"] for row in domains if row["candidate"]}
    assert candidates == {f"site{site}.org" for site in range(MATHEMATICAL)}
    joined = {hash_ for file in rounds[0].steps["seed"].files("seed.parquet") for hash_ in _column(file, "url_hash")}
    math = {page.url for page in mine.pages if page.math and not page.url.endswith(("/a7", "/g7"))}
    assert joined == {url_hash(url) for url in math - mine.collected(1)}
    # They stay in the seed of the round after, in which they were collected.
    later = {hash_ for file in rounds[1].steps["seed"].files("seed.parquet") for hash_ in _column(file, "url_hash")}
    assert joined <= later


def test_negatives_are_no_pages_of_candidates(mined: tuple[Mine, list[Round]]) -> None:
    _, rounds = mined
    first, second = (
        {domain for file in one.steps["negatives"].files("negatives.parquet") for domain in _column(file, "domain")}
        for one in rounds[:2]
    )
    candidates = {f"site{site}.org" for site in range(MATHEMATICAL)}
    assert candidates < first
    assert not candidates & second


def test_shards_and_their_order_change_nothing(mined: tuple[Mine, list[Round]], tmp_path: Path) -> None:
    mine, rounds = mined
    other = Mine(tmp_path / "b", shards=5)
    again, _ = other.loop()
    assert [one.facts for one in again] == [one.facts for one in rounds]  # the hashes of the models among them
    assert other.collected(3) == mine.collected(3)


def test_a_disturbed_run_ends_like_an_undisturbed_one(mined: tuple[Mine, list[Round]], tmp_path: Path) -> None:
    mine, rounds = mined
    root = shutil.copytree(mine.root, tmp_path / "run")
    mine_again = copy.copy(mine)
    mine_again.root = root
    mine_again.table, mine_again.urls = (Manifest.load(root / "steps" / name) for name in ("pages", "urls"))
    wanted, before = mine.hashes(), mine_again.made()
    shutil.rmtree(root / "steps" / "round-2" / "cut" / "s1")  # as if killed before it was there
    (root / "steps" / "round-1" / "score" / "s0" / "columns.parquet").write_bytes(b"damaged")
    (root / "steps" / "round-3" / "score" / "manifest.json").unlink()
    again, _ = mine_again.loop()
    assert mine_again.hashes() == wanted
    assert [one.facts for one in again] == [one.facts for one in rounds]
    after = mine_again.made()
    redone = {name for name in after if after[name] != before.get(name)}
    assert redone == {"steps/round-2/cut/s1", "steps/round-1/score/s0"}

    mine_again.loop(
        cut__threshold="null", cut__tokens="[3000,6000]"
    )  # another cut: round 1 learns and scores as before
    kept = {name for name, when in mine_again.made().items() if when == after.get(name)}
    assert {name.rpartition("/")[0] for name in kept if "round-1" in name} == {
        f"steps/round-1/{step}" for step in ("negatives", "train", "score")
    }
    mine_again.loop()
    assert mine_again.hashes() == wanted
    mine_again.loop(rounds__max="1")  # what later rounds had made is gone, so nobody takes it for this run's
    assert not (root / "steps" / "round-2").exists()


def test_people_are_waited_for_and_what_they_said_in_a_round_stays(tmp_path: Path) -> None:
    mine = Mine(tmp_path / "human")
    human = {"annotation__annotator": "human", "annotation__rules": "null", "rounds__max": "2"}
    rounds, waiting = mine.loop(**human)
    assert waiting is not None
    assert (len(rounds), waiting.number, waiting.domains, waiting.coverage) == (1, 1, MATHEMATICAL, 0.0)
    assert waiting.uncollected == rounds[0].facts["domains/uncollected_pages"]

    ann = mine.root / "annotations" / "ann.jsonl"
    sites = [f"site{site}.org" for site in range(MATHEMATICAL)]
    append_rows(ann, [Decision.now(site, "/questions", "accept", "ann") for site in sites[:2]])
    _, waiting = mine.loop(**human)
    assert waiting is not None
    assert waiting.domains == MATHEMATICAL - 2
    append_rows(ann, [Decision.now(site, "/", "reject", "ann") for site in sites[2:]])
    rounds, waiting = mine.loop(**human)
    assert waiting is None
    assert len(rounds) == 2
    assert rounds[0].facts["annotation/decisions"] == MATHEMATICAL
    joined = {domain for file in rounds[0].steps["seed"].files("seed.parquet") for domain in _column(file, "domain")}
    assert joined == set(sites[:2])

    before = mine.made()
    append_rows(ann, [Decision.now(sites[2], "/questions", "accept", "ann")])  # for a later round
    mine.loop(**human)
    assert mine.made() == before


def _column(file: Path, name: str) -> list[Any]:
    values: list[Any] = read_parquet(file, [name]).column(name).to_pylist()
    return values
