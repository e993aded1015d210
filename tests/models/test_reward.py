"""A reward model is a trunk under one row; as a folder it is transformers' own, with the same numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from dsm.config.model import ModelConfig
from dsm.config.parallel import Layout
from dsm.errors import UserError
from dsm.models.build import build_model
from dsm.models.export import export_model
from dsm.models.reward import RewardModel, Supervision, build_reward_model, supervision_of
from dsm.models.sharding import Sharding, full_state_dict
from dsm.models.wrapper import CausalLM
from dsm.ops.norms import clip_grad_norm
from dsm.ops.varlen import Varlen
from tests.models.conftest import SMALL
from tests.ranks import run_ranks

MakeNetwork = Callable[..., PreTrainedModel]
LENGTHS = (7, 1, 12, 5)
BOTH = pytest.mark.parametrize("supervision", ["outcome", "process"])


def configuration(**changes: Any) -> ModelConfig:
    settings = {key: value for key, value in SMALL.items() if key != "vocab_size"}
    return ModelConfig(architecture="llama", config=settings | {"initializer_range": 0.1}, **changes)


def tokenizer(pad: str) -> PreTrainedTokenizerFast:
    vocabulary = {f"w{i}": i for i in range(93)} | {"<s>": 93, "</s>": 94, "<pad>": 95}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    return PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>", pad_token=pad)


def documents() -> list[torch.Tensor]:
    ids = torch.randint(0, 93, (sum(LENGTHS),), generator=torch.Generator().manual_seed(0))
    rows = list(ids.split(LENGTHS))
    for row in rows[::2]:
        row[-1] = 94  # half of them end with the EOS, the others were cut off
    return rows


def trained(supervision: Supervision, **changes: Any) -> RewardModel:
    """New weights with a head, and where it has one a bias, of some size."""
    model = build_reward_model(configuration(**changes), 96, supervision=supervision, seed=3)
    with torch.no_grad():
        model.head_weight.normal_(generator=torch.Generator().manual_seed(1))
        for name, weight in model.named_parameters():
            if name.endswith("score.bias"):
                weight.fill_(0.25)
    return model


def packed(model: RewardModel) -> list[torch.Tensor]:
    return list(model.values(torch.cat(documents()), Varlen.from_lengths(LENGTHS)).split(LENGTHS))


def test_packed_as_one_by_one() -> None:
    model = trained("process")
    for row, values in zip(documents(), packed(model), strict=True):
        torch.testing.assert_close(model.values(row, Varlen.from_lengths([len(row)])), values, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("pad", ["<pad>", "</s>"])
def test_transformers_finds_the_same_outcomes(pad: str, tmp_path: Path) -> None:
    """One by one, and padded where there is padding; an EOS that serves as padding must not hide the last token."""
    model = trained("outcome")
    export_model(model, tokenizer(pad), tmp_path / "export", title="judge", facts={"steps": 3})
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "export")
    wanted = torch.stack([values[-1] for values in packed(model)])
    alone = torch.cat([plain(row[None]).logits[0] for row in documents()])
    torch.testing.assert_close(alone, wanted, rtol=1e-5, atol=1e-5)
    if pad == "<pad>":
        width = max(LENGTHS)
        together = torch.stack([torch.nn.functional.pad(row, (0, width - len(row)), value=95) for row in documents()])
        logits = plain(together, attention_mask=(together != 95).long()).logits[:, 0]
        torch.testing.assert_close(logits, wanted, rtol=1e-5, atol=1e-5)
    else:
        assert plain.config.pad_token_id is None
    config = json.loads((tmp_path / "export" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForSequenceClassification"]
    assert not (tmp_path / "export" / "generation_config.json").exists()
    assert "pipeline_tag: text-classification" in (tmp_path / "export" / "README.md").read_text()


def test_transformers_finds_the_same_processes(tmp_path: Path) -> None:
    model = trained("process")
    export_model(model, tokenizer("<pad>"), tmp_path / "export", title="judge", facts={})
    plain = AutoModelForTokenClassification.from_pretrained(tmp_path / "export").eval()
    for row, values in zip(documents(), packed(model), strict=True):
        torch.testing.assert_close(plain(row[None]).logits[0, :, 0], values, rtol=1e-5, atol=1e-5)


@BOTH
def test_a_folder_keeps_its_head(supervision: Supervision, tmp_path: Path) -> None:
    model = trained(supervision)
    export_model(model, tokenizer("<pad>"), tmp_path / "export", title="judge", facts={})
    assert supervision_of(str(tmp_path / "export")) == supervision
    back = build_reward_model(ModelConfig(path=str(tmp_path / "export")), 96, supervision=supervision, seed=77)
    assert back.training
    assert back.supervision == supervision
    assert all(map(torch.equal, packed(back), packed(model)))


@BOTH
def test_a_language_model_gets_a_new_head(supervision: Supervision, tmp_path: Path, make_network: MakeNetwork) -> None:
    """Its trunk is taken over to the bit; the head depends on the seed, and says nothing yet."""
    policy = CausalLM(make_network("llama"))
    export_model(policy, tokenizer("<pad>"), tmp_path / "policy", title="policy", facts={})
    assert supervision_of(str(tmp_path / "policy")) is None
    cfg = ModelConfig(path=str(tmp_path / "policy"))
    one, same, other = (build_reward_model(cfg, 96, supervision=supervision, seed=seed) for seed in (1, 1, 2))
    ids, varlen = torch.cat(documents()), Varlen.from_lengths(LENGTHS)
    assert torch.equal(one(ids, varlen), policy(ids, varlen))
    assert torch.equal(one.head_weight, same.head_weight)
    assert not torch.equal(one.head_weight, other.head_weight)
    assert one.head_weight.shape == (1, 64)
    assert float(one.head_weight.detach().std()) == pytest.approx(1 / 65, rel=0.3)
    assert float(torch.cat(packed(one)).detach().abs().max()) < 0.6


def test_values_are_fp32_under_bf16() -> None:
    """The head is computed in fp32 even where the trunk is not."""
    model = trained("outcome")
    ids, varlen = torch.cat(documents()), Varlen.from_lengths(LENGTHS)
    with torch.autocast("cpu", torch.bfloat16):
        values, hidden = model.values(ids, varlen), model(ids, varlen)
    assert values.dtype == torch.float32
    wanted = hidden.double() @ model.head_weight.detach().double()[0]
    torch.testing.assert_close(values.double(), wanted, rtol=1e-5, atol=1e-5)


def test_a_head_of_two_rows_is_refused(tmp_path: Path, make_network: MakeNetwork) -> None:
    config = make_network("llama").config
    config.num_labels = 2
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"wrong shape for 1 weights of the model: score\.weight"):
        build_reward_model(ModelConfig(path=str(tmp_path)), 96, seed=0)


def test_a_language_model_is_not_taken_for_one(tmp_path: Path) -> None:
    export_model(trained("outcome"), tokenizer("<pad>"), tmp_path / "judge", title="judge", facts={})
    untied = configuration().model_copy(update={"config": configuration().config | {"tie_word_embeddings": False}})
    export_model(
        build_reward_model(untied, 96, seed=0), tokenizer("<pad>"), tmp_path / "untied", title="judge", facts={}
    )
    with pytest.raises(UserError, match=r"lack 1 weights of the model: lm_head\.weight"):
        build_model(ModelConfig(path=str(tmp_path / "untied")), 96, seed=0)


def _learn(folder: str, shard: int) -> dict[str, Any]:
    """Values, gradients and weights; of the shards of so many ranks, each with its half of the documents."""
    spread = None
    if shard > 1:
        spread = Sharding.over(Layout("fsdp", 1, shard, 1), torch.device("cpu"), "fp32", reshard_after_forward=True)
    found: dict[str, Any] = {}
    for name, cfg in {"new": configuration(), "read": ModelConfig(path=folder)}.items():
        model = build_reward_model(cfg, 96, supervision="process", seed=5, sharding=spread)
        rank = torch.distributed.get_rank() if spread else 0
        rows = documents()[rank::shard]
        values = model.values(torch.cat(rows), Varlen.from_lengths([len(row) for row in rows]))
        (values**2).sum().backward()
        norm = float(clip_grad_norm(model.parameters(), 1.0))
        found[name] = (norm, full_state_dict(model), values.detach())
    return found


def test_shards_compute_what_the_whole_does(tmp_path: Path) -> None:
    export_model(trained("process"), tokenizer("<pad>"), tmp_path / "export", title="judge", facts={})
    whole, (first, second) = _learn(str(tmp_path / "export"), 1), run_ranks(2, _learn, str(tmp_path / "export"), 2)
    for name, (norm, weights, values) in whole.items():
        rows = values.split(LENGTHS)
        for rank, of_rank in enumerate((first, second)):
            assert of_rank[name][0] == pytest.approx(norm, rel=1e-5)
            assert weights.keys() == of_rank[name][1].keys()
            assert all(torch.equal(weight, of_rank[name][1][key]) for key, weight in weights.items())
            torch.testing.assert_close(of_rank[name][2], torch.cat(rows[rank::2]), rtol=1e-5, atol=1e-6)
