"""Conversations to text to tokens, against `apply_chat_template` and real data."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from dsm.config.data import SourceConfig
from dsm.data.formats import (
    CHAT,
    PLAIN,
    SUFFIXES,
    ChatTemplate,
    Example,
    Segment,
    chat_template_jinja,
    load_source,
    render,
    render_prompt,
    tokenise,
    tokenise_example,
)
from dsm.data.records import Rejected
from dsm.errors import UserError
from tests.data.format_lab import ASSISTANT, SYSTEM, TIR, TOOL, TWO_TURNS, USER, example_of, messages


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A small byte-level BPE with digits apart, as DeepSeek's."""
    backend = Tokenizer(models.BPE())
    digits = pre_tokenizers.Split(Regex(r"\p{N}"), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(
        [TIR, *SUFFIXES.values(), "User: What is it?\n\nAssistant: The answer is 3."] * 3, trainer
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = chat_template_jinja()
    return tokenizer


def text_of(segments: list[Segment], tokenizer: PreTrainedTokenizerFast) -> str:
    return "".join(s.text if s.special is None else getattr(tokenizer, s.special) for s in segments)


# ---------------------------------------------------------------- text


def test_the_chat_form_is_the_papers() -> None:
    example = Example(TWO_TURNS, "file", "file:1", "cot")
    assert render(example) == [
        Segment("", False, "bos_token"),
        Segment("User: 1 + 1?\n\nAssistant:", False),
        Segment(" 2", True),
        Segment("", True, "eos_token"),
    ]
    assert render_prompt(example.turns[:1]) == render(example)[:2]
    with pytest.raises(ValueError, match="end with a user turn"):
        render_prompt(example.turns)


def test_plain_is_prompt_and_completion_as_they_are() -> None:
    example = example_of({"prompt": "Q: 1 + 1?\nA:", "completion": " 2\n"})
    assert [(s.text or s.special, s.train) for s in render(example, PLAIN)] == [
        ("bos_token", False),
        ("Q: 1 + 1?\nA:", False),
        (" 2\n", True),
        ("eos_token", True),
    ]


CONVERSATIONS = {
    "single": messages(("user", "What is 1 + 1?"), ("assistant", "It is 2.")),
    "spaces": messages(("user", "  What?\n\n"), ("assistant", "\n It is 2. \n")),
    "multi": messages(USER, ("assistant", "It is 3."), ("user", "多少？"), ("assistant", "是 4。")),
    "system": messages(("system", " Be 'brief' {{ x }}.\n"), USER, ASSISTANT),
    "tir": messages(USER, ("assistant", TIR), USER, ("assistant", TIR)),
    "tools": messages(
        SYSTEM,
        USER,
        ("assistant", "\nFirst.\n"),
        TOOL,
        ("tool", ""),
        ("assistant", " x \n"),
        TOOL,
        ("assistant", "y "),
        USER,
        ASSISTANT,
    ),
}


@pytest.mark.parametrize(
    "template", [CHAT, PLAIN, ChatTemplate('<"Q">', "\n", "<\\A>\n", "")], ids=["chat", "plain", "own"]
)
@pytest.mark.parametrize("name", CONVERSATIONS)
def test_apply_chat_template_gives_the_same_text(
    tokenizer: PreTrainedTokenizerFast, name: str, template: ChatTemplate
) -> None:
    conversation = CONVERSATIONS[name]["messages"]
    source = chat_template_jinja(template)
    ours = text_of(render(example_of(CONVERSATIONS[name]), template), tokenizer)
    assert ours == tokenizer.apply_chat_template(conversation, chat_template=source, tokenize=False)

    last_question = max(i for i, message in enumerate(conversation) if message["role"] == "user")
    turns = example_of(
        messages(*[(m["role"], m["content"]) for m in conversation[: last_question + 1]], ASSISTANT)
    ).turns
    prompt = text_of(render_prompt(turns[:-1], template), tokenizer)
    assert prompt.endswith(template.assistant_prefix)
    assert prompt == tokenizer.apply_chat_template(
        conversation[: last_question + 1], chat_template=source, tokenize=False, add_generation_prompt=True
    )


# ---------------------------------------------------------------- tokens


def trained_text(segments: list[Segment], tokenizer: PreTrainedTokenizerFast) -> str:
    input_ids, trained = tokenise_example(segments, tokenizer)
    assert len(input_ids) == len(trained)
    return str(tokenizer.decode([i for i, train in zip(input_ids, trained, strict=True) if train]))


def test_the_mask_covers_exactly_what_the_assistant_wrote(tokenizer: PreTrainedTokenizerFast) -> None:
    example = example_of(messages(SYSTEM, USER, ("assistant", "It is 3."), ("user", "6 * 7?"), ("assistant", TIR)))
    segments = render(example)
    input_ids, trained = tokenise_example(segments, tokenizer)
    assert trained_text(segments, tokenizer) == " It is 3.</s> " + TIR.replace("```output\n42\n```\n", "") + "</s>"
    assert tokenizer.decode(input_ids) == text_of(segments, tokenizer)
    assert input_ids[0] == tokenizer.bos_token_id
    assert not trained[0]
    assert input_ids[-1] == tokenizer.eos_token_id
    assert trained[-1]
    assert input_ids.count(tokenizer.eos_token_id) == 2


def test_prompt_tokens_are_those_of_generation(tokenizer: PreTrainedTokenizerFast) -> None:
    conversation = CONVERSATIONS["multi"]["messages"]
    input_ids, _ = tokenise_example(render(example_of(CONVERSATIONS["multi"])), tokenizer)
    whole = tokenizer.apply_chat_template(conversation, return_dict=False)
    assert input_ids == whole
    prompt = tokenizer.apply_chat_template(conversation[:3], add_generation_prompt=True, return_dict=False)
    assert input_ids[: len(prompt)] == prompt
    ours, _ = tokenise_example(render_prompt(example_of(CONVERSATIONS["multi"]).turns[:3]), tokenizer)
    assert ours == prompt


def test_text_cannot_spell_a_special_token(tokenizer: PreTrainedTokenizerFast) -> None:
    example = example_of({"question": "Is <s> a token?", "answer": "Yes, as </s> is."})
    input_ids, _ = tokenise_example(render(example), tokenizer)
    assert input_ids.count(tokenizer.bos_token_id) == 1
    assert input_ids.count(tokenizer.eos_token_id) == 1
    assert tokenizer.decode(input_ids) == "<s>User: Is <s> a token?\n\nAssistant: Yes, as </s> is.</s>"


def test_batches_change_nothing(tokenizer: PreTrainedTokenizerFast) -> None:
    examples = [example_of(row) for row in CONVERSATIONS.values()]
    alone = [tokenise_example(render(example), tokenizer) for example in examples]
    for batch_size in (1, 4, 100):
        assert list(tokenise(iter(examples), tokenizer, batch_size=batch_size)) == alone
    assert list(tokenise([], tokenizer)) == []


def test_a_tokenizer_needs_eos_but_not_bos(tokenizer: PreTrainedTokenizerFast) -> None:
    segments = render(Example(TWO_TURNS, "file", "file:1", "cot"))
    ids, _ = tokenise_example(segments, tokenizer)
    without_bos = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token="</s>")
    assert tokenise_example(segments, without_bos)[0] == ids[1:]
    with pytest.raises(UserError, match="no EOS token"):
        tokenise_example(segments, PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer))


# ---------------------------------------------------------------- sources, real data


def test_a_source_counts_its_limit_in_good_rows_and_fails_if_there_is_none(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    good, bad = json.dumps({"question": "q", "answer": "a"}), json.dumps({"question": "q", "answer": ""})
    file.write_text("\n".join([bad, good, "{", good, good]))
    kinds = [type(row).__name__ for row in load_source(SourceConfig(path=str(file), limit=2))]
    assert kinds == ["Rejected", "Example", "Rejected", "Example"]
    assert len(list(load_source(SourceConfig(path=str(file))))) == 5
    file.write_text(f"{bad}\n{{\n")
    with pytest.raises(UserError) as caught:
        list(load_source(SourceConfig(path=str(file)), key="data.sources[1]"))
    assert str(caught.value) == (
        f"data.sources[1].path={file}: none of its 2 rows can be used; the first: {file}:1: column 'answer' is empty"
    )
    with pytest.raises(UserError, match=r"^data\.sources\[1\]\.path=.*does not exist"):
        load_source(SourceConfig(path=str(tmp_path / "y.jsonl")), key="data.sources[1]")


def all_good(path: Path, **options: Any) -> list[Example]:
    rows = list(load_source(SourceConfig(path=str(path), **options)))
    assert not [row for row in rows if isinstance(row, Rejected)]
    return [row for row in rows if isinstance(row, Example)]


def test_gsm8k(shared_data: Path) -> None:
    examples = all_good(shared_data / "math/gsm8k/train.jsonl", transform="gsm8k", style="cot", suffix=True)
    assert len(examples) == 7473
    for example in examples:
        question, answer = example.turns
        assert question.content.endswith(SUFFIXES["cot", "en"])
        assert re.search(r"\nThe answer is \\boxed\{-?[\d.]+\}\.$", answer.content)
        assert "<<" not in answer.content
        assert "####" not in answer.content
    assert examples[0].turns[1].content == (
        "Natalia sold 48/2 = 24 clips in May.\nNatalia sold 48+24 = 72 clips altogether in April and May.\n"
        "The answer is \\boxed{72}."
    )


def test_tora(shared_data: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    file = shared_data / "math/generations/tora_corpus_examples.jsonl"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    examples = all_good(file, style="none")
    assert Counter(example.style for example in examples) == {"tir": 25, "cot": 5}
    for row, example in zip(rows, examples, strict=True):
        segments = render(example)
        solution = row["messages"][1]["content"].strip()
        spoken = re.sub(r"```output\n.*?\n```\n", "", solution, flags=re.DOTALL)  # an independent cut
        assert trained_text(segments, tokenizer) == f" {spoken}</s>"
        assert text_of(segments, tokenizer) == tokenizer.apply_chat_template(row["messages"], tokenize=False)
        if example.style == "tir":
            assert "```python" in spoken
            assert spoken != solution


def test_cmath_in_chinese(shared_data: Path) -> None:
    columns = {"question": "input", "answer": "golden"}
    examples = all_good(shared_data / "math/cmath/dev.jsonl", columns=columns, style="cot", suffix=True)
    assert len(examples) == 600
    assert all(example.turns[0].content.endswith("\n" + SUFFIXES["cot", "zh"]) for example in examples)
    assert examples[0].turns[1].content == "9"


def test_math(shared_data: Path) -> None:
    columns = {"question": "problem", "answer": "solution"}
    assert len(all_good(shared_data / "math/math/train.jsonl", columns=columns)) == 7500


def test_unanswered_rows_of_a_test_set_are_refused(shared_data: Path) -> None:
    with pytest.raises(UserError, match=r"none of its 250 rows can be used; .*message 2 \(assistant\) is empty"):
        list(load_source(SourceConfig(path=str(shared_data / "math/mgsm_zh/test.jsonl"))))
