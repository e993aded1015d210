"""`stage=decontaminate`: planted questions leave files of every kind, and nothing else changes."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from dsm.config.benchmark import BenchmarkConfig
from dsm.config.compose import compose_config
from dsm.config.decontaminate import DecontaminateConfig
from dsm.corpus.contamination import Decontaminator
from dsm.corpus.contamination_texts import benchmark_texts
from dsm.corpus.decontaminate import decontaminate
from dsm.errors import UserError

QUESTION = "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May."
SOLUTION = "Natalia sold 48/2 = <<48/2=24>>24 clips in May, so in April and May she sold 48+24 = 72 clips."
SHORT = "What is 15% of 80?"
CLEAN = "Tessa sold clips to 64 of her friends in April, and then she sold 15% of 80 in May; that is 12."


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    """Three items, and one that cannot be read."""
    rows: list[dict[str, Any]] = [
        {"question": QUESTION, "answer": f"{SOLUTION}\n#### 72"},
        {"question": SHORT, "answer": "15% of 80 is 12.\n#### 12"},
        {"question": "Draw it. [asy] draw((0,0)--(1,1)--(2,2)--(3,3)); [/asy]", "answer": "So.\n#### 1,072"},
        {"question": "no answer"},
    ]
    path = tmp_path / "bench.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(tmp_path: Path, benchmark: Path, *settings: str) -> tuple[dict[str, Any], Path]:
    """The stage's metrics and its folder."""
    config = compose_config(
        [
            *("stage=decontaminate", "benchmark=gsm8k", f"benchmarks.gsm8k.data.path={benchmark}"),
            *(f"paths.runs={tmp_path / 'runs'}", "executor.workers=0", *settings),
        ]
    )
    assert isinstance(config, DecontaminateConfig)
    final = decontaminate(config)
    return final, Path(final["export"]).parent


def lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_kind_of_file(tmp_path: Path, benchmark: Path) -> None:
    """The same rows stay, whatever they are packed in; those without a hit byte for byte, in their own order."""
    rows = [
        b'{"id": 1,  "text": "\\u00e9  untouched", "n": 1.50}',
        json.dumps({"id": 2, "text": f"Intro.\n{QUESTION}\nOutro."}).encode(),
        json.dumps({"id": 3, "text": f"{SHORT} That is 12."}).encode(),
        b'{"id": 4, "text": ',
        b'{"id": 5, "text": null}',
        json.dumps({"id": 6, "text": CLEAN}).encode(),
    ]
    folder = tmp_path / "data"
    (folder / "sub").mkdir(parents=True)
    content = b"".join(row + b"\n" for row in rows)
    (folder / "a.jsonl").write_bytes(content)
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(content))
    (folder / "sub" / "c.jsonl.zst").write_bytes(zstandard.compress(content))
    good = [json.loads(row) for number, row in enumerate(rows) if number != 3]
    table = pa.table(
        {
            "id": pa.array([row["id"] for row in good], pa.int16()),
            "text": pa.array([row["text"] for row in good], pa.large_string()),
            "extra": [{"deep": [row["id"]]} for row in good],
        }
    )
    pq.write_table(table, folder / "d.parquet")
    final, out = run(tmp_path, benchmark, f"data.sources.web.path={folder}")
    export = out / "export" / "web"
    packed = zstandard.ZstdDecompressor().stream_reader((export / "sub" / "c.jsonl.zst").read_bytes()).read()
    plain = (export / "a.jsonl").read_bytes()
    assert plain == gzip.decompress((export / "b.jsonl.gz").read_bytes()) == packed
    left = plain.splitlines()
    assert (left[0], left[2]) == (rows[0], rows[5])
    assert json.loads(left[1]) == {"id": 2, "text": "Intro.\nOutro."}
    assert len(left) == 3
    cleaned = pq.read_table(export / "d.parquet")
    assert cleaned.schema.equals(table.schema)
    assert cleaned.to_pylist() == [
        {"id": row["id"], "text": row["text"], "extra": {"deep": [row["id"]]}} for row in map(json.loads, left)
    ]
    assert {key: final[f"web/{key}"] for key in ("rows", "out", "contaminated", "broken")} == {
        "rows": 23,
        "out": 12,
        "contaminated": 4,
        "broken": 7,
    }
    hits = lines(out / "hits.jsonl")
    assert [(hit["file"], hit["row"], hit["item"], hit["rule"]) for hit in hits[:2]] == [
        ("a.jsonl", 2, "1", "run"),
        ("a.jsonl", 3, "2", "whole"),
    ]
    assert len(hits) == final["hits"] == final["gsm8k/hits"] == 8
    assert len(lines(out / "rejected.jsonl")) == 7
    told = json.loads((out / "contamination.json").read_text())["gsm8k"]
    assert (told["texts"], told["items"], told["hits_whole"]) == (6, 2, 4)


def test_instruction_data_loses_rows_not_lines(tmp_path: Path, benchmark: Path) -> None:
    """A hit in a message removes the dialogue; so it does in any column where the unit is the page."""
    rows: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": f"Hello!\n{QUESTION}"}, {"role": "assistant", "content": "72"}]},
        {"messages": [{"role": "user", "content": CLEAN}, {"role": "assistant", "content": "12"}]},
        {"question": "Count.", "answer": f"Well.\n{SOLUTION}"},
    ]
    path = tmp_path / "sft.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = (f"data.sources.sft.path={path}", "data.fields=[messages,question,answer]")
    final, out = run(tmp_path, benchmark, *given, "decontamination.unit=page")
    assert lines(out / "export" / "sft" / "sft.jsonl") == rows[1:2]
    assert final["sft/contaminated"] == 2
    _, out = run(tmp_path, benchmark, *given)
    assert lines(out / "export" / "sft" / "sft.jsonl") == [rows[1], rows[2] | {"answer": "Well."}]
    _, out = run(tmp_path, benchmark, f"data.sources.sft.path={path}", "data.sources.sft.fields=[messages.1.content]")
    assert lines(out / "export" / "sft" / "sft.jsonl") == rows[:2]


def test_it_goes_on_where_it_stopped(tmp_path: Path, benchmark: Path) -> None:
    """A finished run is not made again; a changed input is."""
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"text": QUESTION}) + "\n")
    given = f"data.sources.web.path={path}"
    first, out = run(tmp_path, benchmark, given)
    assert run(tmp_path, benchmark, given)[0] == first
    (out / "metrics.json").unlink()
    path.write_text(json.dumps({"text": CLEAN}) + "\n")
    assert run(tmp_path, benchmark, given)[0]["web/out"] == 1


def test_texts_of_a_benchmark_are_what_the_data_says(benchmark: Path) -> None:
    """Columns without the prompt's words, whole solutions, choices by themselves, no programs of figures."""
    config = BenchmarkConfig.model_validate(
        {"data": {"path": str(benchmark), "gold_form": "hashes", "question": "Read this: {question}", "subsample": 1}}
    )
    texts, rejected = benchmark_texts({"gsm8k": config})
    assert [(text.item, text.kind) for text in texts] == [(n, kind) for n in "123" for kind in ("question", "answer")]
    assert texts[0].text == QUESTION
    assert texts[1].text == f"{SOLUTION}\n#### 72"
    assert "draw" not in texts[4].text
    assert len(rejected["gsm8k"]) == 1
    assert Decontaminator(texts).clean(SOLUTION.replace("<<48/2=24>>", "")).text is None


@pytest.mark.parametrize("template", ["{question}", "Which is right?\n{question}\n{choices}"])
def test_choices_belong_to_their_question(tmp_path: Path, template: str) -> None:
    """Neither the stem nor a choice says enough alone; how the choices are labelled does not matter."""
    path = tmp_path / "choices.jsonl"
    row = {"question": "Which of these is true?", "choices": ["None of the above", "All of it"], "answer": 1}
    path.write_text(json.dumps(row) + "\n")
    data = {"path": str(path), "question": template, "choices": "choices", "gold_form": "choice"}
    texts, _ = benchmark_texts({"mc": BenchmarkConfig.model_validate({"kind": "choices", "data": data})})
    assert [(text.kind, text.text) for text in texts] == [
        ("question", "Which of these is true?\n(A) None of the above, (B) All of it"),
        ("answer", "1"),
    ]
    finder = Decontaminator(texts)
    assert finder.clean("Which of these is true? None of the above.").hits == ()
    assert finder.clean("Which of these is true?\na) none of the above\nb) all of it").text is None


def test_real_benchmarks_leave_no_question_of_theirs(shared_data: Path) -> None:
    """Every question of GSM8K's and MATH's test sets that is searched for is found when a page quotes it otherwise."""
    config = compose_config(
        [
            *("stage=decontaminate", "benchmark=[gsm8k,math]", "data.sources.x.path=x"),
            f"data_root={shared_data / 'math'}",
        ]
    )
    assert isinstance(config, DecontaminateConfig)
    texts, _ = benchmark_texts(config.benchmarks, config.data_root)
    questions = [text for text in texts if text.kind == "question"][::40]
    finder = Decontaminator(questions)
    coverage = finder.coverage
    searched = sum(covered.runs + covered.whole for covered in coverage.values())
    pages = ["Home > Forum\n" + " ".join(text.text.upper().replace("$", " ").split()) + "\nReply" for text in questions]
    cleaned = list(finder.clean_all(pages))
    assert sum(bool(each.hits) for each in cleaned) == searched > 150
    assert {text.benchmark for text in questions} == {"gsm8k", "math"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["benchmark=[]"], "benchmark=gsm8k"),
        (["data.sources={}"], "data.sources.NAME.path"),
        (["data.sources.a.path=hub:org/name"], "must be local"),
        (["decontamination.min_ngram=11"], "min_ngram"),
    ],
)
def test_mistakes_are_one_line(settings: list[str], message: str) -> None:
    """What cannot be meant is said before anything is read."""
    given = {"benchmark": "benchmark=gsm8k", "data": "data.sources.web.path=x.jsonl"}
    base = [value for key, value in given.items() if not any(setting.startswith(key) for setting in settings)]
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        compose_config(["stage=decontaminate", *base, *settings])


def test_columns_that_are_not_there_are_a_mistake(tmp_path: Path, benchmark: Path) -> None:
    """Not a clean corpus of no rows."""
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"content": CLEAN}) + "\n")
    with pytest.raises(UserError, match=r"none of its 1 rows can be used; the first: row 1 has no text in text"):
        run(tmp_path, benchmark, f"data.sources.web.path={path}")


def test_files_of_other_kinds_are_refused(tmp_path: Path, benchmark: Path) -> None:
    """Neither text files nor damaged ones pass for clean."""
    text, damaged = tmp_path / "a.txt", tmp_path / "b.parquet"
    text.write_text("x")
    damaged.write_bytes(b"PAR1 no more PAR1")
    with pytest.raises(UserError, match="unsupported kind of file"):
        run(tmp_path, benchmark, f"data.sources.web.path={text}")
    with pytest.raises(UserError, match="not a readable Parquet file"):
        run(tmp_path, benchmark, f"data.sources.web.path={damaged}")
