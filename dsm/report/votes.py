"""Chapter: one answer against many. maj@k and pass@k before and after the last phase (the paper's Figure 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dsm.evaluation.loading import Bounds
from dsm.report.charts import Line, line_chart
from dsm.report.compare import CURVES, Benchmark, Comparison
from dsm.report.contrast import contrast
from dsm.report.paper import paper_tables
from dsm.report.phases import Phases, tone
from dsm.report.sections import Block, Cell, Chart, Charts, Section, Table
from dsm.report.text import signed


def section(comparison: Comparison, phases: Phases, seed: int) -> Section | None:
    """The chapter; None where the last two phases gave one answer an item."""
    before, after = phases.sides[-2:]
    names = phases.labels[-2:]
    charts: list[Chart] = []
    rows: list[list[Cell | str]] = []
    for benchmark in comparison.benchmarks:
        ks = _shared(benchmark, [*before, *after])
        if benchmark.name not in phases.benchmarks or len(ks) < 2:
            continue
        lines = []
        for side, name in ((after, names[1]), (before, names[0])):
            for kind, style in (("pass", "--"), ("maj", "-")):
                empty = Line(f"{kind}, {name}", comparison.tints[side[0]], (), (), style=style, dots=True)
                lines.append(_line(benchmark, side, kind, ks, empty))
        drawn = line_chart(benchmark.title, lines, xlabel="k, samples", ylabel="% of items", doubling=True, height=3.1)
        charts.append(Chart(f"votes-{benchmark.name}", drawn))
        gains = [
            contrast(comparison, after, before, benchmarks=[benchmark.name], metric=f"{kind}@{k}", seed=seed).difference
            for kind, k in (("maj", 1), ("maj", ks[-1]), ("pass", ks[-1]))
        ]
        rows.append(
            [
                benchmark.title,
                str(ks[-1]),
                *(Cell(signed(g.value or 0.0), f"{signed(g.low)} to {signed(g.high)}", tone=tone(g)) for g in gains),
            ]
        )
    if not charts:
        return None
    header = ["benchmark", "k", "one sample", "maj@k", "pass@k"]
    note = (
        f"{names[1]} above {names[0]}, in points with 95 % intervals over the same items. In the paper (Figure 7, "
        f"maj@64 and pass@64): {_paper()}: RL moves right answers up among those that the model had already."
    )
    blocks: list[Block] = [Charts(charts), Table(header, rows, note=note)]
    lead = (
        "pass@k: any of k samples is correct, what the model can do at all. maj@k: their most frequent answer is "
        "correct, what it does reliably."
    )
    return Section("votes", f"maj@k and pass@k, before and after {names[1]}", lead, blocks)


def _paper() -> str:
    """'GSM8K +1.5 and −1.8, MATH +1.0 and −0.7'."""
    (figure,) = paper_tables(["figure_7"])
    pairs = zip(figure.columns, figure.rows["maj@64"], figure.rows["pass@64"], strict=True)
    return ", ".join(f"{name} {signed((maj or 0) / 100)} and {signed((any_ or 0) / 100)}" for name, maj, any_ in pairs)


def _shared(benchmark: Benchmark, indices: Sequence[int]) -> list[int]:
    """The k that every evaluation has both curves at."""
    entries = [benchmark.entries[index] for index in indices]
    curves = [getattr(entry.metrics, CURVES[kind]) for entry in entries if entry for kind in ("pass", "maj")]
    return sorted(set.intersection(*({int(k) for k in curve} for curve in curves))) if curves else []


def _line(benchmark: Benchmark, side: Sequence[int], kind: str, ks: Sequence[int], empty: Line) -> Line:
    """The empty line with the mean over seeds; the band is that of a single one."""
    curves: list[dict[str, Bounds]] = []
    for index in side:
        entry = benchmark.entries[index]
        assert entry is not None
        curves.append(getattr(entry.metrics, CURVES[kind]))
    values = [100 * sum(curve[str(k)].value or 0.0 for curve in curves) / len(curves) for k in ks]
    low = [100 * curves[0][str(k)].low for k in ks] if len(curves) == 1 else []
    high = [100 * curves[0][str(k)].high for k in ks] if len(curves) == 1 else []
    return replace(empty, x=ks, y=values, low=low, high=high)
