"""What lies in the sequences: every token once an epoch, borders of documents and next tokens where they belong."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsm.data.batch import collate
from dsm.data.mixture import Mixture
from dsm.data.mixture.bestfit import best_fit
from dsm.data.store import TokenStore
from dsm.data.store.manifest import StoreTokenizer
from dsm.data.store.writer import write_store as write_own_store
from dsm.errors import UserError
from dsm.ops.logprobs import IGNORE
from tests.data.mixture_lab import EOS, mix_config, mixture, numbered_store, same_rows, write_store

LENGTHS = [3, 40, 1, 16, 17, 2, 33, 5, 5, 5, 9, 64, 1, 12, 7, 30, 21, 48, 32, 11]
CONTEXT = 16


@pytest.fixture
def root(tmp_path):
    """Three stores whose ids tell where they come from."""
    numbered_store(tmp_path / "a", LENGTHS)
    numbered_store(tmp_path / "b", LENGTHS[::-1] * 2, shards=3, first=1000)
    numbered_store(tmp_path / "c", [700], first=5000)
    return tmp_path


def targets(rows) -> Counter[tuple[int, int]]:
    """Every (token, next token) that is trained on."""
    pairs = Counter()
    for row in rows:
        batch = collate(row)
        for token, target in zip(batch.input_ids.tolist(), batch.targets.tolist(), strict=True):
            if target != IGNORE:
                pairs[token, target] += 1
    return pairs


def epoch_rows(mix, epoch: int):
    """All rows of one epoch of a mixture of one source."""
    size = mix._sources[0].per_epoch
    return mix.__getitems__(range(epoch * size, (epoch + 1) * size))


def test_cut_rows_are_the_documents_end_to_end(root):
    mix, tokens = mixture(root, {"a": 1}), TokenStore.open(root / "a").read(0, sum(LENGTHS)).tolist()
    ends = set(np.cumsum(LENGTHS).tolist())
    for epoch in range(4):
        rows = sorted(epoch_rows(mix, epoch), key=lambda row: max(int(document.ids.max()) for document in row))
        laid = [token for row in rows for document in row for token in document.ids.tolist()]
        offset = next(i for i in range(CONTEXT) if tokens[i : i + len(laid)] == laid)  # all but what is left over
        assert len(laid) == len(tokens) // CONTEXT * CONTEXT
        place = offset
        for row in rows:
            assert sum(len(document.ids) for document in row) == CONTEXT
            for document in row:
                assert (document.trained.all(), document.source) == (True, 0)
                assert not ends & set(range(place + 1, place + len(document.ids)))  # no border within
                place += len(document.ids)
                assert document.following == (None if place in ends else tokens[place])


def test_every_token_that_follows_another_is_trained_on_once_an_epoch(root):
    for name, packing in (("a", "cut"), ("b", "cut"), ("a", "best_fit"), ("b", "best_fit"), ("c", "best_fit")):
        store = TokenStore.open(root / name)
        mix = mixture(root, {name: 1}, packing=packing)
        tokens, ends = store.read(0, store.tokens).tolist(), set(store.ends.tolist())
        wanted = Counter(pair for place, pair in enumerate(pairwise(tokens), start=1) if place not in ends)
        found = targets(epoch_rows(mix, 1))
        missing = wanted - found
        assert not found - wanted
        assert missing.total() <= (store.tokens % CONTEXT if packing == "cut" else 0)


def test_without_document_masks_a_row_is_one_document_and_goes_on_into_the_next(root):
    tokens = TokenStore.open(root / "a").read(0, sum(LENGTHS)).tolist()
    for row in epoch_rows(mixture(root, {"a": 1}, mask_documents=False), 0):
        (document,) = row
        place = next(i for i in range(len(tokens)) if tokens[i : i + CONTEXT] == document.ids.tolist())
        after = tokens[place + CONTEXT : place + CONTEXT + 1]
        assert document.following == (after[0] if after else None)
    packed = mixture(root, {"a": 1}, mask_documents=False, packing="best_fit")
    assert {len(row) for row in epoch_rows(packed, 0)} == {1}


def test_epochs_are_fresh_permutations_with_cuts_elsewhere(root):
    mix = mixture(root, {"a": 1})
    size = mix._sources[0].per_epoch
    places = [[mix.locate(i) for i in range(epoch * size, (epoch + 1) * size)] for epoch in range(6)]
    for epoch, located in enumerate(places):
        assert [(source, lap) for source, lap, _ in located] == [(0, epoch)] * size
        assert sorted(row for _, _, row in located) == list(range(size))
    assert len({tuple(located) for located in places}) == 6
    starts = {min(document.ids[0] for row in epoch_rows(mix, epoch) for document in row[:1]) for epoch in range(6)}
    assert len(starts) > 1


def test_sources_wrap_on_their_own(root):
    mix = mixture(root, {"a": 5, "b": 1})
    sizes = [source.per_epoch for source in mix._sources]
    sources, epochs, _ = mix._locate(np.arange(1200))
    seen = Counter(zip(sources.tolist(), epochs.tolist(), strict=True))
    assert mix.counts(1200).tolist() == [1000, 200]
    for source, count in enumerate((1000, 200)):
        for epoch in range(-(-count // sizes[source])):
            assert seen[source, epoch] == min(sizes[source], count - epoch * sizes[source])
    assert mix.epochs(1200) == {"a": 1000 / sizes[0], "b": 200 / sizes[1]}


@pytest.mark.parametrize("packing", ["cut", "best_fit"])
def test_rows_do_not_depend_on_how_they_are_reached(root, packing):
    weights = {"a": 3, "b": 1, "c": 0.5}
    mix = mixture(root, weights, packing=packing)
    rows = mix.__getitems__(range(200))
    for copy in (mixture(root, weights, packing=packing), pickle.loads(pickle.dumps(mix))):
        assert same_rows([copy[i] for i in (199, 0, 57)], [rows[i] for i in (199, 0, 57)])
        assert same_rows(copy.__getitems__(range(3, 200, 7)), rows[3::7])
    assert not same_rows(mixture(root, weights, packing=packing, seed=1).__getitems__(range(200)), rows)
    assert mix.__getitems__([]) == []


def test_best_fit_keeps_documents_whole_and_changes_their_company(root):
    mix = mixture(root, {"b": 1}, packing="best_fit")
    companies = []
    for epoch in range(3):
        rows = epoch_rows(mix, epoch)
        lengths = Counter(len(document.ids) for row in rows for document in row)
        pieces = [CONTEXT] * sum((n - 1) // CONTEXT for n in LENGTHS * 2) + [(n - 1) % CONTEXT + 1 for n in LENGTHS * 2]
        assert lengths == Counter(pieces)
        assert max(sum(len(document.ids) for document in row) for row in rows) <= CONTEXT
        companies.append({frozenset(int(document.ids[0]) for document in row) for row in rows})
    assert companies[0] != companies[1] != companies[2]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(1, 30), max_size=150))
def test_recipes_are_best_fit_decreasing_one_by_one(lengths):
    rooms: list[list[int]] = []
    for length in sorted(lengths, reverse=True):
        fitting = [bin for bin in rooms if 30 - sum(bin) >= length]
        if fitting:
            max(fitting, key=sum).append(length)
        else:
            rooms.append([length])
    made = best_fit(np.bincount(lengths, minlength=31).tolist(), 30)
    contents = [[length for length, many in recipe for _ in range(many)] for recipe, bins in made for _ in range(bins)]
    assert Counter(length for bin in contents for length in bin) == Counter(lengths)
    assert all(sum(bin) <= 30 for bin in contents)
    assert sorted(sum(bin) for bin in contents) == sorted(sum(bin) for bin in rooms)


def test_documents_like_those_of_the_web_fill_their_sequences(tmp_path):
    lengths = np.maximum(2, np.random.default_rng(0).lognormal(5.5, 1.2, 3000).astype(int))
    numbered_store(tmp_path / "web", lengths.tolist())
    packed = mixture(tmp_path, {"web": 1}, packing="best_fit", context=1024)
    assert packed._sources[0]._packed.fill > 0.999
    split = int((lengths > 1024).sum())
    assert f"{split:,} documents split" in packed.about()["source web"]
    cut = mixture(tmp_path, {"web": 1}, context=1024)
    offset = int(cut._sources[0]._offsets(np.zeros(1, np.int64))[0])
    ends = np.cumsum(lengths)
    crossing = ((ends - lengths - offset) // 1024 < (ends - 1 - offset) // 1024).sum()
    assert f"{crossing:,} documents cut" in cut.about()["source web"]


def test_a_packing_is_made_once(root, monkeypatch):
    mixture(root, {"a": 1}, packing="best_fit")
    monkeypatch.setattr("dsm.data.mixture.bestfit._pack", None)
    mixture(root, {"a": 1}, packing="best_fit")
    with pytest.raises(TypeError):
        mixture(root, {"a": 1}, packing="best_fit", context=32)


def test_validation_reads_held_out_documents_from_their_beginning(root):
    write_store(root / "a" / "validation", [[7, 8, 9]] * 10)  # 40 tokens
    named = {"sequences": 2, "sources": {"b": {"path": str(root / "c")}, "other": {"path": str(root / "a")}}}
    held_out = mixture(root, {"a": 1, "b": 1, "c": 1}, validation=named).validation()
    assert list(held_out) == ["a", "b", "other"]
    assert [document.ids.tolist() for document in held_out["a"][0]] == [[7, 8, 9, EOS]] * 4
    assert {document.source for row in held_out["other"] for document in row} == {2}
    assert held_out["b"][1][0].ids.tolist() == list(range(5016, 5032))
    everything = mixture(root, {"a": 1}, validation={"sequences": 9, "sources": {}}).validation()["a"]
    assert [sum(len(document.ids) for document in row) for row in everything] == [16, 16, 8]
    assert mixture(root, {"a": 1}).validation() == {}


def test_what_cannot_be_read_is_refused(root):
    with pytest.raises(UserError, match=r"mix.sources.x.path=.*/x: no such folder"):
        mixture(root, {"x": 1})
    with pytest.raises(UserError, match=r"mix.sources.c.path=.*holds 700 tokens, less than one sequence"):
        mixture(root, {"c": 1}, context=701)
    with pytest.raises(UserError, match=r"mix.sources.a.max_epochs=2: the run would read it 4.545 times"):
        mixture(root, {"a": {"weight": 1, "max_epochs": 2}}, sequences=100)
    limited = mixture(root, {"a": {"weight": 1, "max_epochs": 2}, "b": 1}, sequences=500, exhausted="redistribute")
    assert limited.counts(500).tolist() == [44, 456]


def test_the_tokenizer_must_be_the_stores(root):
    made_with = StoreTokenizer(fingerprint="f" * 64, vocab_size=600, eos_id=EOS, bos_id=None)
    write_own_store(root / "own", [[5, 6, 7, EOS]] * 20, made_with, shard_tokens=30)
    opened: dict[str, Any] = {"seed": 0, "cache": root}
    mix = Mixture.open(mix_config(root, {"own": 1}), vocab_size=600, tokenizer_hash="f" * 64, **opened)
    assert [document.ids.tolist() for document in mix[3]] == [[5, 6, 7, EOS]] * 4
    with pytest.raises(UserError, match=r"made with another tokenizer than tokenizer.path \(fingerprints ffff"):
        Mixture.open(mix_config(root, {"own": 1}), tokenizer_hash="0" * 64, **opened)
    with pytest.raises(UserError, match="its tokenizer has 600 ids, the model 599 embeddings"):
        Mixture.open(mix_config(root, {"own": 1}), vocab_size=599, **opened)
    with pytest.raises(UserError, match="holds the id 5,698, the model has 5,000 embeddings"):
        Mixture.open(mix_config(root, {"c": 1}), vocab_size=5000, **opened)


def test_real_texts_are_mixed_in_exact_shares(shared_data, tmp_path):
    """Solutions of GSM8K and MATH and code of HumanEval, byte by byte."""
    files = {
        "gsm8k": ("gsm8k/train.jsonl", "answer"),
        "math": ("math/train.jsonl", "solution"),
        "code": ("humaneval/test.jsonl", "canonical_solution"),
    }
    for name, (file, field) in files.items():
        lines = (shared_data / "math" / file).read_text(encoding="utf-8").splitlines()[:400]
        write_store(tmp_path / name, [[byte + 1 for byte in json.loads(line)[field].encode()] for line in lines])
    mix = mixture(tmp_path, {"gsm8k": 5, "math": 3, "code": 2}, context=256)
    rows = mix.__getitems__(range(300))
    realised = np.cumsum([[row[0].source == source for source in range(3)] for row in rows], axis=0)
    assert np.abs(realised - np.arange(1, 301)[:, None] * [0.5, 0.3, 0.2]).max() <= 0.75
    text = {name: (tmp_path / name / "00000.ds").read_bytes() for name in files}
    for row in rows[::17]:
        for document in row:
            assert document.ids.astype("<u2").tobytes() in text[mix.names[document.source]]
