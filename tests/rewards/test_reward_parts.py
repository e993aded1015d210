"""The rules: answers, programs, tests, form and length, each against values known by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scoring_lab import group, ids, prompt, rewards, rollout, tokenizer

from dsm.answers.verdict import Verdict, ungradable
from dsm.config.reward import AnswerPart, FormatPart
from dsm.data.problems import generate_problems
from dsm.errors import UserError
from dsm.rewards.compose import Rewards
from dsm.rewards.equations import holds
from dsm.rewards.gold import NoGoldError, read_gold
from dsm.rewards.parts import Answers, Format, overlong
from dsm.rollout.record import Rollout

# ---------------------------------------------------------------- answers


@pytest.fixture(scope="module")
def by_answer() -> Iterator[Rewards]:
    with rewards(
        {"correct": {"name": "answer"}, "twice": {"name": "answer", "gold": "other|gold", "weight": 0.0}}
    ) as made:
        yield made


def test_answers_are_compared_and_say_what_is_correct(by_answer: Rewards) -> None:
    of = prompt(gold="1/2")
    scored = by_answer.score(
        [of] * 5, group(of, [r"so \boxed{0.5}", r"\boxed{\frac{2}{4}}", r"\boxed{50}", "nothing here", ""])
    )
    assert scored.reward.tolist() == [1, 1, 0, 0, 0]
    assert scored.correct is not None
    assert scored.correct.tolist() == [True, True, False, False, False]
    assert not scored.faults
    assert scored.summary()["accuracy"] == 0.4


class StubPool:
    """Judges by what the answer says."""

    def grade(self, pairs: list[tuple[str, str | None]]) -> list[Verdict]:
        verdicts = {"slow": ungradable("timeout"), "big": ungradable("memory"), None: ungradable("no answer")}
        verdicts |= {"": ungradable("empty answer"), "5": Verdict("correct", "text")}
        return [verdicts.get(answer, Verdict("wrong", "unlike")) for _, answer in pairs]


def test_a_limit_of_the_grader_s_is_a_fault_and_no_answer_is_a_wrong_one() -> None:
    config = AnswerPart.model_validate({"name": "answer", "extractor": "boxed"})
    part, of = Answers(config, StubPool()), prompt(gold="5")  # type: ignore[arg-type]
    texts = [rf"\boxed{{{word}}}" for word in ("5", "6", "slow", "big")]
    marks = part.score(of, group(of, [*texts, "nothing"]), 0)
    assert marks.values == [1, 0, None, None, 0]
    assert marks.faults == {2: "ungradable: timeout", 3: "ungradable: memory"}


def test_an_empty_box_is_a_wrong_answer(by_answer: Rewards) -> None:
    of = prompt(gold="28")
    scored = by_answer.score([of] * 3, group(of, [r"\boxed{}", r"\boxed{$$}", r"\boxed{\text{}}"]))
    assert scored.reward.tolist() == [0, 0, 0]


def test_a_factor_of_a_hundred_is_a_wrong_answer(by_answer: Rewards) -> None:
    """The official grader forgives it, and a policy learns that it does."""
    of = prompt(gold="28")
    assert by_answer.score([of] * 2, group(of, [r"\boxed{0.28}", r"\boxed{28.02}"])).reward.tolist() == [0, 0]


def test_a_row_without_a_reference_answer_is_a_fault_of_all_its_samples(by_answer: Rewards) -> None:
    bare, empty, good = prompt(0, answer="4"), prompt(1, gold=" "), prompt(2, gold="4", other="5")
    samples = [rollout(r"\boxed{4}", of=of, group=i) for i, of in enumerate((bare, empty, good))]
    scored = by_answer.score([bare, empty, good], samples)
    assert np.array_equal(scored.reward, [np.nan, np.nan, 1], equal_nan=True)
    assert np.array_equal(scored.parts["twice"], [np.nan, np.nan, 0], equal_nan=True)
    reasons = [fault.reason for fault in scored.faults if fault.part == "correct"]
    assert reasons[0] == "the row has no column 'gold'; it has answer"
    assert reasons[1].startswith("column 'gold' holds no reference answer")
    assert scored.correct is not None
    assert scored.correct.tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("cell", "form", "gold"),
    [
        ("72", "auto", "72"),
        (72.0, "auto", "72"),
        ("so 70 + 2 = 72\n#### 1,072", "auto", "1072"),
        (r"Is it \boxed{\frac12}? No: \boxed{3}.", "boxed", "3"),
        (r"Hence $\boxed{\frac12}$.", "auto", r"\frac12"),
        ("a #### b", "text", "a #### b"),
        (["a", 2.0], "text", "a\n2"),
        ("no mark", "hashes", None),
        ("no box", "boxed", None),
        ("", "auto", None),
        (None, "auto", None),
    ],
)
def test_reference_answers_are_read_from_their_columns(cell: object, form: Any, gold: str | None) -> None:
    if gold is None:
        with pytest.raises(NoGoldError):
            read_gold(prompt(answer=cell), "answer", form)
    else:
        assert read_gold(prompt(answer=cell), "answer", form) == gold


def test_an_extractor_that_does_not_exist() -> None:
    with pytest.raises(UserError, match=r"^reward\.parts\.correct\.extractor=magic: must be one of final"):
        rewards({"correct": {"name": "answer", "extractor": "magic"}})


# ---------------------------------------------------------------- programs and tests

PROGRAM = "```python\ndef solution():\n    return {}\n```\n"


def test_programs_answer_and_programs_pass_tests() -> None:
    head = "def double(x):\n"
    of = prompt(0, head, gold="6", tests="assert double(3) == 6", name="double")
    answers = [PROGRAM.format("2 * 3"), PROGRAM.format("2 + 3"), PROGRAM.format("1 / 0"), "6"]
    solutions = ["    return 2 * x\n", "    return x + 3\n", "    return 7\n", "    exit()\n"]
    parts = {
        "program": {"name": "program", "result": "solution()"},
        "tests": {"name": "code", "entry_point": "name"},
    }
    try:
        made = rewards(parts)
    except UserError as error:
        pytest.skip(str(error))
    with made:
        scored = made.score([of] * 8, [*group(of, answers), *group(of, solutions, 1)])
        unknown = made.score([prompt(gold="6")], group(prompt(), ["    return 2 * x\n"]))
    assert scored.parts["program"].tolist()[:4] == [1, 0, 0, 0]
    assert scored.parts["tests"].tolist()[4:] == [1, 1, 0, 0]
    assert unknown.faults[0].reason == "the row has no column 'tests'; it has gold"
    assert np.isnan(unknown.reward).all()


# ---------------------------------------------------------------- form


def holds_format(made: Rollout, **asked: Any) -> bool:
    settings = {"box": False, "eos": False} | asked
    return Format(FormatPart.model_validate({"name": "format"} | settings)).holds(made)


@pytest.mark.parametrize(
    ("text", "good"),
    [
        (r"It is \boxed{4}.", True),
        (r"It is \boxed{\frac{1}{2}}.", True),
        (r"It is boxed in: \boxed{4}.", True),
        ("It is 4.", False),
        (r"\boxed{3} no, \boxed{4}", False),
        (r"\boxed{4} and \boxed{4}", False),
        (r"\boxed{4", False),
        (r"\boxed{4} \boxed{", False),
    ],
)
def test_one_box(text: str, good: bool) -> None:
    assert holds_format(rollout(text, of=prompt()), box=True) is good


def test_ended_by_the_model() -> None:
    of = prompt()
    ends = [
        holds_format(rollout("4", of=of, finish=finish), eos=True) for finish in ("eos", "stop", "length", "rounds")
    ]
    assert ends == [True, False, False, False]


CALL, OUTPUT = "I compute.\n```python\nprint(4)\n```\n", "```output\n4\n```\n"


def _tools(*parts: tuple[str, bool]) -> Rollout:
    """A transcript of texts, each the model's own or put in."""
    of = prompt()
    made = rollout("".join(text for text, _ in parts), of=of)
    mask = [False] * len(of.input_ids) + [own for text, own in parts for _ in ids(text)] + [True]
    tokens = [*of.input_ids, *(token for text, _ in parts for token in ids(text)), tokenizer().eos_token_id]
    return dataclasses.replace(made, token_ids=np.array(tokens), action_mask=np.array(mask))


@pytest.mark.parametrize(
    ("parts", "good"),
    [
        ([("No program at all.", True)], True),
        ([(CALL, True), (OUTPUT, False), ("So 4.", True)], True),
        ([(CALL, True), (OUTPUT, False), (CALL, True), (OUTPUT, False), ("So 4.", True)], True),
        ([(CALL, True), (OUTPUT, True), ("So 4.", True)], False),  # it made the output up
        ([(CALL, True), (OUTPUT, False), (OUTPUT, True)], False),
        ([("```python\nprint(4)\n", True)], False),
        ([("```js\nlet a\n```\n", True)], False),
        ([("Run ``` here.", True)], False),
        ([(CALL + "```\n", True), (OUTPUT, False)], False),
    ],
)
def test_fences(parts: list[tuple[str, bool]], good: bool) -> None:
    assert holds_format(_tools(*parts), fences=True) is good


def test_a_pattern_that_takes_for_ever_is_a_fault() -> None:
    of = prompt()
    part = {"name": "format", "eos": False, "box": True, "pattern": r"^(a+)+$", "timeout_s": 1.0}
    with rewards({"form": part}) as made:
        good = made.score([of] * 2, group(of, ["aaa", "b"]))
        scored = made.score([of] * 2, group(of, ["aaa", "a" * 60 + "b"]))
    assert good.reward.tolist() == [0, 0]  # no box
    assert [(fault.sample, fault.reason) for fault in scored.faults] == [(1, "the call took longer than timeout_s=1")]
    with rewards({"form": part | {"box": False}}) as made:
        assert made.score([of] * 2, group(of, ["aaa", "b"])).reward.tolist() == [1, 0]


# ---------------------------------------------------------------- length, equations


def test_overlong_answers_by_hand() -> None:
    lengths = [0, 80, 81, 90, 100, 101, 500]
    assert [overlong(n, 100, 20) for n in lengths] == pytest.approx([0, 0, -0.05, -0.5, -1, -1, -1])
    of = prompt()
    with rewards({"length": {"name": "length", "max_tokens": 8, "buffer": 4}}) as made:
        samples = [rollout("a" * n, of=of, sample=n) for n in (2, 5, 20)]
        expected = [overlong(len(ids("a" * n)) + 1, 8, 4) for n in (2, 5, 20)]  # an EOS each, no token of the prompt
        assert made.score([of] * 3, samples).reward.tolist() == expected


@pytest.mark.parametrize("problem", generate_problems(30, 0, language="mixed", steps=(1, 3)), ids=lambda p: p.kind)
def test_equations_of_right_solutions_hold(problem: Any) -> None:
    assert holds(problem.solution)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("no equation", True),
        ("2 + 3 * 4 = 14", True),
        ("2 + 3 * 4 = 20", False),
        ("7 / 3 = 2.33", True),
        ("7 / 3 = 2.43", False),
        ("7 / 2 = 3", False),
        (r"$5 \times 6 = 30$", True),
        ("$5 * $6 = $31", False),
        ("1,000 + 1 = 1,001.", True),
        ("5 - 8 = -3", True),
        ("5 - 8 = 3", False),
        ("4 / 0 = 4", False),
        ("50% * 8 = 4", True),
        ("20 / 9 = 2 remainder 2", True),
        ("20 / 9 = 2 remainder 3", False),
        ("20 / 9 = 1 remainder 11", False),
        ("83 / 2 = 41 余 1。", True),
        ("2 * 3 = 6, 6 + 1 = 8", False),
    ],
)
def test_equations(text: str, right: bool) -> None:
    assert holds(text) is right


@settings(deadline=None, max_examples=50)
@given(a=st.integers(0, 999), b=st.integers(1, 999), c=st.integers(0, 999), first=st.sampled_from("+-*/"))
def test_equations_agree_with_fractions(a: int, b: int, c: int, first: str) -> None:
    left = {"+": a + b, "-": a - b, "*": a * b, "/": Fraction(a, b)}[first]
    assert holds(f"{a} {first} {b} + {c} = {round(float(left + c), 2)}")
    assert not holds(f"{a} {first} {b} + {c} = {round(float(left + c), 2) + 0.02:.2f}")
