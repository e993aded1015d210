"""The paper's experiments in miniature: what they share is one run, what they compare is comparable, for any seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsm.config.compose import compose_config
from dsm.config.pipeline import PipelineConfig
from dsm.config.pretrain import PretrainConfig
from dsm.config.report import ReportStageConfig
from dsm.config.rl import RLConfig
from dsm.config.steps import Step, pipeline_steps


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def steps(experiment: str, *settings: str) -> dict[str, Step]:
    config = compose_config([f"experiment={experiment}", *settings])
    assert isinstance(config, PipelineConfig)
    return {step.name: step for step in pipeline_steps(config)}


def test_code_first_and_arxiv_only_share_their_runs() -> None:
    """All that both of them train and measure; every model that meets mathematics has met equally much of it."""
    code, arxiv = steps("code_first"), steps("arxiv_only")
    shared = {name for name in code if name in arxiv and code[name].folder == arxiv[name].folder}
    assert shared == (code.keys() & arxiv.keys()) - {"report"}
    trained = {"general-0", "code-0", "maths-general_maths-0", "maths-code_maths-0"}
    assert shared > trained | {"crawl", "tokenizer", "stores", "after_general-0", "after_maths-code_maths-0"}
    mathematics, first = {}, {}
    for name, step in (code | arxiv).items():
        if isinstance(step.config, PretrainConfig):
            sources, tokens = step.config.mix.sources, step.config.trainer.tokens
            shares = {
                source: each.weight / sum(one.weight for one in sources.values()) for source, each in sources.items()
            }
            mathematics[name] = round(shares.get("maths", 0) * tokens)
            first[name] = round(shares.get("code", 0) * tokens)
    assert len({mathematics[name] for name in ("maths-maths-0", "maths-code_maths-0", "mixed-0")}) == 1
    assert first["mixed-0"] == first["code-0"] == pytest.approx(mathematics["mixed-0"] * 400 / 150, rel=1e-3)


def test_iterative_starts_where_paradigm_does_and_draws_as_many_answers() -> None:
    paradigm, iterative = steps("paradigm"), steps("iterative")
    for name in ("problems", "tokenizer", "sft", "start"):
        assert paradigm[name].folder == iterative[name].folder
    drawn = {}
    for name, step in (paradigm | iterative).items():
        if isinstance(step.config, RLConfig):
            drawn[name] = (step.config.trainer.samples or 0) * step.config.iteration.count
    halves = drawn.pop("half-0") + drawn.pop("second_half-0")
    assert set(drawn.values()) == {halves}
    assert {"rl-one_run-0", "rl-two_rounds-0", "rl-grpo-0"} < drawn.keys()


@pytest.mark.parametrize("experiment", ["code_first", "arxiv_only", "iterative", "maj_pass"])
def test_findings_are_of_all_seeds(experiment: str) -> None:
    """With several seeds each side of a finding stands for the models of all of them."""
    report = steps(experiment, "vars.seeds=[3,4]")["report"].config
    assert isinstance(report, ReportStageConfig)
    assert report.findings
    for finding in report.findings.values():
        for side in (finding.higher, finding.than):
            assert side in (["start"], ["instruct"]) or {name.rpartition("-")[2] for name in side} == {"3", "4"}
