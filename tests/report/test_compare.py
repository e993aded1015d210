"""Evaluations read back and put side by side: what is refused, what is compared with what."""

from __future__ import annotations

import json

import pytest

from dsm.errors import UserError
from dsm.evaluation.loading import Record, load_evaluation
from dsm.report.compare import choose_items, cross_table, flat_protocol
from dsm.report.html import render_html
from dsm.report.markdown import render_markdown
from tests.evaluation.folders import compared, record, write_evaluation


def html_of(comparison, **changes):
    return render_html(comparison, **({"title": "Report", "items": 40, "output_chars": 4000} | changes))


class TestLoading:
    def test_folder_and_file_are_the_same(self, pair):
        folder = load_evaluation(str(pair[0]), "base", "key")
        assert load_evaluation(str(pair[0] / "results.json"), "base", "key") == folder
        assert [item.status for item in folder.items["gsm8k"].values()] == ["correct", "wrong", "wrong", "ungradable"]

    def test_results_alone_will_do(self, pair):
        (pair[0] / "gsm8k.jsonl").unlink()
        assert load_evaluation(str(pair[0]), "base", "key").items == {}
        assert "Report" in html_of(compared(*pair))

    @pytest.mark.parametrize(
        ("file", "content", "message"),
        [
            ("results.json", None, "holds no results.json; give the folder of a stage=eval run"),
            ("results.json", "", r"results.json is not valid JSON: Expecting value at line 1"),
            ("results.json", '{"model": "m", "benchmarks": {}}', "benchmarks: Dictionary should have at least 1 item"),
            ("results.json", "[]", "results.json: Input should be a valid dictionary"),
            ("results.json", '{"model": NaN}', "NaN is no number"),
            ("results.json", b"\xff\xfe", r"results.json is not valid UTF-8 \(invalid start"),
            ("results.json", "[" * 100_000, "results.json is not valid JSON"),
            ("gsm8k.jsonl", "{}\n", "gsm8k.jsonl line 1: id: Field required"),
            ("gsm8k.jsonl", '{"id": "0",\n', "gsm8k.jsonl line 1 is not valid JSON"),
            ("gsm8k.jsonl", json.dumps(record("0", "c")) + "\n", "has 1 items, results.json 4"),
            ("gsm8k.jsonl", 4 * (json.dumps(record("0", "c")) + "\n"), "line 2: item '0' stands there twice"),
            ("gsm8k.jsonl", json.dumps(record("0", "")) + "\n", "line 1: samples: List should have at least 1 item"),
        ],
    )
    def test_broken_folders_are_one_clear_line(self, pair, file, content, message):
        (pair[0] / file).unlink()
        if content is not None:
            (pair[0] / file).write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(UserError, match=message) as caught:
            load_evaluation(str(pair[0]), "base", "evaluations.base")
        assert str(caught.value).startswith(f"evaluations.base={pair[0]}: ")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("change", [{"value": 1.5}, {"value": "0.5"}, {"low": None}])
    def test_numbers_that_are_no_shares(self, pair, change):
        results = json.loads((pair[0] / "results.json").read_text())
        results["benchmarks"]["gsm8k"]["metrics"]["accuracy"] |= change
        (pair[0] / "results.json").write_text(json.dumps(results))
        with pytest.raises(UserError, match=r"benchmarks\.gsm8k\.metrics\.accuracy\.(value|low)"):
            load_evaluation(str(pair[0]), "base", "key")

    def test_missing_and_unfinished(self, tmp_path):
        with pytest.raises(UserError, match="no such file or folder"):
            load_evaluation(str(tmp_path / "none"), "x", "key")
        (tmp_path / "config.yaml").write_text("stage: eval\n")
        with pytest.raises(UserError, match="has not finished; run its command again"):
            load_evaluation(str(tmp_path), "x", "key")


class TestCompare:
    def test_rows_by_hand(self, pair):
        row = compared(*pair).benchmarks[0].rows[0]
        assert [cell.value for cell in row.cells] == [0.25, 0.5]
        assert row.best == {1}
        assert row.relative == (None, 1.0)  # (0.5 - 0.25) / 0.25

    def test_pairs_by_hand(self, pair):
        none, gap = compared(*pair).benchmarks[0].pairs
        assert none is None
        assert (gap.difference.value, gap.better, gap.worse, gap.p) == (0.25, 1, 0, 1.0)
        assert compared(*pair, baseline=1).benchmarks[0].pairs[0].difference.value == -0.25

    def test_nothing_is_relative_to_zero(self, tmp_path):
        zero = write_evaluation(tmp_path / "zero", {"gsm8k": [record("0", "w")]})
        one = write_evaluation(tmp_path / "one", {"gsm8k": [record("0", "c")]})
        assert compared(zero, one).benchmarks[0].rows[0].relative == (None, None)

    def test_votes_stand_at_the_largest_k_they_share(self, tmp_path):
        four = write_evaluation(tmp_path / "four", {"gsm8k": [record("0", "cwwc")]})
        eight = write_evaluation(tmp_path / "eight", {"gsm8k": [record("0", "cwwccccc")]})
        rows = compared(four, eight).benchmarks[0].rows
        assert [row.metric for row in rows] == ["accuracy", "pass@4", "maj@4"]

    def test_a_benchmark_that_only_one_ran(self, tmp_path, pair):
        more = write_evaluation(tmp_path / "more", {"math": [record("0", "c")]})
        benchmark = compared(*pair, more).benchmarks[1]
        assert benchmark.entries[:2] == (None, None)
        assert benchmark.rows[0].best == frozenset()
        assert "not run" in html_of(compared(*pair, more)) or not benchmark.protocol

    @pytest.mark.parametrize(
        ("protocol", "foreign", "unlike"),
        [
            ({"data_sha256": "a", "prompt_sha256": "p"}, set(), set()),
            ({"data_sha256": "b", "prompt_sha256": "p"}, {1}, set()),
            ({"data_sha256": "a", "prompt_sha256": "q"}, set(), {1}),
            ({"data_sha256": "a", "prompt_sha256": "p", "model_sha256": "m", "seed": 9}, set(), set()),  # a model's own
            ({"data_sha256": "a", "prompt_sha256": "p", "sampling": {"top_p": 0.9}}, set(), {1}),
        ],
    )
    def test_protocols(self, tmp_path, protocol, foreign, unlike):
        rows = {"gsm8k": [record("0", "c"), record("1", "w")]}
        base = write_evaluation(tmp_path / "base", rows, protocol={"data_sha256": "a", "prompt_sha256": "p"})
        other = write_evaluation(tmp_path / "other", rows, protocol=protocol)
        comparison = compared(base, other)
        benchmark = comparison.benchmarks[0]
        assert (benchmark.foreign, benchmark.unlike) == (foreign, unlike)
        assert len(comparison.warnings()) == len(foreign | unlike)
        for text in (html_of(comparison), render_markdown(comparison, title="")):
            assert ("Not all of these numbers compare" in text) == bool(foreign | unlike)
        if foreign:
            assert benchmark.rows[0].best == frozenset()
            assert benchmark.rows[0].relative == (None, None)
            assert benchmark.pairs == (None, None)

    @pytest.mark.parametrize("change", [{"gold": "other"}, {"question": "Another?"}, {"id": "7"}])
    def test_other_items_are_seen_without_a_hash(self, tmp_path, change):
        base = write_evaluation(tmp_path / "base", {"gsm8k": [record("0", "c")]})
        other = write_evaluation(tmp_path / "other", {"gsm8k": [record("0", "c") | change]})
        assert compared(base, other).benchmarks[0].foreign == {1}

    def test_flat_protocol(self):
        nested = {"a": {"b": 1, "c": {}}, "d": ["x"], "weights": "9", "max_new_tokens": 5, "e": "text"}
        assert flat_protocol(nested) == {
            "a.b": "1",
            "d": '["x"]',
            "max_new_tokens": "5",
            "e": "text",
        }

    def test_cross_table_by_hand(self):
        def grouped(identity, verdict, subject, level):
            return Record(**record(identity, verdict, groups={"subject": subject, "level": level}))

        rows = [grouped("0", "c", "B", "2"), grouped("1", "w", "B", "2"), grouped("2", "c", "A", "10")]
        rows.append(grouped("3", "w", "C", "10"))
        found = cross_table({row.id: row for row in rows})
        assert found == (
            "subject",
            "level",
            {"A": {"10": (1, 1.0)}, "B": {"2": (2, 0.5)}, "C": {"10": (1, 0.0)}},
        )
        assert cross_table({"0": rows[0]}) is None

    def test_choice_of_items(self, tmp_path):
        first, second = "c" * 20 + "w" * 20 + "u" * 5 + "c", "c" * 20 + "w" * 20 + "u" * 5 + "w"
        folders = [
            write_evaluation(tmp_path / name, {"gsm8k": [record(str(i), v) for i, v in enumerate(verdicts)]})
            for name, verdicts in (("a", first), ("b", second))
        ]
        benchmark = compared(*folders).benchmarks[0]
        shown = choose_items(benchmark, 10)
        assert [item.key for item in shown if item.differs] == ["45"]
        assert {item.records[0].status for item in shown} == {"correct", "wrong", "ungradable"}
        assert shown == choose_items(benchmark, 10)
        assert len(choose_items(benchmark, 1000)) == 46
        assert choose_items(benchmark, 0) == []
