"""Learning rates against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest

from dsm.config.schedules import learning_rate, milestones
from dsm.config.training import ConstantConfig, CosineConfig, MultiStepConfig, SchedulerConfig, WSDConfig

PAPER = MultiStepConfig(name="multistep", warmup_steps=2000, milestones=[0.8, 0.9], factors=[0.316, 0.1])
COSINE = CosineConfig(name="cosine", warmup_steps=100, final_ratio=0.1)
WSD = WSDConfig(name="wsd", warmup_steps=10, decay_fraction=0.2, final_ratio=0.1)


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 2.1e-7),  # the first of 2,000 equal strides
        (999, 2.1e-4),
        (1_999, 4.2e-4),
        (2_000, 4.2e-4),
        (39_999, 4.2e-4),
        (40_000, 1.3272e-4),  # 31.6 % once 80 % of the steps are made
        (44_999, 1.3272e-4),
        (45_000, 4.2e-5),  # 10 % once 90 % are
        (49_999, 4.2e-5),
    ],
)
def test_the_paper_s_pretraining(step: int, rate: float) -> None:
    assert learning_rate(PAPER, 4.2e-4, step, 50_000) == pytest.approx(rate, rel=1e-12)


@pytest.mark.parametrize("total", [10, 30, 70, 100, 1_000, 2_990])
def test_drops_are_not_a_step_late_where_the_product_is_rounded_up(total: int) -> None:
    schedule = PAPER.model_copy(update={"warmup_steps": 0, "milestones": [0.7, 0.9]})
    rates = [learning_rate(schedule, 1.0, step, total) for step in range(total)]
    assert (rates.count(1.0), rates.count(0.316)) == (total * 7 // 10, total * 2 // 10)


def test_cosine() -> None:
    rates = [learning_rate(COSINE, 2.0, step, 1_100) for step in (0, 99, 100, 350, 600, 850, 1_099)]
    quarter = 0.45 * math.sqrt(0.5)
    expected = [0.02, 2, 2, 2 * (0.55 + quarter), 1.1, 2 * (0.55 - quarter), 0.2]
    assert rates == pytest.approx(expected, rel=1e-4)


def test_wsd() -> None:
    rates = [learning_rate(WSD, 2.0, step, 100) for step in (0, 9, 10, 79, 80, 99)]
    # 20 steps of decay: the last stands one stride above the end, so that none of them is wasted at rate 0.
    assert rates == pytest.approx([0.2, 2, 2, 2, 0.2 + 1.8 * 20 / 21, 0.2 + 1.8 / 21])


def test_constant() -> None:
    schedule = ConstantConfig(name="constant", warmup_steps=4)
    assert [learning_rate(schedule, 5e-5, step, 6) for step in range(6)] == pytest.approx(
        [1.25e-5, 2.5e-5, 3.75e-5, 5e-5, 5e-5, 5e-5]
    )
    assert learning_rate(ConstantConfig(name="constant", warmup_steps=0), 5e-5, 0, 1) == 5e-5


@pytest.mark.parametrize("schedule", [COSINE, WSD, PAPER])
def test_after_the_warmup_no_rate_rises(schedule: SchedulerConfig) -> None:
    rates = [learning_rate(schedule, 1.0, step, 5_000) for step in range(schedule.warmup_steps, 5_000)]
    assert rates == sorted(rates, reverse=True)
    assert min(rates) > 0


def test_milestones_are_where_the_rate_turns() -> None:
    assert milestones(PAPER, 1.0, 50_000) == [
        (0, 1 / 2000), (1_999, 1.0), (40_000, 0.316), (45_000, 0.1), (49_999, 0.1),
    ]  # fmt: skip
    assert [step for step, _ in milestones(WSD, 1.0, 100)] == [0, 9, 80, 99]
