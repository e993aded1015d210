"""The gap between engine and trainer: numbers by hand, and each of its causes found by its mark."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from dsm.config.rollout import RolloutConfig
from dsm.rollout.gap import EngineGapError, GapMonitor, engine_gap, measure_gap
from dsm.rollout.record import Prompt
from dsm.rollout.sampler import Sampler

CONFIG = RolloutConfig.model_validate(
    {
        "group_size": 4, "max_new_tokens": 20, "temperature": 0.8, "top_p": 1.0, "stop": [], "tools": "none",
        "steps": None, "timeout_s": 60.0, "gap_limit": None,
    }
)  # fmt: skip


def _sample(engine, tokenizer, prompts):
    asked = [Prompt(i, str(i), "?", ids, "s", {}) for i, ids in enumerate(prompts)]
    return Sampler(engine, tokenizer, CONFIG).sample(asked, 4, seed=0)


def test_by_hand():
    """d = trainer - engine over the chosen tokens: 0.5, -0.1."""
    gap = engine_gap([-1.0, -9.0, -2.0], [-0.5, 0.0, -2.1], [True, False, True])
    assert gap.tokens == 2
    assert gap.mean_abs == pytest.approx(0.3)
    assert gap.max_abs == pytest.approx(0.5)
    assert gap.mean_ratio == pytest.approx((math.exp(0.5) + math.exp(-0.1)) / 2)
    assert gap.k1 == pytest.approx(-0.2)
    assert gap.slope == pytest.approx(1.6)
    assert gap.metrics()["engine_gap/k1"] == gap.k1
    with pytest.raises(ValueError, match="one at least"):
        engine_gap([-1.0], [-1.0], [False])
    with pytest.raises(ValueError, match="must be finite"):
        engine_gap([-1.0], [math.nan])


def test_the_same_weights(make_model, make_engine, tokenizer, prompts):
    model = make_model()
    gap = measure_gap(model, _sample(make_engine(model), tokenizer, prompts))
    assert gap.tokens == len(prompts) * 4 * 20
    assert gap.max_abs < 3e-5
    assert gap.mean_ratio == pytest.approx(1, abs=1e-5)
    metrics = GapMonitor(1e-4).check(gap, 0)
    assert metrics == gap.metrics()


@pytest.mark.parametrize("size", [0.01, 0.05, 0.3])
def test_stale_weights(size, make_model, make_engine, tokenizer, prompts):
    """The trainer went on and the engine did not, by little or much; a sync mends it."""
    model = make_model()
    engine = make_engine(model)
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * size * parameter.std())
    gap = measure_gap(model, _sample(engine, tokenizer, prompts))
    limit = gap.mean_abs / 2
    with pytest.raises(EngineGapError, match=r"engine \(policy version 7\) are .* likely cause: (.*) \(") as error:
        GapMonitor(limit).check(gap, 7)
    if size > 0.01:  # a change as small as rounding is taken for it
        assert "likely cause: stale weights" in str(error.value)
    assert GapMonitor(None).check(gap, 7)
    engine.sync(model)
    GapMonitor(limit).check(measure_gap(model, _sample(engine, tokenizer, prompts)), 8)


@pytest.mark.parametrize("temperature", [0.4, 0.7, 0.9, 1.0, 1.5])
def test_wrong_temperature(temperature, make_model, make_engine, tokenizer, prompts):
    """The trainer takes another temperature than the engine has sampled at."""
    model = make_model()
    rollouts = [replace(r, temperature=temperature) for r in _sample(make_engine(model), tokenizer, prompts)]
    gap = measure_gap(model, rollouts)
    assert gap.mean_abs > 0.05
    with pytest.raises(EngineGapError, match="likely cause: temperature"):
        GapMonitor(0.05).check(gap, 0)


def test_precision(make_model, make_engine, tokenizer, prompts):
    """bf16 samples, fp32 trains."""
    model = make_model()
    gap = measure_gap(model, _sample(make_engine(model, dtype="bfloat16"), tokenizer, prompts))
    assert 1e-3 < gap.mean_abs < 0.1
    with pytest.raises(EngineGapError, match=r"likely cause: precision \(engine.dtype=float32"):
        GapMonitor(1e-3).check(gap, 0)


def test_tokens_of_tools_do_not_count(make_model, make_engine, tokenizer, prompts):
    """What the policy did not choose has no log-probability of the engine's."""
    model = make_model()
    rollout = _sample(make_engine(model), tokenizer, prompts[:1])[0]
    mask = rollout.action_mask.copy()
    mask[5:9] = False
    spoiled = np.where(mask, rollout.logprobs, np.float32(0))
    assert measure_gap(model, [replace(rollout, action_mask=mask, logprobs=spoiled)]).max_abs < 3e-5
