"""What a pipeline is before anything runs: repetitions, references, one line for whatever is wrong in a step."""

from __future__ import annotations

from pathlib import Path

import pytest

from dsm.cli import main
from dsm.config.compose import compose_config
from dsm.config.pipeline import EndingConfig, PipelineConfig
from dsm.config.references import Step
from dsm.config.runs import run_path
from dsm.config.steps import pipeline_ending, pipeline_steps
from dsm.errors import UserError

PROBLEMS = ["steps.problems.use.stage=problems", "steps.problems.problems.n_train=30"]
TOKENIZER = [
    "steps.tokenizer.use.stage=tokenizer",
    "steps.tokenizer.tokenizer.vocab_size=300",
    "steps.tokenizer.data.sources.all.path=${out:problems}/export/train.jsonl",
]
MODEL = [
    "steps.model.use={stage: sft, model: tiny}",
    "steps.model.tokenizer.path=${out:tokenizer}/export",
    "steps.model.data={context: 256, sources: {all: {path: '${out:problems}/export/train.jsonl'}}}",
    "steps.model.trainer={steps: 40, sequences_per_step: 8}",
    "steps.model.scheduler.warmup_steps=2",
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


def ended(settings: list[str]) -> EndingConfig:
    config = composed(*settings)
    return pipeline_ending(config, pipeline_steps(config))


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


def test_a_step_waits_for_all_that_its_settings_name_and_for_nothing_else(tmp_path: Path) -> None:
    found = steps(
        tmp_path,
        *PROBLEMS,
        "steps.other={use: {stage: problems}, foreach: {seed: [1, 2]}, seed: '${each:seed}'}",
        *TOKENIZER,
        "steps.learnt={use: {stage: tokenizer}, foreach: other, data: {sources: {one: {path: '${out:other}/export'}}}}",
        "steps.table={use: {stage: report}, evaluations: '${all:other,tokenizer}'}",
    )
    fed_by = {name: step.fed_by for name, step in found.items()}
    assert fed_by == {
        "problems": (),
        "other-1": (),
        "other-2": (),
        "tokenizer": ("problems",),
        "learnt-1": ("other-1",),  # of the same value, though it is repeated for both
        "learnt-2": ("other-2",),
        "table": ("other-1", "other-2", "tokenizer"),
    }


def test_seconds_are_the_steps_or_those_of_the_choice(tmp_path: Path) -> None:
    found = steps(
        tmp_path,
        "steps.a={use: {stage: problems}, seconds: 4, foreach: {size: {small: {}, large: {seconds: '${scaled:9}'}}}}",
        "steps.b.use.stage=problems",
        "quickstart.scale=3",
    )
    assert {name: step.seconds for name, step in found.items()} == {"a-small": 4, "a-large": 27, "b": None}


def test_the_run_of_a_mining_step_is_known_by_all_its_settings(tmp_path: Path) -> None:
    """Its folder's hash is that of the crawl alone: another pipeline with other rounds must not take it for its own."""
    settings = ["steps.crawl.use.stage=crawl", "steps.mined.use={stage: mine, benchmark: []}"]
    settings += ["steps.mined.crawl.path=${out:crawl}/export/crawl", "steps.mined.seed_corpus.path=${out:crawl}/seed"]
    settings += ["steps.mined.annotation.annotator=none"]
    one = steps(tmp_path, *settings)["mined"]
    same = steps(tmp_path, *settings, "steps.mined.executor.workers=1")["mined"]
    other = steps(tmp_path, *settings, "steps.mined.classifier.dim=32")["mined"]
    assert one.folder == same.folder == run_path(one.config)
    assert other.folder != one.folder
    assert compose_config(one.overrides) == one.config  # typed by hand it is the same run
    assert steps(tmp_path, *settings, "steps.mined.name=mine")["mined"].folder.name.startswith("mine-")


@pytest.mark.parametrize(
    ("setting", "scale", "value"),
    [
        ("${scaled:24_000}", "1", 24_000),
        ("${scaled:24_000}", "0.25", 6_000),
        ("${scaled:3}", "0.1", 1),  # never none
        ("${scaled:3}", "1.5", 4),  # 4.5, to the even one
        ("'${scaled:15_360,512}'", "1.5", 23_040),
        ("'${scaled:15_360,512}'", "0.01", 512),
        ("${scaled:0.5}", "3", 1.5),
        ("'${by_scale:{1: tiny, 8: mini, 64: small}}'", "1", "tiny"),
        ("'${by_scale:{1: tiny, 8: mini, 64: small}}'", "63.9", "mini"),
        ("'${by_scale:{8: 3.0e-4, 1: 1}}'", "8", 3.0e-4),
        ("'${by_scale:{1: 2, 8: [1, x]}}'", "9", [1, "x"]),
        ("'${by_scale:{1: 2, 8: 3}}'", "0.5", 2),  # below all of them the smallest
    ],
)
def test_scale(setting: str, scale: str, value: object) -> None:
    config = composed("steps.a.use.stage=problems", f"vars.x={setting}", f"quickstart.scale={scale}")
    assert config.vars["x"] == value
    assert type(config.vars["x"]) is type(value)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "vars.x=${scaled:abc}",
            r"vars.x=\$\{scaled:abc\}: scaled takes a number, and what it shall be a multiple of: ",
        ),
        ("vars.x='${scaled:10,0}'", r"vars.x=\$\{scaled:10,0\}: scaled takes a number, and what it shall"),
        ("vars.x=${by_scale:3}", r"vars.x=\$\{by_scale:3\}: by_scale takes scales with their values: "),
        ("vars.x='${by_scale:{a: 3}}'", r"vars.x=\$\{by_scale:\{a: 3\}\}: by_scale takes scales with their values: "),
        ("quickstart.scale=0", r"quickstart.scale=0: must be greater than 0"),
        ("quickstart.scale=big", r"quickstart.scale=big: must be a (valid )?number"),
        ("quickstart.size=2", r"quickstart.size=2: unknown key; quickstart takes scale"),
        ("at_once=0", r"at_once=0: must be greater than 0"),
        ("steps.a.ranks=0", r"steps.a.ranks=0: must be greater than 0"),
        ("steps.a.foreach.v={x: {ranks: two}}", r"steps.a.ranks=two: must be a whole number, 1 or more"),
        ("steps.a.ranks=2", r"steps.a: ranks=2: stage=problems runs in one process; allowed: 1"),
        ("steps.a.seconds=-3", r"steps.a.seconds=-3: must be greater than 0"),
        ("steps.a.foreach.v={x: {seconds: long}}", r"steps.a.seconds=long: must be a number greater than 0"),
        ("ending.next=[run]", None),
        ("ending.next=['dsm ${out:b}']", r"ending.next=dsm \$\{out:b\}: b is no step before this one; allowed: a"),
        ("ending.places.it=${out:b}", r"ending.places.it=\$\{out:b\}: b is no step before this one; allowed: a"),
        ("ending.table=x", r"ending.table=x: unknown key; ending takes places, next"),
    ],
)
def test_what_is_wrong_with_scale_time_or_ending_is_one_line(setting: str, message: str | None, tmp_path: Path) -> None:
    settings = ["steps.a.use.stage=problems", f"paths.runs={tmp_path}", setting]
    if message is None:
        assert ended(settings).next == ["run"]
        return
    with pytest.raises(UserError, match=message):
        ended(settings)


def test_the_ending_speaks_of_folders_and_not_of_what_is_left_out(tmp_path: Path) -> None:
    settings = [*PROBLEMS, *TOKENIZER, f"paths.runs={tmp_path}", "ending.places={words: '${out:tokenizer}/export'}"]
    settings.append("ending.next=['dsm a=${out:problems}/x b=${out:tokenizer}', 'dsm c=${out:problems}']")
    ending = ended(settings)
    problems, tokenizer = (step.folder for step in pipeline_steps(composed(*settings)))
    assert ending.places == {"words": f"{tokenizer}/export"}
    assert ending.next == [f"dsm a={problems}/x b={tokenizer}", f"dsm c={problems}"]
    ending = ended([*settings, "steps.tokenizer=null"])
    assert ending.places == {}
    assert ending.next == [f"dsm c={problems}"]


def test_plan_prints_every_step_then_all_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is not there yet is no error."""
    settings = ["stage=pipeline", f"paths.runs={tmp_path}", *PROBLEMS, *TOKENIZER, *MODEL, "steps.problems.seconds=5"]
    assert main([*settings, "mode=plan"]) == 0
    out = capsys.readouterr().out
    assert (
        out.index("step 1 of 3: problems") < out.index("Plan of stage=problems") < out.index("step 2 of 3: tokenizer")
    )
    assert out.count("from the start") == 4
    lines = out.splitlines()
    assert [" ".join(line.split()) for line in lines[-4:-1]] == [
        "1 problems problems 5.0 s",
        "2 tokenizer tokenizer 1",
        "3 model sft 1-2 40 steps: 320 sequences, 81,920 tokens at most",
    ]
    assert lines[-1].split(maxsplit=1)[1] == (
        "3 steps, one after another; no time is claimed: nobody has said what tokenizer takes (steps.NAME.seconds)"
    )
    assert not any(tmp_path.iterdir())
    assert main([*settings, "mode=plan", "steps.tokenizer.seconds=120", "steps.model.seconds=60", "at_once=2"]) == 0
    assert "3 steps, 2 at once: about 3.1 min, as fast as where it was written" in capsys.readouterr().out
