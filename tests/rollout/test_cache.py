"""The room that keys and values take, who shares it, and what is computed once."""

from __future__ import annotations

import random

import pytest
import torch

from dsm.rollout import decoder as decoder_module
from dsm.rollout.batch import Queue
from dsm.rollout.cache import Extent, KVCache, LayerShape, free_memory, token_bytes
from dsm.rollout.decode import Grouping, group_width
from dsm.rollout.engine import Request, Sampling
from dsm.rollout.network import PackedAttention

CPU = torch.device("cpu")


@pytest.fixture
def peaks(monkeypatch) -> list[int]:
    """Bytes of the cache after every change of its size."""
    sizes: list[int] = []
    resize = KVCache.resize

    def watched(self: KVCache, *args: object) -> None:
        resize(self, *args)  # type: ignore[arg-type]
        sizes.append(self.nbytes)

    monkeypatch.setattr(KVCache, "resize", watched)
    return sizes


def test_the_cache_stays_within_its_limit(peaks, make_model, make_engine):
    """Prompts of 3 to 300 tokens, answers of 1 to 100; a tighter limit gives the same answers in smaller steps."""
    rng = random.Random(0)
    model = make_model(max_position_embeddings=512)
    requests = [
        Request(tuple(rng.choices(range(8, 300), k=rng.choice([3, 30, 300]))), Sampling(rng.choice([1, 20, 100]), n=3))
        for _ in range(20)
    ]
    reference = make_engine(model, max_rows=64).generate(requests)
    unlimited = max(peaks)
    for limit in (0.003, 0.006):
        peaks.clear()
        assert make_engine(model, max_rows=64, cache_gb=limit).generate(requests) == reference
        assert max(peaks) <= limit * 2**30 < unlimited
    assert len(peaks) > 1


def test_each_prompt_is_computed_once(monkeypatch, make_model, make_engine, prompts):
    """However many samples, requests and refills it has."""
    lengths: list[int] = []

    class Watched(PackedAttention):
        def __init__(self, varlen, on_key_value):
            lengths.extend(varlen.lengths)
            super().__init__(varlen, on_key_value)

    monkeypatch.setattr(decoder_module, "PackedAttention", Watched)
    requests = [
        Request(prompt, Sampling(4, temperature=1.0, n=5, seed=seed)) for seed in (0, 1) for prompt in prompts[:3]
    ]
    make_engine(make_model(), max_rows=4, prefill_tokens=64).generate(requests)
    multiples = [length for length in lengths if length in map(len, prompts[:3])]
    assert sorted(multiples) == sorted(map(len, prompts[:3]))


def test_a_prompt_is_stored_once(peaks, make_model, make_engine):
    """64 samples of 400 tokens of prompt take the room of one prompt and 64 short answers."""
    model = make_model(max_position_embeddings=512)
    make_engine(model).generate([Request(tuple(range(8, 208)) * 2, Sampling(8, temperature=1.0, n=64))])
    bytes_per_token = token_bytes((LayerShape(4, 2, 16, 16),) * 2, torch.float32)
    assert bytes_per_token == 2 * 2 * (16 + 16) * 4
    assert max(peaks) <= (416 + 64 * 64) * bytes_per_token


def test_resize_keeps_what_is_alive():
    cache = KVCache([LayerShape(4, 2, 3, 5)] * 2, torch.float32, CPU)
    cache.resize(Extent(2, 40, 3, 70), 0, 0)
    assert cache.extent == Extent(2, 64, 3, 96)
    generator = torch.Generator().manual_seed(0)
    for key, value in (*cache.prompts, *cache.rows):
        key.normal_(generator=generator)
        value.normal_(generator=generator)
    before = [[block.clone() for block in pair] for pair in (*cache.prompts, *cache.rows)]
    cache.resize(Extent(4, 100, 2, 64), 2, 1)
    assert cache.extent == Extent(4, 128, 2, 64)
    assert cache.nbytes == sum(block.nbytes for pair in (*cache.prompts, *cache.rows) for block in pair)
    for (old_key, old_value), (key, value) in zip(before[:2], cache.prompts, strict=True):
        assert torch.equal(key[:2, :, :64], old_key)
        assert torch.equal(value[:2, :, :64], old_value)
        assert not key[2:].any()
        assert not key[:, :, 64:].any()
    for (old_key, _), (key, value) in zip(before[2:], cache.rows, strict=True):
        assert torch.equal(key[:1], old_key[:1, :, :64])
        assert not value[1:].any()


@pytest.mark.parametrize("width", [1, 2, 8])
def test_grouping_shows_every_row_to_its_prompt(width):
    """Each row has one entry, in a bucket that covers the slot of its prompt; the rest is padding."""
    rng = random.Random(width)
    for _ in range(50):
        n_prompts = rng.randrange(1, 60)
        slots = [min(int(rng.expovariate(1 / 5)), n_prompts - 1) for _ in range(rng.randrange(1, 80))]
        padding = -len(slots) % 32
        grouping = Grouping.of(slots, n_prompts, width, padding, CPU)
        shown = [slot for first, last in grouping.buckets for slot in range(first, last) for _ in range(width)]
        rows = len(slots) + padding
        identity = list(range(rows))
        to_entry = identity if grouping.entry_of_row is None else grouping.entry_of_row.tolist()
        to_row = identity if grouping.row_of_entry is None else grouping.row_of_entry.tolist()
        assert len(to_entry) == rows
        assert len(to_row) == len(shown)
        assert len(set(to_entry[: len(slots)])) == len(slots)
        assert all(to_row[to_entry[row]] == row and shown[to_entry[row]] == slot for row, slot in enumerate(slots))
        assert grouping.slot_of_row.tolist() == slots + [0] * padding


def test_full_groups_need_no_rearranging():
    grouping = Grouping.of([slot for slot in range(8) for _ in range(8)], 8, 8, 0, CPU)
    assert (grouping.buckets, grouping.entry_of_row, grouping.row_of_entry) == (((0, 8),), None, None)


def test_products_over_prompts_have_one_shape_on_a_cpu():
    """As many queries whatever the largest group; on CUDA, where nothing is promised, small groups cost less."""
    assert {group_width(shared, largest, CPU) * shared for shared in (1, 2, 4, 8) for largest in (1, 5, 64)} == {8}
    cuda = torch.device("cuda")
    assert [group_width(1, largest, cuda) for largest in (1, 8, 9, 64, 500)] == [8, 8, 16, 64, 64]


def test_queue_takes_long_prompts_first_and_never_too_many():
    requests = [Request((i,) * length, Sampling(10, n=3)) for i, length in enumerate([5, 200, 70], start=1)]
    queue = Queue(requests, positions=1000)
    first = queue.take(Extent(), [], max_rows=2, max_tokens=10_000, multiple=1)
    assert [(sample.request, sample.index) for sample in first] == [(1, 0), (1, 1)]
    # One prompt of 200 (224 columns) and two rows of 64 are there: another row fits, the next prompt does not.
    rest = queue.take(Extent(1, 200, 2, 10), [first[0].prompt], max_rows=9, max_tokens=224 + 3 * 64, multiple=1)
    assert [(sample.request, sample.index) for sample in rest] == [(1, 2)]
    assert queue.take(Extent(1, 200, 3, 10), [first[0].prompt], max_rows=9, max_tokens=224 + 3 * 64, multiple=1) == []
    last = queue.take(Extent(), [], max_rows=9, max_tokens=10_000, multiple=4)
    assert [(sample.request, sample.index) for sample in last] == [(n, i) for n in (2, 0) for i in range(3)]
    assert not queue


def test_free_memory():
    assert 2**20 < free_memory(CPU) < 2**50
