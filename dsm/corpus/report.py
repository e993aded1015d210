"""The report of a mining run: one HTML file with what every round collected, from where, and how well.

Pages of a crawl are hostile: every text is escaped, formulas become MathML, and the page's own policy runs no script.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dsm.config.mine import MineConfig
from dsm.config.plan.table import tokens as short
from dsm.corpus import report_plots
from dsm.corpus.domains import DOMAINS
from dsm.corpus.pages import read_parquet
from dsm.corpus.report_samples import samples
from dsm.corpus.rounds import ALL, Round
from dsm.corpus.rounds_examples import MEASURED
from dsm.corpus.rounds_steps import CUT, HISTOGRAM
from dsm.files import atomic_write_text


def write_report(
    config: MineConfig,
    root: Path,
    rounds: Sequence[Round],
    balance: dict[str, Any] | None,
    truth: Mapping[str, float] | None = None,
) -> Path:
    """Write RUN/report.html of the rounds there are, and of the account of records and the truth if there are any."""
    from markupsafe import Markup

    from dsm.report.charts import colour, themed
    from dsm.report.html import templates

    told = _gather(config, root, rounds)
    template = templates("dsm.corpus").get_template("mine.html")
    page = template.render(
        title=config.name,
        colour=colour,
        figures={name: Markup(themed(svg)) for name, svg in told.pop("figures").items()},
        balance=balance,
        truth=_truth(truth or {}),
        settings=_settings(config),
        short=short,
        percent=lambda share, digits=1: f"{100 * share:.{digits}f}",
        number=lambda count: f"{count:,}",
        score=lambda score: "–" if score > 1 else f"{score:.6g}",
        drawn=lambda shown: Markup(shown.html),
        languages=report_plots.LANGUAGES,
        **told,
    )
    path = root / "report.html"
    atomic_write_text(path, page)
    return path


def _gather(config: MineConfig, root: Path, rounds: Sequence[Round]) -> dict[str, Any]:
    """What the template shows."""
    told: dict[str, Any] = {"rounds": [], "measured": [], "curves": [], "domains": [], "samples": [], "figures": {}}
    told["hits"] = _hits(root)
    if not rounds:
        return told
    facts = _facts(root, rounds)
    told["rounds"] = facts
    histograms, cuts = [], []
    for one in rounds:
        threshold = one.steps["threshold"].shards[ALL]
        histograms.append(read_parquet(threshold.path(HISTOGRAM), ["bin", "language", "pages", "tokens"]))
        cut = json.loads(threshold.path(CUT).read_text())
        cuts.append(cut["score"])
        told["measured"].append(json.loads(one.steps["train"].shards[ALL].path(MEASURED).read_text()))
        told["curves"].append([point for point in cut["curve"] if point["budget"] > 0])
    told["figures"] = {
        "languages": report_plots.languages(facts),
        "scores": report_plots.scores(histograms, cuts),
        "budgets": report_plots.budgets(histograms, facts, config.cut.curve),
    }
    told["domains"] = _domains(rounds, config.report.domains)
    told["samples"] = samples(root, rounds[-1].number, config.report.samples, config.report.sample_chars, config.seed)
    return told


def _facts(root: Path, rounds: Sequence[Round]) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, which a command that did not run the rounds finds there."""
    if all(one.facts for one in rounds):
        return [one.facts for one in rounds]
    lines = (root / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines][: len(rounds)]


def _domains(rounds: Sequence[Round], limit: int) -> list[dict[str, Any]]:
    """The domains with the most tokens in the last round, with their shares in all rounds."""
    names = ["domain", "pages", "tokens", "collected", "collected_tokens", "share", "candidate"]
    tables = [read_parquet(one.steps["domains"].files(DOMAINS)[0], names) for one in rounds]
    last = tables[-1].sort_by([("collected_tokens", "descending"), ("domain", "ascending")]).slice(0, limit)
    rows: list[dict[str, Any]] = last.to_pylist()
    wanted = {row["domain"] for row in rows}
    shares: list[dict[str, float]] = []
    for table in tables:
        pairs = zip(table.column("domain").to_pylist(), table.column("share").to_pylist(), strict=True)
        shares.append({domain: share for domain, share in pairs if domain in wanted})
    return [row | {"shares": [found.get(row["domain"]) for found in shares]} for row in rows if row["collected"]]


def _truth(found: Mapping[str, float]) -> dict[str, Any]:
    """Rounds and registers as tables, the rest as rows."""
    rounds = sorted({int(key.split("/")[0].removeprefix("round-")) for key in found if key.startswith("round-")})
    registers = sorted({key.split("/")[2] for key in found if key.startswith("round-") and key.count("/") == 2})
    names = ["recall", "precision", *(f"recall/{register}" for register in registers)]
    table = [(name, [found.get(f"round-{number}/{name}") for number in rounds]) for name in names] if rounds else []
    rest = [(key, value) for key, value in found.items() if not key.startswith("round-")]
    return {"rounds": rounds, "table": table, "rest": rest}


def _hits(root: Path) -> list[tuple[str, int, int]]:
    """(benchmark, hits, pages hit) of the cleaned corpus."""
    found: dict[str, tuple[int, set[str]]] = {}
    for file in sorted((root / "steps" / "clean").glob("*/hits.jsonl")):
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                hit = json.loads(line)
                count, pages = found.get(hit["benchmark"], (0, set()))
                found[hit["benchmark"]] = (count + 1, pages | {hit.get("url", "")})
    return [(name, count, len(pages)) for name, (count, pages) in sorted(found.items())]


def _settings(config: MineConfig) -> list[tuple[str, str]]:
    """What decides the result, group by group."""
    groups = config.model_dump(
        include={"seed", "near", "classifier", "cut", "domains", "annotation", "rounds", "decontamination"}
    )
    rows = [("crawl.path", config.crawl.path), ("seed_corpus.path", config.seed_corpus.path)]
    for group, values in groups.items():
        pairs = values.items() if isinstance(values, dict) else [("", values)]
        rows += [(".".join(filter(None, (group, name))), str(value)) for name, value in pairs]
    return [*rows, ("benchmarks", ", ".join(config.benchmarks) or "none")]
