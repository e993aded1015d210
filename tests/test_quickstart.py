"""The quickstart, shrunk to seconds: what it promises is left behind, and running it again changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from dsm.cli import main
from dsm.config.compose import compose_config
from dsm.config.crawl import CrawlStageConfig
from dsm.config.pipeline import PipelineConfig
from dsm.config.pretrain import PretrainConfig
from dsm.config.problems import ProblemsStageConfig
from dsm.config.references import Step
from dsm.config.rl import RLConfig
from dsm.config.steps import pipeline_steps

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ("en", "zh", "en_python", "zh_python", "kinds_en", "kinds_zh", "larger", "larger_python")
PHASES = ("base_eval", "instruct_eval", "rl_eval")
SMALL = [
    "experiment=quickstart",
    *(
        "vars.code_tokens=4096",
        "vars.maths_tokens=4096",
        "vars.problems=120",
        "vars.tuning_steps=2",
        "vars.samples=8",
        "vars.held_out=2",
        "vars.with_python=2",
    ),
    *("vars.answers=2", "vars.pages=200", "vars.lr=1e-3"),
    *("steps.crawl.crawl.domains=24", "steps.crawl.crawl.seed_documents=60", "steps.crawl.crawl.texts=60"),
    *("steps.crawl.crawl.workers=1", "steps.mined.executor.workers=0", "steps.mined.rounds.max=2"),
    *("steps.mined.classifier.dim=8", "steps.tokenizer.tokenizer.vocab_size=400"),
    *("+steps.code.model.config.num_hidden_layers=1", "+steps.code.model.config.hidden_size=32"),
    *("steps.code.scheduler.warmup_steps=1", "steps.maths.scheduler.warmup_steps=1"),
    *("steps.instruct.scheduler.warmup_steps=1", "steps.grpo.scheduler.warmup_steps=0"),
    *(
        "steps.grpo.trainer.prompts_per_step=2",
        "steps.grpo.rollout.group_size=4",
        "steps.grpo.rollout.max_new_tokens=8",
    ),
    *("steps.grpo.prompts.max_tokens=400", "vars.words_tokens=8", "vars.python_tokens=16"),
]


def composed(*settings: str) -> PipelineConfig:
    """The experiment with these settings."""
    config = compose_config(["experiment=quickstart", *settings])
    assert isinstance(config, PipelineConfig)
    return config


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """paths.runs."""
    return tmp_path_factory.mktemp("quickstart")


@pytest.fixture(scope="module")
def steps(folder: Path) -> dict[str, Step]:
    """All steps, run in this process: fourteen others would spend their time importing."""
    config = compose_config([*SMALL, f"paths.runs={folder}"])
    assert isinstance(config, PipelineConfig)
    found = pipeline_steps(config)
    for step in found:
        assert main(step.overrides) == 0, step.name
    return {step.name: step for step in found}


def contents(folder: Path) -> Iterator[tuple[str, int]]:
    """Every file of the steps and when it was written."""
    for file in sorted(folder.rglob("*")):
        if file.is_file() and "pipeline" not in file.relative_to(folder).parts[0]:
            yield str(file.relative_to(folder)), file.stat().st_mtime_ns


def test_it_leaves_what_it_promises(steps: dict[str, Step]) -> None:
    crawl, problems = (steps[name].folder / "export" for name in ("crawl", "problems"))
    assert len(list((crawl / "crawl").glob("*.warc.gz"))) == 4
    assert list((steps["mined"].folder / "export").iterdir())
    assert (steps["mined"].folder / "report.html").is_file()
    for name in ("code", "maths", "instruct", "grpo"):
        export = steps[name].folder / "export"
        assert AutoModelForCausalLM.from_pretrained(export).config.num_hidden_layers == 1
        assert AutoTokenizer.from_pretrained(export)("1 + 1").input_ids
    for name in PHASES:
        measured = json.loads((steps[name].folder / "results.json").read_text())["benchmarks"]
        assert tuple(measured) == BENCHMARKS
    learnt = {row["question"] for name in ("cot", "pot", "tir") for row in rows(problems / f"train_{name}.jsonl")}
    assert len(learnt) == 120
    for name in ("en", "zh", "kinds_en", "kinds_zh", "larger"):
        asked = rows(problems / f"{name}.jsonl")
        assert len(asked) == 2
        assert learnt.isdisjoint(row["question"] for row in asked)
        assert {row["language"] for row in asked} == {"zh" if name.endswith("zh") else "en"}
    kinds = composed().vars
    assert not set(kinds["tuned_kinds"]) & set(kinds["other_kinds"])
    assert {row["kind"] for row in rows(problems / "kinds_en.jsonl")} <= set(kinds["other_kinds"])


def rows(file: Path) -> list[dict[str, str]]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_the_report_has_the_three_models(steps: dict[str, Step]) -> None:
    metrics = json.loads((steps["report"].folder / "metrics.json").read_text())
    assert {f"{benchmark}/{phase}/accuracy" for benchmark in BENCHMARKS for phase in PHASES} <= set(metrics)
    assert "DeepSeekMath in miniature" in Path(metrics["report/html"]).read_text()


def test_again_nothing_changes(steps: dict[str, Step], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The pipeline takes what is there, and says where it lies; so does the one after it."""
    before = dict(contents(folder))
    for _ in range(2):
        assert main([*SMALL, f"paths.runs={folder}"]) == 0
        said = capsys.readouterr().err
        for step in steps.values():
            assert str(step.folder) in said or step.folder.name in said
        assert str(steps["report"].folder / "report.html") in said
        assert "dsm " in said.split("to try next")[1]
    assert dict(contents(folder)) == before


def test_a_wrong_setting_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for setting, key in (
        ("steps.grpo.trainer.stepps=3", "steps.grpo: trainer.stepps=3: unknown key (did you mean steps?)"),
        ("quickstart.scale=none", "quickstart.scale=none"),
        ("sead=3", "sead"),
    ):
        assert main(["experiment=quickstart", setting]) == 2
        error = capsys.readouterr().err
        assert error.startswith("dsm: ")
        assert key in error
        assert error.count("\n") == 1


def test_make_runs_it_with_its_settings() -> None:
    recipe = (ROOT / "Makefile").read_text().split("\nquickstart:")[1].split("\n\n")[0]
    assert recipe.splitlines()[1].strip() == "$(BIN)/python -m dsm experiment=quickstart $(ARGS)"
    assert composed().paths.runs == "runs/quickstart"


def test_the_scale_makes_all_of_it_larger() -> None:
    for scale, model in ((0.5, "tiny"), (64, "small")):
        found = {step.name: step for step in pipeline_steps(composed(f"quickstart.scale={scale}"))}
        assert f"model={model}" in found["code"].overrides
        crawl, problems, maths, grpo = (found[name].config for name in ("crawl", "problems", "maths", "grpo"))
        assert isinstance(crawl, CrawlStageConfig)
        assert isinstance(problems, ProblemsStageConfig)
        assert isinstance(maths, PretrainConfig)
        assert isinstance(grpo, RLConfig)
        one = composed().vars
        assert crawl.crawl.pages == scale * one["pages"]
        assert problems.problems.n_train == scale * one["problems"]
        assert maths.trainer.tokens == scale * one["maths_tokens"]
        assert grpo.trainer.samples == scale * one["samples"]


def test_the_seed_reaches_every_step() -> None:
    found = pipeline_steps(composed("seed=3"))
    assert {step.config.seed for step in found} == {3}
