"""What a pipeline is before anything runs: repetitions, references, one line for whatever is wrong in a step."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsm.cli import main
from dsm.config.compose import compose_config
from dsm.config.pipeline import PipelineConfig
from dsm.config.runs import run_path
from dsm.config.steps import Step, pipeline_steps
from dsm.errors import UserError

PROBLEMS = ["steps.problems.use.stage=problems", "steps.problems.problems.n_train=30"]
TOKENIZER = [
    "steps.tokenizer.use.stage=tokenizer",
    "steps.tokenizer.tokenizer.vocab_size=300",
    "steps.tokenizer.data.sources.all.path=${out:problems}/export/train.jsonl",
]
EVAL = [
    "steps.measured.use={stage: eval, benchmark: [custom]}",
    "steps.measured.benchmarks.custom.data.path=${out:problems}/export/test.jsonl",
]


def composed(*settings: str) -> PipelineConfig:
    config = compose_config(["stage=pipeline", *settings])
    assert isinstance(config, PipelineConfig)
    return config


def steps(tmp_path: Path, *settings: str) -> dict[str, Step]:
    found = pipeline_steps(composed(f"paths.runs={tmp_path}/runs", *settings))
    return {step.name: step for step in found}


def test_a_step_is_the_run_of_its_command_line(tmp_path: Path) -> None:
    """Its folder is that of the same command typed by hand, so what is there already need not be made again."""
    found = steps(tmp_path, *PROBLEMS, *TOKENIZER, "seed=3")
    typed = ["stage=problems", "name=problems", "seed=3", f"paths.runs={tmp_path}/runs", "problems.n_train=30"]
    assert found["problems"].folder == run_path(compose_config(typed))
    assert found["problems"].overrides == typed
    source = found["tokenizer"].config.model_dump()["data"]["sources"]["all"]
    assert source["path"] == f"{found['problems'].folder}/export/train.jsonl"
    # What feeds a step is part of it: another seed of the problems makes another tokenizer, in another folder.
    other = steps(tmp_path, *PROBLEMS, *TOKENIZER, "seed=3", "steps.problems.seed=4")
    assert other["tokenizer"].folder != found["tokenizer"].folder
    assert (
        steps(tmp_path, *PROBLEMS, *TOKENIZER, "seed=3", "threads=1")["tokenizer"].folder == found["tokenizer"].folder
    )


def test_foreach_makes_every_combination_and_references_follow_it(tmp_path: Path) -> None:
    found = steps(
        tmp_path,
        "steps.made={use: {stage: problems}, foreach: {level: {low: {problems: {difficulty: basic, n_train: 7}},"
        " high: {problems: {difficulty: hard}}}, draw: [0, 1]}, seed: '${each:draw}', problems: {n_train: 9}}",
        "steps.learnt={use: {stage: tokenizer}, foreach: made, data: {sources: {one: {path: '${out:made}/export'}}}}",
        "steps.low={use: {stage: tokenizer}, data: {sources: {one: {path: '${out:made-low-1}/export'}}}}",
        "steps.table={use: {stage: report}, evaluations: '${all:made,low}', report: {title: All of it}}",
        "steps.tables={use: {stage: report}, foreach: {level: [low, high]}, evaluations: '${all:made}/results.json'}",
    )
    pairs = [("low", 0), ("low", 1), ("high", 0), ("high", 1)]
    assert list(found) == [
        *(f"made-{level}-{draw}" for level, draw in pairs),
        *(f"learnt-{level}-{draw}" for level, draw in pairs),
        *("low", "table", "tables-low", "tables-high"),
    ]
    for level, draw in pairs:
        made = found[f"made-{level}-{draw}"].config.model_dump()
        assert made["seed"] == draw  # a number, not its name
        assert made["problems"]["difficulty"] == {"low": "basic", "high": "hard"}[level]
        assert made["problems"]["n_train"] == {"low": 7, "high": 9}[level]  # the choice's own settings come last
        learnt = found[f"learnt-{level}-{draw}"].config.model_dump()
        assert learnt["data"]["sources"]["one"]["path"] == f"{found[f'made-{level}-{draw}'].folder}/export"
    table = found["table"].config.model_dump()["evaluations"]
    assert table == {f"{a}-{b}": str(found[f"made-{a}-{b}"].folder) for a, b in pairs} | {
        "low": str(found["low"].folder)
    }
    high = found["tables-high"].config.model_dump()["evaluations"]
    assert high == {f"made-high-{draw}": f"{found[f'made-high-{draw}'].folder}/results.json" for draw in (0, 1)}


def test_a_name_in_a_table_says_what_varies(tmp_path: Path) -> None:
    found = steps(
        tmp_path,
        "steps.one={use: {stage: problems}, foreach: {level: [basic, easy], draw: [0]}}",
        "steps.two={use: {stage: problems}, foreach: {draw: [0]}, problems: {n_train: 5}}",
        "steps.table={use: {stage: report}, evaluations: '${all:one,two}'}",
    )
    assert list(found["table"].config.model_dump()["evaluations"]) == ["basic", "easy", "two"]


def test_text_stays_text_on_its_way_through_a_command_line(tmp_path: Path) -> None:
    texts = ["it's", r"a\b", r"back\\", r"\'", "{question}", "a, b", "[x]", "true", "12", "1e5", "名  字", " "]
    config = composed(f"paths.runs={tmp_path}", "steps.table.use.stage=report")
    step = config.steps["table"]
    assert step is not None
    labels = {f"a{number}": text for number, text in enumerate(texts)}
    step.settings.update({"evaluations": dict.fromkeys(labels, str(tmp_path)), "labels": labels})
    assert pipeline_steps(config)[0].config.model_dump()["labels"] == labels


def test_vars_and_null(tmp_path: Path) -> None:
    found = steps(tmp_path, *PROBLEMS, *TOKENIZER, "vars.n=17", "steps.problems.problems.n_test=${vars.n}")
    assert found["problems"].config.model_dump()["problems"]["n_test"] == 17
    assert list(steps(tmp_path, *PROBLEMS, *TOKENIZER, "steps.tokenizer=null")) == ["problems"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([], r"steps=\{\}: name at least one"),
        (["steps.a.problems.n_train=3"], r"steps.a.use: must be given"),
        (["steps.a.use.model=tiny"], r"steps.a.use: names no stage; give use.stage=NAME or"),
        (["steps.a.use.stage=problms"], r"steps.a: stage=problms: must be one of .*did you mean problems"),
        (
            [*PROBLEMS, "steps.problems.problems.n_trian=3"],
            r"steps.problems: problems.n_trian=3: unknown key .*n_train",
        ),
        (
            [*PROBLEMS, *TOKENIZER, "steps.tokenizer.tokenizer.min_frequency=0"],
            r"steps.tokenizer: tokenizer.min_frequency=0: ",
        ),
        ([*TOKENIZER], r"steps.tokenizer.data.sources.all.path=\$\{out:problems\}.*: problems is no step before this"),
        ([*PROBLEMS, *TOKENIZER, "steps.problems=null"], r"problems is left out; there is none before it"),
        ([*PROBLEMS, "steps.problems.foreach.d=[1,2]", *TOKENIZER], r"problems is 2 runs; allowed: foreach=problems, "),
        ([*PROBLEMS, "steps.problems.seed=${each:d}"], r"steps.problems.seed=\$\{each:d\}: foreach has no d; it has "),
        ([*PROBLEMS, *EVAL, "steps.measured.model.path=gone"], r"steps.measured: model.path=gone: no such file"),
        ([*PROBLEMS, *EVAL, "steps.measured.model=tiny"], r"groups are chosen as steps.measured.use.model=tiny"),
        (["steps.a.use.stage=pipeline"], r"steps.a: "),
        ([*PROBLEMS, "steps.problems-1.use.stage=problems", "steps.x.use.stage=y", "steps.x=null"], None),
        ([*PROBLEMS, "resume=runs/x"], r"resume=runs/x: allowed here: auto, never"),
        (
            [*PROBLEMS, "steps.problems.foreach=later"],
            r"steps.problems.foreach=later: later is no step before this one",
        ),
    ],
)
def test_what_is_wrong_in_any_step_is_one_line_before_anything_runs(
    settings: list[str], message: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if message is None:
        assert len(steps(tmp_path, *settings)) == 2
        return
    with pytest.raises(UserError, match=message):
        steps(tmp_path, *settings)
    assert main(["stage=pipeline", f"paths.runs={tmp_path}/runs", *settings]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_plan_prints_every_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is not there yet is no error."""
    assert main(["stage=pipeline", f"paths.runs={tmp_path}", *PROBLEMS, *TOKENIZER, "mode=plan"]) == 0
    out = capsys.readouterr().out
    assert (
        out.index("step 1 of 2: problems") < out.index("Plan of stage=problems") < out.index("step 2 of 2: tokenizer")
    )
    assert out.count("from the start") == 3
    assert not any(tmp_path.iterdir())
