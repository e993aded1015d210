"""Choices by likelihood: where prompt and choice part, what is summed, and which choice wins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from dsm.config.benchmark import BenchmarkConfig
from dsm.errors import UserError
from dsm.evaluation.benchmarks import Item
from dsm.evaluation.choices import ChoiceScores, score_choices
from dsm.evaluation.prompts import Prompter
from tests.evaluation.benchmark_lab import tokenizer_of

ITEM = Item("1", "Colour of snow?", "B", ("dark green", "white", "white and red", "red"))
BYTES = tokenizer_of()


def of_kind(continuation: str) -> BenchmarkConfig:
    return BenchmarkConfig.model_validate(
        {
            "kind": "choices",
            "data": {"choices": "{choices}", "gold_form": "choice"},
            "few_shot": {"shot": "{question} Answer: {answer}"},
            "likelihood": {"continuation": continuation},
        }
    )


class Uniform:
    """An engine for which every token has the probability 1/2; keeps what it was asked."""

    def __init__(self) -> None:
        self.calls: list[Sequence[tuple[Sequence[int], Sequence[int]]]] = []

    def score(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[list[float]]:
        self.calls.append(pairs)
        return [[-math.log(2)] * len(continuation) for _, continuation in pairs]


@pytest.mark.parametrize("continuation", ["letter", "text"])
@pytest.mark.parametrize(
    "tokenizer",
    [
        BYTES,
        tokenizer_of("Answer: A Answer: B white and red dark green"),
        tokenizer_of("Answer: A Answer: B Answer: C Answer: white and red", words=False),  # ': B' may be one token
    ],
    ids=["bytes", "words", "across words"],
)
def test_prompt_and_choice_are_the_tokens_of_the_whole_text(tokenizer: object, continuation: str) -> None:
    prompter = Prompter("mine", of_kind(continuation), "few_shot", tokenizer)  # type: ignore[arg-type]
    texts = list(ITEM.choices) if continuation == "text" else ["A", "B", "C", "D"]
    pairs = prompter.continuations(ITEM)
    assert len({prompt for prompt, _ in pairs}) == 1  # one prompt, whose cache all choices share
    for text, (prompt, ending) in zip(texts, pairs, strict=True):
        assert prompt[0] == tokenizer.bos_token_id  # type: ignore[attr-defined]
        assert ending
        whole = tokenizer(f"Colour of snow? Answer: {text}", add_special_tokens=False)["input_ids"]  # type: ignore[operator]
        assert [*prompt[1:], *ending] == whole


def test_a_token_over_the_border_belongs_to_the_choices() -> None:
    tokenizer = tokenizer_of("? Answer: A" * 9, "? Answer: B" * 9, words=False)
    (prompt, ending), *_ = Prompter("mine", of_kind("letter"), "few_shot", tokenizer).continuations(ITEM)
    alone = Prompter("mine", of_kind("letter"), "few_shot", tokenizer).render(ITEM).input_ids
    assert len(prompt) < len(alone)
    assert tokenizer.decode([*prompt[1:], *ending]) == "Colour of snow? Answer: A"


def test_sums_of_tokens_and_the_three_ways_to_compare_them() -> None:
    engine = Uniform()
    (scores,) = score_choices([ITEM], Prompter("mine", of_kind("text"), "few_shot", BYTES), engine)
    tokens = [len(f" {choice}") for choice in ITEM.choices]  # one a byte, the space too
    assert scores.tokens == tuple(tokens)
    assert scores.bytes == tuple(len(choice) for choice in ITEM.choices)
    assert scores.logprobs == pytest.approx([-math.log(2) * count for count in tokens])
    assert scores.chosen() == "D"  # the shortest
    assert scores.chosen("length") == "A"  # all equal: the first
    assert scores.chosen("bytes") == "C"  # (n + 1) / n is the smallest for the longest
    assert len(engine.calls) == 1


def test_normalised_scores_by_hand() -> None:
    scores = ChoiceScores((-4.0, -6.0, -9.0), (2, 4, 3), (8, 6, 36))
    assert scores.normalised("none") == (-4.0, -6.0, -9.0)
    assert scores.normalised("length") == (-2.0, -1.5, -3.0)
    assert scores.normalised("bytes") == (-0.5, -1.0, -0.25)
    assert [scores.chosen(way) for way in ("none", "length", "bytes")] == ["A", "B", "C"]  # type: ignore[arg-type]


def test_scores_come_out_item_by_item() -> None:
    other = Item("2", "q", "A", ("x", "y"))
    scores = score_choices([ITEM, other], Prompter("mine", of_kind("letter"), "few_shot", BYTES), Uniform())
    assert [len(of_item.logprobs) for of_item in scores] == [4, 2]
    assert all(of_item.bytes == (1,) * len(of_item.bytes) for of_item in scores)


def test_only_the_choices_need_room_after_the_prompt(tmp_path: Path) -> None:
    length = len(Prompter("mine", of_kind("letter"), "few_shot", BYTES).render(ITEM).input_ids)
    prompter = Prompter("mine", of_kind("letter"), "few_shot", BYTES, positions=length + 2)
    assert max(len(prompt) + len(ending) for prompt, ending in prompter.continuations(ITEM)) == length + 2
    with pytest.raises(UserError, match="more than the model's"):
        Prompter("mine", of_kind("text"), "few_shot", BYTES, positions=length + 2).continuations(ITEM)
