"""Which step may start, and how long the rest takes, against schedules drawn by hand."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from dsm.config.graph import seconds_needed, startable, time_left
from dsm.pipeline.progress import about


@dataclass(frozen=True)
class Node:
    name: str
    fed_by: tuple[str, ...]
    seconds: float | None
    ranks: int = 1


def nodes(**steps: tuple[str, float | None]) -> list[Node]:
    return [Node(name, tuple(fed_by), seconds) for name, (fed_by, seconds) in steps.items()]


STEPS = nodes(a=("", 4), b=("", 10), c=("a", 5), d=("ab", 2), e=("cd", 1))


def names(found: list[Node]) -> str:
    return "".join(node.name for node in found)


def test_those_start_whose_feeding_steps_have_ended_in_the_order_written() -> None:
    a, b = STEPS[:2]
    assert names(startable(STEPS, (), (), 5)) == "ab"
    assert names(startable(STEPS, (), (), 1)) == "a"
    assert names(startable(STEPS[1:], (), [a], 1)) == ""
    assert names(startable(STEPS[1:], "a", [], 5)) == "bc"
    assert names(startable(STEPS[2:], "a", [b], 2)) == "c"
    assert names(startable(STEPS[3:], "ab", [], 5)) == "d"


def test_a_step_of_several_ranks_takes_as_many_places_and_is_not_overtaken() -> None:
    one, pair, four = Node("a", (), 4, 1), Node("b", (), 10, 2), Node("c", (), 5, 4)
    assert names(startable([pair, one], (), [], 2)) == "b"
    assert names(startable([pair, one], (), [], 3)) == "ba"
    assert names(startable([pair, one], (), [one], 2)) == ""  # the pair would wait for ever
    assert names(startable([one], (), [pair], 2)) == ""
    assert names(startable([four], (), [], 2)) == "c"  # more ranks than places: all of them
    assert names(startable([four], (), [one], 2)) == ""
    assert seconds_needed([pair, one, four], {"a": 4, "b": 10, "c": 5}, (), 2) == 19
    assert seconds_needed([pair, one, four], {"a": 4, "b": 10, "c": 5}, (), 3) == 15


@pytest.mark.parametrize(
    ("at_once", "seconds"),
    [
        (1, 22),  # all of them
        (2, 13),  # a 0-4, b 0-10, c 4-9, d 10-12, e 12-13
        (9, 13),
    ],
)
def test_seconds_needed_are_those_of_the_schedule(at_once: int, seconds: float) -> None:
    left = {node.name: node.seconds or 0.0 for node in STEPS}
    assert seconds_needed(STEPS, left, (), at_once) == seconds


def test_seconds_needed_counts_what_runs() -> None:
    left = {"b": 3.0, "c": 5.0, "d": 2.0, "e": 1.0}  # a has ended, b runs
    assert seconds_needed(STEPS, left, ("b",), 1) == 11
    assert seconds_needed(STEPS, left, ("b",), 2) == 6  # c 0-5, d 3-5, e 5-6
    assert seconds_needed(STEPS, {}, (), 2) == 0


def test_time_left_goes_by_what_this_machine_needed_so_far() -> None:
    """Steps take three times as long here; a tenth of all seconds counts as measured to take just that."""
    steps = nodes(a=("", 10), b=("a", 20), c=("b", 70))
    assert time_left(steps, {}, {}, 1) == 100
    ratio = (30 + 10) / (10 + 10)
    assert time_left(steps, {"a": 30.0}, {}, 1) == pytest.approx(90 * ratio)
    assert time_left(steps, {"a": 30.0}, {"b": 15.0}, 1) == pytest.approx(90 * ratio - 15)
    # b runs for longer than it should: it needs no more, and c is expected to be late as well
    late = (30 + 50 + 10) / (10 + 20 + 10)
    assert time_left(steps, {"a": 30.0}, {"b": 50.0}, 1) == pytest.approx(70 * late)
    assert time_left(steps, {"a": 30.0, "b": 60.0, "c": 210.0}, {}, 1) == 0


def test_no_time_is_claimed_where_a_step_to_come_has_none() -> None:
    steps = nodes(a=("", 10), b=("a", None), c=("b", 70))
    assert time_left(steps, {}, {}, 1) is None
    assert time_left(steps, {"a": 10.0}, {"b": 5.0}, 1) is None
    assert time_left(steps, {"a": 10.0, "b": 5.0}, {}, 1) == 70  # those that have ended need none
    assert time_left(steps, {"a": None, "b": None}, {}, 1) == 70  # they had ended before


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "about 10 s"),
        (44, "about 40 s"),
        (99, "about 100 s"),
        (101, "about 2 min"),
        (640, "about 11 min"),
        (7300, "about 2.0 h"),
        (200_000, "about 2.3 days"),
    ],
)
def test_a_guess_is_no_exacter_than_it_can_be(seconds: float, text: str) -> None:
    assert about(seconds) == text
