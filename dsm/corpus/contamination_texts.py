"""The texts of benchmarks: everything that an item of `conf/benchmark` says, as the data says it.

Items are read as `stage=eval` reads them, so whatever it can measure can be taken out of a corpus. But a prompt is not
what stands on web pages: of a question's template only the columns count, not the words around them, and of an answer
all that the data gives, the worked solution and not only the number at its end. Choices belong to their question, for
"which of the following is true" is none. A figure's program (`[asy] ... [/asy]` in MATH) is left out, since others are
drawn with the same lines; what is left of a short question says little alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from dsm.config.benchmark import BenchmarkConfig
from dsm.corpus.contamination import BenchmarkText, Kind
from dsm.data.records import Rejected
from dsm.evaluation.benchmarks import load_items
from dsm.evaluation.columns import places

_FIGURE = re.compile(r"\[asy\].*?\[/asy\]", re.DOTALL | re.IGNORECASE)


def benchmark_texts(
    benchmarks: Mapping[str, BenchmarkConfig], root: str | None = None
) -> tuple[list[BenchmarkText], dict[str, list[Rejected]]]:
    """All questions and answers, and the rows of each benchmark that could not be read.

    Args:
        root: the run's data_root, a folder with the files of many benchmarks.

    Raises:
        UserError: a benchmark cannot be read.
    """
    texts: dict[BenchmarkText, None] = {}  # a set in order
    rejected: dict[str, list[Rejected]] = {}
    for name, config in benchmarks.items():
        texts |= dict.fromkeys(_texts(name, config, root, rejected))
    return list(texts), rejected


def _texts(
    name: str, config: BenchmarkConfig, root: str | None, rejected: dict[str, list[Rejected]]
) -> Iterator[BenchmarkText]:
    kind: Kind
    items, rejected[name] = load_items(name, _as_it_stands(config), root=root)
    for item in items:
        for kind, text in (("question", item.question), ("answer", item.gold)):
            words, figures = _FIGURE.subn(" ", text)
            yield BenchmarkText(name, item.id, kind, words, alone=not figures)


def _as_it_stands(config: BenchmarkConfig) -> BenchmarkConfig:
    """The benchmark with all its rows, and with columns instead of what is made of them."""
    data = config.data
    columns = dict.fromkeys((*places(data.question), *(["choices"] if data.choices else [])))
    question = "\n".join(f"{{{column}}}" for column in columns)
    update = {"question": question, "gold_form": "text", "subsample": None}
    return config.model_copy(update={"kind": "generate", "data": data.model_copy(update=update)})
