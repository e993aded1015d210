"""The report as Markdown: tables that read well as plain text too, and figures as files beside it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence

from dsm.evaluation import plots
from dsm.evaluation.compare import Benchmark, Comparison, Row, visible
from dsm.evaluation.html import p_value, signed
from dsm.evaluation.learning import Learning
from dsm.evaluation.table import percent

_SPECIAL = re.compile(r"([\\`*_\[\]~|$#!])")


def escape(text: str) -> str:
    """Text that is neither Markdown, nor HTML, nor a formula, on one line."""
    return _SPECIAL.sub(r"\\\1", html.escape(" ".join(visible(text).split()), quote=False))


def figures(comparison: Comparison, learning: Sequence[Learning] = ()) -> dict[str, str]:
    """File name -> SVG, each on white, so that they can be placed anywhere."""
    drawn = {"accuracy.svg": plots.accuracy_bars(comparison), "differences.svg": plots.differences(comparison)}
    for benchmark in comparison.benchmarks:
        name = re.sub(r"[^A-Za-z0-9._-]", "-", benchmark.name)
        drawn[f"samples-{name}.svg"] = plots.curves(comparison, benchmark)
    for one in learning:
        drawn[f"learning-{re.sub(r'[^A-Za-z0-9._-]', '-', one.benchmark)}.svg"] = plots.learning(comparison, one)
    return {name: svg.replace("<svg ", '<svg style="background: white" ', 1) for name, svg in drawn.items() if svg}


def render_markdown(comparison: Comparison, *, title: str, figure_files: Iterable[str]) -> str:
    """The text; `figure_files` are paths relative to it, shown in their order after the results."""
    labels = [escape(label) for label in comparison.labels]
    base = labels[comparison.baseline]
    parts = [f"# {escape(title)}"]
    parts.append(
        "\n".join(f"- {label}: {escape(model)}" for label, model in zip(labels, comparison.models, strict=True))
    )
    if warnings := comparison.warnings():
        lines = [f"> - {escape(where)}: {escape(text)}" for where, text in warnings]
        parts.append("\n".join(["> **Not all of these numbers compare.**", ">", *lines]))
    parts += ["## Results", _results(comparison, labels)]
    note = "Percent of items with the 95 % interval over items"
    if len(labels) > 1:
        note += f"; in brackets the relative improvement over {base}; the best of each row is bold"
    parts.append(note + (". † other protocol, ‡ other items: see above." if warnings else "."))
    parts += [f"![{file}]({file})" for file in figure_files]
    if pairs := _pairs(comparison, labels):
        parts += [f"## Against {base}, item by item", pairs]
    parts += ["## Verdicts", _verdicts(comparison, labels)]
    differing = [
        [escape(benchmark.title), escape(setting.key), *(escape(value or "not run") for value in setting.values)]
        for benchmark in comparison.benchmarks
        for setting in benchmark.protocol
        if setting.differs
    ]
    if differing:
        parts += ["## Protocols differ", _table(["benchmark", "setting", *labels], differing, left=2 + len(labels))]
    return "\n\n".join(parts) + "\n"


def _results(comparison: Comparison, labels: Sequence[str]) -> str:
    references = comparison.references()
    rows = []
    for benchmark in comparison.benchmarks:
        for row in benchmark.rows:
            first = row.metric == "accuracy"
            name = escape(benchmark.title) if first else f"{escape(benchmark.title)}, {row.metric}"
            entry = benchmark.entries[benchmark.base]
            assert entry is not None
            known: Mapping[str, float] = benchmark.reference if first else {}
            cells = [_cell(benchmark, row, index) for index in range(len(labels))]
            rows.append([name, f"{entry.n:,}", *cells, *(percent(known[r]) if r in known else "" for r in references)])
    return _table(["benchmark", "items", *labels, *(f"*{escape(name)}*" for name in references)], rows)


def _cell(benchmark: Benchmark, row: Row, index: int) -> str:
    cell, relative = row.cells[index], row.relative[index]
    if cell is None or cell.value is None:
        return "–"
    value = f"**{percent(cell.value)}**" if index in row.best else percent(cell.value)
    mark = "‡" if index in benchmark.foreign else "†" if index in benchmark.unlike else ""
    gain = "" if relative is None else f" ({signed(relative)} %)"
    return f"{value}{mark} [{percent(cell.low)}–{percent(cell.high)}]{gain}"


def _pairs(comparison: Comparison, labels: Sequence[str]) -> str:
    rows = [
        [
            escape(benchmark.title),
            labels[index],
            signed(pair.difference.value),
            f"{signed(pair.difference.low)} to {signed(pair.difference.high)}",
            str(pair.better),
            str(pair.worse),
            "–" if pair.p is None else p_value(pair.p).replace("<", "&lt;"),
        ]
        for benchmark in comparison.benchmarks
        for index, pair in enumerate(benchmark.pairs)
        if pair is not None and pair.difference.value is not None
    ]
    header = ["benchmark", "model", "gap, points", "95 %", "items ahead", "items behind", "McNemar p"]
    return _table(header, rows, left=2) if rows else ""


def _verdicts(comparison: Comparison, labels: Sequence[str]) -> str:
    rows = []
    for benchmark in comparison.benchmarks:
        for label, entry in zip(labels, benchmark.entries, strict=True):
            if entry is not None:
                found = entry.counts
                numbers = (found.samples, found.correct, found.wrong, found.ungradable, found.no_answer, found.length)
                rows.append([escape(benchmark.title), label, *(f"{number:,}" for number in numbers)])
    header = ["benchmark", "model", "answers", "correct", "wrong", "ungradable", "no answer", "cut at the limit"]
    return _table(header, rows, left=2)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    rule = [":---"] * left + ["---:"] * (len(header) - left)
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *rows))
