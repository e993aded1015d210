"""Weights, gates and shaping by hand, and that the way of scoring changes no reward."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scoring_lab import PUBLISHED, function, group, prompt, rewards, rollout

from dsm.config.reward import RewardConfig
from dsm.rewards.combine import Combined, combine
from dsm.rewards.parts import Marks

NAN = float("nan")
ANSWER = {"name": "answer"}
FORMAT = {"name": "format"}
LENGTH = {"name": "length", "max_tokens": 10, "buffer": 5}
STEPS = {"name": "custom", "function": "a:b", "steps": True}


def combined(parts: dict[str, Any], steps_of: list[int] | None = None, **values: Any) -> Combined:
    """Of values by part: numbers, None, or "!" for a fault; lists of them under process supervision."""
    marks = {}
    for name, row in values.items():
        faults = {i: "fault" for i, value in enumerate(row) if value == "!"}
        plain = [None if value == "!" else value for value in row]
        if parts[name].get("steps"):
            steps = [None if value is None else np.array(value, dtype=float) for value in plain]
            marks[name] = Marks([None if value is None else min(value) for value in plain], faults, steps)
        else:
            marks[name] = Marks(plain, faults)
    n = len(next(iter(values.values())))
    config = RewardConfig.model_validate({"parts": parts})
    return combine(config.parts, {name: marks[name] for name in parts}, steps_of or [0] * n)


def reward(parts: dict[str, Any], **values: Any) -> list[float]:
    return [round(value, 9) for value in combined(parts, **values).reward]


def test_weights_add_up() -> None:
    parts = {"a": ANSWER, "f": FORMAT | {"weight": 0.25}}
    assert reward(parts, a=[1, 0, 1], f=[1, 1, 0]) == [1.25, 0.25, 1]


def test_a_gate_multiplies() -> None:
    parts = {"a": ANSWER | {"gate": "f"}, "f": FORMAT | {"weight": 0.0}}
    assert reward(parts, a=[1, 1, 0, 0], f=[1, 0, 1, 0]) == [1, 0, 0, 0]  # correct * format


def test_gates_in_a_row_are_all_open_or_nothing_counts() -> None:
    parts = {"l": LENGTH | {"gate": "a", "bias": 1.0}, "a": ANSWER | {"gate": "f"}, "f": FORMAT | {"weight": 0.0}}
    assert reward(parts, l=[-0.25] * 4, a=[1, 1, 0, 0], f=[1, 0, 1, 0]) == [1.75, 0, 0, 0]


def test_shaping_comes_before_gate_and_weight() -> None:
    parts = {"a": ANSWER | {"scale": 2.0, "bias": -1.0, "weight": 3.0}, "f": FORMAT | {"gate": "a"}}
    assert reward(parts, a=[1, 0], f=[1, 1]) == [4, -3]  # a wrong answer, shaped to -1, closes the gate
    clipped = {"a": ANSWER | {"scale": 10.0, "low": -1.0, "high": 4.0}}
    assert reward(clipped, a=[1, 0.1, -5]) == [4, 1, -1]


def test_a_fault_leaves_no_reward_where_it_would_have_counted() -> None:
    nan = pytest.approx(NAN, nan_ok=True)
    parts = {"a": ANSWER | {"gate": "f"}, "f": FORMAT | {"weight": 0.0}}
    assert reward(parts, a=["!", "!", 1], f=[1, 0, "!"]) == [nan, 0, nan]  # behind a closed gate it counts for nothing
    logged = {"a": ANSWER, "f": FORMAT | {"weight": 0.0}}
    assert reward(logged, a=[1, "!"], f=["!", 1]) == [1, nan]


def test_what_does_not_apply_adds_nothing() -> None:
    nan = pytest.approx(NAN, nan_ok=True)
    parts = {"a": ANSWER, "f": FORMAT}
    assert reward(parts, a=[1, None, None, None], f=[None, 1, None, "!"]) == [1, 1, nan, nan]
    assert combined(parts, a=[None, None], f=[None, "!"]).reasons == {0: "no part applies"}
    gated = {"a": ANSWER | {"gate": "f"}, "f": FORMAT | {"weight": 0.0}}
    assert reward(gated, a=[1, None], f=[None, 1]) == [0, nan]  # a gate that does not apply is closed


def test_an_overflowing_sum_is_no_reward() -> None:
    parts = {"a": ANSWER | {"scale": 1e300}, "f": FORMAT | {"scale": 1e300, "weight": 1e300}}
    assert np.isnan(combined(parts, a=[1.0], f=[1e9]).reward).all()
    of = prompt()
    with rewards({"length": LENGTH | {"scale": 1e308, "bias": -1e308, "weight": 1e308}}) as made:
        scored = made.score([of], group(of, ["a" * 30]))
    assert np.isnan(scored.reward).all()
    assert [(fault.part, fault.reason) for fault in scored.faults] == [("reward", "the sum is not finite")]


def test_steps_are_weighted_gated_and_end_with_what_the_whole_is_worth() -> None:
    parts = {"s": STEPS | {"weight": 0.5, "gate": "f", "bias": 1.0}, "a": ANSWER, "f": FORMAT | {"weight": 0.0}}
    found = combined(parts, [2, 2, 1, 2], s=[[1, 3], [1, 3], [5], "!"], a=[1, 1, 0, 1], f=[1, 0, 1, 1])
    assert found.steps is not None
    assert [row.tolist() for row in found.steps[:3]] == [[1, 3], [0, 1], [3]]
    assert np.isnan(found.steps[3]).all()
    assert found.steps[3].shape == (2,)
    assert found.reward[:3].tolist() == [2, 1, 3]
    assert combined({"a": ANSWER}, [2], a=[1]).steps is None


_values = st.lists(st.one_of(st.none(), st.just("!"), st.floats(-3, 3)), min_size=6, max_size=6)


@settings(deadline=None, max_examples=50)
@given(a=_values, b=_values, c=_values, gate=st.sampled_from([None, "b", "c"]))
def test_samples_do_not_know_of_each_other(a: list[Any], b: list[Any], c: list[Any], gate: str | None) -> None:
    parts = {"a": ANSWER | {"gate": gate}, "b": FORMAT | {"gate": "c"}, "c": LENGTH | {"bias": 0.5}}
    together = combined(parts, a=a, b=b, c=c).reward
    alone = [combined(parts, a=a[i : i + 1], b=b[i : i + 1], c=c[i : i + 1]).reward[0] for i in range(6)]
    assert np.array_equal(together, alone, equal_nan=True)


# ---------------------------------------------------------------- ways of scoring


def test_ahead_or_after_and_in_any_order_is_the_same() -> None:
    questions = [prompt(i, f"Question {i}?", answer=str(i), ground_truth=str(i)) for i in range(5)]
    samples = [
        rollout(rf"I say \boxed{{{(i + j) % 5}}}" + "!" * j, of=of, group=10 + 3 * i, sample=j)
        for i, of in enumerate(questions)
        for j in range(3)
    ]
    parts = {
        "right": function(f"{PUBLISHED}:correct_answer"),
        "length": LENGTH,
        "logged": function(f"{PUBLISHED}:logging_reward", weight=0.0),
        "format": {"name": "format", "pattern": r"I say.*!!$", "weight": 0.5},
    }
    with rewards(parts) as made:
        whole = made.score([questions[rollout.prompt] for rollout in samples], samples)
        ahead = made.ahead(questions)
        for start in (9, 0, 12, 3):  # one group is never announced
            ahead.take(samples[start : start + 3])
        shuffled = np.random.default_rng(0).permutation(len(samples))
        early = ahead.scored([samples[i] for i in shuffled])
    assert np.array_equal(whole.reward[shuffled], early.reward)
    for name in parts:
        assert np.array_equal(whole.parts[name][shuffled], early.parts[name])
    assert early.notes["logged/golden"] == [str(samples[i].prompt) for i in shuffled]
    assert whole.parts["right"].tolist() == [1, 0, 0] * 5
    assert whole.parts["format"].tolist() == [0, 0, 1] * 5
    assert sorted(whole.seconds) == sorted(parts)


def test_nothing_to_score_is_no_reward_at_all() -> None:
    with rewards({"length": LENGTH}) as made:
        scored = made.score([], [])
    assert scored.reward.shape == (0,)
    assert scored.fault_share == 0
    assert scored.summary() == {"reward_std": 0.0, "reward_unusable": 0.0, "reward_seconds/length": 0.0}


class FakeModel:
    """Scores a step by its length in tokens, an answer by its number of tokens."""

    def score(self, rollouts: Any) -> tuple[np.ndarray, list[np.ndarray]]:
        starts = [np.r_[r.prompt_tokens - 1, r.step_ends] for r in rollouts]
        return np.array([float(r.actions) for r in rollouts]), [np.diff(row).astype(float) for row in starts]


@pytest.mark.parametrize("supervision", ["outcome", "process"])
def test_a_reward_model_is_a_part_like_others(supervision: str) -> None:
    of = prompt(gold="4")
    samples = [rollout("", of=of, steps=["ab", "cde"]), rollout("", of=of, steps=["f"], sample=1)]
    part = {"name": "reward_model", "path": "folder", "supervision": supervision, "solution": "last"}
    with rewards({"model": part}, models={"model": FakeModel()}) as made:
        scored = made.score([of] * 2, samples)
    if supervision == "outcome":
        assert scored.reward.tolist() == [6, 2]
        assert scored.steps is None
    else:
        assert scored.reward.tolist() == [3, 1]
        assert scored.steps is not None
        assert [row.tolist() for row in scored.steps] == [[2, 3], [1]]
        attached = scored.attached(samples)
        assert attached[0].step_rewards is not None
        assert attached[0].step_rewards.tolist() == [2, 3]
        assert attached[0].rewards == {"model": 3.0}


def test_a_model_that_says_nan_is_a_fault() -> None:
    class Broken:
        def score(self, rollouts: Any) -> tuple[np.ndarray, None]:
            return np.array([1.0, NAN]), None

    of = prompt()
    part = {"name": "reward_model", "path": "folder"}
    with rewards({"model": part}, models={"model": Broken()}) as made:
        scored = made.score([of] * 2, group(of, ["a", "b"]))
    assert np.array_equal(scored.reward, [1, NAN], equal_nan=True)
    assert scored.faults[0].reason == "its score is nan"
