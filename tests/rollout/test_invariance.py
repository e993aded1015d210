"""On a CPU in fp32 no bit of an answer depends on its company: order, rows, prefills, cache, siblings.

That holds for the kernels of the libraries installed, as far as these tests look; it is no promise that they make.
"""

from __future__ import annotations

import random

import pytest
import torch

from dsm.rollout import linear
from dsm.rollout.engine import Request, Sampling

KINDS = [
    {"temperature": 0.0, "n": 2},
    {"temperature": 1.0, "n": 3, "seed": 5},
    {"temperature": 0.7, "top_p": 0.8, "n": 5},
    {"temperature": 1.3, "top_p": 0.05, "n": 1, "seed": -1},
]


SETTINGS = [
    {"max_rows": 3, "prefill_tokens": 1},
    {"max_rows": 7, "prefill_tokens": 60},
    {"cache_gb": 0.005},
]
ENDS = range(40, 48)


def requests_of(prompts: list[tuple[int, ...]]) -> list[Request]:
    return [
        Request(prompt, Sampling(max_new_tokens=2 + 7 * i % 23, **KINDS[i % len(KINDS)]))  # type: ignore[arg-type]
        for i, prompt in enumerate(prompts)
    ]


def check_company(model, make_engine, prompts, settings) -> None:
    """Shuffled requests under other settings say the same, to the last bit of every log-probability."""
    requests = requests_of(prompts)
    reference = make_engine(model, ends=ENDS).generate(requests)
    assert {sample.finish_reason for group in reference for sample in group} == {"eos", "length"}
    for seed, setting in enumerate(settings):
        order = random.Random(seed).sample(range(len(requests)), len(requests))
        shuffled = make_engine(model, ends=ENDS, **setting).generate([requests[i] for i in order])
        assert [shuffled[order.index(i)] for i in range(len(requests))] == reference, setting


def test_company_changes_nothing(family, make_model, make_engine, prompts):
    check_company(make_model(family), make_engine, prompts, SETTINGS)


@pytest.mark.parametrize("width", [16, 100, 520])
def test_company_changes_nothing_at_other_widths(width, make_model, make_engine, prompts):
    """Sizes that fit no vector and no block: kernels and remainders differ with them."""
    sizes = {"hidden_size": width, "intermediate_size": 2 * width + 10, "head_dim": max(width // 10, 8)}
    model = make_model("llama, grouped heads, tied", **sizes, initializer_range=1.6 / width**0.5)
    check_company(model, make_engine, prompts, SETTINGS[1:2])


@pytest.mark.parametrize("family", ["llama, grouped heads, tied", "gpt2, by transformers"])
def test_company_changes_nothing_without_packed_weights(family, monkeypatch, make_model, make_engine, prompts):
    monkeypatch.setattr(linear, "CAN_PACK", False)
    check_company(make_model(family), make_engine, prompts, SETTINGS[1:2])


def test_alone_and_in_a_crowd(family, make_model, make_engine, prompts):
    """Each request by itself says what it says among all, and its first sample what it says among several."""
    engine, requests = make_engine(make_model(family)), requests_of(prompts)[:8]
    together = engine.generate(requests)
    for request, group in zip(requests, together, strict=True):
        fewer = Sampling(**(vars(request.sampling) | {"n": 1}))
        assert engine.generate([Request(request.input_ids, fewer)]) == [group[:1]]


def test_growing_and_shrinking(make_model, make_engine, prompts):
    """Long answers outgrow the cache's first room while short ones come and go beside them."""
    model = make_model("llama, grouped heads, tied", max_position_embeddings=400)
    requests = [
        Request(prompt, Sampling(150 if i == 3 else 5 + 40 * i % 70, temperature=1.0, n=2))
        for i, prompt in enumerate(prompts)
    ]
    reference = make_engine(model, max_rows=1000).generate(requests)
    assert make_engine(model, max_rows=6).generate(requests) == reference


def test_equal_prompts_share_but_do_not_echo(make_model, make_engine, prompts):
    """Requests of one prompt are computed together; their noise differs by seed and by index, never by request."""
    engine = make_engine(make_model())
    sampling = [Sampling(20, temperature=1.0, n=2, seed=seed) for seed in (0, 1, 0)]
    first, second, third = engine.generate([Request(prompts[1], each) for each in sampling])
    assert first == third
    assert len({sample.token_ids for sample in first + second}) == 4


def test_prompts_do_not_share_noise(make_model, make_engine):
    """A network that answers the same to every prompt (all weights zero) still says different things."""
    model = make_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    groups = make_engine(model).generate([Request((i,), Sampling(8, temperature=1.0)) for i in range(20)])
    assert len({sample.token_ids for [sample] in groups}) == 20
