"""From files to the batches of a step: masks, hold-out, context policies, cache, and independence from ranks."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from dsm.config.data import SourceConfig
from dsm.data.batch import Document, collate, step_batch
from dsm.data.instructions import PackedExamples, TokenisedExamples, fit_context, hold_out, tokenise_sources
from dsm.data.order import PackedOrder
from dsm.data.stream import StepStream
from dsm.data.tokenizer import train_tokenizer
from dsm.errors import UserError
from dsm.ops.logprobs import IGNORE


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["What is 1 + 1? It is 2. The answer is 2."] * 3, 300)


def write(path: Path, rows: list[dict]) -> SourceConfig:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return SourceConfig(path=str(path))


def flat(lengths: list[int], prompt: int = 1) -> TokenisedExamples:
    lengths_array = np.asarray(lengths, dtype=np.int64)
    starts = np.cumsum(lengths_array) - lengths_array
    ids = np.arange(lengths_array.sum(), dtype=np.int32)
    trained = np.ones(len(ids), dtype=np.bool_)
    for start in starts:
        trained[start : start + prompt] = False
    return TokenisedExamples(
        ids, trained, starts, lengths_array, np.zeros(len(lengths), np.int64), np.arange(len(lengths), dtype=np.uint64)
    )


def test_collate_moves_targets_inside_documents_only():
    first = Document(np.asarray([1, 2, 3]), np.asarray([False, True, True]), source=0)
    second = Document(np.asarray([4, 5]), np.asarray([True, True]), source=1)
    batch = collate([first, second])
    assert batch.input_ids.tolist() == [1, 2, 3, 4, 5]
    assert batch.targets.tolist() == [2, 3, IGNORE, 5, IGNORE]  # 4 follows 3 in the batch, not in the document
    assert batch.varlen.cu_seqlens.tolist() == [0, 3, 5]
    assert batch.varlen.position_ids().tolist() == [0, 1, 2, 0, 1]
    assert batch.sources.tolist() == [0, 1]


def test_a_step_counts_the_same_however_it_is_split():
    rows = [[Document(np.arange(n), np.arange(n) > n // 2)] for n in (4, 7, 2, 9)]
    whole, split = step_batch(rows, 10**6), step_batch(rows, 1)
    assert (len(whole.microbatches), len(split.microbatches)) == (1, 4)
    assert (whole.sequences, whole.tokens, whole.positions) == (split.sequences, split.tokens, split.positions)
    assert whole.tokens == sum(int((batch.targets != IGNORE).sum()) for batch in split.microbatches)
    assert whole.positions == 22
    # The second row fills the first micro-batch to the brim; one more token would not fit.
    assert [len(batch.input_ids) for batch in step_batch(rows, 11).microbatches] == [11, 11]


def test_sources_are_tokenised_once_with_prompts_masked_and_bad_rows_kept(tmp_path, tokenizer):
    good = write(tmp_path / "good.jsonl", [{"question": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(20)])
    mixed = write(tmp_path / "mixed.jsonl", [{"prompt": "Say 2.", "completion": "2"}, {"question": "alone"}])
    tokenised = tokenise_sources({"good": good, "mixed": mixed}, "chat", tokenizer, tmp_path / "cache")
    examples, reports = tokenised.examples(), tokenised.reports()
    assert [(report.name, report.examples, report.rejected) for report in reports] == [("good", 20, 0), ("mixed", 1, 1)]
    (aside,) = [json.loads(line) for line in tokenised.rejected.read_text().splitlines()]
    assert aside["source"] == "mixed"
    assert aside["location"].endswith("mixed.jsonl:2")
    assert "question" in aside["reason"]

    document = examples[3]
    prompt = document.ids[: document.trained.argmax()]
    assert tokenizer.decode(prompt) == "<|bos|>User: What is 3 + 1?\n\nAssistant:"
    assert tokenizer.decode(document.ids[document.trained]) == " 4<|eos|>"
    assert examples[20].source == 1

    before = sorted(path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.npy"))
    again = tokenise_sources({"good": good, "mixed": mixed}, "chat", tokenizer, tmp_path / "cache")
    assert sorted(path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.npy")) == before
    assert np.array_equal(again.examples().ids, examples.ids)
    write(tmp_path / "good.jsonl", [{"question": "New?", "answer": "yes"}])
    changed = tokenise_sources({"good": good, "mixed": mixed}, "chat", tokenizer, tmp_path / "cache")
    assert len(changed.examples()) == 2
    assert [key for key in changed.facts if changed.facts[key] != again.facts[key]] == ["data.sources.good"]
    swapped = tokenise_sources({"mixed": mixed, "good": good}, "chat", tokenizer, tmp_path / "cache")
    assert swapped.examples().sources.tolist() == [0, 1]
    assert [report.name for report in swapped.reports()] == ["mixed", "good"]


def test_a_source_without_a_usable_row_is_refused_and_leaves_no_cache(tmp_path, tokenizer):
    source = write(tmp_path / "bad.jsonl", [{"a": 1}, {"b": 2}])
    with pytest.raises(UserError, match=r"data\.sources\.bad\.path=.*none of its 2 rows"):
        tokenise_sources({"bad": source}, "chat", tokenizer, tmp_path / "cache")
    assert not any((tmp_path / "cache").glob("instructions-*"))


def test_hold_out_takes_whole_questions_and_does_not_move():
    examples = flat([5] * 100)
    questions = np.repeat(np.arange(50, dtype=np.uint64), 2)
    examples = TokenisedExamples(
        examples.ids, examples.trained, examples.starts, examples.lengths, examples.sources, questions
    )
    train, held = hold_out(examples, 0.1, 1000)
    assert len(held) == 10
    assert len(train) == 90
    assert not set(train.questions.tolist()) & set(held.questions.tolist())
    few = hold_out(examples, 0.5, 6)[1]
    assert len(few) == 6
    assert set(few.questions.tolist()) <= set(held.questions.tolist())
    backwards = hold_out(examples.select(np.arange(100)[::-1]), 0.1, 1000)[1]
    assert set(backwards.questions.tolist()) == set(held.questions.tolist())
    assert len(hold_out(examples, 0.0, 10)[1]) == 0


def test_examples_longer_than_the_context_follow_the_policy_and_are_counted():
    examples = flat([10, 25, 8, 21], prompt=2)
    dropped, counts = fit_context(examples, 10, "drop")
    assert (dropped.lengths.tolist(), counts) == ([10, 8], {"too_long": 2, "left_out": 2})
    cut, counts = fit_context(examples, 10, "cut")
    assert (cut.lengths.tolist(), counts) == ([10, 10, 8, 10], {"too_long": 2, "left_out": 0})
    assert cut[1].ids.tolist() == list(range(10, 20))
    split, counts = fit_context(examples, 10, "split")
    # 25 = 10 + 10 + 5; of 21 = 10 + 10 + 1 the last piece is one token, which nothing predicts.
    assert (split.lengths.tolist(), counts) == ([10, 10, 10, 5, 8, 10, 10], {"too_long": 2, "left_out": 1})
    assert np.concatenate([split[i].ids for i in range(1, 4)]).tolist() == list(range(10, 35))
    untouched, counts = fit_context(examples, 25, "drop")
    assert untouched is examples
    assert counts == {}


def test_cutting_away_every_answer_leaves_the_example_out():
    cut, counts = fit_context(flat([30], prompt=20), 10, "cut")
    assert len(cut) == 0
    assert counts == {"too_long": 1, "left_out": 1}


def stream(rank: int = 0, world_size: int = 1, limit: int = 64, sequences: int = 22) -> StepStream:
    examples = flat([7, 3, 9, 2, 5, 8, 11, 6, 4, 10] * 2)
    order = PackedOrder(examples.lengths, examples.sources, [1.0], 16, "best_fit", 0)
    return StepStream(PackedExamples(examples, order), 5, sequences, limit, rank=rank, shares=world_size)


def documents(stream: StepStream, step: int) -> list[list[int]]:
    split = []
    for batch in stream[step].microbatches:
        split += [part.tolist() for part in torch.split(batch.input_ids, list(batch.varlen.lengths))]
    return sorted(split)


@pytest.mark.parametrize("limit", [1, 20, 1000])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_a_step_holds_the_same_documents_for_every_world_and_microbatch(world_size, limit):
    assert stream().steps == 5
    for step in range(4):
        together = [d for rank in range(world_size) for d in documents(stream(rank, world_size, limit), step)]
        assert sorted(together) == documents(stream(), step)


def test_ranks_without_a_sequence_still_take_part():
    last = [stream(rank, 3)[4] for rank in range(3)]  # 22 sequences leave two for the last step
    assert [batch.sequences > 0 for batch in last] == [True, True, False]
    assert last[2].tokens == 0
    assert last[2].microbatches[0].targets.tolist() == [IGNORE]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_starts_where_the_run_stands(workers):
    here = replace(stream(), workers=workers)
    rest = [sorted(batch.input_ids.tolist()) for step in here.loader(lambda: 3) for batch in step.microbatches]
    assert rest == [sorted(batch.input_ids.tolist()) for n in (3, 4) for batch in stream()[n].microbatches]


def test_a_fractional_step_is_met_exactly_over_many():
    here = replace(stream(), sequences_per_step=Fraction(5, 2), sequences=10)
    assert [here.first_sequence(step) for step in range(here.steps + 1)] == [0, 2, 5, 7, 10]


def test_a_document_that_was_cut_trains_on_what_follows():
    whole = Document(np.array([5, 6, 7]), np.ones(3, dtype=bool))
    batch = collate([Document(whole.ids[:2], whole.trained[:2], following=7), whole])
    assert batch.targets.tolist() == [6, 7, 6, 7, IGNORE]
    assert step_batch([[Document(whole.ids[:2], whole.trained[:2], following=7)]], 8).tokens == 2
