"""Small policies that improve: command lines of runs of a few steps."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from dsm.config.algorithm import AlgorithmConfig
from dsm.config.compose import compose_config
from dsm.config.rl import RLConfig
from tests.training.harness import Lab

FUNCTIONS = Path(__file__).with_name("rewards.py")


def command(lab: Lab, runs: Path, *settings: str) -> list[str]:
    """The arguments of a run of four steps, three prompts and four answers each, every step logged and saved."""
    defaults = [
        "stage=rl",
        "model=tiny",
        "model.config.hidden_size=32",
        "model.config.intermediate_size=48",
        "model.config.num_hidden_layers=2",
        "model.config.initializer_range=0.2",
        f"tokenizer.path={lab.tokenizer}",
        f"prompts.sources.problems.path={lab.data}",
        "prompts.sources.problems.gold=boxed",
        "rollout.group_size=4",
        "rollout.max_new_tokens=12",
        "reward=custom",
        "reward=custom",
        f"reward.parts.custom.function={FUNCTIONS}:letters",
        "optim.lr=1.0e-3",
        "trainer.epochs=null",
        "trainer.steps=4",
        "trainer.prompts_per_step=3",
        "table.every=1",
        "grader.workers=1",
        "parallel.accelerator=cpu",
        "parallel.tokens_per_microbatch=256",
        "checkpoint.every=1",
        "callbacks.progress=false",
        f"paths.runs={runs}",
        f"paths.cache={lab.folder / 'cache'}",
    ]
    given = {setting.partition("=")[0]: setting for setting in (*defaults, *settings)}
    if given["reward"] != "reward=custom":
        del given["reward.parts.custom.function"]
    return list(given.values())


def run_folder(runs: Path) -> Path:
    """The one run folder below `runs`."""
    (folder,) = (runs / "rl").iterdir()
    return folder


@cache
def algorithm_config(name: str) -> AlgorithmConfig:
    """As conf/algorithm has it."""
    settings = ["stage=rl", "model.path=x", "prompts.sources.x.path=x", f"algorithm={name}"]
    config = compose_config(settings)
    assert isinstance(config, RLConfig)
    return config.algorithm
