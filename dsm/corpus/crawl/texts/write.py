"""Writes the texts: `texts/SOURCE.jsonl.gz`, each document from random numbers of its own."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path

from dsm.corpus.crawl.benchmark import Benchmarks
from dsm.corpus.crawl.texts.academic import academic
from dsm.corpus.crawl.texts.algebra import algebra
from dsm.corpus.crawl.texts.code import Reserved, code
from dsm.corpus.crawl.texts.general import general
from dsm.corpus.crawl.texts.maths import maths
from dsm.corpus.crawl.texts.recipes import Recipe

SOURCES = ("maths", "code", "academic", "algebra", "general")


def write_texts(
    folder: Path, source: str, number: int, seed: int, benchmarks: Benchmarks, functions: list[Recipe]
) -> None:
    """`<folder>/<source>.jsonl.gz`: so many documents; a longer file begins with the shorter one of the same seed.

    Args:
        benchmarks: the crawl's; no text holds a question of its held-out word problems.
        functions: held-out ones; no text holds one of the same description.
    """
    reserved = Reserved(benchmarks.taken, {recipe.does for recipe in functions})
    writers: dict[str, Callable[[random.Random], tuple[str, str, str]]] = {
        "maths": lambda rng: maths(rng, seed, reserved),
        "code": lambda rng: code(rng, reserved),
        "academic": lambda rng: academic(rng, seed),
        "algebra": algebra,
        "general": lambda rng: general(rng, seed),
    }
    with (
        (folder / f"{source}.jsonl.gz").open("wb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0, compresslevel=6) as file,
    ):
        for place in range(number):
            text, language, kind = writers[source](random.Random(f"{source} {seed} {place}"))
            row = {"text": text, "language": language, "kind": kind}
            file.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
