"""What can be asked of a reward, what cannot, and what is warned of."""

from __future__ import annotations

from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from pydantic import ValidationError

from dsm.config.answers import GraderConfig
from dsm.config.compose import compose_config
from dsm.config.listing import conf_dir, groups
from dsm.config.reward import RewardConfig, cautions
from dsm.errors import UserError

ANSWER = {"name": "answer"}
FORMAT = {"name": "format"}
CUSTOM = {"name": "custom", "function": "package.module:function"}
RUN = ["stage=rl", "model.path=m", "prompts.sources.a.path=a.jsonl"]


def config(**parts: Any) -> RewardConfig:
    return RewardConfig.model_validate({"parts": parts})


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({}, "at least one part needs a weight"),
        ({"a": ANSWER | {"weight": 0.0}}, "at least one part needs a weight"),
        ({"a": ANSWER | {"gate": "b"}}, r"parts.a.gate=b: must be another part \(there is none\)"),
        ({"a": ANSWER | {"gate": "a"}, "f": FORMAT}, r"parts.a.gate=a: must be another part \(f\)"),
        ({"a": ANSWER | {"gate": "f"}, "f": FORMAT | {"gate": "a"}}, "the gates go round in a circle"),
        ({"a/b": ANSWER}, "parts.a/b: a name is letters, digits and _"),
        ({"a": ANSWER | {"grader": {"percnt": 1}}}, "parts.a.grader.percnt=1: unknown key; it takes name, "),
        ({"a": ANSWER | {"grader": {"percent_scale": 3}}}, "parts.a.grader.percent_scale=3: Input should be a valid b"),
        ({"a": ANSWER | {"low": 1.0, "high": 0.0}}, "low=1: must be less than high=0"),
        ({"f": FORMAT | {"box": False, "eos": False}}, "nothing is asked of the format"),
        ({"f": FORMAT | {"pattern": "("}}, r"pattern=\(: no regular expression"),
        ({"l": {"name": "length", "max_tokens": 5, "buffer": 6}}, "buffer=6: must not be above max_tokens=5"),
        ({"m": {"name": "custom", "function": "nothing"}}, "function=nothing: must be package.module:name or"),
        ({"m": {"name": "custom", "function": "no/such.py:f"}}, "function=no/such.py:f: no such file no/such.py"),
        ({"a": {"name": "magic"}}, "does not match any of the expected tags"),
    ],
)
def test_what_cannot_be_is_refused(parts: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        config(**parts)


def test_the_paper_s_grader_is_warned_of_as_a_reward() -> None:
    strict = GraderConfig.model_validate({})
    paper = GraderConfig.model_validate({"name": "paper"})
    loose = GraderConfig.model_validate({"percent_scale": True})
    assert cautions(config(a=ANSWER), strict) == []
    assert "grader.name=paper forgives a factor of 100" in cautions(config(a=ANSWER), paper)[0]
    assert "grader.percent_scale=true forgives" in cautions(config(a=ANSWER), loose)[0]
    assert cautions(config(a=ANSWER | {"grader": {"percent_scale": False}}), loose) == []
    assert cautions(config(a=ANSWER | {"weight": 0.0}, f=FORMAT), paper) == []  # looked at, not paid for


def test_added_format_rewards_are_warned_of_and_gates_are_not() -> None:
    strict = GraderConfig.model_validate({})
    (line,) = cautions(config(a=ANSWER, f=FORMAT), strict)
    assert "gate instead: reward.parts.f.weight=0 reward.parts.a.gate=f" in line
    assert cautions(config(a=ANSWER | {"gate": "f"}, f=FORMAT | {"weight": 0.0}), strict) == []
    assert cautions(config(a=ANSWER, f=FORMAT | {"gate": "a"}), strict) == []
    assert cautions(config(f=FORMAT), strict) == []
    (line,) = cautions(config(a=ANSWER, m=CUSTOM), strict)
    assert "wrong answers get it too" in line
    assert "reward.parts.m.gate=a" in line
    assert cautions(config(a=ANSWER, m=CUSTOM | {"gate": "a"}), strict) == []
    assert cautions(config(m=CUSTOM), strict) == []


@pytest.mark.parametrize("name", groups()["reward"])
def test_every_reward_composes_once_it_has_what_must_be_given(name: str) -> None:
    needed = {"outcome_model": "model.path", "process_model": "model.path", "custom": "custom.function"}
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        composed = compose(f"reward/{name}")
    OmegaConf.set_struct(composed, False)
    composed.rollout = {"max_new_tokens": 1024}
    if name in needed:
        key = f"reward.parts.{needed[name]}"
        assert OmegaConf.is_missing(OmegaConf.select(composed, key.rpartition(".")[0]), key.rpartition(".")[2])
        OmegaConf.update(composed, key, "a:b")
    reward = RewardConfig.model_validate(OmegaConf.to_container(composed, resolve=True)["reward"])  # type: ignore[index, call-overload]
    assert cautions(reward, GraderConfig.model_validate({})) == []
    assert reward.needs_sandbox is (name in ("code", "program"))
    assert bool(reward.process_parts) is name.startswith("process")


def test_parts_are_added_and_changed_on_the_command_line() -> None:
    run = compose_config(
        [
            *RUN, "reward=answer_format", "reward.parts.short.name=length", "reward.parts.short.max_tokens=100",
            "reward.parts.short.buffer=20", "reward.parts.short.gate=correct", "reward.max_fault_share=0.5",
        ]
    )  # fmt: skip
    reward: RewardConfig = run.reward  # type: ignore[attr-defined]
    assert list(reward.parts) == ["correct", "format", "short"]
    assert reward.gates("short") == ["correct", "format"]
    assert reward.max_fault_share == 0.5
    assert not reward.needs_sandbox
    with pytest.raises(UserError, match=r"^reward\.parts\.correct\.name=answr: must be one of answer, .*did you mean"):
        compose_config([*RUN, "reward.parts.correct.name=answr"])
