"""`-m`: grids and searches, where they write, what they return, how they end."""

from __future__ import annotations

import json
import logging
import random
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

from dsm.cli import main
from dsm.config.listing import OWN_CONF
from dsm.config.outcomes import Goal, Outcome, outcome_table, ranked, unbeaten
from dsm.errors import NonFiniteError, StoppedError, UserError

METRIC = "tokenizer/bytes_per_token"
TOKENIZER = ["stage=tokenizer", "data.sources.a.path=a.jsonl", "paths.runs=out"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty folder with a little text."""
    monkeypatch.chdir(tmp_path)
    draw = random.Random(0)
    texts = [f"{draw.choice('abcde')}pples and {draw.choice('fghij')}ears: {i} + 1 = {i + 1}" for i in range(60)]
    Path("a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    handlers = list(logging.root.handlers)
    yield
    logging.root.handlers[:] = handlers  # Hydra's write to this test's stderr
    assert {path.name for path in tmp_path.iterdir()} <= {"a.jsonl", "out"}  # no outputs/, no multirun/, no .hydra


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The runs of the stage, each replaced by an entry in this list and a value made from its settings."""
    runs: list[Any] = []

    def run(config: Any) -> dict[str, Any]:
        runs.append(config)
        size = config.tokenizer.vocab_size
        if size == 666:
            raise UserError("tokenizer.vocab_size=666: no")
        if size == 667:
            raise NonFiniteError("ran away")
        if size == 668:
            raise StoppedError(15, "stopped")  # type: ignore[arg-type]
        folder = Path(f"out/{size}")
        folder.mkdir(parents=True, exist_ok=True)
        rows = [{"step": step, METRIC: size * step} for step in (1, 2)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return {METRIC: float(size), "seconds": (size - 350) ** 2 / 100, "export": f"{folder}/export", "text": "x"}

    monkeypatch.setitem(sys.modules, "dsm.data.tokenizer_stage", SimpleNamespace(train_tokenizer=run))
    return runs


SFT = ["tokenizer.path=out/t", "data.sources.a.path=a.jsonl"]


def own_experiments(monkeypatch: pytest.MonkeyPatch, **experiments: str) -> None:
    """Experiments of the user's own: NAME="settings"."""
    folder = Path("out/own/experiment")
    folder.mkdir(parents=True)
    head = "# @package _global_\ndefaults:\n  - override /stage: "
    for name, settings in experiments.items():
        stage = "sft" if "trainer" in settings else "tokenizer"
        (folder / f"{name}.yaml").write_text(f"{head}{stage}\nname: {name}\n{settings}\n")
    monkeypatch.setenv(OWN_CONF, "out/own")


def sweep_folder() -> Path:
    (folder,) = Path("out/sweeps").iterdir()
    return folder


def sweep(*arguments: str) -> int:
    return main(["-m", *TOKENIZER, *arguments])


def test_a_grid_of_plans(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Every combination is planned, in order, each with a folder of its own; nothing is written."""
    assert sweep("tokenizer.vocab_size=300,400", "seed=0,1", "mode=plan") == 0
    out = capsys.readouterr().out
    titles = [line.split("paths.runs=out ")[1] for line in out.splitlines() if line.startswith("# ")]
    assert titles == [f"tokenizer.vocab_size={size} seed={seed} mode=plan" for size in (300, 400) for seed in (0, 1)]
    folders = {line.split()[2] for line in out.splitlines() if "run folder" in line}
    assert len(folders) == 4
    assert not Path("out").exists()


def test_a_search_over_real_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """Optuna maximises; each trial has a run folder; the table is sorted; the same command draws the same trials."""
    command = [
        "hydra/sweeper=optuna",
        "hydra.sweeper.n_trials=3",
        "hydra.sweeper.direction=maximize",
        "tokenizer.vocab_size=int(tag(log,interval(270,400)))",
    ]
    assert sweep(*command) == 0
    table = capsys.readouterr().out.splitlines()
    folder = sweep_folder()
    results = [json.loads((folder / f"{i}.json").read_text()) for i in range(3)]
    values = [result["metrics"][METRIC] for result in results]
    for result in results:
        metrics = json.loads((Path(result["export"]).parent / "metrics.json").read_text())
        assert metrics[METRIC] == result["metrics"][METRIC]
    runs = sorted(Path("out/tokenizer").iterdir())
    assert len(runs) == len({result["export"] for result in results})
    best = OmegaConf.load(folder / "optimization_results.yaml")
    assert best.best_value == max(values)
    assert list(best.best_params) == ["tokenizer.vocab_size"]
    assert table[0].split() == ["tokenizer/bytes_per_token", "settings", "export"]
    assert [line.split()[0] for line in table[1:]] == [f"{value:.5g}" for value in sorted(values, reverse=True)]

    before = {run: (run / "export" / "tokenizer.json").stat().st_mtime_ns for run in runs}
    page = (folder / "summary.html").read_bytes()
    for file in folder.iterdir():
        file.unlink()
    assert sweep(*command) == 0
    assert [json.loads((sweep_folder() / f"{i}.json").read_text()) for i in range(3)] == results
    assert (folder / "summary.html").read_bytes() == page
    assert {run: (run / "export" / "tokenizer.json").stat().st_mtime_ns for run in runs} == before


def test_a_grid_of_runs(stage: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    """The smallest value comes first; what all runs share is left out of the table."""
    assert sweep("tokenizer.vocab_size=400,300", "seed=7", "sweep_direction=minimize") == 0
    assert [config.tokenizer.vocab_size for config in stage] == [400, 300]
    assert {config.seed for config in stage} == {7}
    assert capsys.readouterr().out.splitlines() == [
        "tokenizer/bytes_per_token  settings                  export",
        "                      300  tokenizer.vocab_size=300  out/300/export",
        "                      400  tokenizer.vocab_size=400  out/400/export",
    ]
    assert sorted(path.name for path in sweep_folder().iterdir()) == [
        "0.json",
        "1.json",
        "multirun.yaml",
        "summary.html",
    ]


def test_a_failed_run_ends_the_sweep(stage: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    """One line, status 2, after the table of what was done."""
    assert sweep("tokenizer.vocab_size=300,666,400") == 2
    assert [config.tokenizer.vocab_size for config in stage] == [300, 666]
    out, err = capsys.readouterr()
    assert "tokenizer.vocab_size=300" in out
    assert err.splitlines()[-1] == "dsm: tokenizer.vocab_size=666: no"
    assert "Error" not in err
    assert "Traceback" not in err


def test_a_stopped_run_ends_the_sweep(stage: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    """The status tells the signal."""
    assert sweep("tokenizer.vocab_size=668,300") == 128 + 15
    assert len(stage) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "dsm: stopped"


@pytest.mark.parametrize(("direction", "worst"), [("minimize", float("inf")), ("maximize", -float("inf"))])
def test_a_diverged_run_is_the_worst(
    direction: str, worst: float, stage: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """The search goes on without it."""
    search = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=8", f"hydra.sweeper.direction={direction}"]
    assert sweep(*search, "tokenizer.vocab_size=choice(667,300)", "seed=1") == 0
    values = [json.loads((sweep_folder() / f"{i}.json").read_text())["metrics"][METRIC] for i in range(8)]
    assert set(values) == {300.0, worst}
    assert capsys.readouterr().out.splitlines()[-1].split()[0] == str(worst)


def test_a_metric_that_is_not_there(stage: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    """The numbers that there are get named."""
    assert sweep("tokenizer.vocab_size=300,400", "sweep_metric=loss") == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "dsm: sweep_metric=loss: the run has no such metric; it has tokenizer/bytes_per_token, seconds"
    )
    assert len(stage) == 1


def test_other_ranks_write_nothing(
    stage: list[Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither folders nor lines; they make the same runs."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # of earlier runs in this process, on closed streams
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert sweep("tokenizer.vocab_size=300,400") == 0
    assert len(stage) == 2
    assert capsys.readouterr() == ("", "")
    assert not Path("out/sweeps").exists()


def test_all_ranks_draw_alike(stage: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A search under torchrun sees the same trials on every rank; a sampler without a seed is refused."""
    search = ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=4", "tokenizer.vocab_size=range(300,600)"]
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        assert sweep(*search) == 0
    sizes = [config.tokenizer.vocab_size for config in stage]
    assert sizes[:4] == sizes[4:]
    assert len(set(sizes)) > 1
    assert sweep(*search, "hydra/sweeper/sampler=grid") == 2


def test_experiments_can_be_swept(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Then every run has groups of its own."""
    own_experiments(monkeypatch, short="trainer: {steps: 30}", long="trainer: {steps: 300}")
    Path("out/t").mkdir()
    assert main(["-m", "experiment=short,long", *SFT, "mode=plan"]) == 0
    out = capsys.readouterr().out
    assert "short-" in out
    assert "long-" in out


PARAMS = "hydra: {sweeper: {params: {tokenizer.vocab_size: '300,400', seed: '0,1'}}}"


def test_an_experiment_brings_what_is_swept(
    stage: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without -m it is one run; with it all are checked first, and the command line has the last word on each key."""
    own_experiments(monkeypatch, mine=PARAMS, wrong=PARAMS.replace("300", "3"))
    rest = ["data.sources.a.path=a.jsonl", "paths.runs=out"]
    assert main(["experiment=mine", *rest]) == 0
    assert main(["-m", "experiment=mine", *rest, "seed=5"]) == 0
    assert [(config.tokenizer.vocab_size, config.seed) for config in stage[1:]] == [(300, 5), (400, 5)]
    assert main(["-m", "experiment=mine", *rest]) == 0
    assert len(stage) == 1 + 2 + 4
    assert main(["-m", "experiment=wrong", *rest]) == 2
    assert "tokenizer.vocab_size=3: must be at least 264" in capsys.readouterr().err
    assert len(stage) == 7


def test_a_stopped_sweep_goes_on(stage: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command, or one with more trials, takes up the same folder, and all runs are in it at the end."""
    search = ["hydra/sweeper=optuna", "hydra/sweeper/sampler=random", "tokenizer.vocab_size=range(300,600)"]
    assert sweep(*search, "hydra.sweeper.n_trials=3") == 0
    first = [config.tokenizer.vocab_size for config in stage]
    whole = (sweep_folder() / "summary.html").read_bytes()
    run, stopped = sys.modules["dsm.data.tokenizer_stage"].train_tokenizer, StoppedError(15, "stopped")  # type: ignore[arg-type]

    def stop_at_second(config: Any) -> dict[str, Any]:
        if config.tokenizer.vocab_size == first[1]:
            raise stopped
        return run(config)

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["dsm.data.tokenizer_stage"], "train_tokenizer", stop_at_second)
        assert sweep(*search, "hydra.sweeper.n_trials=3") == 128 + 15
    assert len(list(sweep_folder().glob("*.json"))) == 1
    stage.clear()
    assert sweep(*search, "hydra.sweeper.n_trials=3") == 0
    assert [config.tokenizer.vocab_size for config in stage] == first
    assert (sweep_folder() / "summary.html").read_bytes() == whole
    assert sweep(*search, "hydra.sweeper.n_trials=4") == 0
    assert [config.tokenizer.vocab_size for config in stage][3:6] == first
    assert len(list(sweep_folder().glob("*.json"))) == 4


TWO = [f"sweep_metric=[{METRIC},seconds]", "sweep_direction=[maximize,minimize]"]


@pytest.mark.parametrize(
    "how",
    [
        ["tokenizer.vocab_size=300,350,360,370"],
        ["hydra/sweeper=optuna", "hydra/sweeper/sampler=grid", "tokenizer.vocab_size=300,350,360,370"],
        ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=9", "tokenizer.vocab_size=choice(300,350,360,370)"],
    ],
    ids=["grid", "optuna's grid", "search"],
)
def test_several_metrics(how: list[str], stage: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Those that no other run beats in all of them come first, with a star; the page draws each metric."""
    assert sweep(*how, *TWO) == 0
    rows = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == [METRIC, "seconds"]
    order = [["370", "4*"], ["360", "1*"], ["350", "0*"], ["300", "25"]]
    assert [row for row, _ in groupby(rows[1:])] == [row for row in order if row in rows]
    assert len(rows) > 4 or "hydra.sweeper.n_trials=9" in how
    page = (sweep_folder() / "summary.html").read_text()
    assert page.count("<svg") == 3  # against vocab_size twice, and over training


def test_directions_that_do_not_fit(stage: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    for settings, message in (
        (
            ["sweep_direction=[minimize,minimize]"],
            "sweep_direction=[minimize,minimize]: must be one for all",
        ),
        (["sweep_direction=up"], "sweep_direction=up: must be minimize or maximize"),
        ([*TWO, "hydra/sweeper=optuna", "hydra.sweeper.direction=minimize"], "must be as many as sweep_metric has (2)"),
    ):
        assert sweep("tokenizer.vocab_size=300,400", *settings) == 2
        assert message in capsys.readouterr().err
    assert not stage


def test_table_of_equal_and_infinite_values() -> None:
    """Ties go by settings; one run shows all it was given."""
    values = (2.0, float("inf"), 2.0)
    rows = [Outcome([f"seed={i}", "x=1"], {"loss": value}, "") for i, value in enumerate(values)]
    table = ["loss  settings  export", "   2  seed=0", "   2  seed=2", " inf  seed=1"]
    assert outcome_table(rows, [Goal("loss")]).splitlines() == table
    assert outcome_table(rows[:1], [Goal("loss")]).splitlines()[1] == "   2  seed=0 x=1"


def test_order_and_front() -> None:
    """By the front, then the first metric; NaN is the worst, and equal runs do not beat one another."""
    goals = [Goal("accuracy", maximise=True), Goal("seconds")]
    values = [(0.5, 10.0), (0.6, 20.0), (0.6, 30.0), (0.4, 5.0), (0.5, 10.0), (float("nan"), 5.0)]
    runs = [
        Outcome([f"x={i}"], dict(zip(("accuracy", "seconds"), pair, strict=True)), "") for i, pair in enumerate(values)
    ]
    assert [run.settings for run in unbeaten(runs, goals)] == [["x=0"], ["x=1"], ["x=3"], ["x=4"]]
    assert [run.settings[0][2:] for run in ranked(runs, goals)] == ["1", "0", "4", "3", "2", "5"]
