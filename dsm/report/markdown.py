"""The report as Markdown: tables that read well as plain text too, and figures as files beside it."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from dsm.evaluation.table import percent
from dsm.report import plots
from dsm.report.charts import on_white
from dsm.report.compare import Benchmark, Comparison, Row
from dsm.report.sections import Cell, Chart, Charts, Facts, Sample, Section, Table
from dsm.report.story import Story
from dsm.report.text import p_value, signed, visible

_SPECIAL = re.compile(r"([\\`*_\[\]~|$#!])")


def escape(text: str) -> str:
    """Text that is neither Markdown, nor HTML, nor a formula, on one line."""
    return _SPECIAL.sub(r"\\\1", html.escape(" ".join(visible(text).split()), quote=False))


def figures(
    comparison: Comparison, story: Story | None = None, drawn: Mapping[str, str] | None = None
) -> dict[str, str]:
    """File name -> SVG, each on white, so that they can be placed anywhere; `drawn` as for `render_markdown`."""
    story = story or Story()
    found = {chart.name: chart.svg for section in (*story.before, *story.after) for chart in _charts(section)}
    found |= plots.evaluation_figures(comparison, story.learning) if drawn is None else drawn
    return {_file(name): on_white(svg) for name, svg in found.items()}


def _file(name: str) -> str:
    return f"{re.sub(r'[^A-Za-z0-9._-]', '-', name)}.svg"


def _charts(section: Section) -> list[Chart]:
    return [chart for block in section.blocks if isinstance(block, Charts) for chart in block.charts]


def render_markdown(
    comparison: Comparison, *, title: str, story: Story | None = None, drawn: Mapping[str, str] | None = None
) -> str:
    """The text; its figures are those of `figures`, in the folder `plots` beside it.

    Args:
        drawn: the evaluations' figures (`plots.evaluation_figures`), where they have been drawn already.
    """
    story = story or Story()
    drawn = plots.evaluation_figures(comparison, story.learning) if drawn is None else drawn
    labels = [escape(label) for label in comparison.labels]
    base = labels[comparison.baseline]
    parts = [f"# {escape(title)}"]
    parts.append(
        "\n".join(f"- {label}: {escape(model)}" for label, model in zip(labels, comparison.models, strict=True))
    )
    if warnings := comparison.warnings():
        lines = [f"> - {escape(where)}: {escape(text)}" for where, text in warnings]
        parts.append("\n".join(["> **Not all of these numbers compare.**", ">", *lines]))
    parts += [text for section in story.before for text in _section(section)]
    parts += ["## Results", _results(comparison, labels)]
    note = "Percent of items with the 95 % interval over items"
    if len(labels) > 1:
        note += f"; in brackets the relative improvement over {base}; the best of each row is bold"
    parts.append(note + (". † other protocol, ‡ other items: see above." if warnings else "."))
    parts += [_image(_file(name)) for name in drawn]
    parts += [text for section in story.after for text in _section(section)]
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


def _image(name: str) -> str:
    return f"![{name.removesuffix('.svg')}](plots/{name})"


def _section(section: Section) -> Iterator[str]:
    """A chapter, block by block."""
    yield f"## {escape(section.title)}"
    if section.lead:
        yield escape(section.lead)
    for block in section.blocks:
        if isinstance(block, Facts):
            yield "\n".join(
                f"- **{escape(fact.value)}** {escape(' '.join(filter(None, (fact.label, fact.note))))}"
                for fact in block.facts
            )
        elif isinstance(block, Charts):
            if block.title:
                yield f"### {escape(block.title)}"
            yield "\n".join(_image(_file(chart.name)) for chart in block.charts)
        elif isinstance(block, Table):
            if name := block.title or block.folded:
                yield f"### {escape(name)}"
            yield _table([escape(name) for name in block.header], map(_line, block.rows), left=block.left)
        else:
            yield from map(_sample, block.samples)
        if isinstance(block, Charts | Table) and block.note:
            yield escape(block.note)


def _line(row: Sequence[Cell | str]) -> list[str]:
    return [escape(cell) if isinstance(cell, str) else _written(cell) for cell in row]


def _written(cell: Cell) -> str:
    text = f"**{escape(cell.text)}**" if cell.tone in ("strong", "good", "bad") and cell.text else escape(cell.text)
    return f"{text} ({escape(cell.note)})" if cell.note else text


def _sample(sample: Sample) -> str:
    """A problem and its answers, as quoted text: Markdown inside stays text."""
    lines = [f"**{escape(sample.question)}** Reference answer: {escape(sample.gold)}", ""]
    for answer in sample.answers:
        of = f", {answer.right} of {answer.samples} right" if answer.samples > 1 else ""
        lines += [f"- {escape(answer.label)} ({answer.verdict}{of}): {escape(answer.output)}"]
    return "\n".join(lines)


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
