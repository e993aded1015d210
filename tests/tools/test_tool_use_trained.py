"""A small network learns tool-integrated answers by heart as SFT would teach them, then gives them with tools."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from dsm.config.engine import EngineConfig
from dsm.config.tools import ToolConfig
from dsm.data.formats import Example, Turn, render, render_prompt, split_outputs, tokenise_example
from dsm.data.tokenizer import train_tokenizer
from dsm.models.wrapper import CausalLM
from dsm.ops.varlen import Varlen
from dsm.rollout.embedded import EmbeddedEngine
from dsm.rollout.engine import Request, Sampling
from dsm.sandbox import Sandbox
from dsm.tools.tool_use import ToolUse

ANSWERS = {
    "6 * 7?": "Let me see.\n```python\nx = 6 * 7\nprint(x)\n```\n```output\n42\n```\nIt is $\\boxed{42}$.",
    "2 + 3?": "Let me see.\n```python\nx = 2 + 3\nprint(x)\n```\n```output\n5\n```\nIt is $\\boxed{5}$.",
    "Hi?": "I need no program.",
}


def example(question: str) -> Example:
    return Example((Turn("user", question, False), *split_outputs(ANSWERS[question])), "", "", "tir")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer([*ANSWERS, *ANSWERS.values()] * 3, 330)


@pytest.fixture(scope="module")
def model(tokenizer: PreTrainedTokenizerFast) -> CausalLM:
    """Trained until it knows every token that SFT trains on; never on a program's output."""
    config = AutoConfig.for_model(
        "llama", vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CausalLM(AutoModelForCausalLM.from_config(config))
    ids, targets, lengths = [], [], []
    for question in ANSWERS:
        tokens, trained = tokenise_example(render(example(question)), tokenizer)
        ids += tokens
        targets += [token if train else -100 for token, train in zip(tokens[1:], trained[1:], strict=True)] + [-100]
        lengths.append(len(tokens))
    batch, wanted = torch.tensor(ids), torch.tensor(targets)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(200):
        logprobs, _ = model.logprobs(batch, Varlen.from_lengths(lengths, "cpu"), wanted)
        loss = -logprobs.sum() / (wanted != -100).sum()
        if loss < 0.05:
            break
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.05
    return model.eval()


def test_what_sft_taught_with_masked_outputs_runs_its_programs(
    model: CausalLM, tokenizer: PreTrainedTokenizerFast, sandbox: Sandbox
) -> None:
    engine = EmbeddedEngine(model, tokenizer, EngineConfig())
    use = ToolUse(engine, sandbox, tokenizer, ToolConfig(), context=256)
    sampling = Sampling(max_new_tokens=100)
    prompts = {
        question: tuple(tokenise_example(render_prompt([Turn("user", question, False)]), tokenizer)[0])
        for question in ANSWERS
    }
    requests = [Request(prompt, sampling) for prompt in prompts.values()]
    rows = use.generate(requests)
    assert [[one.text for one in row] for row in rows] == [[f" {answer}"] for answer in ANSWERS.values()]
    assert [[call.output for call in row[0].calls] for row in rows] == [["42"], ["5"], []]
    for question, (trajectory,) in zip(ANSWERS, rows, strict=True):
        ids, trained = tokenise_example(render(example(question)), tokenizer)
        prompt = prompts[question]
        assert (*prompt, *trajectory.token_ids) == tuple(ids)
        assert trajectory.action_mask == tuple(trained[len(prompt) :])
        (scores,) = engine.score([(prompt, trajectory.token_ids)])
        read = [score if chosen else 0.0 for score, chosen in zip(scores, trajectory.action_mask, strict=True)]
        assert trajectory.logprobs == pytest.approx(read, abs=1e-4)


def test_without_programs_it_is_plain_generation(
    model: CausalLM, tokenizer: PreTrainedTokenizerFast, sandbox: Sandbox
) -> None:
    engine = EmbeddedEngine(model, tokenizer, EngineConfig())
    request = Request(tuple(tokenizer.encode("I see")), Sampling(max_new_tokens=20, temperature=1.0, n=8, seed=7))
    ((*plain,),) = engine.generate([request])
    ((*used,),) = ToolUse(engine, sandbox, tokenizer, ToolConfig()).generate([request])
    pairs = [(one, other) for one, other in zip(plain, used, strict=True) if "```" not in one.text]
    assert len(pairs) >= 3
    assert [other.token_ids for _, other in pairs] == [one.token_ids for one, _ in pairs]
    assert [other.finish_reason for _, other in pairs] == [one.finish_reason for one, _ in pairs]
