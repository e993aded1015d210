"""A trained reward model as a part: its scores, its steps, its faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scoring_lab import prompt, rewards, rollout, tokenizer

from dsm.config.model import ModelConfig
from dsm.errors import UserError
from dsm.models.reward import RewardModel, Supervision, build_reward_model
from dsm.ops.varlen import Varlen
from dsm.rewards.reward_model import RewardScorer

SMALL: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 1, "initializer_range": 0.2, "max_position_embeddings": 64,
}  # fmt: skip
OF = prompt(gold="3", question="1 + 2?")
SAMPLES = [
    rollout("", of=OF, steps=["1 + 2\n", "= 3"]),
    rollout("", of=OF, steps=["4"], sample=1),
    rollout("", of=OF, steps=["x" * 60], sample=2),  # longer than the model's positions
]


def made(supervision: Supervision) -> RewardModel:
    settings = ModelConfig(architecture="llama", config=SMALL)  # type: ignore[call-arg]
    model = build_reward_model(settings, len(tokenizer()), supervision=supervision, seed=1)
    with torch.no_grad():
        model.head_weight.normal_(generator=torch.Generator().manual_seed(0))
    return model


def values(model: RewardModel, number: int) -> np.ndarray:
    ids = torch.tensor(SAMPLES[number].token_ids)
    with torch.no_grad():
        return model.values(ids, Varlen.from_lengths([len(ids)])).double().numpy()


def part(supervision: Supervision, **settings: Any) -> dict[str, Any]:
    return {"name": "reward_model", "path": "no/folder", "supervision": supervision} | settings


def test_the_value_at_the_last_token_is_the_reward() -> None:
    model = made("outcome")
    with rewards({"model": part("outcome", weight=2.0)}, models={"model": RewardScorer(model)}) as made_ready:
        scored = made_ready.score([OF] * 3, SAMPLES)
    expected = [2 * values(model, 0)[-1], 2 * values(model, 1)[-1], np.nan]
    assert scored.reward == pytest.approx(expected, abs=1e-5, nan_ok=True)
    assert [(fault.sample, fault.reason) for fault in scored.faults] == [(2, "its score is nan")]
    assert scored.steps is None


def test_probabilities_at_the_ends_of_steps_are_the_rewards_of_steps() -> None:
    model = made("process")
    with rewards({"model": part("process")}, models={"model": RewardScorer(model)}) as made_ready:
        scored = made_ready.score([OF] * 3, SAMPLES)
    steps = [1 / (1 + np.exp(-values(model, i)[SAMPLES[i].step_ends])) for i in (0, 1)]
    assert scored.steps is not None
    for found, expected in zip(scored.steps, steps, strict=False):
        assert found == pytest.approx(expected, abs=1e-6)
    assert np.isnan(scored.steps[2]).all()
    assert scored.reward == pytest.approx([steps[0].min(), steps[1][0], np.nan], abs=1e-6, nan_ok=True)
    assert [(fault.sample, fault.reason) for fault in scored.faults] == [(2, "0 of its 1 steps have a score")]


def test_another_model_takes_over() -> None:
    first, second = made("outcome"), made("outcome")
    with torch.no_grad():
        second.head_weight.mul_(-1)
    with rewards({"model": part("outcome")}, models={"model": RewardScorer(first)}) as made_ready:
        before = made_ready.score([OF] * 2, SAMPLES[:2]).reward
        made_ready.replace_model("model", RewardScorer(second))
        assert made_ready.score([OF] * 2, SAMPLES[:2]).reward == pytest.approx(-before, abs=1e-5)


def test_a_folder_without_a_reward_model(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"^reward\.parts\.model\.path={tmp_path}: no reward model there"):
        rewards({"model": part("outcome", path=str(tmp_path))})
