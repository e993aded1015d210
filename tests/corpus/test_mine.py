"""`stage=mine` from files to a corpus: the balance, the export, what is made anew and what is refused."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dsm.config.compose import compose_config
from dsm.config.mine import CutConfig, MineConfig
from dsm.config.plan import plan_text
from dsm.corpus.mine import mine
from dsm.corpus.mine_export import reconcile, reconciliation
from dsm.data.records import Record, read_records
from dsm.errors import UserError

MATH = ["group", "ring", "prime", "sum", "root", "equation", "solve", "integral", "limit", "proof", "theorem"]
OTHER = ["minister", "match", "goal", "team", "city", "vote", "storm", "police", "film", "travel", "food"]
PLANTED = "A baker sells 48 rolls on Monday and half as many on Tuesday, how many rolls did he sell altogether"


def _text(rng: random.Random, words: list[str]) -> str:
    common = ["the", "of", "and", "is", "a", "to", "in", "that", "we", "it", "for", "on", "with", "as"]
    return " ".join(rng.choice(words if rng.random() < 0.5 else common) for _ in range(80))


@pytest.fixture(scope="module")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """160 pages in two files: an address twice, a copy, a broken line, a planted question."""
    rng, folder = random.Random(0), tmp_path_factory.mktemp("crawl")
    rows = []
    for number in range(160):
        math = number % 4 == 0
        path = "notes" if math else "news"
        text = _text(rng, MATH if math else OTHER)
        rows.append({"url": f"https://site{number % 8}.org/{path}/{number}", "text": text})
    rows[40]["text"] += f"\n{PLANTED}?"
    rows.append({"url": "http://www.site0.org/notes/0#top", "text": rows[0]["text"]})
    rows.append({"url": "https://mirror.org/notes/4", "text": rows[4]["text"]})
    (folder / "pages").mkdir()
    for name, part in (("a", rows[:90]), ("b", rows[90:])):
        lines = [json.dumps(row) + "\n" for row in part]
        (folder / "pages" / f"{name}.jsonl").write_text("".join(lines) + ("{broken\n" if name == "a" else ""))
    seed = [json.dumps({"text": _text(rng, MATH)}) + "\n" for _ in range(60)] + ['{"text": null}\n']
    (folder / "seed.jsonl").write_text("".join(seed))
    (folder / "rules.txt").write_text("".join(f"site{n}.org/notes\n!site{n}.org/news\n" for n in range(8)))
    (folder / "questions.jsonl").write_text(json.dumps({"question": f"{PLANTED}?", "answer": "72"}) + "\n")
    return folder


def config(crawl: Path, runs: Path, **settings: str) -> MineConfig:
    asked = {
        "stage": "mine",
        "paths.runs": str(runs),
        "crawl.path": str(crawl / "pages"),
        "seed_corpus.path": str(crawl / "seed.jsonl"),
        "annotation.rules": str(crawl / "rules.txt"),
        "executor.workers": "0",
        "classifier.dim": "16",
        "classifier.bucket": "2000",
        "classifier.epochs": "20",
        "classifier.lr": "0.5",
        "rounds.max": "2",
        "benchmarks.mine.data.path": str(crawl / "questions.jsonl"),
    }
    asked |= {key.replace("__", "."): value for key, value in settings.items()}
    made = compose_config([f"{key}={value}" for key, value in asked.items()])
    assert isinstance(made, MineConfig)
    return made


@pytest.fixture(scope="module")
def mined(crawl: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The run's folder and its metrics."""
    final = mine(config(crawl, tmp_path_factory.mktemp("runs")))
    return Path(final["export"]).parent, final


def rows_of(folder: Path) -> list[dict[str, Any]]:
    records = list(read_records(str(folder / "export")))
    assert all(isinstance(record, Record) for record in records)
    return [record.row for record in records if isinstance(record, Record)]


def test_every_record_is_accounted_for(mined: tuple[Path, dict[str, Any]]) -> None:
    root, final = mined
    told = json.loads((root / "reconciliation.json").read_text())
    steps = {step["step"]: step for step in told["steps"]}
    assert told["balances"]
    assert list(steps) == ["pages", "urls", "near", "cut", "clean", "export"]
    assert (told["in"], steps["pages"]["out"]) == (163, 162)
    assert steps["urls"]["reasons"] == {"duplicate_url": 1}
    assert steps["near"]["reasons"] == {"near_duplicate": 1}
    assert sum(told["fates"].values()) == 163
    assert steps["cut"]["out"] == final["mine/pages"] == 40
    for before, after in zip(told["steps"], told["steps"][1:], strict=False):
        assert before["out"] == after["in"]


def test_the_corpus_is_what_tokenize_reads(mined: tuple[Path, dict[str, Any]]) -> None:
    root, _ = mined
    rows = rows_of(root)
    assert len(rows) == len({row["url"] for row in rows}) == 40
    assert all("/notes/" in row["url"] for row in rows)
    assert list(rows[0]) == [
        *("text", "url_hash", "url", "domain", "language", "source", "offset"),
        *("score", "round"),
    ]
    assert all(row["score"] >= 0.5 and row["round"] in (1, 2) for row in rows)
    (planted,) = [row for row in rows if row["url"].endswith("/notes/40")]
    assert "baker" not in planted["text"]
    assert "equation" in planted["text"]  # the segment is gone, the page is not
    hits = [json.loads(line) for file in root.glob("steps/clean/*/hits.jsonl") for line in file.open()]
    assert {hit["benchmark"] for hit in hits} == {"mine"}


def test_metrics_and_report(mined: tuple[Path, dict[str, Any]]) -> None:
    root, final = mined
    lines = [json.loads(line) for line in (root / "metrics.jsonl").read_text().splitlines()]
    assert [line["round"] for line in lines] == [1, 2]
    assert final["mine/tokens"] == lines[-1]["tokens"]
    assert json.loads((root / "metrics.json").read_text()) == final
    page = (root / "report.html").read_text()
    assert "All 163 records that came in are accounted for" in page
    assert page.count("<svg") == 3
    assert "<script" not in page
    assert "http-equiv" in page


def test_other_settings_share_what_they_have_in_common(
    mined: tuple[Path, dict[str, Any]], crawl: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root, before = mined
    runs = root.parent.parent

    def made() -> dict[str, int]:
        return {str(file.parent.relative_to(root)): file.stat().st_mtime_ns for file in root.glob("steps/**/done.json")}

    first = made()
    assert mine(config(crawl, runs))["mine/pages"] == 40
    assert made() == first
    final = mine(config(crawl, runs, decontamination__unit="page"))
    assert Path(final["export"]) == Path(before["export"])
    assert final["mine/pages"] == 39
    assert {name.split("/")[1] for name, when in made().items() if first[name] != when} == {"clean", "export"}
    assert not [row for row in rows_of(root) if row["url"].endswith("/notes/40")]
    mine(config(crawl, runs, steps="[clean,export]"))
    assert len(rows_of(root)) == 40


def test_steps_need_those_before_them(crawl: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"steps=\[urls\]: needs pages, which is not finished"):
        mine(config(crawl, tmp_path, steps="[urls]"))
    final = mine(config(crawl, tmp_path, steps="[pages,urls]"))
    assert (final["mine/records"], final["mine/pages"]) == (163, 161)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed_corpus__path": "nowhere"}, "seed_corpus.path=nowhere: does not exist"),
        ({"annotation__rules": "nowhere"}, "nowhere: cannot be read as rules"),
        ({"truth": "nowhere"}, "truth=nowhere: no such file"),
        ({"benchmarks__mine__data__path": "nowhere"}, "benchmarks.mine.data.path=nowhere: no such file"),
    ],
)
def test_what_later_steps_need_is_looked_for_first(
    settings: dict[str, str], message: str, crawl: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        mine(config(crawl, tmp_path, **settings))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"annotation__rules": "null"}, "annotator=rules needs a file of prefixes"),
        ({"cut__threshold": "null"}, "with threshold=null nothing would be cut"),
        ({"steps": "[pages,export,wash]"}, "steps"),
        ({"decontamination__min_ngram": "11"}, "must be at most ngram=10"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, str], message: str, crawl: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        config(crawl, tmp_path, **settings)


def test_the_last_budget_holds_for_the_rest() -> None:
    cut = CutConfig(tokens=[40, 89, 120], threshold=None, curve=[])
    assert [cut.budget(number) for number in (1, 2, 3, 4, 9)] == [40, 89, 120, 120, 120]


def test_the_plan_of_the_paper(crawl: Path) -> None:
    made = compose_config(["experiment=deepseekmath/mine", f"crawl.path={crawl}", f"seed_corpus.path={crawl}"])
    assert isinstance(made, MineConfig)
    text = plan_text(made)
    assert "40B, then 89B, then 120B" in text
    assert "1,024 cores" in text
    assert "more than 10% of" in text
    assert "at most 4; fewer when 98%" in text


@dataclass
class Step:
    """As much of a manifest as the balance asks for."""

    counts: dict[str, int] = field(default_factory=dict)

    def total(self) -> Counter[str]:
        return Counter(self.counts)


def _of(name: str, counts: dict[str, int]) -> Any:
    return name, Step(counts), ""


def test_a_balance_that_is_wrong_says_where() -> None:
    pages = Step({"in": 10, "out": 8, "broken": 2, "_formulas": 5})
    urls = Step({"in": 8, "out": 7, "duplicate_url": 1})
    cut = Step({"in": 8, "out": 3, "below_cut": 4, "duplicate": 1})
    chain: list[Any] = [("pages", pages, ""), ("urls", urls, ""), ("cut", cut, "duplicate")]
    accounts, wrong = reconcile(chain)
    assert wrong == []
    told = reconciliation(accounts, wrong)
    assert told["fates"] == {"out": 3, "pages/broken": 2, "urls/duplicate_url": 1, "cut/below_cut": 4}

    _, wrong = reconcile([*chain, _of("clean", {"in": 2, "out": 2})])
    assert wrong == ["clean: cut let 3 through, 2 came here"]
    _, wrong = reconcile([_of("pages", {"in": 10, "out": 8, "broken": 1}), *chain[1:]])
    assert wrong == ["pages: 10 came in, 9 are accounted for"]
    cut.counts |= {"duplicate": 2, "in": 9}
    _, wrong = reconcile(chain)
    assert wrong == ["cut: 2 had been set aside before (duplicate), by the steps before 1"]
