"""Prompt sets: asked as SFT and evaluation ask, nothing lost in silence, drawn in an order of data and seed alone."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from dsm.config.benchmark import BenchmarkConfig
from dsm.config.data import SourceConfig
from dsm.config.prompts import DifficultyConfig, PromptDataConfig, PromptSourceConfig
from dsm.data.formats import load_source, render, tokenise_example
from dsm.data.prompts import Prompts, load_prompts
from dsm.data.tokenizer import train_tokenizer
from dsm.errors import UserError
from dsm.evaluation.benchmarks import Item
from dsm.evaluation.prompts import Prompter

TOKENIZER = train_tokenizer(["how many eggs are in a nest of three eggs"] * 3, 290)
GSM = [
    {"question": "Two and two?", "answer": "2+2=<<2+2=4>>4\n#### 4", "level": 1},
    {"question": "1,000 and 72?", "answer": "It is 1,072.\n#### 1,072", "level": 2},
    {"question": "一加一等于几？", "answer": "2\n#### 2", "level": 3},
]


def _write(file: Path, rows: list[Any]) -> str:
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(file)


def _config(sources: dict[str, dict[str, Any]], **settings: Any) -> PromptDataConfig:
    return PromptDataConfig.model_validate(
        {"sources": sources, "template": "auto", "max_tokens": None, "difficulty": None} | settings
    )


def _load(tmp_path: Path, sources: dict[str, dict[str, Any]], room: int | None = None, **settings: Any) -> Prompts:
    return load_prompts(_config(sources, **settings), TOKENIZER, tmp_path / "cache", room=room)


@pytest.fixture
def gsm(tmp_path: Path) -> dict[str, Any]:
    return {"path": _write(tmp_path / "gsm.jsonl", GSM), "transform": "gsm8k", "gold": "boxed"}


def test_columns_gold_and_solution(tmp_path, gsm):
    """Rewards see the whole row, the reference answer and the cleaned solution."""
    prompts = _load(tmp_path, {"gsm": gsm})
    assert [prompt.question for prompt in prompts] == [row["question"] for row in GSM]
    assert [prompt.columns["gold"] for prompt in prompts] == ["4", "1072", "2"]
    assert prompts[0].columns == GSM[0] | {"gold": "4", "solution": "2+2=4\nThe answer is \\boxed{4}."}
    assert [prompt.number for prompt in prompts] == [0, 1, 2]
    assert prompts[-1] == prompts[2] == prompts[1:][1]
    assert {prompt.source for prompt in prompts} == {"gsm"}


def test_prompts_are_those_of_sft_and_of_evaluation(tmp_path, gsm):
    """The same question in the same words and tokens, Chinese ones with the Chinese instruction."""
    prompts = _load(tmp_path, {"gsm": gsm})
    source = SourceConfig(path=gsm["path"], transform="gsm8k", style="cot", suffix=True)
    prompter = Prompter("gsm8k", BenchmarkConfig(data={"path": gsm["path"]}), "zero_shot", TOKENIZER)
    for prompt, example in zip(prompts, load_source(source), strict=True):
        ids, trained = tokenise_example(render(example), TOKENIZER)  # type: ignore[arg-type]
        assert prompt.input_ids == tuple(ids[: trained.index(True)])
        assert prompt.input_ids == prompter.render(Item("", prompt.question, prompt.columns["gold"])).input_ids


def test_the_tokenizers_own_chat_form(tmp_path, gsm):
    """`auto` takes it where there is one, as evaluation does; it is part of the fingerprint."""
    own = train_tokenizer(["how many eggs are in a nest of three eggs"] * 3, 290)
    own.chat_template = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}<answer>"
    config = _config({"gsm": gsm})
    prompts = load_prompts(config, own, tmp_path / "cache")
    text = (
        f"<user>{GSM[0]['question']}\nPlease reason step by step, and put your final answer within \\boxed{{}}.<answer>"
    )
    assert own.decode(prompts[0].input_ids) == text
    assert prompts.fingerprint != load_prompts(config, TOKENIZER, tmp_path / "cache").fingerprint


def test_styles_and_plain(tmp_path, gsm):
    sources = {style: gsm | {"style": style, "suffix": True} for style in ("cot", "pot", "tir")}
    prompts = _load(tmp_path, sources, template="plain")
    texts = [TOKENIZER.decode(prompt.input_ids, skip_special_tokens=True) for prompt in prompts]
    assert len(set(texts)) == 9  # one question in three styles is three prompts
    assert texts[3] == "Two and two?\nPlease write a Python program to solve the problem above."
    assert {prompt.question for prompt in prompts} == {row["question"] for row in GSM}


def test_messages_and_rows_without_an_answer(tmp_path):
    """A conversation as a question (TRL's form); rewards that need no answer."""
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    rows = [{"prompt": talk, "topic": "why"}, {"prompt": "How?", "topic": "how"}]
    source = {"path": _write(tmp_path / "a.jsonl", rows), "columns": {"question": "prompt"}, "gold": "none"}
    prompts = _load(tmp_path, {"s": source | {"suffix": False}})
    assert [prompt.question for prompt in prompts] == ["Why?", "How?"]
    assert [dict(prompt.columns) for prompt in prompts] == rows
    text = "Be brief.\n\nUser: Why?\n\nAssistant:"
    assert TOKENIZER.decode(prompts[0].input_ids, skip_special_tokens=True) == text


def test_rows_set_aside_with_reasons(tmp_path, gsm):
    """Bad ones, duplicates (those that contradict say so), too long ones: counted, kept, none lost."""
    rows = [
        *GSM,
        GSM[0],
        GSM[1] | {"answer": "#### 9"},
        {"question": "No answer?"},
        "{broken",
        {"question": "x\u2028" * 150, "answer": "#### 1"},
    ]
    gsm["path"] = _write(tmp_path / "more.jsonl", rows)
    prompts = _load(tmp_path, {"gsm": gsm}, room=200)
    assert prompts.counts == {"prompts": 3, "duplicate": 2, "bad": 2, "too_long": 1}
    assert prompts.write_set_aside(tmp_path / "aside.jsonl") == 5
    aside = [json.loads(line) for line in (tmp_path / "aside.jsonl").read_text().split("\n")[:-1]]
    reasons = {row["location"].rpartition(":")[2]: row["reason"] for row in aside}
    assert reasons["4"] == f"asks what another asks ({gsm['path']}:1)"
    assert reasons["5"] == f"asks what another asks ({gsm['path']}:2), which has the answer 1072"
    assert reasons["6"].startswith("no layout fits its keys (question)")
    assert reasons["7"].startswith("not valid JSON")
    assert reasons["8"].endswith("tokens, more than 200")


def test_nothing_to_ask_is_the_users_to_fix(tmp_path, gsm):
    with pytest.raises(UserError, match=r"^rollout.max_new_tokens: no prompt has at most 3 tokens; the shortest has"):
        _load(tmp_path, {"gsm": gsm}, room=3)
    bad = gsm | {"columns": {"question": "problem"}}
    with pytest.raises(
        UserError, match=r"^prompts.sources.bad.path=.*: none of its rows can be asked; the first: .*:1"
    ):
        _load(tmp_path, {"gsm": gsm, "bad": bad})
    with pytest.raises(ValidationError, match="set gold=boxed"):
        PromptSourceConfig(path="x", transform="gsm8k")
    with pytest.raises(ValidationError, match=r"sources=\{\}"):
        _config({})


def test_found_again_in_the_cache(tmp_path, gsm, monkeypatch):
    """The second time no row is read; other bytes are another set."""
    first = _load(tmp_path, {"gsm": gsm})
    monkeypatch.setattr("dsm.data.prompts.read_questions", None)
    again = _load(tmp_path, {"gsm": gsm})
    assert list(again) == list(first)
    assert again.fingerprint == first.fingerprint
    monkeypatch.undo()
    _write(tmp_path / "gsm.jsonl", GSM[:2])
    assert _load(tmp_path, {"gsm": gsm}).fingerprint != first.fingerprint


def test_difficulty(tmp_path, gsm):
    """By a recorded pass rate: what is hopeless or known already is not asked; ids outlive a change of order."""
    ids = [prompt.id for prompt in _load(tmp_path, {"gsm": gsm})]
    rates = _write(tmp_path / "rates.jsonl", [{"id": ids[0], "pass_rate": 0.0}, {"id": ids[1], "pass_rate": 0.5}])
    _write(tmp_path / "gsm.jsonl", GSM[::-1])
    kept = _load(tmp_path, {"gsm": gsm}, difficulty={"path": rates, "min": 0.1, "max": 0.9})
    assert [prompt.id for prompt in kept] == [ids[2], ids[1]]
    assert [prompt.number for prompt in kept] == [0, 1]
    assert kept.counts == {"prompts": 2, "too_hard": 1}
    known = _load(tmp_path, {"gsm": gsm}, difficulty={"path": rates, "max": 0.4, "unknown": "set_aside"})
    assert [prompt.id for prompt in known] == [ids[0]]
    assert known.counts == {"prompts": 1, "too_easy": 1, "no_pass_rate": 1}
    assert known.fingerprint != kept.fingerprint
    with pytest.raises(UserError, match="leaves no prompt"):
        _load(tmp_path, {"gsm": gsm}, difficulty={"path": rates, "min": 1.0, "unknown": "set_aside"})
    with pytest.raises(UserError, match=r"rates.jsonl:1: must hold id and pass_rate"):
        _load(tmp_path, {"gsm": gsm}, difficulty={"path": _write(tmp_path / "rates.jsonl", [{"id": ids[0]}])})
    with pytest.raises(ValidationError, match="must not be above"):
        DifficultyConfig(path="x", min=0.5, max=0.2)


def _many(tmp_path: Path, name: str, count: int, **settings: Any) -> dict[str, Any]:
    rows = [{"question": f"{name} {i}?", "answer": str(i)} for i in range(count)]
    return {"path": _write(tmp_path / f"{name}.jsonl", rows)} | settings


def test_draw_order(tmp_path):
    """Places of one endless list, whatever the pieces they are taken in; each epoch asks each prompt once."""
    prompts = _load(tmp_path, {"a": _many(tmp_path, "a", 10), "b": _many(tmp_path, "b", 7)})
    order = prompts.order(seed=3)
    whole = order.numbers(0, 100)
    assert [number for first in range(0, 100, 7) for number in prompts.order(3).numbers(first, 7)][:100] == whole
    assert all(sorted(whole[17 * e : 17 * (e + 1)]) == list(range(17)) for e in range(5))
    assert whole[:17] != whole[17:34]
    assert prompts.order(4).numbers(0, 17) != whole[:17]


def test_weights(tmp_path):
    """0.5 is a random half a time and the other half the next; 2 is two passes."""
    half, twice = _many(tmp_path, "a", 10, weight=0.5), _many(tmp_path, "b", 4, weight=2.0)
    prompts = _load(tmp_path, {"a": half, "b": twice})
    drawn = prompts.order(seed=0).numbers(0, 26)  # two epochs of 5 + 8
    first, second = (Counter(drawn[i : i + 13]) for i in (0, 13))
    assert sorted(set(first) & set(range(10)) | set(second) & set(range(10))) == list(range(10))
    assert all(first[number] == second[number] == 2 for number in range(10, 14))
