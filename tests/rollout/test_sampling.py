"""Noise and draws against their definitions, and against independent implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from transformers import TopPLogitsWarper

from dsm.ops.varlen import Varlen
from dsm.rollout.engine import Request, Sampling
from dsm.rollout.sampling import TRIES, Draws, draw, invert, largest, noise_key, nucleus, uniform

CPU = torch.device("cpu")


def chi_square(counts: torch.Tensor, probs: torch.Tensor) -> float:
    """Standardised: about normal for many words; words expected less than five times count as one."""
    expected = probs.double() * counts.sum()
    rare = expected < 5
    observed = torch.cat([counts[~rare].double(), counts[rare].sum()[None].double()])
    expected = torch.cat([expected[~rare], expected[rare].sum()[None]])
    observed, expected = observed[expected > 0], expected[expected > 0]
    freedom = len(expected) - 1
    return float((((observed - expected) ** 2 / expected).sum() - freedom) / math.sqrt(2 * freedom))


def draws_of(rows: int, temperature: float = 1.0, top_p: float = 1.0, *, seed: int = 0) -> Draws:
    return Draws.of([noise_key((1,), seed, i) for i in range(rows)], [temperature] * rows, [top_p] * rows, CPU)


def test_noise_is_splitmix64():
    """The first outputs of the reference generator from seed 0: its state is a counter of the golden ratio."""
    known = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    keys = np.zeros(1, dtype=np.uint64)
    for i, word in enumerate(known):
        assert uniform(keys, np.zeros(1, dtype=np.int64), attempt=i)[0] == (word >> 11) * 2.0**-53


def test_noise_is_uniform_and_independent():
    """Over samples, over positions, over attempts: mean, variance, and correlation with the neighbour."""
    keys = np.array([noise_key((3, 4), 0, i) for i in range(300)], dtype=np.uint64)
    table = np.stack([uniform(keys, np.full(300, position), attempt) for position in range(60) for attempt in range(3)])
    assert (table >= 0).all()
    assert (table < 1).all()
    size = table.size
    assert abs(table.mean() - 1 / 2) < 4 / math.sqrt(12 * size)
    assert abs(table.var() - 1 / 12) < 4 / math.sqrt(180 * size)
    centred = table - 0.5
    for left, right in ((centred[1:], centred[:-1]), (centred[:, 1:], centred[:, :-1])):
        assert abs((left * right).mean() * 12) < 4 / math.sqrt(size)
    assert len(np.unique(table)) == size


def test_keys_name_prompt_seed_and_index():
    names = {noise_key(prompt, seed, i) for prompt in ((1,), (2,), (1, 2)) for seed in (-1, 0, 1) for i in (0, 1)}
    assert len(names) == 18
    assert noise_key((1, 2), 5, 0) == noise_key([1, 2], 5, 0)


@pytest.mark.parametrize("vocab", [3, 64, 65, 1000])
def test_invert_is_the_inverse_of_the_cumulated_weights(vocab):
    """Against NumPy's search in float64, for sharp rows and with words of weight zero."""
    generator = torch.Generator().manual_seed(0)
    probs = (torch.randn(50, vocab, generator=generator) * 4).softmax(-1)
    probs[:, ::3] *= torch.rand(50, 1, generator=generator) > 0.5
    probs[:, 1] += 0.1
    noise = torch.rand(50, generator=generator, dtype=torch.float64)
    tokens = invert(probs, noise)
    cumulated = np.cumsum(probs.double().numpy(), axis=1)
    for row in range(50):
        expected = np.searchsorted(cumulated[row], noise[row] * cumulated[row, -1], side="right")
        below = cumulated[row, tokens[row] - 1] if tokens[row] else 0.0
        assert tokens[row] == expected or abs(noise[row] * cumulated[row, -1] - below) < 1e-6
    assert (probs.gather(1, tokens[:, None]) > 0).all()


def test_invert_at_the_ends():
    """Words of weight zero are never drawn, however noise and rounding fall."""
    probs = torch.zeros(2, 200)
    probs[:, 70] = 0.3
    probs[:, 130] = 0.7
    assert invert(probs, torch.tensor([0.0, 1 - 2.0**-53], dtype=torch.float64)).tolist() == [70, 130]
    rows = torch.rand(500, 130, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0.0]).repeat(65)
    drawn = invert(rows, torch.full((500,), 1 - 2.0**-53, dtype=torch.float64))
    assert (drawn == 128).all()


@pytest.mark.parametrize("vocab", [5, 64, 300])
def test_largest_is_argmax(vocab):
    logits = torch.randint(0, 12, (200, vocab), generator=torch.Generator().manual_seed(0)).float()  # many ties
    assert torch.equal(largest(logits), logits.argmax(-1))
    assert largest(torch.full((1, vocab), -torch.inf)).item() == 0


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_softmax(temperature):
    """20,000 draws from one distribution, and what is said of their probability."""
    logits = torch.randn(80, generator=torch.Generator().manual_seed(0)) * 2
    rows = logits.repeat(20_000, 1)
    tokens, probs = draw(rows, draws_of(20_000, temperature), np.zeros(20_000, dtype=np.int64))
    expected = (logits / temperature).softmax(-1)
    assert abs(chi_square(tokens.bincount(minlength=80), expected)) < 3.5
    assert torch.allclose(probs, expected[tokens])


@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 0.999])
def test_nucleus_is_transformers(top_p):
    logits = torch.randn(40, 100, generator=torch.Generator().manual_seed(0)) * 3
    kept = nucleus(logits.softmax(-1), torch.full((40,), top_p)) > 0
    assert torch.equal(kept, TopPLogitsWarper(top_p)(None, logits).isfinite())


def test_nucleus_keeps_equals_together():
    probs = torch.tensor([[0.3, 0.2, 0.2, 0.2, 0.1]])
    assert nucleus(probs, torch.tensor([0.4])).tolist() == [pytest.approx([0.3, 0.2, 0.2, 0.2, 0.0])]


@pytest.mark.parametrize("top_p", [0.02, 0.3, 0.9])
def test_top_p_draws_follow_the_nucleus(top_p):
    """By rejection, and by sorting where that goes on for too long: nothing outside, the rest in proportion."""
    logits = torch.randn(80, generator=torch.Generator().manual_seed(0)) * 1.5
    tokens, probs = draw(logits.repeat(20_000, 1), draws_of(20_000, top_p=top_p), np.zeros(20_000, dtype=np.int64))
    inside = nucleus(logits.softmax(-1)[None], torch.tensor([top_p]))[0]
    assert (inside[tokens] > 0).all()
    if (inside > 0).sum() > 1:
        assert abs(chi_square(tokens.bincount(minlength=80), inside / inside.sum())) < 3.5
    assert torch.allclose(probs, logits.softmax(-1)[tokens])  # those before top-p
    assert (1 - inside.sum()) ** TRIES * 20_000 > 1 or top_p == 0.9  # the sort was reached


def test_rows_of_all_kinds_at_once():
    """Greedy, sampled and top-p rows of one batch are each what they are among their own."""
    logits = torch.randn(60, 90, generator=torch.Generator().manual_seed(0)) * 2
    temperature = [0.0, 1.0, 0.7] * 20
    top_p = [1.0, 1.0, 0.6] * 20
    keys, positions = [noise_key((1,), 0, i) for i in range(60)], np.arange(60)
    tokens, probs = draw(logits.clone(), Draws.of(keys, temperature, top_p, CPU), positions)
    for kind in range(3):
        own = Draws.of(keys[kind::3], temperature[kind::3], top_p[kind::3], CPU)
        alone = draw(logits[kind::3].clone(), own, positions[kind::3])
        assert torch.equal(alone[0], tokens[kind::3])
        assert torch.equal(alone[1], probs[kind::3])
    assert torch.equal(tokens[::3], logits[::3].argmax(-1))
    assert torch.allclose(probs[::3], logits[::3].softmax(-1).amax(-1))


def test_the_engine_samples_what_the_model_says(make_model, make_engine):
    """First and second tokens of 3,000 samples of one prompt against the exact distribution of both."""
    model = make_model(vocab_size=10, initializer_range=0.4)
    groups = make_engine(model).generate([Request((5, 6), Sampling(2, temperature=0.8, n=3000, seed=3))])
    with torch.no_grad():
        ids = torch.tensor([[5, 6, first] for first in range(10)]).flatten()
        logits = model.logits(ids, Varlen.from_lengths([3] * 10)).view(10, 3, 10) / 0.8
    joint = logits[0, 1].softmax(-1)[:, None] * logits[:, 2].softmax(-1)
    pairs = torch.tensor([sample.token_ids for sample in groups[0]])
    counts = (pairs[:, 0] * 10 + pairs[:, 1]).bincount(minlength=100)
    assert abs(chi_square(counts, joint.flatten())) < 3.5
