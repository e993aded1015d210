"""What a report asks of evaluations that are yet to run: a pipeline looks before its first step, not after its last."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dsm.config.evaluation import EvalConfig
from dsm.config.listing import closest
from dsm.config.report import FindingConfig, ReportStageConfig
from dsm.errors import UserError


def check_questions(report: ReportStageConfig, coming: Mapping[Path, EvalConfig]) -> None:
    """See that the findings can be decided by evaluations whose settings are known.

    Args:
        coming: run folder -> the settings of the evaluation that it is to hold.

    Raises:
        UserError: a finding on a benchmark that one of its evaluations will not run, or on more samples than it draws.
    """
    for name, finding in report.findings.items():
        for one in report.members([*finding.higher, *finding.than]):
            config = coming.get(Path(report.evaluations[one]))
            if config is not None:
                _check(finding, config, f"findings.{name}", one)


def _check(finding: FindingConfig, config: EvalConfig, key: str, evaluation: str) -> None:
    there = config.benchmarks
    for benchmark in finding.benchmarks or ():
        if benchmark not in there:
            names = ", ".join(there)
            guess = closest(benchmark, there)
            raise UserError(f"{key}.benchmarks={benchmark}: {evaluation} does not run it; it runs {names}{guess}")
    _, votes, k = finding.metric.partition("@")
    drawn = {name: _samples(config, name) for name in finding.benchmarks or there}
    short = [name for name, n in drawn.items() if votes and int(k) > n]
    if short and (finding.benchmarks or len(short) == len(drawn)):
        raise UserError(
            f"{key}.metric={finding.metric}: {evaluation} draws {drawn[short[0]]} samples of each item of {short[0]};"
            " allowed are K up to that"
        )


def _samples(config: EvalConfig, name: str) -> int:
    """That each item of a benchmark gets; what is chosen by its likelihood is chosen once."""
    benchmark = config.benchmarks[name]
    return 1 if benchmark.kind == "choices" else config.sampling_of(benchmark).n
