"""`mode=plan`: its numbers by hand, and what it says of what lies on the disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dsm.config.compose import compose_config
from dsm.config.listing import groups
from dsm.config.mine import MineConfig
from dsm.config.plan import plan_text
from dsm.config.pretrain import PretrainConfig
from dsm.config.runs import run_path
from dsm.errors import UserError

SFT = ["stage=sft", "data.sources.a.path=a.jsonl", "tokenizer.path=tok"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with 1,234 bytes of data and a tokenizer of 300 ids."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    Path("a.jsonl").write_text("x" * 1234)
    Path("tok").mkdir()
    vocab = {str(i): i for i in range(290)}
    added = [{"id": i, "content": f"<{i}>"} for i in range(280, 300)]
    Path("tok/tokenizer.json").write_text(json.dumps({"model": {"vocab": vocab}, "added_tokens": added}))


def plan(*arguments: str) -> dict[str, str]:
    """The plan's lines by their labels; the second device's column comes after ' | '."""
    text = plan_text(compose_config(arguments))
    rows = {}
    for line in text.splitlines():
        label, _, rest = line.strip().partition("  ")
        rows[label] = " | ".join(part.strip() for part in rest.split("  ") if part.strip())
    return rows


def test_instruct_7b_is_the_papers() -> None:
    """Section 3: 500 steps of 256 packed 4K sequences, constant 5e-5, Eq. 6; 524M tokens."""
    Path("base").mkdir()
    fields = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 30, "num_attention_heads": 32}
    config = {"model_type": "llama", "vocab_size": 102400, "num_key_value_heads": 32, **fields}
    Path("base/config.json").write_text(json.dumps(config))
    Path("base/tokenizer.json").write_text(Path("tok/tokenizer.json").read_text())
    rows = plan("experiment=deepseekmath/instruct_7b", "model.path=base", "data.sources.a.path=a.jsonl")
    assert rows["steps"] == "500: 128,000 sequences, 524,288,000 tokens at most"
    assert rows["a step"] == "256 packed sequences x 4,096 = 1,048,576 tokens at most"
    assert rows["learning rate"] == "constant, 5e-05 throughout"
    assert rows["loss"] == "normalised by sequence"
    assert rows["parameters"].startswith("6.91B: 6.07B in the body, 838.86M")
    assert rows["tokenizer"] == "base (300 ids)"
    settings = compose_config(
        ["experiment=deepseekmath/instruct_7b", "model.path=base", "data.sources.a.path=a.jsonl"]
    ).model_dump()
    assert settings["optim"]["betas"] == [0.9, 0.95]
    assert settings["data"]["packing"] == "random"
    assert settings["data"]["template"] == "chat"


def test_base_7b_is_the_papers() -> None:
    """Section 2.3 on 64 GPUs: steps, drops of the rate, tokens and epochs of each source, days; parts by hand."""
    rows = plan("experiment=deepseekmath/base_7b", "parallel.shard=64")
    assert rows["a step"].startswith("10,000,000 tokens: 2,441.4 sequences of 4,096 on average")
    assert rows["steps"].startswith("50,000: 122,070,312 sequences, 499,999,997,952 tokens")
    assert rows["ranks"] == "64, each with 39 of a step's sequences at most"
    assert rows["layout"].startswith("fsdp: 64 shards; 97.8%")
    text = plan_text(compose_config(["experiment=deepseekmath/base_7b", "parallel.shard=64"]))
    for rate in ("0.00042 at step 1,999", "0.000133 at step 40,000, after 400B", "4.2e-05 at step 45,000, after 450B"):
        assert rate in text
    for name, share, read, epochs in (
        ("deepseekmath", "56 %", "280B", "2.33"),
        ("algebraic_stack", "4 %", "20B", "1.94"),
        ("arxiv", "10 %", "50B", "1.79"),
        ("github", "20 %", "100B", "?"),
        ("common_crawl", "10 %", "50B", "?"),
    ):
        cells = rows[name].split(" | ")
        assert (cells[0], cells[1], cells[4]) == (share, read, epochs), name
    matrices, vectors, embedding = 4 * 4096**2 + 3 * 4096 * 11008, 2 * 4096, 102400 * 4096
    size = 30 * (matrices + vectors) + 4096 + 2 * embedding
    per_token = 6 * (size - embedding) + 12 * 30 * 4096 * 4097 / 2
    days = per_token * 499_999_997_952 / (64 * 0.4 * 989e12) / 86400
    assert rows["time, at most"].startswith(f"{days:.1f} days on 64 H100 at 40% of 989 TFLOP/s")
    assert rows["parameters, fp32"] == f"{4 * size / 64 / 1e6:.0f} MB"
    assert rows["AdamW state, fp32"] == f"{8 * size / 64 / 1e6:.0f} MB"
    assert rows["in 77 GB of 85.5 GB"].startswith("fits")
    assert rows["a checkpoint"].startswith(
        f"{12 * size / 1e9:.1f} GB: weights, AdamW state, 1.3 GB by each of 64 ranks"
    )


def test_what_does_not_fit_is_told_with_what_would() -> None:
    """One GPU for 7B does not do; the settings that are offered do fit when they are given."""
    asked = ["experiment=deepseekmath/base_7b"]
    text = plan_text(compose_config(asked))
    assert "DOES NOT FIT" in text
    offers = (
        text.partition("What to change so that it fits, the least dear first\n")[2].partition("\n\n")[0].splitlines()
    )
    assert len(offers) == 4
    for offer in offers:
        settings = [word for word in offer.split() if "=" in word]
        rows = plan(*asked, *settings)
        assert rows["in 77 GB of 85.5 GB"].startswith("fits"), settings
        assert rows["together, about"] == offer.partition(",")[0].strip()
    assert "DOES NOT FIT" not in plan_text(compose_config([*asked, "plan=h200", "parallel.shard=8"]))


def test_the_planned_machine() -> None:
    """Its number, rate and memory are settings; they are no part of the result."""
    settings = [*SFT, "trainer.steps=10", "plan.gpus=4", "plan.tflops=100", "plan.mfu=0.5", "plan.device=X"]
    rows = plan(*settings)
    assert rows["layout"] == "ddp: 4 copies"
    assert " on 4 X at 50% of 100 TFLOP/s" in rows["time, at most"]
    assert run_path(compose_config(settings)) == run_path(compose_config([*SFT, "trainer.steps=10"]))
    with pytest.raises(UserError, match=r"^parallel.replicate=None, shard=8, tensor=1: they do not make 4 processes"):
        plan(*settings, "parallel.shard=8")


def test_epochs_that_are_too_many_are_refused() -> None:
    """As the run would refuse them, before the stores are there."""
    mix = ["stage=pretrain", "tokenizer.path=tok", "mix.context=1024", "scheduler.warmup_steps=0"]
    mix += [
        "trainer.tokens=1048576",
        "trainer.tokens_per_step=65536",
        "mix.sources.a={path: a, weight: 1, tokens: 524288}",
    ]
    assert plan(*mix)["a"].startswith("100 % | 1.049M | 1,024 | stated 524,288 | 2.00 | a (NOT THERE YET)")
    with pytest.raises(UserError, match=r"^mix.sources.a.max_epochs=1.5: the run would read it 2.000 times"):
        plan(*mix, "mix.sources.a.max_epochs=1.5")
    Path("a").mkdir()
    Path("a/manifest.json").write_text(json.dumps({"tokens": 1048576}))
    assert plan(*mix)["a"] == "100 % | 1.049M | 1,024 | 1.049M | 1.00 | a"


def test_changes_of_weights() -> None:
    """From which token on, in shares."""
    mix = ["stage=pretrain", "tokenizer.path=tok", "mix.context=1024", "scheduler.warmup_steps=0", "mix.root=stores"]
    mix += ["trainer.tokens=2048000", "trainer.tokens_per_step=64000", "mix.sources={a: {weight: 1}, b: {weight: 3}}"]
    rows = plan(*mix, "mix.schedule=[{from_tokens: 1024000, weights: {b: 0}}]")
    assert rows["0"] == "a 25 %, b 75 %"
    assert rows["1.024M"] == "a 100 %, b 0 %"
    assert rows["a"].startswith("62.5 % | 1.28M | 1,250")
    assert rows["a step"] == "64,000 tokens: 62.5 sequences of 1,024 on average, exact over the run"


PLACEHOLDERS = {
    "model.path": "model.path=base",
    "tokenizer.path": "tokenizer.path=tok",
    "data.path": "data.path=rollouts",
    "data.sources": "data.sources.a.path=a.jsonl",
    "data.sources.gsm8k.path": "data.sources.gsm8k.path=a.jsonl",
    "prompts.sources.gsm8k.path": "prompts.sources.gsm8k.path=a.jsonl",
    "prompts.sources.math.path": "prompts.sources.math.path=b.jsonl",
    "mix.root": "mix.root=stores",
    "crawl.path": "crawl.path=crawl",
    "seed_corpus.path": "seed_corpus.path=seed.jsonl",
}
"""What an experiment leaves to the user, by the key that the refusal names."""


def _refusal(arguments: list[str]) -> str:
    """The key of what is wrong with a command line; nothing where it is right."""
    try:
        compose_config(arguments)
    except UserError as error:
        return str(error).partition("=")[0].partition(":")[0]
    return ""


@pytest.mark.parametrize("experiment", groups()["experiment"])
def test_every_experiment_has_a_plan(experiment: str) -> None:
    """With no more than the user's own paths; a budget that is known, a model that is counted, a mix that is whole."""
    Path("base").mkdir()
    config = {"model_type": "llama", "vocab_size": 102400, "hidden_size": 2048, "num_hidden_layers": 24}
    Path("base/config.json").write_text(json.dumps(config))
    arguments = [f"experiment={experiment}"]
    left = dict(PLACEHOLDERS)
    while (key := _refusal(arguments)) in left:
        arguments.append(left.pop(key))
    composed = compose_config(arguments)
    text = plan_text(composed)
    assert ("core-hours" if isinstance(composed, MineConfig) else "parameters") in text
    assert "not estimated" not in text
    if isinstance(composed, PretrainConfig):
        rows = plan(*arguments)
        shares = [float(rows[name].partition(" %")[0]) for name in composed.mix.sources]
        assert sum(shares) == pytest.approx(100, abs=0.1)
        assert composed.steps == pytest.approx(composed.trainer.tokens / composed.trainer.tokens_per_step, rel=1e-3)
        assert "together, about" in text


def test_micro_batches() -> None:
    """Derived for each device, or as set; never more than a rank's share of the step."""
    rows = plan(*SFT, "data.context=1024", "trainer.sequences_per_step=10")
    assert rows["micro-batch"] == "10,240 tokens | 4,096 tokens"
    assert rows["micro-batches a step"] == "1 | 3"
    rows = plan(*SFT, "data.context=1024", "trainer.sequences_per_step=10", "parallel.tokens_per_microbatch=2048")
    assert rows["micro-batch"] == "2,048 tokens | 2,048 tokens"
    assert rows["micro-batches a step"] == "5 | 5"
    assert plan(*SFT, "parallel.accelerator=cpu")["micro-batch"] == "4,096 tokens"


def test_ranks_share_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torchrun would have it."""
    monkeypatch.setenv("WORLD_SIZE", "3")
    rows = plan(*SFT, "data.context=1024", "trainer.sequences_per_step=10")
    assert rows["ranks"] == "3, each with 4 of a step's sequences at most"
    assert rows["micro-batch"] == "4,096 tokens | 4,096 tokens"


def test_budgets() -> None:
    """Steps from tokens are rounded up; epochs leave them to the data."""
    rows = plan(*SFT, "trainer.steps=null", "trainer.tokens=3000000", "scheduler=cosine", "scheduler.warmup_steps=1")
    assert rows["steps"].startswith("3: 768 sequences")
    assert rows["learning rate"] == "cosine, 5e-05 at step 0, 2.75e-05 at step 2"
    rows = plan(*SFT, "trainer.steps=null", "trainer.epochs=2")
    assert rows["steps"] == "follow from the data: 2 epochs"
    assert "time, at most" not in rows


def test_cost_and_disk_by_hand() -> None:
    """tiny with 320 rows: 4 x (4 x 128^2 + 3 x 128 x 352 + 2 x 128) + 128 and 320 x 128."""
    body, rows_of_embedding = 4 * (4 * 128**2 + 3 * 128 * 352 + 2 * 128) + 128, 320 * 128
    rows = plan(*SFT, "trainer.steps=10", "trainer.sequences_per_step=1", "data.context=1023")
    assert (
        rows["parameters"]
        == f"{body + rows_of_embedding:,}: {body:,} in the body, {rows_of_embedding:,} in embedding and head"
    )
    per_token = 6 * (body + rows_of_embedding) + 12 * 4 * 128 * 512
    assert rows["compute"].startswith(f"{per_token / 1e6:.3g} MFLOP a token where documents fill the context")
    assert rows["time, at most"].endswith(f"{per_token * 10230 / 0.1e12:.1f} s at 0.1 TFLOP/s, two CPU cores")
    assert rows["a checkpoint"].startswith(f"{12 * (body + rows_of_embedding) / 1e6:.3g} MB")
    assert rows["export"].startswith(f"{4 * (body + rows_of_embedding) / 1e6:.3g} MB")
    assert rows["parameters, fp32"] == " | ".join([f"{4 * (body + rows_of_embedding) / 1e6:.3g} MB"] * 2)


def test_data_on_the_disk() -> None:
    """Sizes of files and folders; what is missing is said, not refused."""
    Path("folder/deep").mkdir(parents=True)
    for name in ("folder/a.jsonl", "folder/deep/b.jsonl"):
        Path(name).write_text("x" * 500)
    rows = plan(
        *SFT, "data.sources.b={path: folder, weight: 0.5}", "data.sources.c.path=none", "data.sources.d.path=hub:o/n"
    )
    assert rows["source a"] == "a.jsonl (1.23 kB)"
    assert rows["source b"] == "folder (2 files, 1 kB, 0.5 passes an epoch)"
    assert rows["source c"] == "none (NOT THERE YET)"
    assert rows["source d"] == "hub:o/n (from the hub)"


def test_what_is_not_known_is_said() -> None:
    """No tokenizer, no vocabulary; no such architecture, no estimate."""
    nowhere = ["stage=sft", "data.sources.a.path=a.jsonl", "tokenizer.path=nowhere"]
    assert plan(*nowhere)["parameters"].startswith("known once the tokenizer is there")
    assert plan(*nowhere, "model.vocab_size=320")["parameters"].startswith("844,")
    assert plan(*SFT, "model.architecture=gpt_neox")["parameters"].startswith("not estimated for this architecture")
    hub = plan("stage=sft", "data.sources.a.path=a.jsonl", "model=pretrained", "model.path=hub:o/n")
    assert hub["parameters"] == "known once the model is there"


def test_contradictions_are_mistakes() -> None:
    """Too few rows for the ids; files that are no JSON."""
    with pytest.raises(UserError, match=r"^model.vocab_size=299: the tokenizer has 300 ids"):
        plan(*SFT, "model.vocab_size=299")
    Path("tok/tokenizer.json").write_text("{")
    with pytest.raises(UserError, match=r"^tokenizer.path=tok: tokenizer.json cannot be read"):
        plan(*SFT)
    Path("tok/tokenizer.json").write_text("[]")
    with pytest.raises(UserError, match=r"^tokenizer.path=tok: tokenizer.json holds no JSON object"):
        plan(*SFT)


def test_the_run_folder() -> None:
    """The one that the run would use, and what it would find there."""
    folder = run_path(compose_config(SFT))
    assert plan(*SFT)["run folder"] == f"{folder} (from the start)"
    assert run_path(compose_config([*SFT, "optim.lr=1"])) != folder
    (folder / "checkpoints" / "step-00000100").mkdir(parents=True)
    assert plan(*SFT)["run folder"] == f"{folder} (goes on from step-00000100)"
    assert plan(*SFT, "resume=never")["run folder"] == f"{folder} (exists, so a new one beside it)"
    (folder / "metrics.json").write_text("{}")
    assert plan(*SFT)["run folder"].startswith(f"{folder} (finished before")


def test_the_tokenizers_plan() -> None:
    """Its vocabulary, its data, its folder."""
    rows = plan("stage=tokenizer", "data.sources.a.path=a.jsonl", "data.max_bytes=1000", "tokenizer.vocab_size=500")
    assert rows["vocabulary"].startswith("at most 500 ids")
    assert rows["read"] == "all of it, at most 1 kB of text"
    assert rows["run folder"].startswith("runs/tokenizer/tokenizer-")
