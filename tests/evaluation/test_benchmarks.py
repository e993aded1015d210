"""Every benchmark's rows become items with the right answers; what cannot be used is set aside or refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dsm.config.answers import GraderConfig
from dsm.config.benchmark import BenchmarkConfig
from dsm.errors import UserError
from dsm.evaluation.benchmarks import Item, check_golds, data_source, items_fingerprint, load_items
from tests.evaluation.benchmark_lab import BENCHMARKS, config_of, write_rows

# Rows of shared/data/math/SOURCES.md, and how an item of the real file has to come out.
REAL = {
    "gsm8k": 1319,
    "math": 5000,
    "math500": 500,
    "sat": 32,
    "ocw": 272,
    "mmlu_stem": 3018,
    "mgsm_zh": 250,
    "cmath": 1098,
    "gaokao_mathcloze": 118,
    "gaokao_mathqa": 351,
    "gsm8k_python": 1319,
    "math_python": 5000,
    "gsm_hard": 1319,
    "svamp": 1000,
    "humaneval": 164,
}


def of_columns(**data: Any) -> BenchmarkConfig:
    return BenchmarkConfig.model_validate({"data": data})


def items_of(config: BenchmarkConfig, **options: Any) -> list[Item]:
    items, rejected = load_items("mine", config, **options)
    assert not rejected
    return items


# ---------------------------------------------------------------- conf/benchmark


def test_every_benchmark_of_the_issue_is_there() -> None:
    assert set(BENCHMARKS) == {*REAL, "mbpp", "mmlu", "mmlu_cot", "bbh", "custom"}


@pytest.mark.parametrize("name", sorted(set(BENCHMARKS) - {"custom"}))
def test_a_benchmark_is_complete(name: str) -> None:
    config = config_of(name)
    assert config.title
    assert config.data.hub or "gaokao" in name
    assert config.data.file
    assert config.max_new_tokens == 1024
    assert config.few_shot.stop or config.kind == "choices"


@pytest.mark.parametrize("name", REAL)
def test_all_rows_of_the_real_files_can_be_used(name: str, shared_data: Path) -> None:
    config = config_of(name)
    items, rejected = load_items(name, config, root=str(shared_data / "math"))
    assert (len(items), rejected) == (REAL[name], [])
    assert all(item.question.strip() and item.gold.strip() for item in items)
    assert all(set(item.groups) == set(config.data.groups) and all(item.groups.values()) for item in items)
    path = str(shared_data / "math" / str(config.data.file))
    alone, _ = load_items(name, config_of(name, data={"path": path}))  # the same file, named by hand
    assert items_fingerprint(alone) == items_fingerprint(items)


def test_what_the_real_rows_say(shared_data: Path) -> None:
    items = {name: items_of(config_of(name), root=str(shared_data / "math")) for name in REAL}
    assert all(item.gold.lstrip("-").isdecimal() for item in items["gsm8k"])
    levels = Counter(item.groups["level"] for item in items["math"])
    assert levels == {"1": 437, "2": 894, "3": 1131, "4": 1214, "5": 1324}
    assert len({item.groups["subject"] for item in items["math"]}) == 7
    # Eight solutions box the members of a list one by one: the last box alone is not their answer.
    lists = [item.golds for item in items["math"] if len(item.golds) > 1]
    assert len(lists) == 8
    assert ("30^\\circ", "45^\\circ", "105^\\circ") in lists
    assert {item.groups["subject"] for item in items["math500"]} == {item.groups["subject"] for item in items["math"]}
    assert len({item.groups["subject"] for item in items["mmlu_stem"]}) == 18
    assert Counter(item.groups["grade"] for item in items["cmath"]).keys() == set("123456")
    assert all(len(item.choices) == 4 for name in ("sat", "mmlu_stem", "gaokao_mathqa") for item in items[name])
    assert Counter(len(item.gold) for item in items["gaokao_mathqa"]) == {1: 344, 2: 4, 3: 3}
    assert all(letter in "ABCD" for item in items["gaokao_mathqa"] for letter in item.gold)
    assert sum(len(item.golds) > 1 for item in items["gaokao_mathcloze"]) == 16
    assert sum("None" in item.choices for item in items["mmlu_stem"]) == 10  # written as NaN in the file


def test_the_programs_of_humaneval_can_be_put_together(shared_data: Path) -> None:
    for item in items_of(config_of("humaneval"), root=str(shared_data / "math")):
        program = f"{item.question}{item.gold}\n{item.tests}"
        compile(program, item.id, "exec")
        assert item.tests.endswith(f"\ncheck({item.entry_point})")


# ---------------------------------------------------------------- columns of the hub's copies

HUB_ROWS: dict[str, dict[str, Any]] = {
    "gsm8k": {"question": "2 * 500?", "answer": "<<2*500=1000>>1,000\n#### 1,000"},
    "math": {"problem": "p", "level": "Level 3", "type": "Algebra", "solution": r"is $\boxed{1000}$"},
    "sat": {"Question": "q", "Possible Answers": "A) 1 B) 2 C) 3 D) 4", "Answer": "C"},
    "ocw": {"question": "q", "answer": "4.5e33"},
    "mmlu_stem": {"question": "q", "subject": "anatomy", "choices": ["1", "2", "3", "4"], "answer": 2},
    "mgsm_zh": {"question": "2乘500？", "answer": "1000", "answer_prefix": "答："},
    "cmath": {"question": "q", "golden": "7", "grade": 3},
    "svamp": {"ID": "chal-1", "Body": "b.", "Question": "q?", "Answer": "7.0", "Type": "Sum"},
    "mmlu": {"question": "q", "subject": "anatomy", "choices": ["1", "2", "3", "4"], "answer": 2},
    "mbpp": {"task_id": 11, "text": "t", "code": "x=1", "test_list": ["assert x", "assert 1"], "test_setup_code": ""},
}


@pytest.mark.parametrize("name", HUB_ROWS)
def test_the_hubs_columns_are_read_too(name: str, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", HUB_ROWS[name])
    (item,) = items_of(config_of(name, data={"path": path}))
    golds = {"sat": "C", "mmlu_stem": "C", "mmlu": "C", "ocw": "4.5e33", "cmath": "7", "svamp": "7.0", "mbpp": "x=1"}
    assert item.gold == golds.get(name, "1000")
    if name == "mmlu":
        assert item.question == "q\nA. 1\nB. 2\nC. 3\nD. 4"
    if name == "mbpp":
        assert (item.id, item.tests.strip()) == ("11", "assert x\nassert 1")


def test_subsets_are_read_in_turn_and_rows_know_theirs(tmp_path: Path) -> None:
    subsets = ["navigate", "snarks"]
    for subset in subsets:
        write_rows(tmp_path / f"{subset}.jsonl", {"input": "i", "target": "(A)"}, {"input": "j", "target": "(B)"})
    items = items_of(config_of("bbh", data={"path": str(tmp_path), "subsets": subsets}))
    assert [(item.id, item.groups["task"]) for item in items] == [
        ("1", "navigate"),
        ("2", "navigate"),
        ("3", "snarks"),
        ("4", "snarks"),
    ]
    with pytest.raises(UserError, match=r"has no word_sorting\.jsonl"):
        load_items("bbh", config_of("bbh", data={"path": str(tmp_path), "subsets": ["word_sorting"]}))


# ---------------------------------------------------------------- where the data lies


def test_the_users_path_comes_before_data_root_and_that_before_the_hub(tmp_path: Path) -> None:
    root, data = str(tmp_path), config_of("gsm8k").data
    assert data_source("gsm8k", data) == ("hub:openai/gsm8k:main", "benchmarks.gsm8k.data.hub")
    with pytest.raises(
        UserError, match=r"^data_root=.*gsm8k/test\.jsonl is not in it; give benchmarks\.gsm8k\.data\.path"
    ):
        data_source("gsm8k", data, root)
    (tmp_path / "gsm8k").mkdir()
    file = write_rows(tmp_path / "gsm8k" / "test.jsonl", HUB_ROWS["gsm8k"])
    assert data_source("gsm8k", data, root) == (file, "data_root")
    own = config_of("gsm8k", data={"path": "my.jsonl"}).data
    assert data_source("gsm8k", own, root) == ("my.jsonl", "benchmarks.gsm8k.data.path")
    with pytest.raises(UserError, match=r"benchmarks\.x\.data\.path: must be given"):
        data_source("x", of_columns().data)


def test_a_users_file_needs_a_path_alone(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "my.jsonl", {"problem": "1 + 1?", "answer": 2.0}, {"input": "2 + 2?", "target": "4"})
    items = items_of(config_of("custom", data={"path": path}))
    assert [(item.id, item.question, item.gold) for item in items] == [("1", "1 + 1?", "2"), ("2", "2 + 2?", "4")]


def test_one_column_needs_no_braces(tmp_path: Path) -> None:
    assert of_columns(question="problem", gold="{a|b}", groups={"level": "x.y"}) == of_columns(
        question="{problem}", gold="a|b", groups={"level": "{x.y}"}
    )
    path = write_rows(tmp_path / "my.jsonl", {"the problem": "1 + 1?", "out": {"final": "2"}})
    (item,) = items_of(of_columns(path=path, question="the problem", gold="out.final"))
    assert (item.question, item.gold) == ("1 + 1?", "2")


# ---------------------------------------------------------------- rows that cannot be used

BAD_ROWS: dict[str, tuple[Any, str]] = {
    "not JSON": ("{", "not valid JSON"),
    "no object": ("[1]", "must be a JSON object"),
    "NaN": ('{"question": NaN}', "NaN or an infinite number"),
    "no question": ({"answer": "1"}, "has no column 'question'"),
    "null question": ({"question": None, "answer": "1"}, "has no column 'question'"),
    "blank question": ({"question": " \n", "answer": "1"}, "the question is empty"),
    "object as question": ({"question": {"a": 1}, "answer": "1"}, "must be text or a finite number"),
    "half a surrogate": ('{"question": "\\ud800", "answer": "1"}', "half a surrogate pair"),
    "no answer": ({"question": "q"}, "has no column 'answer'"),
    "blank answer": ({"question": "q", "answer": ""}, "no reference answer"),
}


@pytest.mark.parametrize("kind", BAD_ROWS)
def test_a_bad_row_is_set_aside_with_place_and_reason(kind: str, tmp_path: Path) -> None:
    row, reason = BAD_ROWS[kind]
    path = write_rows(tmp_path / "a.jsonl", {"question": "q", "answer": "1"}, row, {"question": "r", "answer": "2"})
    items, (rejected,) = load_items("mine", of_columns(path=path))
    assert [item.id for item in items] == ["1", "3"]  # ids do not move where a row is bad
    assert rejected.location == f"{path}:2"
    assert reason in rejected.reason


@pytest.mark.parametrize(
    ("data", "row", "reason"),
    [
        ({"gold_form": "hashes"}, {"answer": "so 5"}, "gold_form=hashes"),
        ({"gold_form": "boxed"}, {"answer": r"so \boxed{5"}, "gold_form=boxed"),
        ({"gold_form": "list"}, {"answer": " ; ;"}, "gold_form=list"),
        ({"choices": "{options}", "gold_form": "choice"}, {"answer": "E", "options": ["1", "2"]}, "names choice E"),
        (
            {"choices": "{options}", "gold_form": "choice"},
            {"answer": 2, "options": ["1", "2"]},
            "no number of a choice",
        ),
        ({"choices": "{options}", "gold_form": "choice"}, {"answer": "A", "options": ["1"]}, "holds 1 choices"),
        ({"choices": "{options}", "gold_form": "choice"}, {"answer": "A", "options": ["1", " "]}, "choice B is empty"),
        ({"choices": "{options}", "gold_form": "choice"}, {"answer": "A", "options": "1, 2"}, "no choices labelled"),
        ({"choices": "{options}", "gold_form": "choice"}, {"answer": "A", "options": 3}, "must be a list of choices"),
        ({"groups": {"level": "{level}"}}, {"answer": "A"}, "has no column 'level'"),
        ({"id": "{name}"}, {"answer": "A", "name": " "}, "the id is empty"),
    ],
)
def test_an_answer_that_does_not_fit_is_set_aside(
    data: dict[str, Any], row: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    good = {"question": "q", "answer": r"\boxed{A} #### A", "options": ["1", "2"], "level": 1, "name": "x"}
    path = write_rows(tmp_path / "a.jsonl", good, {"question": "q"} | row)
    if "choices" in data:
        good["answer"] = "B"
        path = write_rows(tmp_path / "a.jsonl", good, {"question": "q"} | row)
    items, (rejected,) = load_items("mine", of_columns(path=path, **data))
    assert len(items) == 1
    assert reason in rejected.reason


def test_data_without_one_good_row_and_ids_that_recur_are_refused(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", {"q": 1}, {"q": 2})
    with pytest.raises(
        UserError,
        match=rf"^benchmarks\.mine\.data\.path={path}: none of its 2 rows .*:1: data.question={{question}}: has no",
    ):
        load_items("mine", of_columns(path=path))
    path = write_rows(tmp_path / "b.jsonl", *({"question": "q", "answer": "1", "id": name} for name in "aba"))
    with pytest.raises(UserError, match=r"^benchmarks\.mine\.data\.id=\{id\}: .*b\.jsonl:1 and .*b\.jsonl:3 .* id 'a'"):
        load_items("mine", of_columns(path=path, id="{id}"))


def test_a_likelihood_benchmark_needs_one_right_choice(tmp_path: Path) -> None:
    rows = [{"question": "q", "choices": ["1", "2"], "answer": answer} for answer in ("A", "AB")]
    path = write_rows(tmp_path / "a.jsonl", *rows)
    data = {"path": path, "choices": "{choices}", "gold_form": "choice"}
    items, (rejected,) = load_items("mine", BenchmarkConfig.model_validate({"kind": "choices", "data": data}))
    assert [item.gold for item in items] == ["A"]
    assert "'AB' is not one choice" in rejected.reason


# ---------------------------------------------------------------- choosing items


def test_limit_takes_the_first_and_subsample_a_nested_random_choice(tmp_path: Path) -> None:
    rows = [{"question": f"q{i}", "answer": str(i)} for i in range(200)]
    path = write_rows(tmp_path / "a.jsonl", *rows)
    assert [item.id for item in items_of(of_columns(path=path), limit=3)] == ["1", "2", "3"]
    few = [item.id for item in items_of(of_columns(path=path, subsample=20))]
    many = [item.id for item in items_of(of_columns(path=path, subsample=50))]
    assert len(few) == 20
    assert set(few) < set(many)
    assert few == sorted(few, key=int)  # in the order of the data
    assert few != [item.id for item in items_of(of_columns(path=path, subsample=20, seed=1))]
    backwards = write_rows(tmp_path / "b.jsonl", *({"id": i + 1, **row} for i, row in reversed(list(enumerate(rows)))))
    assert {item.id for item in items_of(of_columns(path=backwards, subsample=20, id="{id}"))} == set(few)


def test_the_fingerprint_is_of_all_that_items_say() -> None:
    item = Item("1", "q", "2", ("2", "3"), {"level": "5"})
    fingerprint = items_fingerprint([item])
    assert fingerprint == items_fingerprint([Item("1", "q", "2", ("2", "3"), {"level": "5"})])
    for other in (
        Item("2", "q", "2", ("2", "3"), {"level": "5"}),
        Item("1", "q ", "2", ("2", "3"), {"level": "5"}),
        Item("1", "q", "2", ("2", "4"), {"level": "5"}),
        Item("1", "q", "2", ("2", "3"), {"level": "4"}),
        Item("1", "q", "2", ("2", "3"), {"level": "5"}, tests="assert"),
    ):
        assert items_fingerprint([other]) != fingerprint


@dataclass(frozen=True)
class StringVerdict:
    correct: bool
    reason: str = "string"


class NoIntervals:
    """A pool that cannot read intervals."""

    def grade(self, pairs: Any) -> list[StringVerdict]:
        return [StringVerdict(gold == answer and "(" not in gold) for gold, answer in pairs]


def test_golds_that_do_not_equal_themselves_are_named() -> None:
    items = [Item("a", "q", "5"), Item("b", "q", "(0,1)"), Item("c", "q", "(", tests="assert True")]
    (bad,) = check_golds(items, NoIntervals())
    assert (bad.id, bad.gold, bad.reason) == ("b", "(0,1)", "string")


@pytest.mark.parametrize("name", sorted(set(REAL) - {"math", "math_python", "gsm8k_python", "humaneval"}))
def test_real_golds_equal_themselves(name: str, shared_data: Path) -> None:
    grader_pool = pytest.importorskip("dsm.answers.pool").GraderPool
    config = config_of(name)
    items = items_of(config, root=str(shared_data / "math"))
    with grader_pool(GraderConfig(**config.grader)) as pool:
        assert check_golds(items, pool) == []


# ---------------------------------------------------------------- schema


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"kind": "code", "data": {}}, "kind=code needs a template of the tests"),
        ({"kind": "choices", "data": {}}, "kind=choices needs the column"),
        ({"data": {}, "reference": {"GPT-4": 92.0}}, "must be a share"),
        ({"data": {"choices": "{a} {b}"}}, "must be one column"),
        ({"data": {"question": "What is it?"}}, "must be a column or a text with columns in braces"),
        ({"data": {}, "few_shot": {"shots": 3}}, "there are no exemplars"),
        ({"data": {}, "few_shot": {"shot": "{answer} {question}"}}, "must hold"),
        ({"data": {}, "few_shot": {"by": "subject"}}, "must be one of data.groups"),
        ({"data": {}, "zero_shot": {"template": "Solve."}}, "must hold"),
    ],
)
def test_settings_that_do_not_fit_together(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        BenchmarkConfig.model_validate(values)
