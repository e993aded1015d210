"""Seeds of one method: found by their labels, one colour, one line with a band."""

from __future__ import annotations

import pytest

from dsm.report.charts import Line, count, line_chart, spread, themed, thinned
from dsm.report.seeds import averaged, methods, tints


def test_methods() -> None:
    assert methods(["GRPO, seed 0", "GRPO, seed 1", "rft-0", "rft-12", "top-1", "base"]) == [
        "GRPO", "GRPO", "rft", "rft", "top-1", "base",
    ]  # fmt: skip
    assert tints(["start", "a-0", "b-0", "a-1", "b-1"]) == [0, 1, 2, 1, 2]


def test_averaged() -> None:
    lines = [Line("a-0", 3, [1, 2, 3], [1.0, 2.0, 9.0]), Line("b", 1, [1], [5.0]), Line("a-1", 3, [1, 2], [3.0, 6.0])]
    mean, alone = averaged([*lines, Line("empty", 2, [], [])])
    assert (mean.label, mean.colour, mean.x, mean.y) == ("a", 3, [1, 2], [2.0, 4.0])
    assert (mean.low, mean.high) == ([1.0, 2.0], [3.0, 6.0])
    assert alone == lines[1]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([0.1, 0.5, 0.9], [0.1, 0.5, 0.9]),
        ([0.5, 0.5], [0.45, 0.55]),
        ([0.1, 0.12, 0.2], [0.04, 0.14, 0.24]),
        ([0.0, 0.5, 0.52, 0.9], [0.0, 0.46, 0.56, 0.9]),
    ],
)
def test_names_are_moved_apart_and_no_further(wanted: list[float], expected: list[float]) -> None:
    assert spread(wanted, 0.1) == pytest.approx(expected)


def test_lines_bear_their_names_and_the_page_s_colours() -> None:
    svg = themed(line_chart("Loss", [Line("a <b>", 0, [0, 1], [1, 2]), Line("数学", 1, [0, 1], [2, 1])], xlabel="x"))
    assert "a &lt;b&gt;" in svg
    assert "数学" in svg
    assert "var(--c1, #e69f00)" in svg
    assert "a &lt;b&gt;" not in line_chart("Loss", [Line("a <b>", 0, [0, 1], [1, 2])], xlabel="x")


def test_a_line_of_many_points_is_a_line_of_few() -> None:
    x = [float(value) for value in range(50_000)]
    line = Line("a", 0, x, [2 * value for value in x])
    few = thinned(line)
    assert len(few.x) == len(few.y) == 400
    assert (few.x[-1], few.y[-1]) == (49_999.0, 99_998.0)
    assert few.y == pytest.approx([2 * value for value in few.x])
    assert sum(few.x[:-1]) / 399 == pytest.approx(25_000, rel=0.01)
    assert len(line_chart("Long", [line], xlabel="x")) < 60_000
    assert thinned(lines := Line("b", 0, [1, 2], [3, 4])) is lines


def test_counts() -> None:
    assert [count(value) for value in (0, 0.25, 999, 1500, 2_000_000, 1.2e11)] == [
        "0",
        "0.25",
        "999",
        "1.5K",
        "2M",
        "120B",
    ]
