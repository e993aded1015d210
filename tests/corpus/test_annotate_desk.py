"""What lies behind the page: counts by prefix, the desk, the stage."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from annotation_runs import MATHS, Page, made_pages, write_run

from dsm.config.annotate import AnnotateConfig
from dsm.corpus.annotate.desk import Desk
from dsm.corpus.annotate.index import Index, candidates, last_round
from dsm.corpus.annotate.stage import annotate, at_work, make_desk
from dsm.corpus.annotations import Decision, Decisions, append_rows
from dsm.errors import UserError


@pytest.fixture(scope="module")
def mined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("mined") / "mine", made_pages())


@pytest.fixture
def run(tmp_path: Path, mined: Path) -> Path:
    return Path(shutil.copytree(mined, tmp_path / "mine"))


@pytest.fixture
def desk(run: Path) -> Desk:
    return make_desk(run, run / "annotations", "ada", 1, 3)


def test_counts_by_prefix(run: Path) -> None:
    assert last_round(run) == 1
    assert candidates(run, 1) == [
        "full.org",
        "math.org",
        "puzzles.org",
        "small.org",
    ]  # not news.org: nothing of it is collected
    index = Index(run, 1, candidates(run, 1), 3)
    assert len(index) == 80 + 20 + 4 + 40 + 2 + 1  # duplicates do not count
    root = index.node("math.org", "/")
    assert (root.pages, root.collected, root.gain) == (104, 20, 84)
    branches = index.branches("math.org", "/")
    assert [(child.prefix, child.pages, child.gain) for child in branches.children] == [
        ("/q", 80, 60),
        ("/users", 20, 20),
    ]
    assert (branches.rest_paths, branches.rest_pages) == (4, 4)
    assert [(child.prefix, child.label) for child in index.branches("puzzles.org", "/").children] == [
        ("/all/of/it/a", "all/of/it/a"), ("/all/of/it/b", "all/of/it/b"),
    ]  # fmt: skip
    assert index.branches("math.org", "/q").children == ()
    assert index.node("math.org", "/us").pages == 0
    assert index.node("elsewhere.org", "/").pages == 0
    missed, collected = index.histogram("math.org", "/")
    assert (sum(missed), sum(collected), missed[int(0.05 * len(missed))]) == (84, 20, 20)


def test_every_count_equals_a_count_by_hand(run: Path) -> None:
    index = Index(run, 1, candidates(run, 1), 1)
    pages = [page for page in made_pages() if not (page.duplicate or page.near)]
    todo = [("math.org", "/"), ("puzzles.org", "/")]
    while todo:
        domain, prefix = todo.pop()
        for child in index.branches(domain, prefix).children:
            below = [page for page in pages if f"{page.url}/".partition(domain)[2].startswith(f"{child.prefix}/")]
            assert child.pages == len(below) == len(index.rows(domain, child.prefix))
            assert child.collected == sum(page.collected for page in below)
            assert child.tokens == sum(max(1, len(page.text) // 4) for page in below)
            todo.append((domain, child.prefix))


def test_samples_are_the_same_whoever_looks_and_reach_every_page_once(run: Path, tmp_path: Path) -> None:
    def all_of(index: Index) -> list[str]:
        pages = [index.samples("math.org", "/q", collected=False, start=start, count=7) for start in range(0, 70, 7)]
        return [page.url for batch in pages for page in batch]

    urls = all_of(Index(run, 1, candidates(run, 1), 3))
    assert len(urls) == len(set(urls)) == 60
    other = write_run(tmp_path / "other", made_pages(), shards=5)
    assert all_of(Index(other, 1, ["math.org"], 3)) == urls
    assert urls != sorted(urls)


def test_the_desk_goes_by_gain_and_undo_goes_back(desk: Desk, run: Path) -> None:
    def queue() -> list[tuple[str, str]]:
        return [(node.domain, node.prefix) for node in desk.queue()]

    assert queue() == [("math.org", "/"), ("puzzles.org", "/"), ("small.org", "/")]
    desk.decide("math.org", "/", "split")
    assert queue()[:3] == [("math.org", "/q"), ("puzzles.org", "/"), ("math.org", "/users")]
    desk.decide("math.org", "/q/", "accept")
    desk.decide("math.org", "/users", "reject")
    desk.decide("math.org", "/users", "reject")  # twice is once
    desk.decide("puzzles.org", "/", "unsure")
    overview = desk.overview()
    assert overview["progress"] == {
        "decided": 2, "candidates": 3, "waiting": 1, "undecided_pages": 1,
        "pages": 60, "tokens": 60 * (len(MATHS) // 4),
    }  # fmt: skip
    undone = [desk.undo() for _ in range(5)]
    assert [(row.prefix, row.verdict) for row in undone if row] == [
        ("/", "unsure"), ("/users", "reject"), ("/q", "accept"), ("/", "split"),
    ]  # fmt: skip
    assert undone[4] is None
    assert queue() == [("math.org", "/"), ("puzzles.org", "/"), ("small.org", "/")]
    rows = [json.loads(line) for line in (run / "annotations" / "ada.jsonl").read_text().splitlines()]
    assert len(rows) == 8
    assert {row["pages"] for row in rows} == {desk.index.digest}
    again = make_desk(run, run / "annotations", "ada", 1, 3)
    assert again.overview()["progress"] == desk.overview()["progress"]


def test_the_desk_refuses_what_makes_no_sense(desk: Desk) -> None:
    for domain, prefix, verdict, wrong in (
        ("math.org", "/", "maybe", "verdict=maybe: must be one of accept, reject, split, unsure"),
        ("math.org", "/nothing", "accept", "no page of a candidate domain"),
        ("news.org", "/", "accept", "no page of a candidate domain"),
        ("small.org", "/", "split", "has no paths below it"),
    ):
        with pytest.raises(UserError, match=wrong):
            desk.decide(domain, prefix, verdict)
    assert not desk.file.exists()


def test_the_preview_is_what_the_decisions_accept(desk: Desk, run: Path) -> None:
    desk.decide("math.org", "/", "accept")
    desk.decide("math.org", "/q", "accept")
    desk.decide("puzzles.org", "/all/of/it/a", "accept")
    append_rows(run / "annotations" / "bo.jsonl", [Decision.now("math.org", "/users", "reject", "bo")])
    preview = desk.preview()
    assert [(one["domain"], one["prefix"], one["pages"]) for one in preview["list"]] == [
        ("math.org", "/q", 60), ("puzzles.org", "/all/of/it/a", 15), ("math.org", "/", 4),
    ]  # fmt: skip
    assert (preview["pages"], preview["disputed"]) == (79, 20)
    assert preview["tokens"] == sum(one["tokens"] for one in preview["list"])
    # The same by the page table and the decisions alone, as the next round reads them.
    everybody = Decisions.load(sorted((run / "annotations").glob("*.jsonl")))
    added = 0
    for _, table in desk.index.pages.tables(["domain", "path", "collected", "duplicate_url", "duplicate_of"], 1):
        kept = (
            ~table["duplicate_url"].to_numpy()
            & ~table["collected"].to_numpy()
            & (table["duplicate_of"].to_numpy() == 0)
        )
        added += int((everybody.accepts(table["domain"], table["path"]) & kept).sum())
    assert added == preview["pages"]
    agreement = desk.overview()["agreement"]
    assert [(one["first"], one["second"], one["items"], one["agreed"]) for one in agreement] == [("ada", "bo", 1, 0)]
    assert desk.overview()["conflicts"][0]["verdicts"] == {"ada": "accept", "bo": "reject"}


# ---------------------------------------------------------------- the stage


def config(folder: Path, **given: Any) -> AnnotateConfig:
    values = {
        "stage": "annotate", "name": "annotate", "seed": 0, "mode": "run", "resume": "auto", "sweep_metric": "x",
        "paths": {"runs": "runs", "cache": "cache"}, "run": str(folder), "annotator": "ada", "round": None, "port": 0,
        "open": False, "samples": 2, "min_pages": 3, "export": None, "import": None,
    }  # fmt: skip
    return AnnotateConfig.model_validate(values | given)


def test_export_and_import_by_the_stage(run: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("domain,prefix,verdict,annotator\nmath.org,/q,accept,\nmath.org,/q,reject,bo\n")
    assert annotate(config(run, **{"import": str(sheet)})) == {
        "annotate/annotators": 2, "annotate/decided": 2, "annotate/accepted": 1, "annotate/rejected": 1,
        "annotate/broken_rows": 0,
    }  # fmt: skip
    assert annotate(config(run, export=str(tmp_path / "out.csv")))["annotate/decided"] == 2
    assert (tmp_path / "out.csv").read_text().splitlines()[1].startswith("math.org,/q,accept,ada,2")
    with pytest.raises(ValueError, match="goes without export"):
        config(run, export="a.csv", **{"import": "b.csv"})


def test_one_annotator_has_one_server(run: Path) -> None:
    folder = run / "annotations"
    other = (
        "import sys, time; from pathlib import Path; from dsm.corpus.annotate.stage import at_work\n"
        f"with at_work(Path({str(folder)!r}), 'ada'): print('here', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", other], stdout=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"}
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"here\n"
            with pytest.raises(UserError, match=r"annotator=ada: is at work already \(.*\); finish there, or give"):
                annotate(config(run))
            with at_work(folder, "bo"):
                pass  # another annotator is free to work
        finally:
            process.kill()
    with at_work(folder, "ada"):
        pass  # what a killed server held is free again


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"run": "/nowhere"}, "run=/nowhere: no mined pages there"),
        ({"round": 7}, "round=7: .* has no such finished round; the last one is 1"),
        ({"import": "/nowhere.csv"}, "import=/nowhere.csv: cannot be read"),
    ],
)
def test_mistakes_are_named(run: Path, given: dict[str, Any], wrong: str) -> None:
    with pytest.raises(UserError, match=wrong):
        annotate(config(run, **given))


def test_a_run_without_candidates_says_so(tmp_path: Path) -> None:
    run = write_run(tmp_path / "mine", [Page(f"http://a.org/{n}") for n in range(3)], shards=1)
    with pytest.raises(UserError, match="round=1: has no candidate domains; there is nothing to decide"):
        annotate(config(run))
    with pytest.raises(UserError, match="no finished round there"):
        last_round(tmp_path)
