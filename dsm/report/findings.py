"""What the paper found, decided here: reproduced, not reproduced, or not clear from so few items and runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dsm.config.report import FindingConfig, ReportStageConfig
from dsm.evaluation.intervals import Interval
from dsm.evaluation.table import align, percent, width
from dsm.report.compare import Comparison
from dsm.report.contrast import Contrast, contrast
from dsm.report.sections import Cell, Section, Span, Table, Tone
from dsm.report.text import points, signed

Verdict = Literal["reproduced", "not reproduced", "not clear"]
TONES: dict[Verdict, Tone] = {"reproduced": "good", "not reproduced": "bad", "not clear": "open"}
_SIGNS: dict[Verdict, str] = {"reproduced": "✓", "not reproduced": "✗", "not clear": "?"}


@dataclass(frozen=True)
class Finding:
    """A statement and what became of it; `higher` and `than` are the evaluations of its two sides."""

    name: str
    config: FindingConfig
    higher: tuple[str, ...]
    than: tuple[str, ...]
    contrast: Contrast
    verdict: Verdict


def decide(config: ReportStageConfig, comparison: Comparison) -> list[Finding]:
    """Decide the findings that a report asks for; its evaluations are those of the comparison, in this order.

    Raises:
        UserError: the two sides have no items in common, or too few samples for the metric.
    """
    place = {name: index for index, name in enumerate(config.evaluations)}
    found = []
    for name, asked in config.findings.items():
        higher, than = (tuple(config.members(names)) for names in (asked.higher, asked.than))
        seen = contrast(
            comparison,
            [place[one] for one in higher],
            [place[one] for one in than],
            benchmarks=asked.benchmarks,
            metric=asked.metric,
            seed=config.seed,
            key=f"findings.{name}",
        )
        decided = verdict(asked.expect, seen.difference, asked.margin)
        found.append(Finding(name, asked, higher, than, seen, decided))
    return found


def verdict(expect: Literal["higher", "not_higher"], difference: Interval, margin: float) -> Verdict:
    """What an interval says of a claim.

    'higher' holds where all of it is above zero and fails where all of it is below. 'not_higher' holds where all of it
    is at or below the margin, and fails where it is above zero beyond that.
    """
    if expect == "higher":
        return "reproduced" if difference.low > 0 else "not reproduced" if difference.high < 0 else "not clear"
    return "reproduced" if difference.high <= margin else "not reproduced" if difference.low > 0 else "not clear"


def numbers(findings: Sequence[Finding]) -> dict[str, float | str]:
    """What metrics.json says of them; differences are shares."""
    told: dict[str, float | str] = {}
    for finding in findings:
        value, low, high = finding.contrast.difference
        key = f"finding/{finding.name}"
        told |= {key: finding.verdict, f"{key}/difference": value or 0.0, f"{key}/low": low, f"{key}/high": high}
    return told


def terminal(findings: Sequence[Finding], columns: int) -> str:
    """A table for the terminal; differences in points, the end of a long reference left out."""
    rows = [["finding", "verdict", "difference", "95 %", "reference"]]
    for finding in findings:
        value, low, high = finding.contrast.difference
        around = f"{signed(low)} to {signed(high)}"
        rows.append([finding.name, finding.verdict, signed(value or 0.0), around, finding.config.paper])
    room = columns - sum(2 + max(map(width, column)) for column in list(zip(*rows, strict=True))[:-1])
    return align([[*row[:-1], _cut(row[-1], max(len("reference"), room))] for row in rows])


def _cut(text: str, room: int) -> str:
    return text if width(text) <= room else f"{text[: room - 1]}…"


def section(findings: Sequence[Finding], config: ReportStageConfig, comparison: Comparison) -> Section:
    """The chapter."""
    titles = {benchmark.name: benchmark.title for benchmark in comparison.benchmarks}
    reach = max(max(abs(f.contrast.difference.low), abs(f.contrast.difference.high)) for f in findings)
    label = dict(zip(config.evaluations, comparison.labels, strict=True))
    rows = [_row(finding, titles, label, reach) for finding in findings]
    tally = [f"{sum(f.verdict == name for f in findings)} {name}" for name in TONES if _any(findings, name)]
    lead = (
        f"{_upper(', '.join(tally))}. A statement counts as reproduced where the whole 95 % interval of the difference "
        "over the same items lies on its side, as not reproduced where it lies on the other, and as not clear where it "
        "holds both."
    )
    single = any(len(f.higher) == 1 or len(f.than) == 1 for f in findings)
    note = "Differences in points; every benchmark has the same weight."
    if single:
        note += " Where a side is a single run, the interval tells what other items would show, not another training."
    if any(len(f.higher) > 1 or len(f.than) > 1 for f in findings):
        note += " Where a side has several trainings, these are drawn too."
    header = ["statement", "verdict", "higher", "than", "difference", "95 %"]
    return Section("findings", "Findings of the paper", lead, [Table(header, rows, note=note, left=2)])


def _any(findings: Sequence[Finding], name: Verdict) -> bool:
    return any(finding.verdict == name for finding in findings)


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _row(finding: Finding, titles: Mapping[str, str], label: Mapping[str, str], reach: float) -> list[Cell | str]:
    seen, config, tone = finding.contrast, finding.config, TONES[finding.verdict]
    value, low, high = seen.difference
    asked = "all benchmarks" if config.benchmarks is None else ", ".join(titles[name] for name in seen.benchmarks)
    about = f"{config.metric}, {asked}, {seen.items:,} items"
    if config.expect == "not_higher":
        about += f"; up to {points(config.margin)} points count as none"
    if config.paper:
        about = f"{config.paper} · {about}"
    return [
        Cell(config.claim, about),
        Cell(f"{_SIGNS[finding.verdict]} {finding.verdict}", _trained(finding), tone=tone),
        Cell(percent(seen.first), _runs([label[name] for name in finding.higher])),
        Cell(percent(seen.second), _runs([label[name] for name in finding.than])),
        Cell(signed(value or 0.0), tone="strong"),
        Cell(
            f"{signed(low)} to {signed(high)}",
            interval=Span(value or 0.0, low, high, max(reach, 1e-9), tone),
        ),
    ]


def _trained(finding: Finding) -> str:
    """How many trainings stand behind a verdict."""
    fewest = min(len(finding.higher), len(finding.than))
    return "one training a side" if fewest == 1 else f"{fewest} trainings a side"


def _runs(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
