"""Rows of every layout to conversations, against hand-written ones."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError

from dsm.config.data import SourceConfig
from dsm.data.formats import (
    SUFFIXES,
    Example,
    clean_gsm8k,
    question_suffix,
    split_outputs,
)
from dsm.data.layouts import RowError
from dsm.data.records import Rejected
from tests.data.format_lab import ASSISTANT, SYSTEM, TIR, TOOL, TWO_TURNS, USER, example_of, formatted, messages

# ---------------------------------------------------------------- layouts


@pytest.mark.parametrize(
    ("row", "options"),
    [
        (messages(("user", "1 + 1?"), ("assistant", "2")), {}),
        ({"messages": [{"from": "human", "value": "1 + 1?"}, {"from": "gpt", "value": "2"}]}, {}),
        ({"conversations": [{"from": "human", "value": "1 + 1?"}, {"from": "gpt", "value": "2"}], "id": 3}, {}),
        ({"prompt": "1 + 1?", "completion": "2"}, {}),
        ({"question": "1 + 1?", "answer": "2"}, {}),
        ({"question": "1 + 1?", "answer": 2}, {}),
        ({"question": "1 + 1?", "answer": 2.0}, {}),
        ({"question": "1 + 1?", "solution": "2"}, {"columns": {"answer": "solution"}}),
        ({"problem": "1 + 1?", "solution": "2"}, {"columns": {"question": "problem", "answer": "solution"}}),
        (
            {"problem": "1 + 1?", "solution": "2", "messages": []},
            {"columns": {"question": "problem", "answer": "solution"}},
        ),
        ({"prompt": "1 + 1?", "completion": "2", "messages": []}, {"layout": "prompt_completion"}),
        ({"question": "1 + 1?", "answer": "2", "messages": []}, {"layout": "columns"}),
        ({"question": "1 + 1?", "answer": "2", "sys": None}, {"columns": {"system": "sys"}}),
    ],
)
def test_every_layout_gives_the_same_turns(row: dict[str, Any], options: dict[str, Any]) -> None:
    example = example_of(row, **options)
    assert example == Example(TWO_TURNS, source="file", location="file:1", style="cot")


def test_a_system_column_and_line_ends() -> None:
    example = example_of({"question": "a\r\nb", "answer": 0.5, "s": "Be brief."}, columns={"system": "s"})
    assert [turn.content for turn in example.turns] == ["Be brief.", "a\nb", "0.5"]
    assert [turn.train for turn in example.turns] == [False, False, True]


@pytest.mark.parametrize(
    ("row", "options", "reason"),
    [
        ({"text": "hello", "id": 1}, {}, "no layout fits its keys (text, id)"),
        ({}, {}, "no layout fits its keys (none)"),
        ({"question": "q"}, {"layout": "columns"}, "has no column 'answer'; its keys are question"),
        (
            {"q": "q", "answer": "a"},
            {"columns": {"question": "problem"}},
            "has no column 'problem'; its keys are q, answer",
        ),
        ({"prompt": "q", "response": "a"}, {"layout": "prompt_completion"}, "has no column 'completion'"),
        ({"question": "q", "answer": "a"}, {"layout": "messages"}, "has neither messages nor conversations"),
        ({"question": " \n", "answer": "a"}, {}, "column 'question' is empty"),
        ({"question": "q", "answer": ""}, {}, "column 'answer' is empty"),
        ({"question": "q", "answer": None}, {}, "column 'answer' must be text or a finite number, not null"),
        ({"question": "q", "answer": ["a"]}, {}, """must be text or a finite number, not ["a"]"""),
        ({"question": "q", "answer": True}, {}, "must be text or a finite number, not true"),
        ({"question": "q", "answer": float("nan")}, {}, "must be text or a finite number, not NaN"),
        ({"question": "q", "answer": b"a"}, {}, "must be text or a finite number"),
        ({"question": "q \ud83d", "answer": "a"}, {}, "column 'question' holds half a surrogate pair"),
        ({"messages": "q"}, {}, "messages must be a non-empty list"),
        ({"messages": []}, {}, "messages must be a non-empty list"),
        ({"conversations": None}, {}, "conversations must be a non-empty list"),
        ({"messages": ["q", "a"]}, {}, "message 1 must be an object with role and content"),
        ({"messages": [{"role": "user"}]}, {}, "message 1 (user) has no content; its keys are role"),
        (messages(("human being", "q")), {}, "message 1: unknown role 'human being'; allowed are system, user,"),
        (messages((None, "q")), {}, "message 1: unknown role None"),
        (messages(USER, ("assistant", None)), {}, "message 2 (assistant) must be text"),
        (messages(USER, ("assistant", "")), {}, "message 2 (assistant) is empty"),
        (messages(USER), {}, "ends with a user message"),
        (messages(USER, ASSISTANT, USER), {}, "ends with a user message; the last must be the assistant's"),
        (messages(USER, ASSISTANT, TOOL), {}, "ends with a tool message"),
        (messages(SYSTEM, USER), {}, "ends with a user message"),
        (messages(ASSISTANT), {}, "message 1 is assistant at the start; allowed there: system or user"),
        (messages(SYSTEM, SYSTEM, USER, ASSISTANT), {}, "message 2 is system after system; allowed there: user"),
        (messages(USER, ASSISTANT, SYSTEM), {}, "message 3 is system after assistant"),
        (messages(USER, USER, ASSISTANT), {}, "message 2 is user after user"),
        (messages(USER, ASSISTANT, ASSISTANT), {}, "message 3 is assistant after assistant"),
        (messages(USER, TOOL, ASSISTANT), {}, "message 2 is tool after user"),
        ({"question": "q", "answer": "```output\n42"}, {}, "unclosed ```output block"),
        ({"question": "q", "answer": "```output\n42\n```The answer"}, {}, "unclosed ```output block"),
        (
            {"question": "q", "answer": "```python\nx\n```output\n42\n```"},
            {},
            "inside an unclosed ```python block (line 3)",
        ),
        ({"question": "q", "answer": "```output\n1\n```output\n2\n```"}, {}, "inside an unclosed ```output block"),
        ({"question": "q", "answer": "It says ```output\n1\n```"}, {}, "```output in the middle of a line (line 1)"),
        ({"question": "q", "answer": "```output\n42\n```\n"}, {}, "program output only"),
        (
            {"question": "q", "answer": "seventy-two"},
            {"transform": "gsm8k"},
            "does not end with a '#### <number>' line",
        ),
    ],
)
def test_a_row_that_cannot_be_used_is_set_aside_with_the_reason(
    row: dict[str, Any], options: dict[str, Any], reason: str
) -> None:
    rejected = formatted(row, **options)
    assert isinstance(rejected, Rejected)
    assert rejected.location == "file:1"
    assert reason in rejected.reason
    assert "\n" not in rejected.reason
    rejected.raw.encode()  # can be written to a file
    assert rejected.raw.startswith("{")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"columns": {"answers": "a"}}, "columns.answers: unknown; allowed are question, answer, system"),
        ({"columns": {"answer": "a"}, "layout": "messages"}, "not read with layout=messages"),
        ({"suffix": True}, "set style to cot, pot or tir"),
        ({"weight": 0.0}, "greater than 0"),
        ({"weight": float("inf")}, "finite"),
        ({"limit": 0}, "greater than 0"),
        ({"limit": "3"}, "valid integer"),
        ({"layout": "chatml"}, "'auto', 'messages'"),
        ({"pth": "x"}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(words)):
        SourceConfig(path="x", **options)


# ---------------------------------------------------------------- formats


def test_outputs_are_cut_out_whole_and_nothing_is_lost() -> None:
    parts = split_outputs(TIR + "\n```output\nTraceback:\n  ```python\n```  \n")
    assert [(part.role, part.train, part.content) for part in parts] == [
        ("assistant", True, "Let's see.\n```python\nprint(6 * 7)\n```\n"),
        ("tool", False, "```output\n42\n```\n"),
        ("assistant", True, "The answer is $\\boxed{42}$.\n"),
        ("tool", False, "```output\nTraceback:\n  ```python\n```  \n"),
    ]
    for text in ("no program", "```python\nx", "a\u2028b\r\n```\n```\n", TIR):
        assert "".join(part.content for part in split_outputs(text)) == text
    with pytest.raises(RowError, match="unclosed"):
        split_outputs("```output")


def test_tool_messages_become_output_blocks_of_one_assistant_message() -> None:
    program, answer = TIR.split("```output\n42\n```\n")
    inline = example_of({"question": "6 * 7?", "answer": TIR})
    apart = example_of(messages(("user", "6 * 7?"), ("assistant", program), ("tool", "42"), ("assistant", answer)))
    assert apart.turns == inline.turns
    assert apart.style == inline.style == "tir"
    silent = example_of(
        messages(USER, ("assistant", program), ("tool", ""), ("tool", " 42\n"), ("assistant", f"\n{answer}"))
    )
    assert [turn.content for turn in silent.turns[2:]] == ["```output\n\n```\n", "```output\n42\n```\n", answer]


def test_style_is_read_off_the_solution_unless_named() -> None:
    program = "```python\nprint(1)\n```"
    assert example_of({"question": "q", "answer": program}).style == "pot"
    assert example_of({"question": program, "answer": "a"}).style == "cot"
    assert example_of({"question": "q", "answer": "print(1)"}, style="pot").style == "pot"


def test_suffixes_are_deepseekmaths() -> None:
    en, zh = "What is 1 + 1?", "1 加 1 等于几？"
    row = {"question": f"{en} \n", "answer": "2"}
    step = "\nPlease reason step by step, and put your final answer within \\boxed{}."
    assert example_of(row, style="cot", suffix=True).turns[0].content == en + step
    assert example_of({**row, "question": en + step}, style="cot", suffix=True).turns[0].content == en + step
    assert example_of(row, style="cot").turns[0].content == row["question"]
    programs = (
        "Please integrate natural language reasoning with programs to solve the problem above, "
        "and put your final answer within \\boxed{}."
    )
    assert question_suffix(en, "tir") == programs
    assert question_suffix(zh, "cot") == "请通过逐步推理来解答问题，并把最终答案放置于\\boxed{}中。"
    assert question_suffix(zh, "tir") == "请结合自然语言和Python程序语言来解答问题，并把最终答案放置于\\boxed{}中。"
    assert question_suffix(zh, "tir", "en") == programs
    talk = example_of(messages(USER, ASSISTANT, ("user", zh), ASSISTANT), style="cot", suffix=True, language="auto")
    assert [turn.content for turn in talk.turns] == ["q", "a", f"{zh}\n{SUFFIXES['cot', 'zh']}", "a"]


def test_gsm8k_cleaning() -> None:
    answer = "He has 48/2 = $<<48/2=24>>24.\nSo 24+1,000 = <<24+1000=1024>>1,024.\n#### 1,024"
    assert clean_gsm8k(answer) == "He has 48/2 = $24.\nSo 24+1,000 = 1,024.\nThe answer is \\boxed{1024}."
    assert clean_gsm8k("#### -3\n") == "The answer is \\boxed{-3}."
