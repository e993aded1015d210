"""The stream of a mix: one integer is its state, whatever ranks, workers and restarts there are."""

from __future__ import annotations

import hashlib
import random
from fractions import Fraction

import pytest

from dsm.data.batch import StepBatch
from dsm.data.stream import StepStream
from tests.data.mixture_lab import mixture, numbered_store

STEPS = 8
PER_STEP = Fraction(17, 3)  # sequences


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    numbered_store(folder / "a", [3, 40, 16, 17, 2, 33, 5, 5, 9, 64, 12, 7] * 4)
    numbered_store(folder / "b", [50, 3, 3, 20] * 9, shards=2, first=10_000)
    return folder


def stream(root, rank: int = 0, shares: int = 1, workers: int = 0, **settings) -> StepStream:
    changes = [{"from_tokens": 16 * 23, "weights": {"a": 1}}]
    mix = mixture(root, {"a": 4, "b": 3}, schedule=changes, **settings)
    return StepStream(mix, PER_STEP, int(STEPS * PER_STEP), 64, rank=rank, shares=shares, workers=workers)


def sequences(batch: StepBatch) -> list[tuple[int, ...]]:
    """Documents of a step, as ids and source."""
    found = []
    for microbatch in batch.microbatches:
        start = 0
        for length, source in zip(microbatch.varlen.lengths, microbatch.sources.tolist(), strict=True):
            found.append((source, *microbatch.input_ids[start : start + length].tolist()))
            start += length
    return found


def digest(batch: StepBatch) -> str:
    content = [
        (m.input_ids.tolist(), m.targets.tolist(), m.varlen.lengths, m.sources.tolist()) for m in batch.microbatches
    ]
    return hashlib.sha256(repr(content).encode()).hexdigest()


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(("workers", "packing"), [(0, "cut"), (0, "best_fit"), (1, "cut"), (3, "best_fit")])
def test_it_goes_on_at_every_step_with_any_workers(root, workers, packing):
    alone = stream(root, packing=packing)
    whole = [digest(alone[step]) for step in range(STEPS)]
    assert len(set(whole)) == STEPS
    for first in range(STEPS):
        resumed = stream(root, workers=workers, packing=packing).loader(lambda first=first: first)
        assert [digest(batch) for batch in resumed] == whole[first:]


def test_fifty_kills_change_nothing(root):
    """Fifty times the stream is left wherever it is, with batches prepared ahead, and taken up at a step before."""
    alone = stream(root)
    whole = [digest(alone[step]) for step in range(STEPS)]
    rng, saved = random.Random(0), 0
    for _ in range(50):
        taken = rng.randint(0, 2)
        again = stream(root)
        found = [digest(again[step]) for step in range(saved, min(saved + taken, STEPS))]
        assert found == whole[saved : saved + taken]
        saved = max(0, min(saved + taken - rng.randint(0, 1), STEPS - 1))


def test_other_numbers_of_ranks_see_the_same_sequences(root):
    """1 -> 2 -> 4 -> 1 ranks, a few steps each: laid side by side, their rows are those of one rank, in order."""
    alone = stream(root)
    worlds = [1, 1, 2, 2, 4, 4, 1, 1]
    for step, world in enumerate(worlds):
        shares = [stream(root, rank, world) for rank in range(world)]
        batches = [share[step] for share in shares]
        ours = sorted(document for batch in batches if batch.positions for document in sequences(batch))
        assert ours == sorted(sequences(alone[step]))
        assert sum(batch.sequences for batch in batches) == alone[step].sequences
        rows = alone.rows.__getitems__(range(alone.first_sequence(step), alone.first_sequence(step + 1)))
        for rank, batch in enumerate(batches):
            flat = [(document.source, *document.ids.tolist()) for row in rows[rank::world] for document in row]
            assert (sequences(batch) if batch.positions else []) == flat


def test_a_changed_store_or_setting_is_named(root, tmp_path):
    """What a checkpoint keeps of the mix differs where, and only where, something differs."""
    numbered_store(tmp_path / "a", [3, 40, 16, 17, 2, 33, 5, 5, 9, 64, 12, 7] * 4)
    numbered_store(tmp_path / "b", [50, 3, 3, 20] * 9, shards=2, first=10_001)
    facts = mixture(root, {"a": 4, "b": 3}).facts

    def changed(*args, **settings) -> set[str]:
        other = mixture(*args, **settings).facts
        assert other.keys() == facts.keys()
        return {key for key, value in other.items() if value != facts[key]}

    assert changed(tmp_path, {"a": 4, "b": 3}) == {"mix.sources.b"}
    assert changed(root, {"a": 4, "b": 3}, seed=1) == {"seed"}
    assert changed(root, {"a": 8, "b": 6}) == set()
    assert changed(root, {"a": 3, "b": 3}) == {"mix.weights"}
    assert changed(root, {"b": 3, "a": 4}) == {"mix.sources", "mix.weights"}
    assert changed(root, {"a": 4, "b": 3}, packing="best_fit") == {"mix.packing"}
    assert changed(root, {"a": 4, "b": 3}, mask_documents=False) == {"mix.mask_documents"}
    assert changed(root, {"a": 4, "b": 3}, schedule=[{"from_tokens": 99, "weights": {"a": 1}}]) == {"mix.weights"}
