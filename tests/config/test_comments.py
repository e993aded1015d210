"""`--cfg job` with what conf/ says of its settings: the same settings still, and the comments of the files chosen."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from dsm.cli import main
from dsm.config.comments import comments, comments_of, with_comments
from dsm.config.compose import compose_raw
from dsm.config.stages import STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_the_settings_stay_what_they_are(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"stage={stage}", "--cfg", "job"]) == 0
    printed = capsys.readouterr().out
    assert OmegaConf.create(printed) == compose_raw([f"stage={stage}"])
    assert all(len(line) <= 160 for line in printed.splitlines())
    assert "# one seed for initialisation, data order and sampling" in printed


def test_of_two_files_the_chosen_one_speaks() -> None:
    """And the one that it builds upon, but not its neighbours."""
    told = comments("sft", [("scheduler", "multistep"), ("model", "tiny")])
    assert told["scheduler.warmup_steps"].startswith("linear (the paper")
    assert told["model.path"].startswith("a local Hugging Face folder")  # of model/base
    assert "scheduler.final_ratio" not in told


def test_a_comment_goes_on_below() -> None:
    told = comments_of("model/base.yaml")["model.activation_checkpointing"]
    assert told.startswith("none | selective (norms")
    assert told.endswith("about a third more time)")


def test_long_comments_are_broken_where_they_stand() -> None:
    text = "optim:\n  lr: 1.0\n  betas:\n  - 0.9\nname: x\n"
    said = {"optim.lr": " ".join(["peak"] * 30), "optim": "", "name": "a name"}
    written = with_comments(text, said)
    assert OmegaConf.create(written) == OmegaConf.create(text)
    assert written.count("peak") == 30
    assert max(map(len, written.splitlines())) <= 120
    assert with_comments("lr: 1.0\n", {"optim.lr": "peak"}, "optim").split() == ["lr:", "1.0", "#", "peak"]
