"""The plan of reinforcement learning: the paper's run in numbers, and what an algorithm asks for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dsm.config.compose import compose_config
from dsm.config.plan import plan_text
from dsm.config.rl import RLConfig

SEVEN_B = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 30,
    "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 102400,
}  # fmt: skip


def composed(tmp_path: Path, *settings: str) -> RLConfig:
    (tmp_path / "config.json").write_text(json.dumps(SEVEN_B))
    asked = ["experiment=deepseekmath/rl_7b", f"model.path={tmp_path}"]
    asked += [f"prompts.sources.{name}.path={name}.jsonl" for name in ("gsm8k", "math")]
    config = compose_config([*asked, *settings])
    assert isinstance(config, RLConfig)
    return config


def test_the_paper_s_run(tmp_path: Path) -> None:
    config = composed(tmp_path)
    assert (config.optim.lr, config.algorithm.kl.coef, config.scheduler.name) == (1e-6, 0.04, "constant")
    assert (config.rollout.group_size, config.samples_per_step, config.trainer.updates) == (64, 1024, 1)
    assert config.steps_for(0) == 144_000 // 16 == 9_000
    text = " ".join(plan_text(config).split())
    for told in (
        "16 prompts x 64 = 1,024, 1,024 new tokens each at most",
        "9,000: 9,216,000 sequences, 18,874,368,000 tokens at most",
        "constant, 1e-06 throughout",
        "KL 0.04 (k3) in the loss, to the start",
        "score 2,097,152 tokens by reference",
        "reference 27.6 GB: fp32 weights, all the time",
        "engine 13.8 GB: whole weights, freed between explorations",
    ):
        assert told in text, told


@pytest.mark.parametrize(
    ("settings", "passes", "memory"),
    [
        (["algorithm=online_rft"], set(), {"engine", "keys and values"}),
        (["algorithm=grpo", "trainer.updates=4"], {"policy", "reference"}, {"reference", "engine", "keys and values"}),
        (["algorithm=grpo", "algorithm.kl.coef=0"], set(), {"engine", "keys and values"}),
        (["algorithm=ppo"], {"policy", "reference", "critic"}, {"reference", "critic", "engine", "keys and values"}),
        (["algorithm=sft"], set(), {"nothing"}),
    ],
)
def test_only_what_an_algorithm_needs_is_paid_for(
    settings: list[str], passes: set[str], memory: set[str], tmp_path: Path
) -> None:
    lines = plan_text(composed(tmp_path, *settings)).splitlines()
    scored = [line.partition(" by ")[2] for line in lines if line.startswith("  score ")]
    assert {name for line in scored for name in line.partition(", ")[0].split(", ")} | passes == passes
    assert all(name in " ".join(scored) for name in passes)
    start = lines.index("Beside it, on each device") + 1
    rows = lines[start : lines.index("", start)]
    assert {line[2:25].partition("  ")[0].strip() for line in rows} == memory


def test_a_budget_in_passes_is_whole_explorations(tmp_path: Path) -> None:
    config = composed(tmp_path, "trainer.samples=null", "trainer.epochs=0.5", "trainer.updates=2")
    assert config.steps_for(100) == 2 * 4  # 50 prompts, 16 at a time
    assert [config.explorations(step) for step in range(5)] == [0, 1, 1, 2, 2]
