"""Functions written for TRL's GRPOTrainer, unchanged: what they are given and what becomes of what they return."""

from __future__ import annotations

import numpy as np
import pytest
from scoring_lab import PUBLISHED, function, group, ids, prompt, rewards, rollout

from dsm.rollout.record import Rollout

OF = prompt(
    3, "How many?", answer="4", ground_truth="4", task="math", prompt=[{"role": "user", "content": "Tell: how many?"}]
)
TEXTS = ["It is 4", r"So \boxed{4}", "<think>2+2</think><answer>4</answer>", ""]
SAMPLES = group(OF, TEXTS)
LENGTHS = [len(ids(text)) + 1 for text in TEXTS]  # an EOS each


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("reward_len", {}, [-abs(20 - len(text)) for text in TEXTS]),
        ("reward_func", {"form": "messages"}, [len("Tell: how many?") + len(text) for text in TEXTS]),
        ("by_ids", {}, LENGTHS),
        ("format_reward_func", {"form": "messages"}, [0, 0, 1, 0]),
        ("correct_answer", {}, [0, 1, 0, 0]),
        ("async_reward", {}, [len(text) for text in TEXTS]),
        ("curriculum", {}, [17] * 4),
        ("logging_reward", {}, [0, 0, 0, 0]),
        ("verl_like", {}, [1, 0, 0, 0]),
        ("Cosine", {"arguments": {"max_len": 20}}, [min(length / 20, 1) for length in LENGTHS]),
        (
            "get_soft_overlong_punishment",
            {"arguments": {"max_completion_len": 20, "soft_punish_cache": 16}},
            [min(0, max(-1, (4 - length) / 16)) for length in LENGTHS],
        ),
    ],
)
def test_published_functions_work_unchanged(name: str, settings: dict[str, object], expected: list[float]) -> None:
    with rewards({"mine": function(f"{PUBLISHED}:{name}", **settings)}) as made:
        scored = made.score([OF] * 4, SAMPLES, step=17)
    assert not scored.faults
    assert scored.reward.tolist() == pytest.approx(expected)
    if name == "logging_reward":
        assert scored.notes["mine/golden"] == ["4"] * 4
        assert scored.summary()["reward/mine/share"] == 0


def test_none_is_a_part_that_does_not_apply() -> None:
    """TRL: None leaves a part out of the sum; all parts None leave the sample without a reward."""
    maths, code, other = (prompt(i, task=task) for i, task in enumerate(("math", "coding", "law")))
    samples = [rollout("12345", of=of, group=i) for i, of in enumerate((maths, code, other))]
    parts = {name: function(f"{PUBLISHED}:{name}_reward_func") for name in ("math", "coding")}
    with rewards(parts) as made:
        scored = made.score([maths, code, other], samples)
    assert np.array_equal(scored.reward, [0.5, 2.0, np.nan], equal_nan=True)
    assert np.array_equal(scored.parts["math"], [0.5, np.nan, np.nan], equal_nan=True)
    assert [(fault.part, fault.sample, fault.reason) for fault in scored.faults] == [("reward", 2, "no part applies")]


def test_a_module_on_the_path_is_as_good_as_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(PUBLISHED.rpartition("/")[0])
    with rewards({"mine": function("published:reward_len")}) as made:
        assert made.score([OF], SAMPLES[:1]).reward.tolist() == [-13]


# ---------------------------------------------------------------- steps


def _stepwise(*solutions: list[str]) -> list[Rollout]:
    return [rollout("", of=OF, steps=steps, sample=i) for i, steps in enumerate(solutions)]


@pytest.mark.parametrize(("solution", "first"), [("min", 2.0), ("product", 6.0), ("last", 3.0)])
def test_a_function_rewards_steps(solution: str, first: float) -> None:
    samples = _stepwise(["ab", "cde"], ["f"])
    part = function(f"{PUBLISHED}:step_lengths", steps=True, solution=solution)
    with rewards({"steps": part}) as made:
        scored = made.score([OF] * 2, samples)
    assert scored.steps is not None
    assert [row.tolist() for row in scored.steps] == [[2, 3], [1]]
    assert scored.reward.tolist() == [first, 1.0]


def test_step_rewards_of_another_number_than_steps_are_faults() -> None:
    samples = _stepwise(["ab", "cde"], [])
    with rewards({"steps": function(f"{PUBLISHED}:step_lengths", steps=True)}) as made:
        scored = made.score([OF] * 2, samples)
        part = function(f"{PUBLISHED}:reward_len", steps=True)
        with rewards({"steps": part}) as other:
            flat = other.score([OF], samples[:1])
    assert [(fault.sample, fault.reason) for fault in scored.faults] == [(1, "has no steps")]
    assert flat.faults[0].reason == "returned int -15, not a list with a number for each step"


def test_the_rule_for_steps_checks_their_equations() -> None:
    good, bad = ["2 * 3 = 6 cups.", "6 + 1 = 7."], ["2 * 3 = 5 cups.", "So 5 + 1 = 6.", "The end."]
    part = function("dsm.rewards.equations:steps_hold", steps=True, weight=0.5)
    with rewards({"steps": part}) as made:
        scored = made.score([OF] * 2, _stepwise(good, bad))
    assert scored.steps is not None
    assert [row.tolist() for row in scored.steps] == [[0.5, 0.5], [0, 0.5, 0.5]]
    assert scored.reward.tolist() == [0.5, 0.0]
