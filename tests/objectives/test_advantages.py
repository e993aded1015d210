"""Advantages: the golden values, plain loops, and what must hold for any rewards."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dsm.objectives.advantages import (
    equal_groups,
    gae,
    group_outcome,
    leave_one_out,
    mean_only,
    preference_pairs,
    process,
)

FLOATS = st.floats(-100, 100, allow_nan=False, width=32)
REWARDS = st.integers(1, 20).flatmap(
    lambda n: st.tuples(arrays(np.float64, n, elements=FLOATS), arrays(np.int64, n, elements=st.integers(0, 4)))
)


@pytest.mark.parametrize(("ddof", "right", "wrong"), [(0, 1.290994, -0.774597), (1, 1.207615, -0.724569)])
def test_golden_outcome(ddof: int, right: float, wrong: float) -> None:
    reward = np.array([1.0, 0, 0, 1, 1, 0, 0, 0])
    got = group_outcome(reward, np.zeros(8, dtype=np.int64), ddof, 0.0)
    np.testing.assert_allclose(got, np.where(reward == 1, right, wrong), atol=5e-7)


@pytest.mark.parametrize(
    ("ddof", "first", "second"),
    [
        (0, (-0.478510, -1.230455, -1.640606), (0.478510, 1.093737)),
        (1, (-0.427992, -1.100552, -1.467403), (0.427992, 0.978269)),
    ],
)
def test_golden_process(ddof: int, first: tuple[float, ...], second: tuple[float, ...]) -> None:
    got = process([[0.9, 0.8, 0.2], [0.5, 1.0]], [[1, 4, 6], [2, 5]], np.array([7, 6]), np.zeros(2, int), ddof, 0.0)
    np.testing.assert_allclose(got[0], np.repeat(first, [2, 3, 2]), atol=5e-7)
    np.testing.assert_allclose(got[1], np.repeat(second, [3, 3]), atol=5e-7)


def test_process_of_the_second_sheet_and_nothing_after_the_last_step() -> None:
    got = process([[1, 0], [1]], [[1, 3], [2]], np.array([6, 5]), np.zeros(2, int), 0, 0.0)
    np.testing.assert_allclose(got[0], [-0.707107, -0.707107, -1.414214, -1.414214, 0, 0], atol=5e-7)
    np.testing.assert_allclose(got[1], [0.707107] * 3 + [0, 0], atol=5e-7)


def test_process_with_one_step_at_the_end_is_outcome() -> None:
    random = np.random.default_rng(0)
    reward, group, lengths = random.normal(size=9), np.repeat([5, 2, 9], [4, 3, 2]), random.integers(1, 9, 9)
    got = process([[r] for r in reward], [[length - 1] for length in lengths], lengths, group, 1, 1e-4)
    for own, expected, length in zip(got, group_outcome(reward, group, 1, 1e-4), lengths, strict=True):
        np.testing.assert_allclose(own, np.full(length, expected), rtol=1e-12)


def test_process_against_the_formula_in_loops() -> None:
    random = np.random.default_rng(1)
    group = np.array([1, 0, 1, 0, 0])
    lengths = np.array([6, 4, 9, 3, 5])
    ends = [np.array(own) for own in ([2, 5], [3], [0, 4, 4, 7], [], [1, 2])]  # two may end at one token
    rewards = [random.normal(size=len(own)) for own in ends]
    got = process(rewards, ends, lengths, group, 1, 0.01)
    for i in range(5):
        pooled = np.concatenate([rewards[k] for k in range(5) if group[k] == group[i]])
        mean, std = pooled.sum() / len(pooled), np.sqrt(((pooled - pooled.mean()) ** 2).sum() / (len(pooled) - 1))
        for t in range(lengths[i]):
            later = [r for r, end in zip(rewards[i], ends[i], strict=True) if end >= t]
            assert got[i][t] == pytest.approx(sum((r - mean) / (std + 0.01) for r in later), abs=1e-12)


def test_steps_that_do_not_fit_are_refused() -> None:
    group = np.zeros(1, int)
    for ends in ([3], [2, 1], [-1]):
        with pytest.raises(ValueError, match="must not fall inside 3 tokens"):
            process([[1.0] * len(ends)], [ends], np.array([3]), group, 0, 0.0)
    with pytest.raises(ValueError, match="2 step rewards and 1 step ends"):
        process([[1.0, 2.0]], [[1]], np.array([3]), group, 0, 0.0)


@pytest.mark.parametrize("eps", [0.0, 1e-9, 1e-4])
def test_equal_rewards_and_groups_of_one_are_exactly_zero(eps: float) -> None:
    reward = np.array([0.1] * 7 + [123.4])
    group = np.array([0] * 7 + [1])
    assert reward[:7].mean() != 0.1  # so that a small std would not do
    for ddof in (0, 1):
        assert (group_outcome(reward, group, ddof, eps) == 0).all()
        steps = process(
            [[0.1], [0.1, 0.1], [0.1]], [[0], [0, 1], [2]], np.array([3, 3, 3]), np.zeros(3, int), ddof, eps
        )
        assert all((own == 0).all() for own in steps)
    assert (mean_only(reward, group) == 0).all()
    assert (leave_one_out(reward, group) == 0).all()
    assert equal_groups(reward, group) == [0, 1]


def test_leave_one_out_in_loops() -> None:
    reward, group = np.array([3.0, 1.0, 5.0, 2.0, 2.5]), np.array([4, 9, 4, 9, 4])
    got = leave_one_out(reward, group)
    for i in range(5):
        others = [reward[k] for k in range(5) if group[k] == group[i] and k != i]
        assert got[i] == pytest.approx(reward[i] - np.mean(others), abs=1e-12)
    np.testing.assert_allclose(mean_only(reward, group), [-0.5, -0.5, 1.5, 0.5, -1.0], atol=1e-12)


@given(REWARDS, st.sampled_from([0, 1]), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_any_order_and_any_neighbours(data: tuple[np.ndarray, np.ndarray], ddof: int, random) -> None:
    reward, group = data
    whole = group_outcome(reward, group, ddof, 1e-4)
    order = list(range(len(reward)))
    random.shuffle(order)
    np.testing.assert_allclose(group_outcome(reward[order], group[order], ddof, 1e-4), whole[order], atol=1e-9)
    for number in np.unique(group):
        own = group == number
        np.testing.assert_array_equal(group_outcome(reward[own], group[own], ddof, 1e-4), whole[own])
        assert abs(whole[own].sum()) < 1e-6
        if len(set(reward[own])) > 1 and reward[own].std() > 1e-2:
            assert group_outcome(reward[own], group[own], 0, 0.0).std() == pytest.approx(1)


@given(st.lists(st.lists(FLOATS, min_size=1, max_size=9), min_size=1, max_size=4), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_gae_is_its_sum(rewards: list[list[float]], gamma: float, lam: float) -> None:
    random = np.random.default_rng(len(rewards))
    values = [random.normal(size=len(own)) for own in rewards]
    advantages, returns = gae([np.array(own) for own in rewards], values, gamma, lam)
    for reward, value, advantage, target in zip(rewards, values, advantages, returns, strict=True):
        after = [*value[1:], 0.0]
        delta = [r + gamma * w - v for r, v, w in zip(reward, value, after, strict=True)]
        for t in range(len(reward)):
            expected = sum((gamma * lam) ** k * d for k, d in enumerate(delta[t:]))
            assert advantage[t] == pytest.approx(expected, abs=1e-9)
        np.testing.assert_allclose(target, advantage + value, atol=1e-12)


def test_gae_at_its_ends() -> None:
    rewards, values = [np.array([0.0, 0.0, 1.0])], [np.array([0.3, 0.5, 0.7])]
    np.testing.assert_allclose(gae(rewards, values, 1.0, 1.0)[0][0], [0.7, 0.5, 0.3], atol=1e-12)  # return - value
    np.testing.assert_allclose(gae(rewards, values, 1.0, 0.0)[0][0], [0.2, 0.2, 0.3], atol=1e-12)  # one step


def test_pairs_are_best_with_worst() -> None:
    score, group = np.array([0.2, 0.9, 0.5, 0.5, 0.1, 1.0, 1.0]), np.array([0, 0, 0, 0, 0, 1, 1])
    assert preference_pairs(score, group, None) == [(1, 4), (2, 0)]
    assert preference_pairs(score, group, 1) == [(1, 4)]


@given(REWARDS)
@settings(max_examples=60, deadline=None)
def test_pairs_hold(data: tuple[np.ndarray, np.ndarray]) -> None:
    correct, group = data[0] > 0, data[1]
    pairs = preference_pairs(correct, group, None)
    used = [i for pair in pairs for i in pair]
    assert len(set(used)) == len(used)
    assert all(correct[better] and not correct[worse] and group[better] == group[worse] for better, worse in pairs)
    expected = sum(min(correct[group == g].sum(), (~correct[group == g]).sum()) for g in np.unique(group))
    assert len(pairs) == expected
