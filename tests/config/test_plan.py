"""`mode=plan`: its numbers by hand, and what it says of what lies on the disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dsm.config.compose import compose_config
from dsm.config.plan import plan_text
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
    assert rows["read"] == "the first 1 kB of text"
    assert rows["run folder"].startswith("runs/tokenizer/tokenizer-")
