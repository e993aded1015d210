"""The chapters of a report in the order of the story: findings, phases, data, training, answers, cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

from dsm.config.report import ReportStageConfig
from dsm.evaluation.table import percent
from dsm.report import answers, costs, factors, findings, mined, mix, phases, rewarded, tuned, votes
from dsm.report.charts import count
from dsm.report.compare import Comparison
from dsm.report.findings import Finding
from dsm.report.learning import Learning
from dsm.report.paper import PaperTable, paper_models, paper_tables
from dsm.report.phases import Phases
from dsm.report.runs import Run, load_runs, of_stage
from dsm.report.sections import Fact, Section, Table


@dataclass(frozen=True)
class Story:
    """What stands around the tables of the evaluations.

    Attributes:
        before: chapters ahead of the results.
        after: chapters behind them.
        learning: accuracy over training.
        findings: as decided.
        phases: as followed.
        runs: as read.
    """

    before: Sequence[Section] = ()
    after: Sequence[Section] = ()
    learning: Sequence[Learning] = ()
    findings: Sequence[Finding] = ()
    phases: Phases | None = None
    runs: Sequence[Run] = ()

    def headline(self) -> list[Fact]:
        """The numbers that stand at the top of the page."""
        facts = []
        if self.phases is not None:
            first = self.phases.courses[0]
            values = " → ".join(percent(value.value) for value in first.values)
            facts.append(Fact(f"{values} %", " → ".join(self.phases.labels), first.title))
        if self.findings:
            held = sum(finding.verdict == "reproduced" for finding in self.findings)
            facts.append(Fact(f"{held} of {len(self.findings)}", "findings of the paper reproduced"))
        for run in of_stage(self.runs, "mine"):
            pages = f"{run.final['mine/pages']:,} pages in {run.final['mine/rounds']} rounds"
            facts.append(Fact(count(run.final["mine/tokens"]), "tokens mined", pages))
        seen = sum(run.final["total/positions"] for run in of_stage(self.runs, "pretrain"))
        if seen:
            facts.append(Fact(count(seen), "tokens of pre-training"))
        sampled = sum(float(row.get("samples", 0)) for run in of_stage(self.runs, "rl") for row in run.rows)
        if sampled:
            facts.append(Fact(count(sampled), "answers sampled for RL"))
        return facts if len(facts) > 1 else []


def tell(config: ReportStageConfig, comparison: Comparison, learning: Sequence[Learning]) -> Story:
    """Read the runs, decide the findings, and gather the chapters.

    Raises:
        UserError: a run, a table or a model that is not there, or a question that the evaluations cannot answer.
    """
    names = list(config.evaluations)
    tables, models = paper_tables(config.paper_tables), paper_models(config.paper)
    runs = load_runs(config.runs, config.label)
    decided = findings.decide(config, comparison)
    before: list[Section] = []
    after: list[Section | None] = []
    course: Phases | None = None
    if config.phases:
        sides = [[names.index(name) for name in config.members(phase)] for phase in config.phase_names]
        labels = [_common([config.label(name) for name in phase]) for phase in config.phase_names]
        course = phases.follow(comparison, labels, sides, config.seed)
    if decided:
        before.append(findings.section(decided, config, comparison))
    if course is not None:
        before.append(phases.section(course, models, comparison.tints))
    if tables:
        after.append(_paper(tables))
    if config.factors:
        shared, measured = factors.measure(config.factors, runs, comparison, config.evaluations, config.seed)
        before.append(factors.section(shared, measured, comparison))
    after += [mined.section(runs), mix.section(runs), tuned.section(runs), rewarded.section(runs)]
    if course is not None:
        after.append(votes.section(comparison, course, config.seed))
        after.append(answers.section(comparison, course, config.report.samples, config.report.output_chars))
    after.append(costs.section(runs))
    return Story(before, [part for part in after if part], learning, decided, course, runs)


def _common(labels: Sequence[str]) -> str:
    """What the labels of a phase's seeds have in common, as far as it reads like a name."""
    if len(labels) == 1:
        return labels[0]
    same = [letters[0] for letters in takewhile(lambda letters: len(set(letters)) == 1, zip(*labels, strict=False))]
    return "".join(same).removesuffix(", seed ").rstrip("-_ .0123456789") or labels[0]


def _paper(tables: Sequence[PaperTable]) -> Section:
    """The paper's tables, whole."""
    blocks = []
    for table in tables:
        rows = [[name, *("–" if one is None else f"{one:.1f}" for one in row)] for name, row in table.rows.items()]
        blocks.append(Table(["", *table.columns], rows, title=table.title, note=f"{_upper(table.setting)}; percent."))
    return Section("paper", "The paper's numbers", blocks=blocks)


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
