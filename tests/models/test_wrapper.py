"""The wrapper: log-probabilities, generation, options that must change nothing, and models it must refuse."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from dsm.errors import UserError
from dsm.models.wrapper import CausalLM
from dsm.ops.logprobs import IGNORE
from dsm.ops.varlen import Varlen

MakeNetwork = Callable[..., PreTrainedModel]
LENGTHS = (7, 1, 12, 3)
VARLEN = Varlen.from_lengths(LENGTHS)
INPUT_IDS = torch.randint(0, 96, (sum(LENGTHS),), generator=torch.Generator().manual_seed(1))
TARGETS = torch.where(torch.arange(sum(LENGTHS)) % 3 == 0, IGNORE, INPUT_IDS.roll(-1))


def gradients(model: CausalLM) -> list[Tensor]:
    model.zero_grad()
    logprobs, entropy = model.logprobs(INPUT_IDS, VARLEN, TARGETS)
    (logprobs.sum() + 0.1 * entropy.sum()).backward()
    return [weight.grad.clone() for weight in model.parameters()]


@pytest.mark.parametrize("tied", [True, False])
def test_logprobs_are_those_of_the_full_logits(tied: bool, make_network: MakeNetwork) -> None:
    model = CausalLM(make_network("llama", tie_word_embeddings=tied))
    assert (model.head_weight is model.model.get_input_embeddings().weight) == tied
    found = gradients(model)
    logprobs, entropy = model.logprobs(INPUT_IDS, VARLEN, TARGETS, temperature=0.7)
    model.zero_grad()
    full = (model.logits(INPUT_IDS, VARLEN) / 0.7).log_softmax(-1)
    keep = TARGETS != IGNORE
    torch.testing.assert_close(logprobs[keep], full.gather(1, TARGETS.clamp(min=0)[:, None])[keep, 0])
    torch.testing.assert_close(entropy[keep], -(full.exp() * full).sum(-1)[keep])
    assert not logprobs[~keep].any()
    assert not entropy[~keep].any()

    full = model.logits(INPUT_IDS, VARLEN).log_softmax(-1)[keep]
    (full.gather(1, TARGETS[keep, None]).sum() - 0.1 * (full.exp() * full).sum()).backward()
    for weight, gradient in zip(model.parameters(), found, strict=True):
        torch.testing.assert_close(gradient, weight.grad, rtol=1e-4, atol=1e-4)


def test_logprobs_under_autocast_use_the_lower_precision(make_network: MakeNetwork) -> None:
    model = CausalLM(make_network("llama"))
    exact, _ = model.logprobs(INPUT_IDS, VARLEN, TARGETS)
    with torch.autocast("cpu", torch.bfloat16):
        rough, _ = model.logprobs(INPUT_IDS, VARLEN, TARGETS)
    assert rough.dtype == torch.float32
    assert 0 < (exact - rough).norm() / exact.norm() < 0.05


def test_checkpointing_changes_memory_only(family: str, make_network: MakeNetwork) -> None:
    network = make_network(family)
    plain = gradients(CausalLM(copy.deepcopy(network)))
    model = CausalLM(network, activation_checkpointing="full")
    for ours, theirs in zip(gradients(model), plain, strict=True):
        assert torch.equal(ours, theirs)
    saved: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x.numel()) or x, lambda x: x):
        model(INPUT_IDS, VARLEN)
        kept = sum(saved)
        saved.clear()
        CausalLM(make_network(family))(INPUT_IDS, VARLEN)
    assert kept < 0.5 * sum(saved)


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_norms_by_hand(family: str, make_network: MakeNetwork) -> None:
    """Values and gradients of a norm are those of transformers' own, which lower precisions still run through."""
    model = CausalLM(make_network(family))
    norm = next(module for name, module in model.named_modules() if name.endswith("norm"))
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2.0, len(norm.weight)))
    x = torch.randn(3, 5, len(norm.weight), generator=torch.Generator().manual_seed(0), requires_grad=True)
    cotangent = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    outputs = norm(x), type(norm).forward(norm, x)
    ours, theirs = (torch.autograd.grad((y * cotangent).sum(), (x, norm.weight)) for y in outputs)
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert norm(x.bfloat16()).dtype == type(norm).forward(norm, x.bfloat16()).dtype


def test_a_copy_runs_its_own_weights(make_network: MakeNetwork) -> None:
    model = CausalLM(make_network("llama"), activation_checkpointing="full")
    twin = copy.deepcopy(model)
    before = twin(INPUT_IDS, VARLEN)
    with torch.no_grad():
        for weight in model.parameters():
            weight.zero_()
    assert torch.equal(twin(INPUT_IDS, VARLEN), before)


def test_compiled_blocks_compute_the_same(make_network: MakeNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced and split as for any back end, then run as it is; new layouts of the documents compile nothing anew."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    network = make_network("llama")
    plain = CausalLM(copy.deepcopy(network))
    model = CausalLM(network, compile=True, activation_checkpointing="full")
    assert list(model.state_dict()) == list(plain.state_dict())
    for ours, theirs in zip(gradients(model), gradients(plain), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert graphs > 0
    for lengths in ((5, 4), (20,), (2,) * 9, (30, 1, 8)):
        ids = torch.arange(sum(lengths))
        varlen = Varlen.from_lengths(lengths)
        torch.testing.assert_close(model(ids, varlen), plain(ids, varlen), rtol=1e-5, atol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs
    assert model.generate([[1, 2, 3]], 3) == plain.generate([[1, 2, 3]], 3)


PROMPTS = [[5, 6, 7, 8], [9], [10, 11]]


def greedy(model: CausalLM, prompt: list[int], steps: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(steps):
        logits = model.logits(torch.tensor(tokens), Varlen.from_lengths([len(tokens)]))
        tokens.append(int(logits[-1].argmax()))
    return tokens[len(prompt) :]


@pytest.mark.parametrize("name", ["llama", "mistral", "gpt2"])
def test_generate_greedily(name: str, make_network: MakeNetwork) -> None:
    network = make_network(name)
    network.generation_config.repetition_penalty = 5.0  # a setting of the model's files must not count
    model = CausalLM(network)
    expected = [greedy(model, prompt, 8) for prompt in PROMPTS]
    state = torch.get_rng_state()
    assert model.generate(PROMPTS, 8) == expected
    assert torch.equal(state, torch.get_rng_state())
    assert model.training
    assert model.model.config._attn_implementation == "dsm_varlen"
    assert network.generation_config.repetition_penalty == 5.0

    end = expected[0][3]
    cut = [tokens[: tokens.index(end)] if end in tokens else tokens for tokens in expected]
    assert model.generate(PROMPTS, 8, eos_token_id=end) == cut
    assert model.generate(PROMPTS, 8, eos_token_id=[end, 95]) == [t[: t.index(95)] if 95 in t else t for t in cut]
    assert model.generate([], 8) == []
    with pytest.raises(ValueError, match="at least one token"):
        model.generate([[1], []], 8)


def test_generate_with_a_seed(make_network: MakeNetwork) -> None:
    model = CausalLM(make_network("llama")).eval()
    state = torch.get_rng_state()
    first = model.generate([[1, 2]] * 8, 12, temperature=1.0, seed=3)
    assert torch.equal(state, torch.get_rng_state())
    assert first == model.generate([[1, 2]] * 8, 12, temperature=1.0, seed=3)
    assert first != model.generate([[1, 2]] * 8, 12, temperature=1.0, seed=4)
    assert len(set(map(tuple, first))) > 1
    assert not model.training
    best = model.generate([[1, 2]] * 8, 12)
    assert best == model.generate([[1, 2]] * 8, 12, temperature=1e-4, seed=3)
    assert best == model.generate([[1, 2]] * 8, 12, temperature=1.0, top_p=1e-6, seed=3)


def test_counts_by_hand(make_network: MakeNetwork) -> None:
    """Per block: q and o 64 x 64, k and v 64 x 32, three of 64 x 96, two norms; one norm at the end."""
    blocks = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96 + 2 * 64) + 64
    tied, untied = (CausalLM(make_network("llama", tie_word_embeddings=tie)) for tie in (True, False))
    assert tied.num_parameters(embedding=False) == untied.num_parameters(embedding=False) == blocks
    assert (tied.num_parameters(), untied.num_parameters()) == (blocks + 96 * 64, blocks + 2 * 96 * 64)
    # Attention of one document of 5 tokens: (1 + 2 + 3 + 4 + 5) / 5 = 3 keys a token; 2 layers, 4 heads of 16.
    expected = 6 * (blocks + 96 * 64) + 12 * 2 * 64 * 3
    assert tied.flops_per_token(Varlen.from_lengths([5]).mean_attended_length) == expected


@pytest.mark.parametrize(
    ("family", "changes", "reason"),
    [
        ("gemma2", {}, "final_logit_softcapping=30.0 changes the logits; attn_logit_softcapping=50.0"),
        ("cohere", {}, "logit_scale=0.0625 changes the logits"),
        ("granite", {"logits_scaling": 8.0}, "logits_scaling=8.0 changes the logits"),
        ("mamba", {}, "carries a state along the sequence"),
        ("bloom", {}, "not behind transformers' attention interface"),
        ("phi", {}, "its head has a bias"),
        ("lfm2", {"layer_types": ["conv", "full_attention"]}, "layer types ['conv']"),
    ],
)
def test_models_that_cannot_be_packed(family: str, changes: dict[str, object], reason: str) -> None:
    with torch.device("meta"):
        config = AutoConfig.for_model(family, num_hidden_layers=2, hidden_size=64, vocab_size=96, **changes)
        network = AutoModelForCausalLM.from_config(config)
    with pytest.raises(UserError) as caught:
        CausalLM(network)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
