"""The embedded engine against transformers' `generate` and against the trainer's log-probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from transformers import GenerationConfig, PreTrainedTokenizerFast

from dsm.errors import UserError
from dsm.models.wrapper import CausalLM
from dsm.ops.logprobs import IGNORE
from dsm.ops.varlen import Varlen
from dsm.rollout import decode, decoder, linear
from dsm.rollout.embedded import EmbeddedEngine
from dsm.rollout.engine import Completion, Request, RolloutEngine, Sampling
from dsm.rollout.llama import LlamaNetwork

Prompts = list[tuple[int, ...]]


def trainer_logprobs(model: CausalLM, prompt: Sequence[int], tokens: Sequence[int], temperature: float) -> list[float]:
    """What the policy's own packed forward says of a continuation."""
    ids = torch.tensor([*prompt, *tokens])
    targets = torch.tensor([*[IGNORE] * (len(prompt) - 1), *tokens, IGNORE])
    with torch.no_grad():
        logprobs, _ = model.logprobs(ids, Varlen.from_lengths([len(ids)]), targets, temperature)
    return logprobs[len(prompt) - 1 : -1].tolist()


def ask(engine: RolloutEngine, prompts: Prompts, new: int, **sampling: object) -> list[list[Completion]]:
    return engine.generate([Request(prompt, Sampling(new, **sampling)) for prompt in prompts])  # type: ignore[arg-type]


def test_greedy_is_transformers_greedy(family, make_model, make_engine, prompts):
    """Token for token, for ragged prompts, whatever the kind of attention."""
    model = make_model(family)
    groups = ask(make_engine(model), prompts, 40, n=2)
    expected = model.generate(prompts, 40)
    for group, tokens in zip(groups, expected, strict=True):
        assert [list(sample.token_ids) for sample in group] == [tokens, tokens]
        assert {sample.finish_reason for sample in group} == {"length"}


@pytest.mark.parametrize("temperature", [0.0, 0.6, 1.0])
def test_logprobs_are_the_trainers(family, temperature, make_model, make_engine, prompts):
    """At the sampling temperature, before top-p, and at 1 for greedy answers."""
    model = make_model(family)
    groups = ask(make_engine(model), prompts[:6], 16, temperature=temperature, top_p=0.9, n=2)
    for prompt, group in zip(prompts, groups, strict=False):
        for sample in group:
            expected = trainer_logprobs(model, prompt, sample.token_ids, temperature or 1.0)
            assert sample.logprobs == pytest.approx(expected, abs=2e-5)


def test_without_packed_weights(monkeypatch, make_model, make_engine, prompts):
    """`F.linear` says the same as oneDNN."""
    model = make_model("qwen2, biased")
    packed = ask(make_engine(model), prompts, 24)
    monkeypatch.setattr(linear, "CAN_PACK", False)
    plain = ask(make_engine(model), prompts, 24)
    for [a], [b] in zip(packed, plain, strict=True):
        assert a.token_ids == b.token_ids
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-5)


def test_without_padding(monkeypatch, make_model, make_engine, prompts):
    """As on CUDA: batches of any number of rows, and wider groups."""
    monkeypatch.setattr(decoder, "row_multiple", lambda device: 1)
    monkeypatch.setattr(decode, "QUERIES", 24)
    model = make_model("qwen3, normed heads")
    groups = ask(make_engine(model, max_rows=7, prefill_tokens=30), prompts, 24, n=2)
    assert [list(sample.token_ids) for sample, _ in groups] == model.generate(prompts, 24)


def test_which_models_run_by_hand(family, make_model, make_engine):
    engine = make_engine(make_model(family))
    assert isinstance(engine._network, LlamaNetwork) == ("by transformers" not in family)


def test_score(family, make_model, make_engine, prompts):
    """Log-probabilities of given continuations, in any order and any packing, empty ones too."""
    model = make_model(family)
    pairs = [(prompt, prompts[i - 1][:i]) for i, prompt in enumerate(prompts)]
    scores = make_engine(model, prefill_tokens=50).score(pairs)
    for (prompt, continuation), got in zip(pairs, scores, strict=True):
        assert got == pytest.approx(trainer_logprobs(model, prompt, continuation, 1.0), abs=2e-5)
    assert scores[0] == []


def test_ends(make_model, make_engine, prompts):
    """A sample ends with the first end-of-sequence id, which stays among its tokens and out of its text."""
    model = make_model()
    free = ask(make_engine(model), prompts, 40)
    ends = {sample.token_ids[9] for [sample] in free[:4]}
    engine = make_engine(model, ends=ends)
    for [before], [after] in zip(free, ask(engine, prompts, 40), strict=True):
        first = next((i for i, token in enumerate(before.token_ids) if token in ends), None)
        if first is None:
            assert after == before
        else:
            assert after.token_ids == before.token_ids[: first + 1]
            assert after.logprobs == before.logprobs[: first + 1]
            assert after.finish_reason == "eos"
            assert after.text == engine.detokenizer.text(before.token_ids[:first])


def test_end_ids_of_model_and_tokenizer(make_model, tokenizer: PreTrainedTokenizerFast):
    """Generation settings count if they came with the model, not if they were made up from a configuration."""
    model = make_model()
    assert EmbeddedEngine(model, tokenizer).eos_ids == {tokenizer.eos_token_id}
    model.model.generation_config = GenerationConfig(eos_token_id=[7, 9])
    assert EmbeddedEngine(model, tokenizer).eos_ids == {7, 9, tokenizer.eos_token_id}


def test_the_last_position(make_model, make_engine):
    """Answers end where the model's positions do; a prompt that leaves none is refused."""
    engine = make_engine(make_model("gpt2, by transformers"))
    [[sample], [short]] = ask(engine, [(9,) * 120, (9,)], 100)
    assert (len(sample.token_ids), sample.finish_reason) == (8, "length")
    assert len(short.token_ids) == 100
    assert len(ask(engine, [(9,) * 127], 5)[0][0].token_ids) == 1
    with pytest.raises(ValueError, match=r"request 0: 128 tokens; the model's 128 positions allow 127"):
        ask(engine, [(9,) * 128], 5)


def test_finished_rows_run_on_within_the_models_reach(make_model, make_engine, prompts):
    """Rows whose samples are finished, too few to move, go no further than anyone was asked to."""
    for family in ("llama, grouped heads, tied", "gpt2, by transformers"):
        engine = make_engine(make_model(family))
        requests = [Request((9,) * 100, Sampling(5)), *(Request(prompt[:9], Sampling(80)) for prompt in prompts)]
        assert [len(sample.token_ids) for [sample] in engine.generate(requests)] == [5] + [80] * len(prompts)


def test_diverged_weights_are_an_error(make_model, make_engine):
    model = make_model()
    with torch.no_grad():
        model.head_weight[3, 3] = float("nan")
    with pytest.raises(RuntimeError, match="logits are not finite"):
        ask(make_engine(model), [(5, 6)], 4, temperature=1.0)


def test_angles_that_depend_on_the_batch_are_kept_out(make_model, make_engine):
    """Under dynamic scaling positions beyond the first training length would change everyone's angles."""
    rope = {"rope_type": "dynamic", "factor": 2.0, "original_max_position_embeddings": 64}
    model = make_model("llama, grouped heads, tied", rope_parameters=rope)
    engine = make_engine(model)
    assert engine.positions == 64
    [[sample]] = ask(engine, [(9,) * 20], 100)
    assert len(sample.token_ids) == 44
    assert list(sample.token_ids) == model.generate([[9] * 20], 44)[0]


def test_on_done(make_model, make_engine, prompts):
    """Each request is handed over once, whole, before the last is finished; the result repeats them in order."""
    heard: list[tuple[int, list[Completion]]] = []
    engine = make_engine(make_model(), max_rows=16)
    requests = [Request(p, Sampling(1 + i % 7, temperature=1.0, n=1 + i % 3)) for i, p in enumerate(prompts)]
    result = engine.generate(requests, lambda number, completions: heard.append((number, completions)))
    assert sorted(number for number, _ in heard) == list(range(len(requests)))
    assert all(completions == result[number] for number, completions in heard)
    assert [len(group) for group in result] == [request.sampling.n for request in requests]
    assert [number for number, _ in heard] != list(range(len(requests)))


def test_nothing_to_do(make_model, make_engine):
    engine = make_engine(make_model())
    assert engine.generate([]) == []
    assert engine.score([]) == []


def test_global_randomness_is_untouched(make_model, make_engine, prompts):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    ask(make_engine(make_model()), prompts[:2], 8, temperature=1.0, top_p=0.5)
    assert torch.equal(torch.get_rng_state(), state)


def test_results_live_outside_inference_mode(make_model, make_engine, prompts):
    """The policy can be trained on after its weights were copied and used."""
    model = make_model().train()
    engine = make_engine(model)
    ask(engine, prompts[:2], 4)
    ids = torch.tensor(prompts[1])
    logprobs, _ = model.logprobs(ids[:-1], Varlen.from_lengths([len(ids) - 1]), ids[1:])
    logprobs.sum().backward()
    assert model.training
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("family", ["qwen3, normed heads", "olmo2, by transformers"])
@pytest.mark.parametrize("as_mapping", [False, True])
def test_only_sync_changes_weights(family, as_mapping, make_model, make_engine, prompts):
    """A changed policy is heard of after `sync`, and a freed engine needs one."""
    policy, other = make_model(family), make_model(family, seed=1)
    engine = make_engine(policy)
    old = ask(engine, prompts[:4], 12)
    policy.load_state_dict(other.state_dict())
    assert ask(engine, prompts[:4], 12) == old
    assert engine.policy_version == 0

    engine.sync(policy.model.state_dict() if as_mapping else policy)
    assert engine.policy_version == 1
    new = ask(engine, prompts[:4], 12)
    assert [list(sample.token_ids) for [sample] in new] == other.generate(prompts[:4], 12)
    assert new != old

    engine.free()
    engine.free()
    with pytest.raises(RuntimeError, match="call sync first"):
        ask(engine, prompts[:4], 12)
    with pytest.raises(RuntimeError, match="call sync first"):
        engine.score([(prompts[0], prompts[1])])
    engine.sync(policy.model.state_dict() if as_mapping else policy)
    assert ask(engine, prompts[:4], 12) == new
    assert engine.policy_version == 2


def test_bfloat16(make_model, make_engine, prompts):
    """Weights and cache in bf16 come as near as bf16 does."""
    model = make_model(initializer_range=0.1)
    engine = make_engine(model, dtype="bfloat16")
    for [sample], prompt in zip(ask(engine, prompts, 12), prompts, strict=True):
        assert sample.logprobs == pytest.approx(trainer_logprobs(model, prompt, sample.token_ids, 1.0), abs=0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"top_p": 0.0}, "top_p=0.0"),
        ({"top_p": 1.1}, "top_p=1.1"),
        ({"n": 0}, "n=0"),
        ({"stop": "text"}, "a tuple of strings"),
        ({"stop": ("",)}, "none of them empty"),
        ({"seed": 2**64}, "must fit 64 bits"),
    ],
)
def test_impossible_sampling(changes, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**({"max_new_tokens": 4} | changes))


def test_impossible_prompts(make_model, make_engine):
    with pytest.raises(ValueError, match="at least one token"):
        Request((), Sampling(4))
    engine: EmbeddedEngine = make_engine(make_model())
    for bad in (-1, 300):
        with pytest.raises(ValueError, match=r"request 1: token ids must lie in \[0, 300\)"):
            ask(engine, [(5,), (5, bad)], 4)
    with pytest.raises(ValueError, match="pair 0: a prompt needs"):
        engine.score([((), (5,))])
    with pytest.raises(ValueError, match="pair 0: 130 tokens"):
        engine.score([((5,) * 100, (5,) * 30)])


def test_no_room_for_one_sample(make_model, make_engine: Callable[..., EmbeddedEngine]):
    engine = make_engine(make_model(), cache_gb=1e-4)
    with pytest.raises(UserError, match=r"engine.cache_gb=0.0001: .* prompt of 70 tokens and an answer of 50 need"):
        ask(engine, [(5,), (5,) * 70], 50)
