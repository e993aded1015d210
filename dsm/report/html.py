"""The report as one HTML file that needs nothing else: styles, figures and items are inside, the network is forbidden.

What models wrote is hostile: Jinja escapes every value, LaTeX stays text, and the page's own policy lets no script run
but ours, by its hash.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dsm.evaluation.metrics import natural_key
from dsm.evaluation.table import percent
from dsm.report import charts, plots
from dsm.report.compare import Benchmark, Comparison, choose_items, cross_table
from dsm.report.sections import Span
from dsm.report.story import Story
from dsm.report.text import clip, p_value, signed, visible

if TYPE_CHECKING:
    from jinja2 import Environment

REFERENCE_COLUMNS = 4
"""Published numbers that stand beside ours; the others are folded away below the table."""
SIGNS = {"correct": "✓", "wrong": "✗", "ungradable": "?", "mixed": "~"}


def templates(package: str = "dsm.report") -> Environment:
    """The templates of a package, and ours: what they are given is escaped, and what cannot be seen is made visible."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=ChoiceLoader([PackageLoader(name, "templates") for name in dict.fromkeys([package, "dsm.report"])]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )


def render_html(
    comparison: Comparison,
    *,
    title: str,
    items: int,
    output_chars: int,
    story: Story | None = None,
    drawn: Mapping[str, str] | None = None,
) -> str:
    """The page; `items` a benchmark go into the browser, texts beyond `output_chars` characters lose their middle.

    Args:
        drawn: the evaluations' figures (`plots.evaluation_figures`), where they have been drawn already.
    """
    from markupsafe import Markup

    environment = templates()
    story = story or Story()

    def source(name: str) -> Markup:
        """A file of ours, as it is."""
        assert environment.loader is not None
        return Markup(environment.loader.get_source(environment, name)[0])

    def figure(svg: str) -> Markup:
        """matplotlib has escaped what it drew."""
        return Markup(charts.themed(svg))

    script = source("browser.js")
    benchmarks, references = comparison.benchmarks, comparison.references()
    drawn = plots.evaluation_figures(comparison, story.learning) if drawn is None else drawn
    curves = [(benchmark.title, drawn.get(f"samples-{benchmark.name}")) for benchmark in benchmarks]
    environment.globals |= {
        "colour": lambda index: charts.css_colour(comparison.tints[index]),
        "palette": charts.palette,
        "percent": percent,
        "signed": signed,
        "p_value": p_value,
        "sign": SIGNS,
        "present": lambda found: [(index, one) for index, one in enumerate(found) if one is not None],
        "one_line": lambda text: " ".join(text[:300].split()),
        "clip": lambda text: clip(text, output_chars),
        "kind_of": lambda block: type(block).__name__,
        "place": _place,
        "figure": figure,
    }
    return environment.get_template("report.html").render(
        title=title,
        script=script,
        script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        labels=comparison.labels,
        models=comparison.models,
        baseline=comparison.baseline,
        warnings=comparison.warnings(),
        headline=story.headline(),
        before=story.before,
        after=story.after,
        benchmarks=benchmarks,
        references=references[:REFERENCE_COLUMNS],
        more_references=references[REFERENCE_COLUMNS:],
        bars=figure(drawn["accuracy"]),
        pairs=[(b, index, pair) for b in benchmarks for index, pair in enumerate(b.pairs) if pair is not None],
        gaps=figure(drawn.get("differences", "")),
        curves=[(heading, figure(svg)) for heading, svg in curves if svg],
        learning=[(one.benchmark, figure(drawn[f"learning-{one.benchmark}"])) for one in story.learning],
        grouped=[part for benchmark in benchmarks if (part := _groups(benchmark))],
        browsed=[part for benchmark in benchmarks if (part := _browser(benchmark, items))],
    )


def _place(value: float, span: Span) -> str:
    """Where a value stands between -reach and reach, as a share of the width from the left."""
    return f"{50 + 50 * value / span.reach:.2f}%"


def _groups(benchmark: Benchmark) -> dict[str, Any] | None:
    """Tables of one kind of group, and of two kinds crossed; None where items have no groups."""
    kinds = []
    names: dict[str, set[str]] = {}
    for entry in benchmark.entries:
        for kind, groups in entry.groups.items() if entry else ():
            names.setdefault(kind, set()).update(groups)
    for kind in sorted(names):
        rows = []
        for name in sorted(names[kind], key=natural_key):
            found = [entry.groups.get(kind, {}).get(name) if entry else None for entry in benchmark.entries]
            n = max(group.n for group in found if group)
            rows.append((name, n, [group.accuracy if group else None for group in found]))
        kinds.append((kind, rows))
    crossed = []
    for index, records in enumerate(benchmark.items):
        if records and (table := cross_table(records)):
            columns = sorted({name for row in table[2].values() for name in row}, key=natural_key)
            crossed.append((index, *table, columns))
    return {"title": benchmark.title, "kinds": kinds, "crossed": crossed} if kinds else None


def _browser(benchmark: Benchmark, limit: int) -> dict[str, Any] | None:
    """The items to look at, each with its first record for what all records share; None where there are none."""
    shown = choose_items(benchmark, limit)
    total = len(benchmark.shared_ids())
    return {"name": benchmark.name, "title": benchmark.title, "shown": shown, "total": f"{total:,}"} if shown else None
