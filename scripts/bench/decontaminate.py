"""Documents a CPU second: decontamination and MinHash signatures, ours and others', on the same texts in one run.

    python scripts/bench/decontaminate.py --data-root FOLDER --data train.jsonl --fields question answer --peer PYTHON

Documents of `--words` words are put together from the rows of `--data`. Others run in the interpreter `--peer`, which
has some of datatrove[processing,multilingual], rensa, datasketch; what it lacks is left out. Everybody has one thread;
repeats alternate and the best of each counts.

Decontamination looks for the same benchmarks' texts, 10 grams long. datatrove's filter is its own code over an index of
its own hashes (its indexer wants lighteval, which has no data of ours); it normalises numbers to 0 and stops at the
first hit. Ours finds all hits, keeps numbers, removes lines. MinHash is 112 permutations over runs of five words, from
the text to the signature; rensa and datasketch have no notion of words and get them from str.split().
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from dsm.config.benchmark import BenchmarkConfig
from dsm.config.compose import compose_raw
from dsm.corpus.contamination import BenchmarkText, Decontaminator
from dsm.corpus.contamination_texts import benchmark_texts
from dsm.corpus.near import MinHash
from dsm.data.records import Record, read_records

WORKER = Path(__file__).with_name("decontaminate_worker.py")
GOALS = {"decontaminate": 10.0, "minhash": 1.0}


def documents(files: Sequence[str], fields: Sequence[str], words: int, count: int) -> list[str]:
    """So many documents of so many words, each of rows drawn at random."""
    rows = [
        "\n".join(str(row.row[name]) for name in fields if name in row.row)
        for file in files
        for row in read_records(file)
        if isinstance(row, Record)
    ]
    rng, made = random.Random(0), []
    for _ in range(count):
        text: list[str] = []
        while len(text) < words:
            text += rng.choice(rows).split(" ")
        made.append(" ".join(text[:words]))
    return made


def searched_for(names: Sequence[str], root: str) -> list[BenchmarkText]:
    """The texts of benchmarks of conf/benchmark."""
    composed = compose_raw(["stage=eval", "model.path=none", f"benchmark=[{','.join(names)}]"])
    found = OmegaConf.to_container(composed.benchmarks)
    assert isinstance(found, dict)
    benchmarks = {str(name): BenchmarkConfig.model_validate(values) for name, values in found.items()}
    return benchmark_texts(benchmarks, root)[0]


def rate(count: int, work: Callable[[], Any]) -> float:
    """Documents a second of this process's CPU time."""
    began = time.process_time()
    work()
    return count / (time.process_time() - began)


def peers(python: str, texts: Sequence[str], searched: Sequence[BenchmarkText]) -> dict[str, float]:
    """'task/peer' -> documents a CPU second."""
    with tempfile.TemporaryDirectory() as folder:
        given = Path(folder, "given.json")
        given.write_text(json.dumps({"texts": list(texts), "searched": [text.text for text in searched]}))
        run = subprocess.run([python, str(WORKER), str(given)], capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"--peer={python}: {run.stderr[-2000:]}")
    told: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return told


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True, help="a folder with the benchmarks' files")
    parser.add_argument("--benchmarks", nargs="+", default=["gsm8k", "math"])
    parser.add_argument("--data", nargs="+", required=True, help="JSONL or Parquet files that documents are made of")
    parser.add_argument("--fields", nargs="+", default=["text"])
    parser.add_argument("--peer", help="the interpreter that has the others")
    parser.add_argument("--words", type=int, default=1000)
    parser.add_argument("--documents", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()

    texts = documents(given.data, given.fields, given.words, given.documents)
    searched = searched_for(given.benchmarks, given.data_root)
    finder, minhash = Decontaminator(searched), MinHash()
    best: dict[str, float] = {}
    for _ in range(given.repeats):
        measured = {
            "decontaminate/dsm": rate(len(texts), lambda: list(finder.clean_all(texts))),
            "minhash/dsm": rate(len(texts), lambda: [minhash.signature(text) for text in texts]),
        }
        if given.peer:
            measured |= peers(given.peer, texts, searched)
        best = {name: max(value, best.get(name, 0.0)) for name, value in (best | measured).items()}
    hit = sum(bool(cleaned.hits) for cleaned in finder.clean_all(texts))
    print(f"{len(texts):,} documents of {given.words:,} words ({hit:,} with hits), {len(searched):,} benchmark texts")
    for name, value in sorted(best.items()):
        task, who = name.split("/")
        beside = "" if who == "dsm" else f"   dsm is {best[f'{task}/dsm'] / value:.1f} times as fast"
        print(f"{task:15} {who:12} {value:10,.0f} documents a CPU second{beside}")
    if "decontaminate/datatrove" in best:
        ratio = best["decontaminate/dsm"] / best["decontaminate/datatrove"]
        goal = GOALS["decontaminate"]
        print(f"goal: {goal:.0f} times datatrove's decontamination: {'reached' if ratio >= goal else 'MISSED'}")


if __name__ == "__main__":
    main()
