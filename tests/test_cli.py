"""The command line: every mistake is one line and status 2 before anything heavy is imported; help is quick."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

import dsm
from dsm.cli import main

ROOT = Path(dsm.__file__).resolve().parent.parent
DATA, TOKENIZER = "data.sources.a.path=a.jsonl", "tokenizer.path=tok"
SFT = ["stage=sft", DATA, TOKENIZER]
TOK = ["stage=tokenizer", DATA]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`dsm` in an empty folder with a data file and a tokenizer: arguments -> (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "a.jsonl").write_text('{"prompt": "1 + 1 =", "completion": "2"}\n' * 3)
    (tmp_path / "tok").mkdir()
    (tmp_path / "tok" / "tokenizer.json").write_text(json.dumps({"model": {"vocab": {"a": 0, "b": 1}}}))
    (tmp_path / "empty").mkdir()

    def call(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(list(arguments))
        return status, *capsys.readouterr()

    return call


WRONG: dict[str, tuple[list[str], list[str]]] = {
    # what is wrong: the command line, and what its one line must hold
    "no stage": (["optim.lr=1"], ["stage: must be given", "sft", "tokenizer"]),
    "null experiment": (["experiment=null"], ["stage: must be given"]),
    "unknown stage": (
        ["stage=stf"],
        ["stage=stf", "pretrain, problems, report, reward, rl, rollouts, sft", "did you mean sft?"],
    ),
    "stage a group": (["stage.foo=3", "experiment=gsm8k_mini"], ["stage={foo:3}", "sft"]),
    "bare word": (["sft"], ["sft: cannot be read", "did you mean stage=sft?"]),
    "unknown experiment": (["experiment=gsm8k_min"], ["experiment=gsm8k_min", "did you mean gsm8k_mini?"]),
    "experiment of another stage": (["stage=tokenizer", "experiment=gsm8k_mini"], ["experiment=gsm8k_mini", "model"]),
    "misspelt group": ([*SFT, "modle=tiny"], ["modle=tiny", "did you mean model?", "takes stage, name"]),
    "misspelt option": ([*SFT, "model=tyny"], ["model=tyny", "mini, pretrained", "did you mean tiny?"]),
    "misspelt key": ([*SFT, "optim.lrr=1e-4"], ["optim.lrr=1e-4", "did you mean lr?", "lr, betas, eps"]),
    "misspelt group of a key": ([*SFT, "trainr.steps=3"], ["trainr.steps=3", "did you mean trainer?"]),
    "deep misspelt key": ([*SFT, "callbacks.samples.evry=3"], ["callbacks.samples.evry=3", "did you mean every?"]),
    "misspelt key of a source": ([*SFT, "data.sources.a.pth=x"], ["data.sources.a.pth=x", "did you mean path?"]),
    "invented keys": ([*SFT, "a.b.c=3"], ["a.b.c=3: unknown key", "stage=sft takes"]),
    "added key": ([*SFT, "+x=1"], ["x=1: unknown key"]),
    "string for a number": ([*SFT, "optim.lr=abc"], ["optim.lr=abc: must be a number"]),
    "quoted number": ([*SFT, 'optim.lr="1e-4"'], ['optim.lr="1e-4": must be a number']),
    "bool for a number": ([*SFT, "optim.lr=true"], ["optim.lr=true: must be a number"]),
    "list for a number": ([*SFT, "optim.lr=[1]"], ["optim.lr=[1]: must be a number"]),
    "group for a number": ([*SFT, "optim.lr={a:1}"], ["optim.lr={a:1}: must be a number"]),
    "nothing for a number": ([*SFT, "optim.lr="], ["optim.lr='': must be a number"]),
    "null for a number": ([*SFT, "optim.lr=null"], ["optim.lr=null: must be a number"]),
    "float for an integer": ([*SFT, "trainer.steps=1.5"], ["trainer.steps=1.5: must be an integer"]),
    "bool for an integer": ([*SFT, "seed=true"], ["seed=true: must be an integer"]),
    "integer for a bool": ([*SFT, "model.compile=1"], ["model.compile=1: must be a boolean"]),
    "number for a group": ([*SFT, "data.sources.b=3"], ["data.sources.b=3: must be a group of settings: path, split"]),
    "number for an option": ([*SFT, "optim=3"], ["optim=3: must be one of adamw"]),
    "short list": ([*SFT, "optim.betas=[0.9]"], ["optim.betas=[0.9]: must have at least 2 items"]),
    "long list": ([*SFT, "optim.betas=[0.9,0.95,0.99]"], ["optim.betas=[0.9,0.95,0.99]: must have at most 2 items"]),
    "item out of range": ([*SFT, "optim.betas=[0.9,1.5]"], ["optim.betas.1=1.5: must be less than 1"]),
    "negative rate": ([*SFT, "optim.lr=-1"], ["optim.lr=-1: must be greater than 0"]),
    "not a number": ([*SFT, "optim.lr=nan"], ["optim.lr=nan: must be a finite number"]),
    "infinity": ([*SFT, "optim.clip_norm=inf"], ["optim.clip_norm=inf: must be a finite number"]),
    "negative seed": ([*SFT, "seed=-1"], ["seed=-1: must be at least 0"]),
    "huge integer": ([*SFT, f"trainer.steps={10**30}"], [f"trainer.steps={10**30}: must be less than 2147483648"]),
    "not among the words": ([*SFT, "trainer.precision=bf61"], ["precision=bf61: must be auto, bf16 or fp32", "bf16?"]),
    "bad name": ([*SFT, "name=a/b"], ["name=a/b: must match pattern"]),
    "not ASCII where it must be": ([*SFT, "name=数学🙂"], ["name='数学🙂': must match pattern"]),
    "two budgets": ([*SFT, "trainer.epochs=2"], ["trainer: give exactly one of steps, epochs", "steps=500, epochs=2"]),
    "no budget": ([*SFT, "trainer.steps=null"], ["give exactly one of", "given: none"]),
    "warm-up too long": ([*SFT, "scheduler.warmup_steps=500"], ["scheduler.warmup_steps=500", "trainer.steps=500"]),
    "constant loss without length": ([*SFT, "loss.normalisation=constant"], ["loss.constant_length=null", "constant"]),
    "length without constant loss": ([*SFT, "loss.constant_length=3"], ["loss.constant_length=3", "sequence"]),
    "key of another scheduler": (
        [*SFT, "scheduler=cosine", "scheduler.decay_fraction=0.1"],
        ["scheduler.decay_fraction=0.1: unknown key", "warmup_steps, final_ratio"],
    ),
    "unknown scheduler by name": ([*SFT, "scheduler.name=cosin"], ["scheduler.name=cosin", "did you mean cosine?"]),
    "milestones fall": (
        [*SFT, "scheduler=multistep", "scheduler.warmup_steps=1", "scheduler.milestones=[0.9,0.8]"],
        ["scheduler.milestones=[0.9, 0.8] must rise"],
    ),
    "no data": (["stage=sft", TOKENIZER], ["data.sources={}", "data.sources.NAME.path=FILE"]),
    "a source without a path": ([*SFT, "data.sources.b.weight=2"], ["data.sources.b.path: must be given"]),
    "mandatory left open": (["stage=sft", TOKENIZER, "data=gsm8k"], ["data.sources.gsm8k.path: must be given"]),
    "data of another stage": ([*SFT, "data=text"], ["data=text: not for stage=sft"]),
    "no tokenizer": (["stage=sft", DATA], ["tokenizer.path=null", "dsm stage=tokenizer"]),
    "path and architecture": ([*SFT, "model.path=x"], ["model.path=x", "architecture=llama", "exactly one"]),
    "pretrained without path": ([*SFT, "model=pretrained"], ["model.path=null: must be given"]),
    "vocabulary in the architecture": ([*SFT, "model.config.vocab_size=3"], ["model.config.vocab_size", "tokenizer"]),
    "settings of another stage": ([*TOK, "optim.lr=3"], ["optim.lr=3: stage=tokenizer has no optim", "stage=sft, "]),
    "group of another stage": ([*TOK, "optim=adamw"], ["optim=adamw: stage=tokenizer has no group optim", "data"]),
    "no room for the bytes": ([*TOK, "tokenizer.vocab_size=100"], ["vocab_size=100: must be at least 264"]),
    "string for a list": ([*TOK, "data.fields=text"], ["data.fields=text: must be a list"]),
    "missing file": (["stage=tokenizer", "data.sources.a.path=b.jsonl"], ["path=b.jsonl: no such file"]),
    "missing tokenizer": (["stage=sft", DATA, "tokenizer.path=none"], ["tokenizer.path=none: no such"]),
    "folder without tokenizer": (
        ["stage=sft", DATA, "tokenizer.path=empty"],
        ["tokenizer.path=empty", "tokenizer.json"],
    ),
    "file for a model": ([*SFT, "model=pretrained", "model.path=a.jsonl"], ["model.path=a.jsonl: not a folder"]),
    "folder without model": ([*SFT, "model=pretrained", "model.path=empty"], ["model.path=empty: no config.json"]),
    "no repository": ([*SFT, "model=pretrained", "model.path=hub:"], ["model.path=hub:", "hub:org/name"]),
    "resume from nowhere": ([*SFT, "resume=always"], ["resume=always: no such", "auto, never"]),
    "resume from no checkpoint": ([*SFT, "resume=a.jsonl"], ["resume=a.jsonl: no checkpoint there"]),
    "resume from an empty folder": ([*SFT, "resume=empty"], ["resume=empty: no checkpoint there"]),
    "several values": ([*SFT, "optim.lr=1e-4,3e-4"], ["optim.lr=1e-4,3e-4", "needs -m"]),
    "an interval": ([*SFT, "optim.lr=interval(1,2)"], ["optim.lr=interval(1,2)", "needs -m"]),
    "given twice": ([*SFT, "optim.lr=1", "optim.lr=2"], ["optim.lr=2: optim.lr is given twice (also optim.lr=1)"]),
    "open bracket": ([*SFT, "optim.betas=[0.9"], ["optim.betas=[0.9: cannot be read"]),
    "open quote": ([*SFT, "name='a"], ["name='a: cannot be read"]),
    "garbage": ([*SFT, "🙂=3"], ["🙂=3: cannot be read", "key=value"]),
    "no key": ([*SFT, "=3"], ["=3: cannot be read"]),
    "two lines": ([*SFT, "name=a\nb"], ["cannot be read"]),
    "group left out": ([*SFT, "~optim"], ["~optim: a group cannot be left out"]),
    "nothing to leave out": ([*SFT, "~optim.foo"], ["~optim.foo: there is no such key"]),
    "key left out": ([*SFT, "~optim.lr"], ["optim.lr: must be given"]),
    "group elsewhere": ([*SFT, "optim@foo=adamw"], ["write optim=adamw"]),
    "path as a group": ([*SFT, "optim/adamw=3"], ["optim/adamw is no group"]),
    "interpolation of nothing": ([*SFT, "optim.lr=${nope}"], ["optim.lr=${nope}", "nope"]),
    "interpolation in a circle": ([*SFT, "optim.lr=${optim.lr}"], ["optim.lr=${optim.lr}", "Recursive"]),
    "missing environment": ([*SFT, "name=${oc.env:DSM_NOPE}"], ["name=${oc.env:DSM_NOPE}", "DSM_NOPE"]),
    "setting of Hydra": ([*SFT, "hydra.run.dir=x"], ["hydra.run.dir=x", "-m only"]),
    "unknown flag": ([*SFT, "--foo"], ["--foo: not a flag", "--multirun"]),
    "setting as a flag": ([*SFT, "--optim.lr=3"], ["--optim.lr=3: not a flag", "key=value"]),
    "flag with a value": ([*SFT, "--multirun=3"], ["--multirun=3: not a flag"]),
    "unknown view": (["--cfg", "foo", "stage=sft"], ["--cfg foo: must be one of job, hydra, all"]),
    "view of a sweep": (["--cfg", "job", "-m", "stage=sft"], ["-m: --cfg and --info show one configuration"]),
    "view of nothing": (["--cfg", "job", "-p", "opt", "stage=sft"], ["--package opt", "optim"]),
    "sweep without stage": (["-m"], ["stage: must be given"]),
    "wrong value in a sweep": (["-m", *SFT, "optim.lr=1e-4,abc"], ["optim.lr=abc: must be a number"]),
    "wrong option in a sweep": (["-m", *SFT, "model=tiny,tyny"], ["model=tyny", "did you mean tiny?"]),
    "missing file in a sweep": (["-m", "stage=tokenizer", "data.sources.a.path=a.jsonl,b.jsonl"], ["path=b.jsonl"]),
    "interval in a grid": (["-m", *SFT, "optim.lr=interval(1e-5,1e-3)"], ["hydra/sweeper=optuna"]),
    "interval out of range": (["-m", *SFT, "hydra/sweeper=optuna", "optim.lr=interval(-1,1)"], ["optim.lr=-1"]),
    "empty range": (["-m", *SFT, "seed=range(3,3)"], ["seed=range(3,3): no values"]),
    "pattern": (["-m", *SFT, "model=glob(*)"], ["model=glob(*): cannot be listed"]),
    "unknown sweeper": (["-m", *SFT, "hydra/sweeper=optna"], ["hydra/sweeper=optna: must be one of basic, optuna"]),
    "unknown setting of a sweeper": (["-m", *SFT, "hydra.sweeper.foo=1"], ["hydra.sweeper.foo=1", "no such setting"]),
    "wrong type for a sweeper": (
        ["-m", *SFT, "hydra/sweeper=optuna", "hydra.sweeper.n_trials=abc"],
        ["hydra.sweeper.n_trials=abc", "Integer"],
    ),
    "unknown direction": (
        ["-m", *SFT, "hydra/sweeper=optuna", "hydra.sweeper.direction=up"],
        ["hydra.sweeper.direction=up: must be minimize or maximize"],
    ),
    "sweep elsewhere": (["-m", *SFT, "hydra.sweep.dir=x"], ["hydra.sweep.dir=x", "paths.runs"]),
    "group beside a swept experiment": (
        ["-m", "experiment=gsm8k_mini,quickstart", TOKENIZER, "data.sources.gsm8k.path=x", "model=mini", "mode=plan"],
        ["model=mini", "experiment"],
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_one_line_and_status_2(case: str, run: Run, tmp_path: Path) -> None:
    """It names the key, the value and what is allowed; nothing is written."""
    arguments, expected = WRONG[case]
    status, out, err = run(*arguments)
    assert status == 2
    assert err.startswith("dsm: ")
    assert err.count("\n") == 1
    assert out == ""
    for text in expected:
        assert text in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "empty", "tok"]


def test_only_rank_0_tells(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every rank ends with the same status."""
    monkeypatch.setenv("RANK", "1")
    assert run("stage=nope") == (2, "", "")


CHECK = """
import sys
from dsm.cli import main
status = main(sys.argv[1:])
print(status, sorted({"torch", "transformers", "lightning", "optuna"} & set(sys.modules)))
"""


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["stage=sft", DATA, "tokenizer.path=nowhere"], 2),
        ([*SFT, "model=deepseek_7b", "mode=plan"], 0),
        (["-m", *TOK, "seed=0,1", "mode=plan"], 0),
    ],
)
def test_nothing_heavy_is_imported(arguments: list[str], status: int, tmp_path: Path) -> None:
    """Neither to find a mistake on the disk nor to plan."""
    (tmp_path / "a.jsonl").write_text("{}\n")
    done = python("-c", CHECK, *arguments, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == f"{status} []", done.stderr


def test_help_answers_within_a_second(tmp_path: Path) -> None:
    """Stages, groups, experiments, exit statuses and at least five examples."""
    began = time.perf_counter()
    done = python("-m", "dsm", "--help", cwd=tmp_path)
    assert time.perf_counter() - began < 1
    assert done.returncode == 0
    for text in ("stage=sft", "stage=tokenizer", "deepseekmath/instruct_7b", "wsd", "Exit status", "mode=plan"):
        assert text in done.stdout
    examples = done.stdout.split("\nExamples\n")[1].splitlines()
    assert len(examples) >= 5
    assert not [line for line in done.stdout.splitlines() if line.startswith("  hydra")]


def test_the_examples_of_the_help_compose(run: Run) -> None:
    """Every command shown plans, once its placeholders are files."""
    from dsm.config.help import help_text

    for line in help_text().split("\nExamples\n")[1].splitlines():
        words = line.split()
        if words[0] == "torchrun":
            words = ["dsm", *words[words.index("dsm") + 1 :]]
        plan = [] if "mode=plan" in words else ["mode=plan"]
        assert run(*words[1:], *plan)[0] == 0, line


def test_version_and_views(run: Run) -> None:
    """--version and --cfg print and end."""
    assert run("--version") == (0, f"dsm {dsm.__version__}\n", "")
    assert run()[1] == run("-h")[1]
    status, out, _ = run("--cfg", "job", "stage=sft", "optim.lr=0.5")
    assert status == 0
    assert "lr: 0.5 " in out
    assert "hydra:" not in out
    package, setting = run("--cfg", "job", "-p", "loss", "stage=sft")[1].splitlines()
    assert package == "# @package loss"
    assert re.fullmatch(r"normalisation: sequence +# mean over the answers .*", setting)
    assert OmegaConf.create(out).parallel.requeue is True  # with all that is said of it, it is YAML still


def test_help_of_a_stage_and_of_an_experiment(run: Run) -> None:
    """What its file says, its groups; a misspelt name is told."""
    status, out, _ = run("stage=rl", "--help")
    assert status == 0
    assert "Improve a policy by reward" in out
    assert "  algorithm   cispo, dapo, " in out
    assert "torchrun --nproc-per-node 8 -m dsm $RUN" in run("--help", "experiment=deepseekmath/base_7b")[1]
    status, _, err = run("stage=rll", "--help")
    assert status == 2
    assert "did you mean rl?" in err


def test_info_shows_where_settings_come_from(tmp_path: Path) -> None:
    """By Hydra's own logging, hence in a process of its own."""
    done = python("-m", "dsm", "--info", "defaults", "stage=sft", cwd=tmp_path)
    assert done.returncode == 0
    assert "| optim/adamw" in done.stdout
    assert not list(tmp_path.iterdir())


def test_paths_need_no_quotes(run: Run, tmp_path: Path) -> None:
    """Blanks, brackets and Chinese, which Hydra's grammar does not take bare, work as typed."""
    folder = tmp_path / "数据 (1)"
    folder.mkdir()
    (folder / "a.jsonl").write_text("{}\n")
    status, out, _ = run("stage=tokenizer", "data.sources.a.path=数据 (1)/a.jsonl", "mode=plan")
    assert status == 0
    assert "数据 (1)/a.jsonl (3 bytes)" in out
