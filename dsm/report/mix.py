"""Chapter: pre-training. The tokens there are, the mix asked for and what was seen, the loss of each source."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dsm.evaluation.table import percent
from dsm.report.charts import WIDE, Line, bar_chart, count, line_chart
from dsm.report.runs import Run, of_stage
from dsm.report.sections import Block, Cell, Chart, Charts, Section, Table
from dsm.report.seeds import averaged, tints
from dsm.report.text import span

_OVER = "budget/positions"
_MANY_RUNS = 4
"""With more runs than this their losses by source are folded away, as a table of last values."""


def section(runs: Sequence[Run]) -> Section | None:
    """The chapter, of the runs that tokenised and pre-trained."""
    stores, trained = of_stage(runs, "tokenize"), of_stage(runs, "pretrain")
    if not stores and not trained:
        return None
    blocks: list[Block] = []
    if stores:
        blocks.append(_stores(stores))
    if trained:
        blocks.append(_asked(trained))
        blocks += _realised(trained)
        charts = _losses(trained)
        if charts:
            blocks.append(Charts(charts, title="Loss and learning rate", note="Losses are nats a token."))
        blocks += _last_losses(trained)
    lead = (
        "Token stores are mixed in exact proportions; every optimiser step draws from all sources. The paper's 7B "
        "went on from a code model with 56 % mined mathematics, 4 % algebra, 10 % arXiv, 20 % code, 10 % general text."
    )
    return Section("mix", "Pre-training: mix and loss", lead, blocks)


def _stores(runs: Sequence[Run]) -> Table:
    rows = []
    for run in runs:
        names = [key.removesuffix("/documents") for key in run.final if key.endswith("/documents")]
        for name in names:
            told = {key: run.final[f"{name}/{key}"] for key in ("tokens", "documents", "bytes_per_token", "rejected")}
            rows.append(
                [
                    f"{run.label}: {name}" if len(runs) > 1 else name,
                    count(told["tokens"]),
                    f"{told['documents']:,}",
                    f"{told['bytes_per_token']:.2f}",
                    f"{told['rejected']:,}",
                    count(run.final[f"{name}/held_out_tokens"]),
                ]
            )
    header = ["store", "tokens", "documents", "bytes a token", "rows set aside", "tokens held out"]
    return Table(header, rows, title="Tokens there are")


def _asked(runs: Sequence[Run]) -> Table:
    rows: list[list[Cell | str]] = []
    changes = False
    for run in runs:
        sources: dict[str, Any] = run.config["mix"]["sources"]
        total = sum(source["weight"] for source in sources.values())
        seen = run.final["total/positions"]
        changes |= bool(run.config["mix"].get("schedule"))
        for number, (name, source) in enumerate(sources.items()):
            here = _seen(run, name)
            size = _size(source.get("path"))
            rows.append(
                [
                    Cell(run.label, f"{count(seen)} tokens{_time(run)}") if number == 0 else "",
                    name,
                    f"{percent(source['weight'] / total)} %",
                    Cell(f"{percent(here / seen)} %", heat=here / seen if len(sources) > 1 else None),
                    count(here),
                    f"{here / size:.2f}" if size else "–",
                ]
            )
    note = "Passes: how often the run read the store, where it still lies in its place."
    if changes:
        note += " Weights that change in the run are asked for as they were at its start."
    header = ["run", "source", "asked for", "seen", "tokens seen", "passes"]
    return Table(header, rows, note=note, left=2, title="The mix")


def _realised(runs: Sequence[Run]) -> list[Block]:
    """The tokens seen of each source as stacked bars, a run each."""
    tint = _tints(runs)
    if len(tint) < 2:
        return []
    parts = [(name, number, [_seen(run, name) for run in runs]) for name, number in tint.items()]
    labels = [run.label for run in runs]
    return [Charts([Chart("mix", bar_chart("Tokens seen", labels, parts, xlabel="tokens", width=WIDE))], size="wide")]


def _seen(run: Run, name: str) -> float:
    """Tokens of a source; a run with a single one does not count it apart."""
    sources = run.config["mix"]["sources"]
    alone = run.final["total/positions"] if len(sources) == 1 and name in sources else 0
    return float(run.final.get(f"mix/tokens/{name}", alone))


def _time(run: Run) -> str:
    return "" if run.seconds is None else f", {span(run.seconds)}"


def _size(path: str | None) -> int | None:
    """Tokens of a store, by its manifest."""
    try:
        return int(json.loads((Path(path or "") / "manifest.json").read_text(encoding="utf-8"))["tokens"])
    except (OSError, ValueError, KeyError):
        return None


def _losses(runs: Sequence[Run]) -> list[Chart]:
    """Loss and learning rate of all runs, the loss by source of each run with several, and of what is held out."""
    charts = []
    began = _began(runs)
    xlabel = "tokens, with those of the run before" if any(began.values()) else "tokens"
    for name, title, key in (("loss", "Training loss", "train/loss"), ("rate", "Learning rate", "train/lr")):
        lines = []
        for number, run in zip(tints([run.label for run in runs]), runs, strict=True):
            x, y = run.series(key, _OVER)
            lines.append(Line(run.label, number, [began[run.name] + place for place in x], y))
        if lines := averaged(lines):
            charts.append(Chart(name, line_chart(title, lines, xlabel=xlabel)))
    tint = _tints(runs)
    for run in runs if len(runs) <= _MANY_RUNS else ():
        names = run.keys("train/loss/")
        parts = [Line(name, tint.get(name, 0), *run.series(f"train/loss/{name}", _OVER)) for name in names]
        if len(parts) > 1:
            title = f"{run.label}: training loss by source"
            charts.append(Chart(f"loss-{run.name}-sources", line_chart(title, parts, xlabel="tokens")))
        held = [Line(name, tint.get(name, 0), *_held_out(run, name)) for name in run.keys("validation/loss/")]
        if held and any(len(line.x) > 1 for line in held):
            title = f"{run.label}: held-out loss"
            charts.append(Chart(f"loss-{run.name}-held-out", line_chart(title, held, xlabel="tokens")))
    return charts


def _tints(runs: Sequence[Run]) -> dict[str, int]:
    """The colour of each source, the same in every chart."""
    names = dict.fromkeys(name for run in runs for name in run.config["mix"]["sources"])
    return {name: number for number, name in enumerate(names)}


def _began(runs: Sequence[Run]) -> dict[str, float]:
    """The tokens that a run's model had seen before, in those of these runs that it goes on from."""
    exports = {(run.folder / "export").resolve(): run for run in runs}
    began: dict[str, float] = {}
    for run in runs:
        seen, here, passed = 0.0, run, {run.name}
        while (path := here.config.get("model", {}).get("path")) and (before := exports.get(Path(path).resolve())):
            if before.name in passed:
                break
            passed.add(before.name)
            seen, here = seen + before.final["total/positions"], before
        began[run.name] = seen
    return began


def _held_out(run: Run, name: str) -> tuple[list[float], list[float]]:
    """Held-out loss over tokens; its rows have steps only, each of so many positions."""
    steps, values = run.series(f"validation/loss/{name}")
    size = run.config["trainer"]["tokens_per_step"]
    return [step * size for step in steps], values


def _last_losses(runs: Sequence[Run]) -> list[Table]:
    """The last held-out loss of every run and source, where there is more than one run to compare."""
    found = {run.label: losses for run in runs if (losses := _last_of(run))}
    names = [name for name in _tints(runs) if any(name in losses for losses in found.values())]
    if len(found) < 2 or not names:
        return []
    rows: list[list[Cell | str]] = [
        [label, *(f"{losses[name]:.3f}" if name in losses else "–" for name in names)]
        for label, losses in found.items()
    ]
    return [Table(["run", *names], rows, title="Held-out loss at the end, by source")]


def _last_of(run: Run) -> dict[str, float]:
    """Source -> held-out loss; of a single source the run writes one number without its name."""
    names = list(run.config["mix"]["sources"])
    if len(names) == 1:
        found = {names[0]: run.final.get("validation/loss")}
    else:
        found = {name: run.final.get(f"validation/loss/{name}") for name in names}
    return {name: float(value) for name, value in found.items() if value is not None}
