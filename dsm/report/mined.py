"""Chapter: what was mined. Rounds, recall against the truth where it is known, domains, records, decontamination."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from dsm.evaluation.table import percent
from dsm.report.charts import Line, bar_chart, count, line_chart
from dsm.report.runs import Run, of_stage
from dsm.report.sections import Block, Cell, Chart, Charts, Fact, Facts, Section, Table

_LANGUAGES = {"en": "English", "zh": "Chinese", "other": "other"}
_DOMAINS = 15


def section(runs: Sequence[Run]) -> Section | None:
    """The chapter, of the mining runs there are."""
    found = of_stage(runs, "mine")
    if not found:
        return None
    blocks: list[Block] = []
    crawls = [_crawl(run) for run in of_stage(runs, "crawl")]
    for run in found:
        blocks += _run(run, crawls if run is found[0] else [], len(found) > 1)
    lead = (
        "A classifier learns from a seed, ranks the pages of the crawl and keeps the best; domains that come up often "
        "are annotated, their missed pages join the seed, and the next round begins. The paper's four rounds over "
        "Common Crawl gave 35.5 million pages, 120 billion tokens; nearly 98 % of the fourth had been in the third."
    )
    return Section("mined", "What was mined", lead, blocks)


def _crawl(run: Run) -> Fact:
    return Fact(count(run.final["pages"]), "pages made up", f"{run.final['math/pages']:,} of mathematics")


def _run(run: Run, crawls: Sequence[Fact], several: bool) -> list[Block]:
    rounds = [row for row in run.rows if "round" in row]
    name = f"{run.label}: " if several else ""
    blocks: list[Block] = [Facts([*crawls, *_facts(run, rounds)])]
    charts = _charts(run, rounds)
    if charts:
        blocks.append(Charts(charts, title=f"{name}Round by round"))
    if rounds:
        blocks.append(_rounds(rounds))
    blocks += [table for table in (_domains(run, rounds), _registers(run, rounds), _hits(run)) if table]
    return blocks


def _facts(run: Run, rounds: Sequence[dict[str, Any]]) -> list[Fact]:
    final = run.final
    facts = [
        Fact(count(final["mine/tokens"]), "tokens collected", f"{final['mine/pages']:,} pages"),
        Fact(str(final["mine/rounds"]), "rounds", f"of {final['mine/records']:,} records"),
    ]
    if "mine/overlap" in final:
        facts.append(Fact(f"{percent(final['mine/overlap'])} %", "of the last round", "known from the one before"))
    last = f"truth/round-{len(rounds)}"
    if f"{last}/recall" in final:
        facts.append(Fact(f"{percent(final[f'{last}/recall'])} %", "recall", "of all true pages, last round"))
        facts.append(Fact(f"{percent(final[f'{last}/precision'])} %", "precision", "last round"))
    planted = final.get("truth/contamination/planted")
    if planted is not None:
        left = final["truth/contamination/left"]
        facts.append(
            Fact(f"{planted - left} of {planted}", "planted problems removed", tone="bad" if left else "plain")
        )
    return facts


def _charts(run: Run, rounds: Sequence[dict[str, Any]]) -> list[Chart]:
    charts = []
    labels = [f"round {row['round']}" for row in rounds]
    if rounds:
        parts = []
        for number, (code, name) in enumerate(_LANGUAGES.items()):
            tokens = [float(row.get(f"{code}/tokens", 0)) for row in rounds]
            if any(tokens):
                parts.append((name, number, tokens))
        svg = bar_chart("Tokens collected", labels, parts, xlabel="tokens")
        charts.append(Chart(f"mined-{run.name}-tokens", svg))
    lines = []
    for number, key in enumerate(("recall", "precision")):
        found = [(row["round"], run.final.get(f"truth/round-{row['round']}/{key}")) for row in rounds]
        lines.append(_percents(key, number, [(place, share) for place, share in found if share is not None]))
    lines.append(_percents("known before", 2, [(row["round"], row["overlap"]) for row in rounds if "overlap" in row]))
    if lines := [line for line in lines if line.x]:
        title = "Against the truth" if len(lines) > 1 else "Known from the round before"
        svg = line_chart(title, lines, xlabel="round", ylabel="%", whole=True, top=103.0)
        charts.append(Chart(f"mined-{run.name}-recall", svg))
    flow = _flow(run)
    if flow:
        names, values = [step for step, _ in flow], [float(number) for _, number in flow]
        ends = [f"{number:,}" for _, number in flow]
        svg = bar_chart("Records that pass each step", names, [("records", 6, values)], xlabel="records", ends=ends)
        charts.append(Chart(f"mined-{run.name}-records", svg))
    return charts


def _percents(label: str, number: int, points: Sequence[tuple[int, float]]) -> Line:
    return Line(label, number, [float(x) for x, _ in points], [100 * float(y) for _, y in points], dots=True)


def _flow(run: Run) -> list[tuple[str, int]]:
    """(step, records that went on from it)."""
    file = run.folder / "reconciliation.json"
    if not file.is_file():
        return []
    balance = json.loads(file.read_text(encoding="utf-8"))
    return [("records", balance["in"]), *((one["step"], one["out"]) for one in balance["steps"])]


def _rounds(rounds: Sequence[dict[str, Any]]) -> Table:
    header = [
        "round",
        "pages",
        "tokens",
        "share of pages",
        "known before",
        "precision",
        "recall",
        "domains",
        "new seed",
    ]
    rows = [
        [
            str(row["round"]),
            f"{row['pages']:,}",
            count(row["tokens"]),
            f"{percent(row['share'])} %",
            _share(row, "overlap"),
            _share(row, "classifier/random/precision"),
            _share(row, "classifier/random/recall"),
            f"{row.get('domains/candidates', '–')}",
            f"{row['seed/new_pages']:,}" if "seed/new_pages" in row else "–",
        ]
        for row in rounds
    ]
    note = (
        "Precision and recall are the classifier's on examples it has not learnt from; domains: those of which more "
        "than a tenth was collected, for annotation; new seed: annotated pages that join the positives."
    )
    return Table(header, rows, note=note)


def _share(row: dict[str, Any], key: str) -> str:
    return f"{percent(row[key])} %" if isinstance(row.get(key), int | float) else "–"


def _domains(run: Run, rounds: Sequence[dict[str, Any]]) -> Table | None:
    """The domains with the most tokens in the last round."""
    file = run.folder / "steps" / f"round-{len(rounds)}" / "domains" / "all" / "domains.parquet"
    if not file.is_file():
        return None
    import pyarrow.parquet as pq

    columns = ["domain", "pages", "collected", "collected_tokens", "share"]
    table = pq.read_table(file, columns=columns)
    best = table.sort_by([("collected_tokens", "descending"), ("domain", "ascending")]).slice(0, _DOMAINS).to_pylist()
    rows: list[list[Cell | str]] = [
        [
            row["domain"],
            count(row["collected_tokens"]),
            f"{row['collected']:,}",
            f"{row['pages']:,}",
            Cell(f"{percent(row['share'], 0)} %", heat=float(row["share"])),
        ]
        for row in best
        if row["collected"]
    ]
    header = ["domain", "tokens", "pages collected", "of", "share"]
    return Table(header, rows, folded=f"The {len(rows)} domains with the most tokens")


def _registers(run: Run, rounds: Sequence[dict[str, Any]]) -> Table | None:
    """Recall of each kind of page, round by round."""
    first = "truth/round-1/recall/"
    kinds = [key.removeprefix(first) for key in run.final if key.startswith(first)]
    if not kinds:
        return None
    rows: list[list[Cell | str]] = []
    for kind in kinds:
        shares = [run.final.get(f"truth/round-{row['round']}/recall/{kind}") for row in rounds]
        rows.append([kind, *(Cell("–") if s is None else Cell(f"{percent(s, 0)} %", heat=float(s)) for s in shares)])
    header = ["recall of", *(f"round {row['round']}" for row in rounds)]
    return Table(header, rows, folded="Recall of each kind of page")


def _hits(run: Run) -> Table | None:
    """What decontamination found, a benchmark at a time."""
    found: dict[str, tuple[int, set[str]]] = {}
    for file in sorted((run.folder / "steps" / "clean").glob("*/hits.jsonl")):
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                hit = json.loads(line)
                number, pages = found.get(hit["benchmark"], (0, set()))
                found[hit["benchmark"]] = (number + 1, pages | {hit.get("url", "")})
    if not found:
        return None
    rows = [[name, f"{number:,}", f"{len(pages):,}"] for name, (number, pages) in sorted(found.items())]
    return Table(["benchmark", "matches", "pages"], rows, folded="Decontamination: matches with benchmarks")
