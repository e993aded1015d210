"""Run folders as stages leave them, in small: settings, metrics over steps and at the end."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml


def write_run(
    folder: Path, config: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], final: Mapping[str, Any]
) -> str:
    """A run that has ended."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(dict(config)), encoding="utf-8")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "metrics.json").write_text(json.dumps(final), encoding="utf-8")
    return str(folder)


def mine(folder: Path) -> str:
    """Two rounds, the truth known, one planted problem found."""
    rows = [
        {"round": 1, "pages": 400, "tokens": 90_000, "share": 0.04, "en/tokens": 70_000, "zh/tokens": 20_000}
        | {"classifier/random/precision": 0.9, "classifier/random/recall": 0.8, "domains/candidates": 3}
        | {"seed/new_pages": 17},
        {"round": 2, "pages": 500, "tokens": 123_000, "share": 0.05, "en/tokens": 90_000, "zh/tokens": 33_000}
        | {"overlap": 0.7654, "classifier/random/precision": 0.95, "classifier/random/recall": 0.85},
    ]
    final = {
        "mine/records": 20_001,
        "mine/pages": 499,
        "mine/rounds": 2,
        "mine/tokens": 123_000,
        "mine/overlap": 0.7654,
    }
    for number, (recall, precision) in enumerate([(0.5, 0.99), (0.713, 0.98)], start=1):
        final |= {f"truth/round-{number}/recall": recall, f"truth/round-{number}/precision": precision}
        final |= {f"truth/round-{number}/recall/forum": recall + 0.1}
    final |= {"truth/contamination/planted": 13, "truth/contamination/left": 1, "seconds": 61.0}
    path = write_run(folder, {"stage": "mine"}, rows, final)
    domains = {"domain": ["a.example", "b.example"], "pages": [50, 40], "collected": [10, 30]}
    domains |= {"collected_tokens": [1000, 9000], "share": [0.2, 0.75]}
    file = folder / "steps" / "round-2" / "domains" / "all" / "domains.parquet"
    file.parent.mkdir(parents=True)
    pq.write_table(pa.table(domains), file)
    hits = folder / "steps" / "clean" / "shard" / "hits.jsonl"
    hits.parent.mkdir(parents=True)
    hits.write_text(json.dumps({"benchmark": "planted_en", "url": "u"}) + "\n")
    steps = [{"step": "pages", "out": 10_000, "reasons": {}}, {"step": "export", "out": 499, "reasons": {}}]
    (folder / "reconciliation.json").write_text(json.dumps({"in": 20_001, "steps": steps}))
    return path


def tokenize(folder: Path) -> str:
    """Two stores."""
    final: dict[str, Any] = {}
    for name, tokens in (("maths", 200_000), ("code", 50_000)):
        final |= {f"{name}/tokens": tokens, f"{name}/documents": 321, f"{name}/bytes_per_token": 2.5}
        final |= {f"{name}/rejected": 0, f"{name}/held_out_tokens": 0}
    return write_run(folder, {"stage": "tokenize"}, [], final)


def pretrain(folder: Path) -> str:
    """Three parts of mathematics to one of code; its store of mathematics is half as large as what was read."""
    (folder.parent / "store").mkdir()
    (folder.parent / "store" / "manifest.json").write_text(json.dumps({"tokens": 30_000}))
    sources = {
        "maths": {"path": str(folder.parent / "store"), "weight": 3.0},
        "code": {"path": "gone", "weight": 1.0},
    }
    config = {"stage": "pretrain", "mix": {"sources": sources, "schedule": []}, "trainer": {"tokens_per_step": 8000}}
    rows = [
        {"step": step, "budget/positions": 8000 * step, "train/loss": 6.0 / step, "train/loss/maths": 5.0 / step}
        | {"train/loss/code": 7.0 / step, "mix/tokens/maths": 6000 * step, "mix/tokens/code": 2000 * step}
        for step in range(1, 11)
    ]
    rows += [{"step": step, "validation/loss/maths": 5.5 / (step + 1)} for step in (0, 10)]
    final = {"total/positions": 80_000, "mix/tokens/maths": 60_000, "mix/tokens/code": 20_000, "seconds": 125.0}
    return write_run(folder, config, rows, final | {"validation/loss/maths": 0.5})


def sft(folder: Path, source: Path, *, lr: float = 1e-3, seconds: float = 30.0) -> str:
    """A source of two formats and two languages."""
    data = [
        {"question": "1 + 1?", "answer": "It is \\boxed{2}."},
        {"question": "一加一？", "answer": "是 \\boxed{2}。"},
        {"question": "2 + 2?", "answer": "```python\nprint(2 + 2)\n```"},
    ]
    source.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in data), encoding="utf-8")
    config = {
        "stage": "sft",
        "seed": 0,
        "data": {"context": 256, "sources": {"problems": {"path": str(source), "weight": 1.0, "style": "none"}}},
        "optim": {"lr": lr},
    }
    rows = [{"step": step, "budget/positions": 500 * step, "train/loss": 1.0 / step} for step in range(1, 6)]
    return write_run(folder, config, rows, {"total/positions": 2500, "seconds": seconds})


def rl(folder: Path) -> str:
    """Twelve explorations of 64 answers; half of the groups of the last are saturated."""
    config = {
        "stage": "rl",
        "algorithm": {"name": "grpo"},
        "rollout": {"group_size": 8},
        "optim": {"lr": 2e-4},
        "trainer": {"prompts_per_step": 8, "updates": 1},
    }
    rows = [
        {"step": step, "samples": 64, "groups": 8, "groups/saturated": step // 3, "reward/mean": step / 20}
        | {"rollout/accuracy": step / 20, "train/kl/k3": step / 1000, "train/entropy": 1 / step, "rollout/length": 40.0}
        for step in range(1, 13)
    ]
    return write_run(folder, config, rows, {"seconds": 90.0})
