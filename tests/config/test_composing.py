"""What is kept of a composition makes it quicker, not another one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from dsm.config.compose import compose_config, compose_raw, hydra_app, open_overrides, parse
from dsm.config.listing import OWN_CONF
from dsm.errors import UserError

OPTION = """\
# @package _global_
defaults:
  - override /stage: sft
  - override /scheduler: {scheduler}
optim: {{lr: {lr}}}
"""


def by_hydra(arguments: list[str]) -> DictConfig:
    """All of it by Hydra, at once."""
    overrides = parse(arguments)
    with hydra_app(overrides) as hydra:
        whole = hydra.compose_config("config", open_overrides(overrides), RunMode.RUN, from_shell=False)
    with open_dict(whole):
        del whole["hydra"]
    return whole


@pytest.mark.parametrize(
    "arguments",
    [
        ["stage=sft", "optim.lr=1e-4", "optim.betas=[0.5,0.6]", "data.sources.a={path: x, fields: [b, c]}", "seed=3"],
        ["stage=sft", "model=pretrained", "debug=fast", "experiment=null", "name=${stage}-a", "model.path='a b'"],
        ["stage=rl", "reward=[answer,overlong]", "algorithm=dapo", "~reward.parts", "+algorithm.kl.coef=0.5"],
        ["stage=eval", "benchmark=[math,gsm8k]", "benchmarks.math.data.path=数据 (1)", "++limit=null"],
        ["experiment=quickstart", "~steps.grpo", "steps.code.settings={a: {b: 1}}", "vars.samples=8"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_it_is_what_hydra_composes(arguments: list[str]) -> None:
    """In the same order; twice, for the second one is made of what the first one left."""
    expected = by_hydra(arguments)
    for _ in range(2):
        composed = compose_raw(arguments)
        assert OmegaConf.to_yaml(composed) == OmegaConf.to_yaml(expected)
        assert OmegaConf.is_struct(composed) is OmegaConf.is_struct(expected) is True
        composed.name = "changed"


def test_a_changed_file_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "own/experiment/mine.yaml"
    file.parent.mkdir(parents=True)
    monkeypatch.setenv(OWN_CONF, str(tmp_path / "own"))
    for written, (lr, scheduler) in enumerate([(1e-5, "cosine"), (2e-5, "wsd")]):
        file.write_text(OPTION.format(lr=lr, scheduler=scheduler))
        os.utime(file, ns=(written, written))  # however coarse the clock of the file system
        composed = compose_raw(["experiment=mine"])
        assert (composed.optim.lr, composed.scheduler.name) == (lr, scheduler)
    (tmp_path / "own/scheduler").mkdir()
    (tmp_path / "own/scheduler/cosine.yaml").write_text("name: constant\n")
    with pytest.raises(UserError, match=r"scheduler/cosine.yaml is there already"):
        compose_raw(["experiment=mine"])


def test_yaml_says_what_it_says_to_omegaconf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Powers of ten are numbers, dates are text."""
    file = tmp_path / "optim/mine.yaml"
    file.parent.mkdir()
    file.write_text("defaults: [adamw]\nlr: 1e-5\nday: 2024-02-05\nyes_or_no: yes\nlist: [1_000, 0x10, ~, 'é 🙂']\n")
    monkeypatch.setenv(OWN_CONF, str(tmp_path))
    expected = OmegaConf.load(file)
    composed = compose_raw(["stage=sft", "optim=mine"]).optim
    for key in ("lr", "day", "yes_or_no", "list"):
        assert (composed[key], type(composed[key])) == (expected[key], type(expected[key]))
    assert composed.lr == 1e-5
    assert composed.day == "2024-02-05"


@pytest.mark.parametrize(
    ("file", "text", "setting", "said"),
    [
        (
            "algorithm/mine.yaml",
            "defaults: [override /loss: token]\n",
            "algorithm=mine",
            r"mine.yaml: must begin with .*_global_",
        ),
        ("benchmark/own.yaml", "title: A\n", "benchmark=own", r"must begin with the line '# @package benchmarks.own'"),
        (
            "rewards/mine.yaml",
            "parts: {}\n",
            "reward=mine",
            r"must be one of .*rewards/mine.yaml lies in no",
        ),
        (
            "experiment/mine.yaml",
            "# @package _global_\ndefaults:\n  - override /stage: rl\n  - override /loss: sequnce\n",
            "experiment=mine",
            r"loss=sequnce, in a list of defaults: must be one of .*\(did you mean sequence\?\)",
        ),
    ],
)
def test_files_of_the_user_s_own_that_cannot_be_used(
    file: str, text: str, setting: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_text(text)
    monkeypatch.setenv(OWN_CONF, str(tmp_path))
    stage = [] if setting.startswith("experiment") else ["stage=eval" if "benchmark" in setting else "stage=rl"]
    with pytest.raises(UserError, match=said):
        compose_config([*stage, setting, "model.path=x"])


def test_a_key_that_a_file_of_the_user_s_misspells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "reward").mkdir()
    (tmp_path / "reward/mine.yaml").write_text(
        'defaults: [answer, _self_]\nparts: {mine: {name: custom, function: "json:dumps", wieght: 0.2}}\n'
    )
    monkeypatch.setenv(OWN_CONF, str(tmp_path))
    said = r"^reward=mine: reward.parts.mine.wieght: unknown key \(did you mean weight\?\); reward.parts.mine takes "
    with pytest.raises(UserError, match=said):
        compose_config(["stage=rl", "reward=mine", "model.path=x", "prompts.sources.a.path=x"])


def test_an_algorithm_that_brings_no_other_group_may_do_without_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "algorithm").mkdir()
    (tmp_path / "algorithm/mine.yaml").write_text("name: mine\n")
    monkeypatch.setenv(OWN_CONF, str(tmp_path))
    assert compose_raw(["stage=rl", "algorithm=mine"]).algorithm.name == "mine"
