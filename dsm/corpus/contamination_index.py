"""Benchmark texts on their way to the workers: a file whose content is part of every task's key."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Literal

from dsm.corpus.contamination import BenchmarkText, Decontaminator
from dsm.files import atomic_write_text


def write_texts(texts: Sequence[BenchmarkText], path: Path) -> None:
    """One text a line, as JSON."""
    lines = (json.dumps(asdict(text), ensure_ascii=False) + "\n" for text in texts)
    atomic_write_text(path, "".join(lines))


def read_texts(path: Path) -> list[BenchmarkText]:
    """What `write_texts` wrote."""
    with path.open(encoding="utf-8") as file:
        return [BenchmarkText(**json.loads(line)) for line in file]


@lru_cache(maxsize=1)
def load_decontaminator(path: Path, ngram: int, min_ngram: int, unit: Literal["segment", "page"]) -> Decontaminator:
    """The decontaminator of a file of texts; made once in each process."""
    return Decontaminator(read_texts(path), ngram=ngram, min_ngram=min_ngram, unit=unit)
