"""An exported folder is a plain Hugging Face model with the same logits, and comes back as it went."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from dsm.config.model import ModelConfig
from dsm.models.build import build_model
from dsm.models.export import export_model
from dsm.models.wrapper import CausalLM
from dsm.ops.varlen import Varlen

MakeNetwork = Callable[..., PreTrainedModel]
FACTS = {
    "command": "dsm stage=sft seed=1",
    "steps": 500,
    "tokens": 12_345_678,
    "data": {"train": "gsm8k | 7,473 problems", "packing": "best_fit"},
    "metrics": {"validation/loss": 0.123456789},
}


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {f"w{i}": i for i in range(93)} | {"<s>": 93, "</s>": 94, "<pad>": 95}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    return PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_round_trip(
    tied: bool, dtype: str, tmp_path: Path, tokenizer: PreTrainedTokenizerFast, make_network: MakeNetwork
) -> None:
    model, folder = CausalLM(make_network("llama", tie_word_embeddings=tied)), tmp_path / "export"
    export_model(model, tokenizer, folder, title="gauss", facts=FACTS, dtype=dtype)
    assert model.model.config._attn_implementation == "dsm_varlen"
    assert [path.name for path in tmp_path.iterdir()] == ["export"]

    config = json.loads((folder / "config.json").read_text())
    assert (config["dtype"], config["architectures"]) == (dtype, ["LlamaForCausalLM"])
    assert (config["bos_token_id"], config["eos_token_id"], config["pad_token_id"]) == (93, 94, 95)
    assert "dsm_varlen" not in (folder / "config.json").read_text()
    generation = GenerationConfig.from_pretrained(folder)
    assert (generation.bos_token_id, generation.eos_token_id, generation.pad_token_id) == (93, 94, 95)
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert ("lm_head.weight" in file.keys()) == (not tied)  # noqa: SIM118  (not a mapping)
        assert file.get_tensor("model.embed_tokens.weight").dtype == getattr(torch, dtype)

    plain = AutoModelForCausalLM.from_pretrained(folder)
    assert (plain.dtype, plain.config._attn_implementation) == (getattr(torch, dtype), "sdpa")
    assert (plain.lm_head.weight is plain.model.embed_tokens.weight) == tied
    assert AutoTokenizer.from_pretrained(folder)("w3 w4").input_ids == tokenizer("w3 w4").input_ids

    ids, varlen = torch.arange(20), Varlen.from_lengths([20])
    back = build_model(ModelConfig(path=str(folder)), 96, seed=0)
    assert (back.head_weight is back.model.get_input_embeddings().weight) == tied
    if dtype == "float32":
        torch.testing.assert_close(plain(ids[None]).logits[0], model.logits(ids, varlen), rtol=1e-5, atol=1e-5)
        assert torch.equal(back.logits(ids, varlen), model.logits(ids, varlen))
    else:
        for name, weight in back.state_dict().items():
            assert torch.equal(weight, model.state_dict()[name].bfloat16().float())


def test_full_weights_of_a_sharded_model(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, make_network: MakeNetwork
) -> None:
    """The module's own weights do not count when its full ones are given."""
    model = CausalLM(make_network("llama"))
    full = {name: weight + 1 for name, weight in model.model.state_dict().items()}
    export_model(model, tokenizer, tmp_path / "export", title="", facts={}, state_dict=full)
    back = AutoModelForCausalLM.from_pretrained(tmp_path / "export").state_dict()
    assert all(torch.equal(back[name], full[name]) for name in full)


def test_the_card_states_the_run(tmp_path: Path, tokenizer: PreTrainedTokenizerFast, make_network: MakeNetwork) -> None:
    model = CausalLM(make_network("llama"))
    export_model(model, tokenizer, tmp_path / "export", title="gauss", facts=FACTS)
    card = (tmp_path / "export" / "README.md").read_text()
    for line in (
        "# gauss",
        "| architecture | LlamaForCausalLM |",
        f"| parameters | {model.num_parameters():,} ({model.num_parameters(embedding=False):,} without embeddings) |",
        "| tokens | 12,345,678 |",
        "dsm stage=sft seed=1",
        "## Data",
        "| train | gsm8k \\| 7,473 problems |",
        "| validation/loss | 0.123457 |",
        f"| torch | {torch.__version__} |",
    ):
        assert line in card.splitlines()
