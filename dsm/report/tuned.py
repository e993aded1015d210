"""Chapter: instruction tuning. The examples by source, format and language, read off the files that are there; loss."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from dsm.config.data import SourceConfig
from dsm.data.formats import load_source
from dsm.data.records import Rejected
from dsm.errors import UserError
from dsm.report.charts import WIDE, Line, bar_chart, count, line_chart
from dsm.report.runs import Run, of_stage
from dsm.report.sections import Block, Cell, Chart, Charts, Section, Table
from dsm.report.seeds import averaged, tints
from dsm.report.text import clip, span

FORMATS = {"cot": "chain of thought", "pot": "program of thought", "tir": "tool-integrated"}
LANGUAGES = {"en": "English", "zh": "Chinese"}
ROWS = 20_000
"""So many rows of a source are looked at: enough for shares, quick for millions."""
_CHINESE = re.compile("[\u4e00-\u9fff]")
_EXAMPLE_CHARS = 600


@dataclass
class _Source:
    """What the rows of one source are; `whole` where all of them were looked at."""

    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    chars: int = 0
    whole: bool = True


def section(runs: Sequence[Run]) -> Section | None:
    """The chapter, of the runs that fine-tuned."""
    found = of_stage(runs, "sft")
    if not found:
        return None
    sources = _sources(found)
    blocks: list[Block] = [_table(found, sources)]
    if sum(len(seen.kinds) for seen in sources.values()) > 1:
        blocks.append(Charts([Chart("formats", _formats(found, sources))], size="wide"))
    charts = _losses(found)
    if charts:
        blocks.append(Charts(charts, title="Loss", note="Nats a token of the answers, over the tokens of each run."))
    if examples := _examples(sources):
        blocks.append(examples)
    lead = (
        "Problems with their solutions, in words (chain of thought), as a program (program of thought), or in words "
        "with programs that are run on the way (tool-integrated). Examples are packed, the loss is on answers only. "
        "The paper had 776,000 of them, in English and Chinese."
    )
    return Section("sft", "Instruction tuning", lead, blocks)


def _sources(runs: Sequence[Run]) -> dict[tuple[str, str], _Source]:
    """(run, source) -> what is in it, where its files still lie in their place; equal ones are read once."""
    found: dict[tuple[str, str], _Source] = {}
    known: dict[str, _Source | None] = {}
    for run in runs:
        for name, given in run.config["data"]["sources"].items():
            key = repr(sorted((part, value) for part, value in given.items() if part != "weight"))
            if key not in known:
                known[key] = _look(SourceConfig.model_validate(given))
            if (seen := known[key]) is not None:
                found[run.name, name] = seen
    return found


def _look(source: SourceConfig) -> _Source | None:
    if source.path.startswith("hub:"):  # a report downloads nothing
        return None
    seen, limit = _Source(), min(source.limit or ROWS, ROWS)
    try:
        for example in load_source(source.model_copy(update={"limit": limit})):
            if isinstance(example, Rejected):
                continue
            question = next((turn.content for turn in example.turns if turn.role == "user"), "")
            answer = "".join(turn.content for turn in example.turns if turn.role in ("assistant", "tool"))
            kind = (example.style, "zh" if _CHINESE.search(question) else "en")
            seen.kinds[kind] += 1
            seen.chars += len(answer)
            seen.examples.setdefault(kind, (question, answer))
    except UserError:  # the file has gone since
        return None
    seen.whole = seen.kinds.total() < limit or source.limit == limit
    return seen if seen.kinds else None


def _table(runs: Sequence[Run], sources: dict[tuple[str, str], _Source]) -> Table:
    rows: list[list[Cell | str]] = []
    for run in runs:
        took = "" if run.seconds is None else f", {span(run.seconds)}"
        for number, (name, given) in enumerate(run.config["data"]["sources"].items()):
            seen = sources.get((run.name, name))
            formats = _shares(seen, 0, FORMATS) if seen else FORMATS.get(given["style"], "as found")
            rows.append(
                [
                    Cell(run.label, f"{count(run.final['total/positions'])} tokens{took}") if number == 0 else "",
                    name,
                    formats,
                    _shares(seen, 1, LANGUAGES) if seen else "–",
                    f"{given['weight']:g}",
                    _number(seen),
                    f"{seen.chars / seen.kinds.total():.0f}" if seen else "–",
                ]
            )
    header = ["run", "source", "format", "language", "weight", "examples", "characters a solution"]
    note = f"Counted in the files, up to {ROWS:,} rows of each. Weight: passes over the source in an epoch."
    return Table(header, rows, note=note, left=4)


def _number(seen: _Source | None) -> str:
    return "–" if seen is None else f"{seen.kinds.total():,}{'' if seen.whole else ' +'}"


def _shares(seen: _Source, place: int, names: dict[str, str]) -> str:
    """'tool-integrated 60 %, chain of thought 40 %', or the one name alone."""
    totals: Counter[str] = Counter()
    for kind, number in seen.kinds.items():
        totals[kind[place]] += number
    if len(totals) == 1:
        return names[next(iter(totals))]
    return ", ".join(
        f"{name} {100 * totals[kind] / totals.total():.0f} %" for kind, name in names.items() if totals[kind]
    )


def _formats(runs: Sequence[Run], sources: dict[tuple[str, str], _Source]) -> str:
    """Examples of each source in an epoch: a colour for each format, English and Chinese apart."""
    weights = {
        (run.name, name): float(given["weight"])
        for run in runs
        for name, given in run.config["data"]["sources"].items()
    }
    several = len({run for run, _ in sources}) > 1
    labels = [f"{run}: {name}" if several else name for run, name in sources]
    kinds = [(style, language) for style in FORMATS for language in LANGUAGES]
    kinds = [kind for kind in kinds if any(kind in seen.kinds for seen in sources.values())]
    both = len({language for _, language in kinds}) > 1
    parts = []
    for number, (style, language) in enumerate(kinds):
        name = f"{FORMATS[style]}, {LANGUAGES[language]}" if both else FORMATS[style]
        lengths = [weights[source] * seen.kinds[style, language] for source, seen in sources.items()]
        parts.append((name, number, lengths))
    return bar_chart("Examples in an epoch", labels, parts, xlabel="examples times weight", width=WIDE)


def _losses(runs: Sequence[Run]) -> list[Chart]:
    charts = []
    over = "budget/positions"
    tint = tints([run.label for run in runs])
    numbered = list(zip(tint, runs, strict=True))
    lines = averaged([Line(run.label, number, *run.series("train/loss", over)) for number, run in numbered])
    if lines:
        charts.append(Chart("sft-loss", line_chart("Training loss", lines, xlabel="tokens")))
    for run in runs:
        names = list(run.config["data"]["sources"])
        parts = [Line(name, number, *run.series(f"train/loss/{name}", over)) for number, name in enumerate(names)]
        parts = [part for part in parts if part.x]
        if len(parts) > 1:
            title = f"{run.label}: loss by source"
            charts.append(Chart(f"sft-loss-{run.name}", line_chart(title, parts, xlabel="tokens")))
    held = averaged([Line(run.label, number, *run.series("validation/loss")) for number, run in numbered])
    held = [line for line in held if len(line.x) > 1]
    if held:
        charts.append(Chart("sft-held-out", line_chart("Held-out loss", held, xlabel="step")))
    return charts


def _examples(sources: dict[tuple[str, str], _Source]) -> Table | None:
    """One example of each format and language."""
    shown: dict[tuple[str, str], tuple[str, str]] = {}
    for seen in sources.values():
        shown = seen.examples | shown
    rows: list[list[Cell | str]] = [
        [f"{FORMATS[style]}, {LANGUAGES[language]}", Cell(clip(question, _EXAMPLE_CHARS), code=True),
         Cell(clip(answer, _EXAMPLE_CHARS), code=True)]
        for (style, language), (question, answer) in sorted(shown.items())
    ]  # fmt: skip
    if not rows:
        return None
    return Table(["format", "problem", "solution"], rows, left=3, folded="An example of each format")
