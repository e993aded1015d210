"""The paper's experiments in miniature: what they share is one run, what they compare is comparable, for any seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsm.config.compose import compose_config
from dsm.config.pipeline import PipelineConfig
from dsm.config.pretrain import PretrainConfig
from dsm.config.report import ReportStageConfig
from dsm.config.reward_model import RewardTrainingConfig
from dsm.config.rl import RLConfig
from dsm.config.settings import overrides
from dsm.config.steps import Step, pipeline_steps


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def steps(experiment: str, *settings: str) -> dict[str, Step]:
    config = compose_config([f"experiment={experiment}", *settings])
    assert isinstance(config, PipelineConfig)
    return {step.name: step for step in pipeline_steps(config)}


def test_code_first_and_arxiv_only_share_their_runs() -> None:
    """All that both train and measure; every model that meets mathematics meets equally much of it."""
    code, arxiv = steps("code_first"), steps("arxiv_only", "vars.seeds=[0,1]")
    shared = {name for name in code if name in arxiv and code[name].folder == arxiv[name].folder}
    assert shared == (code.keys() & arxiv.keys()) - {"report"}
    trained = {"general-0", "code-0", "maths-general_maths-0", "maths-code_maths-0"}
    assert shared > trained | {"crawl", "tokenizer", "stores", "after_general-0", "after_maths-code_maths-0"}
    read: dict[str, dict[str, int]] = {}
    for name, step in (arxiv | code).items():
        if isinstance(step.config, PretrainConfig):
            weights = {source: one.weight for source, one in step.config.mix.sources.items()}
            tokens = step.config.trainer.tokens / sum(weights.values())
            read[name] = {source: round(weight * tokens) for source, weight in weights.items()}
    assert len({read[name]["maths"] for name in ("maths-maths-0", "maths-code_maths-0", "mixed-0")}) == 1
    assert read["mixed-0"]["code"] == read["code-0"]["code"] == read["general-0"]["general"]
    assert read["code-0"]["code"] == pytest.approx(read["mixed-0"]["maths"] * 400 / 150, rel=1e-3)
    assert sum(read["raw-1"].values()) == read["academic-code_academic-1"]["academic"] == read["mixed-0"]["maths"]
    report = arxiv["report"].config
    assert isinstance(report, ReportStageConfig)
    for finding in report.findings.values():
        for side in (finding.higher, finding.than):
            found = [name for name in report.evaluations if name.rpartition("-")[0] in side]
            assert {name.rpartition("-")[2] for name in found} == {"0", "1"}, "each seed's evaluation"


def test_iterative_judges_alike_in_every_round_and_draws_as_many_answers_as_paradigm() -> None:
    paradigm = steps("paradigm", "steps.after=null", "steps.iterated_grpo=null", "steps.report=null")
    iterative = steps("iterative", "steps.after=null", "steps.report=null")
    judge, two_rounds = iterative["judge"].config, iterative["rl-two_rounds-0"].config
    assert isinstance(judge, RewardTrainingConfig)
    assert isinstance(two_rounds, RLConfig)
    named = ["stage=reward", "model.path=x", "data.sources.a.path=x"]
    again = compose_config([*named, *overrides(two_rounds.iteration.reward).values()])
    assert isinstance(again, RewardTrainingConfig)
    for part in ("objective", "trainer", "optim", "scheduler"):
        assert getattr(again, part) == getattr(judge, part)
    drawn = {}
    for name, step in (paradigm | iterative).items():
        if isinstance(step.config, RLConfig):
            drawn[name] = (step.config.trainer.samples or 0) * step.config.iteration.count
    halves = drawn.pop("half-0") + drawn.pop("second_half-0")
    assert set(drawn.values()) == {halves}
    assert {"rl-one_run-0", "rl-two_rounds-0", "rl-grpo-0"} < drawn.keys()


def test_corpora_and_benchmarks_of_ones_own_are_compared() -> None:
    """As the experiment's head says: what is made up is left out, on the command line."""
    Path("a.jsonl").write_text('{"text": "a", "question": "b", "answer": "c"}\n')
    made_up = [f"corpora.{name}" for name in ("mined", "raw", "seed")]
    made_up += [f"benchmarks.{kind}_{language}" for kind in ("held_out", "choices") for language in ("en", "zh")]
    named = ["+vars.corpora.mine.path=a.jsonl", "+vars.corpora.other.path=a.jsonl"]
    named += ["+vars.benchmarks.own={data: {path: a.jsonl}}", "steps.crawl=null", "steps.mined=null"]
    left_out = [*(f"~vars.{key}" for key in made_up), "~steps.report.runs", "~steps.report.findings"]
    own = steps("corpus_comparison", *named, *left_out)
    runs = [f"{step}-{name}-0" for step in ("pretrain", "measured") for name in ("mine", "other")]
    assert list(own) == ["tokenizer", "stores", *runs, "report"]
