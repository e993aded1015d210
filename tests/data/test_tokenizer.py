"""The tokenizer: nothing lost, no token across classes of characters, the paper's chat form, a true fingerprint."""

from __future__ import annotations

import json
import random
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, LlamaConfig, PreTrainedTokenizerFast

from dsm.data.problems import generate_problems
from dsm.data.tokenizer import (
    BOS,
    EOS,
    MIN_VOCAB_SIZE,
    PAD,
    SPECIAL_TOKENS,
    load_tokenizer,
    save_tokenizer,
    tokenizer_fingerprint,
    tokenizer_report,
    train_tokenizer,
)
from dsm.errors import UserError


def mixed_texts() -> list[str]:
    """English, Chinese, Japanese, Korean, mathematics, code and odd blanks; repeated, so that everything can merge."""
    lines = [
        'The sum of 12 and 345 is 357; isn\'t it?  Yes -- "it is"!\r\n\r\n',
        "让我们一步一步地思考：小明有12个苹果，又买了３个。答案是 \\boxed{15}。\n\n\n",
        "カタカナとひらがなー漢字 한국어 문장입니다. Ελληνικά и русский नमस्ते café naïve\n",
        "$$\\frac{a_{1}+b^{2}}{\\sqrt{x}} \\le \\sum_{i=0}^{n} 2^i, \\quad x \\in \\mathbb{R}$$ ≤ ∑ ½ ² Ⅳ\n",
        "def solution():\n    total = 12 * (3 + 4)\n\treturn total  # 84%\n\n\n\nprint(solution())\n",
        "a1b2c3 x=1 C++17 中a文1字 abc。def 3.14 1,000 --- === ... 😀😀 👩‍👩‍👧\t\t \u00a0\u3000\n",
    ]
    rng = random.Random(0)
    problems = generate_problems(200, seed=0, language="mixed")
    texts = [f"{problem.question}\n{problem.solution}" for problem in problems]
    return texts + ["".join(rng.sample(lines, len(lines))) for _ in range(200)]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(mixed_texts(), 1200)


def character_class(character: str) -> str:
    """Independent of the regular expression under test: Unicode's own category, and its names for the CJK scripts."""
    if character in "\r\n":
        return "newline"
    if character.isspace():
        return "blank"
    category, name = unicodedata.category(character), unicodedata.name(character, "")
    if category[0] == "N":
        return "digit"
    if name.startswith(("CJK UNIFIED", "HIRAGANA", "KATAKANA", "HANGUL")):
        return "cjk"
    return {"L": "letter", "M": "letter", "P": "punctuation", "S": "punctuation"}.get(category[0], "other")


def assert_one_class_per_token(tokenizer: PreTrainedTokenizerFast) -> int:
    """Check every token that holds whole characters; returns how many hold more than one."""
    longer = 0
    byte_of = {char: byte for byte, char in enumerate_byte_alphabet()}
    for token in tokenizer.get_vocab():
        if token in SPECIAL_TOKENS:
            continue
        # A token may begin or end inside a character: those fragments have no class, what is whole between them has.
        text = bytes(byte_of[char] for char in token).decode("utf-8", errors="ignore")
        classes = {character_class(char) for char in (text[1:] if text[:1] == " " and len(text) > 1 else text)}
        assert len(classes) <= 1, (token, text)
        if text[:1] == " ":
            assert classes <= {"letter", "punctuation", "blank"}, (token, text)
        if classes & {"digit", "newline"}:
            assert len(text) == 1, (token, text)
        longer += len(text) > 1
    return longer


def enumerate_byte_alphabet() -> list[tuple[int, str]]:
    """GPT-2's printable stand-ins for the 256 bytes, rebuilt from its definition."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return [(byte, chr(byte)) for byte in printable] + [(byte, chr(256 + i)) for i, byte in enumerate(others)]


def test_digits_stand_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.tokenize("12345") == ["1", "2", "3", "4", "5"]
    assert tokenizer.tokenize(" 12") == ["Ġ", "1", "2"]
    ids = tokenizer.encode("答案是 -3.14。", add_special_tokens=False)
    assert [tokenizer.decode([i]) for i in ids if tokenizer.decode([i]).isdigit()] == ["3", "1", "4"]


def test_no_token_mixes_classes(tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(tokenizer) == 1200
    assert assert_one_class_per_token(tokenizer) > 600


def test_no_token_mixes_classes_on_gsm8k(shared_data: Path) -> None:
    with (shared_data / "math" / "gsm8k" / "train.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for _, line in zip(range(2000), file, strict=False)]
    texts = [f"{row['question']}\n{row['answer']}" for row in rows]
    tokenizer = train_tokenizer(texts, 2000)
    assert assert_one_class_per_token(tokenizer) > 1500
    report = tokenizer_report(tokenizer, texts)
    assert report["bytes"] == sum(len(text.encode()) for text in texts)
    assert 2.3 < report["bytes_per_token"] < 3.2  # digits alone cost about 0.7 against a tokenizer that merges them


@given(st.text(max_size=60))
def test_round_trip_of_any_text(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_round_trip_of_every_character_and_of_special_names(tokenizer: PreTrainedTokenizerFast) -> None:
    assigned = [chr(i) for i in range(0x110000) if unicodedata.category(chr(i)) not in ("Cn", "Co", "Cs")]
    rows = ["".join(assigned[i : i + 100]) for i in range(0, len(assigned), 100)]
    for text in (*rows, *mixed_texts()[-3:], " , . ! ' n't", f"{BOS} {EOS}"):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    as_text = tokenizer.encode(EOS, add_special_tokens=False, split_special_tokens=True)
    assert tokenizer.eos_token_id not in as_text
    assert tokenizer.decode(as_text) == EOS


def test_special_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    assert [tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token] == [BOS, EOS, PAD]
    assert [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id] == [0, 1, 2]
    assert tokenizer.unk_token is None
    body = tokenizer.encode("one two", add_special_tokens=False)
    assert tokenizer.encode("one two") == [tokenizer.bos_token_id, *body]
    assert tokenizer.decode([0, *body, 1, 2, 3], skip_special_tokens=True) == "one two"


def test_chat_template_is_the_papers_form(tokenizer: PreTrainedTokenizerFast) -> None:
    messages = [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "It is 2."}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert text == f"{BOS}User: 1 + 1?\n\nAssistant: It is 2.{EOS}"
    prompt = tokenizer.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True)
    assert prompt == f"{BOS}User: 1 + 1?\n\nAssistant:"


def test_saved_and_loaded_is_the_same(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    save_tokenizer(tokenizer, tmp_path)
    # An exported model's config must not make AutoTokenizer rebuild the tokenizer as that architecture's own.
    LlamaConfig(vocab_size=1200).save_pretrained(tmp_path)
    for loaded in (AutoTokenizer.from_pretrained(tmp_path), load_tokenizer(str(tmp_path))):
        assert tokenizer_fingerprint(loaded) == tokenizer_fingerprint(tokenizer)
        assert loaded.model_max_length == tokenizer.model_max_length
        for text in mixed_texts()[-3:]:
            assert loaded.encode(text) == tokenizer.encode(text)
            assert loaded.decode(loaded.encode(text), skip_special_tokens=True) == text


def test_same_texts_give_the_same_tokenizer_and_any_change_another_fingerprint(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    fingerprint = tokenizer_fingerprint(tokenizer)
    assert tokenizer_fingerprint(train_tokenizer(iter(mixed_texts()), 1200)) == fingerprint
    tokenizer(["a", "b c d"], padding=True, truncation=True, max_length=2)  # leaves state behind in the backend
    assert tokenizer_fingerprint(tokenizer) == fingerprint

    save_tokenizer(tokenizer, tmp_path)
    assert json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))["truncation"] is None
    changed = load_tokenizer(str(tmp_path))
    changed.chat_template = changed.chat_template.replace("User", "Human")
    assert tokenizer_fingerprint(changed) != fingerprint
    changed = load_tokenizer(str(tmp_path))
    changed.pad_token = EOS
    assert tokenizer_fingerprint(changed) != fingerprint
    assert tokenizer_fingerprint(train_tokenizer(mixed_texts(), 1199)) != fingerprint


def test_too_small_a_vocabulary_or_no_text_is_the_users_error() -> None:
    with pytest.raises(UserError, match=rf"vocab_size={MIN_VOCAB_SIZE - 1}: .*at least {MIN_VOCAB_SIZE}"):
        train_tokenizer(["abc"], MIN_VOCAB_SIZE - 1)
    with pytest.raises(UserError, match="nothing to train"):
        train_tokenizer(["", ""], 300)


def test_small_corpus_reports_the_size_it_reached(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = train_tokenizer(["ab ab", "ab"], 1000)
    assert len(tokenizer) == MIN_VOCAB_SIZE + 1  # "ab" occurs three times, "Ġab" only once
    assert f"for {len(tokenizer)} tokens" in caplog.text


def test_load_errors_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        load_tokenizer(str(tmp_path / "missing"))
    (tmp_path / "tokenizer.json").write_text("{not json")
    with pytest.raises(UserError, match="cannot be loaded") as caught:
        load_tokenizer(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("added", "expected"),
    [(["<|reserved_0|>", "<|the_pad_id|>"], "<|the_pad_id|>"), (["<|reserved_0|>"], "<|reserved_0|>"), ([], EOS)],
)
def test_missing_pad_token_is_chosen(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, added: list[str], expected: str
) -> None:
    write_foreign_tokenizer(tokenizer, tmp_path, {"eos_token": EOS}, [EOS, *added])
    loaded = load_tokenizer(str(tmp_path))
    assert loaded.pad_token == expected
    assert len(loaded) == MIN_VOCAB_SIZE - len(SPECIAL_TOKENS) + 1 + len(added)


def test_missing_eos_token_is_the_users_error(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    write_foreign_tokenizer(tokenizer, tmp_path, {}, [])
    with pytest.raises(UserError, match="no end-of-sequence token"):
        load_tokenizer(str(tmp_path))


def write_foreign_tokenizer(
    tokenizer: PreTrainedTokenizerFast, folder: Path, config: dict[str, str], special: list[str]
) -> None:
    """A byte tokenizer as somebody else may have saved it: some special tokens, some of them given a meaning."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    alphabet = sorted(char for _, char in enumerate_byte_alphabet())
    backend["model"] |= {"vocab": {token: i for i, token in enumerate([*alphabet, *special])}, "merges": []}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    backend["added_tokens"] = [{"id": 256 + i, "content": token, **flags} for i, token in enumerate(special)]
    backend |= {"post_processor": None, "padding": None, "truncation": None}
    (folder / "tokenizer.json").write_text(json.dumps(backend))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **config}))
