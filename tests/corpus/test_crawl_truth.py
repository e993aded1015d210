"""What a run got right: one that does all of it right gets full marks, each mistake is counted where it belongs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from dsm.config.compose import compose_config
from dsm.config.crawl import CrawlStageConfig
from dsm.corpus.crawl.stage import write_crawl
from dsm.corpus.executors import LocalExecutor
from dsm.corpus.pages import PageTable, write_columns
from dsm.corpus.read import PagesStep, read_tasks
from dsm.corpus.steps import run_step
from dsm.corpus.truth import Truth, bare_formula, compare
from dsm.errors import UserError

SETTINGS = ("pages=450", "domains=40", "files=3", "seed_documents=5", "planted=0.4", "held_out_rows=5", "workers=1")


@dataclass
class Run:
    """A run whose columns a test writes, beside the truth about each page."""

    folder: Path
    truth: Path
    rows: list[dict[str, Any]]
    texts: list[str]

    def write(self, duplicate_url: np.ndarray, duplicate: np.ndarray, collected: np.ndarray, texts: list[Any]) -> None:
        """The columns of one round, and the corpus: a text of None is a page that was removed."""
        first = 0
        table = PageTable(self.folder)
        for shard in table.shards:
            here = slice(first, first + table.read(shard, ["offset"]).num_rows)
            first = here.stop
            for step, column, values in (
                ("urls", "duplicate_url", pa.array(duplicate_url[here])),
                ("near", "duplicate_of", pa.array(duplicate[here].astype(np.uint64))),
                ("round-1/cut", "collected", pa.array(collected[here])),
            ):
                folder = self.folder / "steps" / step / shard
                folder.mkdir(parents=True, exist_ok=True)
                write_columns({column: values}, folder)
        lines = [
            json.dumps({"source": row["source"], "offset": row["offset"], "text": texts[place]})
            for place, row in enumerate(self.rows)
            if collected[place] and texts[place] is not None
        ]
        (self.folder / "export").mkdir(exist_ok=True)
        packed = zstandard.compress("".join(f"{line}\n" for line in lines).encode())
        (self.folder / "export" / "corpus.jsonl.zst").write_bytes(packed)

    def right(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[Any]]:
        """What a run would write that makes no mistake."""
        seen: set[str] = set()
        urls, near = (np.zeros(len(self.rows), bool) for _ in range(2))
        for place, row in enumerate(self.rows):
            urls[place] = row["canonical"] in seen and row["kind"] == "page"
            if not urls[place]:
                near[place] = f"article {row['article']}" in seen and row["kind"] == "page"
            seen |= {row["canonical"], f"article {row['article']}"}
        mathematics = np.array([bool(row["is_math"]) for row in self.rows])
        texts = [
            None if row["planted"] else text  # the whole page goes
            for row, text in zip(self.rows, self.texts, strict=True)
        ]
        return urls, near, mathematics & ~urls & ~near, texts


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    crawl, folder = tmp_path_factory.mktemp("crawl"), tmp_path_factory.mktemp("run")
    config = compose_config(["stage=crawl", *(f"crawl.{setting}" for setting in SETTINGS)])
    assert isinstance(config, CrawlStageConfig)
    write_crawl(crawl, config.crawl, 0)
    run_step(PagesStep(tokenizer=None), read_tasks(crawl / "crawl"), folder / "steps" / "pages", LocalExecutor(0))
    known = {(row["source"], row["offset"]): row for row in pq.read_table(crawl / "truth.parquet").to_pylist()}
    tables = [table for _, table in PageTable(folder).tables(["source", "offset", "text"])]
    pages = [row for table in tables for row in table.to_pylist()]
    rows = [known[row["source"], row["offset"]] for row in pages]
    return Run(folder, crawl / "truth.parquet", rows, [row["text"] for row in pages])


def test_a_run_without_a_mistake_has_full_marks(run: Run) -> None:
    run.write(*run.right())
    found = compare(run.folder, run.truth)
    assert found["pages/there"] == found["pages/read"] == 450
    assert found["pages/read_of_unreadable"] == 0
    assert found["urls/copies"] == found["urls/collapsed"] == 27
    assert found["near/copies"] == found["near/collapsed"] > 10
    assert found["round-1/recall"] == found["round-1/precision"] == 1.0
    assert found["contamination/planted"] > 5
    assert found["contamination/decoys"] > 2
    assert found["contamination/clean"] > 5
    assert found["formulas/survived"] > 0.9
    none = [name for name in found if name.endswith(("missed", "lost", "left", "_removed"))]
    assert len(none) == 8
    assert {name: found[name] for name in none} == dict.fromkeys(none, 0)


def test_each_mistake_is_counted_once(run: Run) -> None:
    urls, near, collected, texts = run.right()
    wanted, others = np.flatnonzero(collected), np.flatnonzero(~collected & ~urls & ~near)
    others = others[[run.rows[place]["kind"] == "page" for place in others]]
    collected[wanted[:7]] = False
    collected[others[:5]] = True
    alone = [
        place
        for place in others[5:].tolist()
        if sum(row["article"] == run.rows[place]["article"] for row in run.rows) == 1
    ]
    urls[np.flatnonzero(urls)[0]] = False
    near[np.flatnonzero(near)[:2]] = False
    near[alone[:3]] = True
    kinds = {kind: [place for place in wanted[7:].tolist() if run.rows[place][kind]] for kind in ("planted", "decoys")}
    clean = [place for place in wanted[7:].tolist() if not run.rows[place]["planted"] and not run.rows[place]["decoys"]]
    left, decoy = kinds["planted"][0], kinds["decoys"][0]
    texts[left] = run.texts[left]
    texts[decoy] = None
    texts[clean[0]] = run.texts[clean[0]].replace(run.texts[clean[0]].split()[3], "")
    run.write(urls, near, collected, texts)
    found = compare(run.folder, run.truth)
    assert (found["urls/missed"], found["urls/collapsed"]) == (1, 26)
    assert found["near/lost"] == 3
    assert found["near/missed"] >= 2  # and the address that was missed, whose content stands twice now
    kept = int((collected & ~urls & ~near).sum())
    assert found["round-1/precision"] == pytest.approx(1 - 5 / kept)
    assert found["round-1/recall"] <= 1 - 7 / len(wanted) + 1e-9
    assert found["contamination/left"] == 1
    assert found["contamination/decoys_removed"] == 1
    assert found["contamination/clean_removed"] == 1


def test_labels_name_the_texts_of_the_benchmarks(run: Run) -> None:
    truth = Truth.load(run.truth)
    labels = [label for row in truth.rows.values() for label in row["planted"] or ()]
    assert labels
    for label in labels:
        assert len(truth.text(label)) > 8


def test_a_truth_of_another_crawl_is_refused(run: Run, tmp_path: Path) -> None:
    run.write(*run.right())
    table = pq.read_table(run.truth)
    other = table.set_column(table.column_names.index("source"), "source", pa.array(["other"] * len(table)))
    (tmp_path / "benchmark").symlink_to(run.truth.parent / "benchmark")
    pq.write_table(other, tmp_path / "truth.parquet")
    with pytest.raises(UserError, match="another crawl"):
        compare(run.folder, tmp_path / "truth.parquet")
    with pytest.raises(UserError, match="no such file"):
        compare(run.folder, tmp_path / "nothing.parquet")


@pytest.mark.parametrize(
    ("one", "same"),
    [
        (r"\frac{a}{b}", r"\dfrac ab"),
        (r"x \leq 3", r"x\le3"),
        (r"\left( x \right)", "(x)"),
        (r"\begin{pmatrix} 1 & 2 \end{pmatrix}", r"\left(\begin{matrix}1&2\end{matrix}\right)"),
        (r"\mathrm{d}x", "dx"),
    ],
)
def test_spellings_of_a_formula_are_one(one: str, same: str) -> None:
    assert bare_formula(one) == bare_formula(same)


@pytest.mark.parametrize(("one", "other"), [("x^2", "x_2"), (r"a \le b", r"a \ge b"), (r"\leftarrow", r"\rightarrow")])
def test_other_formulas_stay_others(one: str, other: str) -> None:
    assert bare_formula(one) != bare_formula(other)
