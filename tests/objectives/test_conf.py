"""`stage=rl algorithm=NAME` is the paper's row: its loss, its source of samples, without contradiction."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from dsm.config.algorithm import AlgorithmConfig
from dsm.config.compose import compose_raw
from dsm.config.training import LossConfig
from dsm.errors import UserError
from tests.objectives.policy_lab import NAMES

LOSS = {"grpo_seed": "constant", "dr_grpo": "constant", "dapo": "token", "cispo": "token"}
SOURCE = {"sft": "data", "rft": "start", "dpo": "start", "dpo_sum": "start"}


@pytest.mark.parametrize("name", NAMES)
def test_one_word_is_a_row(name: str) -> None:
    composed = OmegaConf.to_container(compose_raw(["stage=rl", f"algorithm={name}"]), throw_on_missing=False)
    assert isinstance(composed, dict)
    if name == "grpo_seed":
        assert composed["algorithm"]["kl"].pop("common_length") == "${loss.constant_length}"
        composed["algorithm"]["kl"]["common_length"] = composed["loss"]["constant_length"]
    algorithm = AlgorithmConfig.model_validate(composed["algorithm"])
    loss = LossConfig.model_validate(composed["loss"])
    assert algorithm.name == name
    assert loss.normalisation == LOSS.get(name, "sequence")
    assert composed["rollout"]["source"] == SOURCE.get(name, "policy")
    assert algorithm.misfit(loss) is None


def test_the_command_line_has_the_last_word() -> None:
    composed = compose_raw(["stage=rl", "algorithm=dapo", "loss=sequence", "rollout.source=start"])
    assert composed.loss.normalisation == "sequence"
    assert composed.rollout.source == "start"


def test_the_papers_defaults() -> None:
    grpo = AlgorithmConfig.model_validate(
        OmegaConf.to_container(compose_raw(["stage=rl"]).algorithm, throw_on_missing=False)
    )
    assert (grpo.name, grpo.kl.coef, grpo.kl.estimator, grpo.kl.place) == ("grpo", 0.04, "k3", "loss")


def test_an_unknown_algorithm_is_named() -> None:
    with pytest.raises(UserError, match=r"algorithm=grop: must be one of .* \(did you mean grpo\?\)"):
        compose_raw(["stage=rl", "algorithm=grop"])
