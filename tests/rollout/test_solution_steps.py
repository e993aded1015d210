"""Ends of steps: the text of the tokens up to an end is the text up to that step."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from dsm.config.rollout import StepsConfig
from dsm.rollout.steps import StepFinder, chosen_ends, step_starts
from dsm.rollout.stops import Detokenizer

TEXTS = [
    "2+2=4\n4*3=12\n\nThe answer is 12.",
    "\n\n first\n  indented\n\n\n\nsecond 你好 one\nlast\n\n",
    "One line",
    "Step 1: add\nand carry\nStep 2: multiply\n\nStep 10. done",
    "é\n你\n🙂🙂\nend",
]


def _greedy_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE that merges across line ends, as many do: `.\\n\\n` is one token."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<eos>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    backend.train_from_iterator(TEXTS * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>")


@pytest.fixture(params=["own lines", "merged lines"])
def words(request: pytest.FixtureRequest, tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    return tokenizer if request.param == "own lines" else _greedy_tokenizer()


def _pieces(text: str, **config: str) -> list[str]:
    starts = [*step_starts(text, StepsConfig(**config)), len(text)]  # type: ignore[arg-type]
    return [text[start:end] for start, end in pairwise(starts)]


def test_steps_of_a_text():
    assert _pieces(TEXTS[0]) == ["2+2=4\n", "4*3=12\n\n", "The answer is 12."]
    assert _pieces(TEXTS[0], split="paragraphs") == ["2+2=4\n4*3=12\n\n", "The answer is 12."]
    assert _pieces(TEXTS[1]) == ["\n\n first\n", "  indented\n\n\n\n", "second 你好 one\n", "last\n\n"]
    assert _pieces(TEXTS[3], split="marker") == ["Step 1: add\nand carry\n", "Step 2: multiply\n\n", "Step 10. done"]
    assert _pieces("Then: Step 2: x\nStep 3: y", split="marker") == ["Then: Step 2: x\n", "Step 3: y"]
    assert _pieces("a\nb\n\nc", split="marker", marker="[bc]") == ["a\n", "b\n\n", "c"]
    for split in ("lines", "paragraphs", "marker"):
        for text in TEXTS:
            pieces = _pieces(text, split=split)
            assert "".join(pieces) == text
            assert all(piece.strip() for piece in pieces)


@pytest.mark.parametrize("split", ["lines", "paragraphs", "marker"])
@pytest.mark.parametrize("text", TEXTS)
def test_ends_through_the_detokenizer(split, text, words):
    """Up to its end a step is said whole, and one token earlier it is not."""
    ids = words(text, add_special_tokens=False)["input_ids"]
    detokenizer = Detokenizer(words, len(words))
    ends = StepFinder(detokenizer, StepsConfig(split=split)).ends(ids, ended=False)
    starts = [*step_starts(text, StepsConfig(split=split)), len(text)]
    assert ends[-1] == len(ids) - 1
    assert ends == sorted(set(ends))
    borders = [
        next(i for i in range(len(ids)) if detokenizer.text(ids[: i + 1]).startswith(text[:s])) for s in starts[1:-1]
    ]
    assert ends == sorted({*borders, len(ids) - 1})
    for end in ends:  # more than the step's text can only be what its last token brings along
        said = detokenizer.text(ids[: end + 1])
        step = max(s for s in starts if s <= len(said))
        assert detokenizer.text(ids[:end]) != said
        assert text[:step] == said[:step]
    if words.eos_token != "<eos>":  # line ends are tokens of their own: exact
        assert [detokenizer.text(ids[: end + 1]) for end in ends] == [text[:s] for s in starts[1:]]


def test_the_last_step_ends_before_the_eos(tokenizer):
    eos = tokenizer.eos_token_id
    ids = tokenizer("a\nb", add_special_tokens=False)["input_ids"]
    finder = StepFinder(Detokenizer(tokenizer, len(tokenizer)), StepsConfig())
    assert finder.ends([*ids, eos], ended=True) == finder.ends(ids, ended=False) == [1, 2]
    assert finder.ends([eos], ended=True) == [0]  # says nothing: one step
    assert finder.ends([], ended=False) == []
    assert finder.ends([*ids[:1], len(tokenizer) + 5], ended=False) == [1]  # an id that pads the vocabulary


def test_steps_end_where_the_policy_chose():
    """A step that ends in a tool's output ends before it; one that lies in there is nobody's."""
    mask = np.array([0, 0, 1, 1, 0, 0, 0, 1, 1], dtype=bool)
    assert chosen_ends([3, 5, 6, 8], mask).tolist() == [3, 8]
    assert chosen_ends([1, 2, 4], mask).tolist() == [2, 3]
    assert chosen_ends([], mask).tolist() == []


def test_a_marker_must_compile():
    with pytest.raises(ValueError, match=r"marker=\(: is no regular expression"):
        StepsConfig(split="marker", marker="(")
