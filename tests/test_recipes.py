"""The full-size recipes: every launch line in the head of a file of conf/experiment/deepseekmath is planned.

Bash reads the lines as they stand there. What they would start is written down, with the number of ranks that torchrun,
srun or submitit was asked for, and planned for so many: the settings must be accepted, multiply up to the ranks, and
what is planned must fit into the memory of the planned GPUs.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from dsm.cli import main
from dsm.config.listing import conf_dir, summaries
from tests.shell import launched

RECIPES = sorted((conf_dir() / "experiment/deepseekmath").rglob("*.yaml"))
MODEL = {"model_type": "llama", "vocab_size": 102400, "hidden_size": 4096, "intermediate_size": 11008}
MODEL |= {
    "num_hidden_layers": 30,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
}
SMALL = MODEL | {"hidden_size": 2048, "intermediate_size": 5504, "num_hidden_layers": 24}
SMALL |= {"num_attention_heads": 16, "num_key_value_heads": 16}


def head(recipe: Path) -> list[str]:
    """The comment that a file begins with, without its marks."""
    lines = recipe.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# @package _global_"
    end = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    return [line[2:] for line in lines[1:end]]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the shapes of the models that the lines name; their data need not be there for a plan."""
    for name in ("BASE", "CODE_MODEL", "INSTRUCT", "COMPLETER", "RM", "RUN_OF_STAGE_ONE/export"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text(json.dumps(MODEL))
        (tmp_path / name / "tokenizer.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: str(path.relative_to(conf_dir() / "experiment")))
def test_every_launch_line_is_accepted_and_fits(
    recipe: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if "1_3b" in str(recipe) or "code_first" in str(recipe):
        for config in workplace.rglob("config.json"):
            config.write_text(json.dumps(SMALL))
    name = str(recipe.relative_to(conf_dir() / "experiment").with_suffix(""))
    found = launched("\n".join(line[2:] for line in head(recipe) if line.startswith("  ")), workplace)
    if name != "deepseekmath/mine":
        counts = [ranks for ranks, _ in found[:4]]  # one node, several by torchrun, by srun, by submitit
        assert counts[0] == 8
        assert len(set(counts[1:])) == 1
        assert counts[1] > 8
        assert [arguments[0] for _, arguments in found].index("-m") == 3
    # Most lines differ by what starts them only, and are planned once.
    for ranks, settings in dict.fromkeys((ranks, without_launcher(arguments)) for ranks, arguments in found):
        assert {f"experiment={name}", "stage=annotate"} & set(settings)
        monkeypatch.setenv("WORLD_SIZE", str(ranks))
        assert main([*settings, "mode=plan"]) == 0, f"{settings}: {capsys.readouterr().err}"
        plan = capsys.readouterr().out
        assert "Plan of stage=" in plan
        assert "DOES NOT FIT" not in plan, f"{settings}:\n{plan}"
        if ranks > 1 and "Memory of one device" in plan:
            assert re.search(rf"^  ranks +{ranks},", plan, re.MULTILINE), f"{settings}:\n{plan}"


def without_launcher(arguments: list[str]) -> tuple[str, ...]:
    """Settings without -m and without what is said to submitit, whose names are checked."""
    said = [one.removeprefix("hydra.launcher.").partition("=")[0] for one in arguments if one.startswith("hydra.")]
    known = OmegaConf.to_container(OmegaConf.load(conf_dir() / "hydra/launcher/submitit_slurm.yaml"))
    assert isinstance(known, dict)
    assert set(said) <= set(known)
    return tuple(one for one in arguments if one != "-m" and not one.startswith("hydra"))


def test_what_help_says_of_a_recipe_is_one_sentence() -> None:
    for name, text in summaries("experiment").items():
        if name.startswith("deepseekmath/"):
            assert text.endswith("."), name
            assert len(text) <= 118, name
