"""The table on the terminal."""

from __future__ import annotations

from dsm.evaluation.metrics import summarise
from dsm.evaluation.table import table, width
from tests.evaluation.folders import record

RECORDS = [record(str(i), verdicts) for i, verdicts in enumerate(["ccwu", "cwww", "cccc", "uuwc"])]


class TestTable:
    def test_aligned(self):
        records = RECORDS
        entry = summarise(records, reference={"DeepSeekMath-RL 7B": 0.882})
        single = summarise([record("a", "c")], title="数学")
        lines = table({"benchmarks": {"gsm8k": entry, "数学": single}}).splitlines()
        assert width(lines[1]) == max(map(width, lines))
        assert lines[0].split()[:3] == ["benchmark", "items", "accuracy"]
        assert "(k=4)" in lines[2]
        assert "DeepSeekMath-RL 7B 88.2" in lines[2]
        assert "100.0" in lines[3]
        column = lines[0].index("accuracy") + len("accuracy")
        assert lines[2][column - 4 : column].strip() == f"{100 * entry['metrics']['accuracy']['value']:.1f}"

    def test_only_the_columns_that_say_something(self):
        text = table({"benchmarks": {"gsm8k": summarise([record("a", "c"), record("b", "w")])}})
        assert text.splitlines()[0].split() == ["benchmark", "items", "accuracy", "95", "%"]

    def test_chinese_takes_two_cells(self):
        assert [width(text) for text in ("abc", "数学", "é")] == [3, 4, 1]
