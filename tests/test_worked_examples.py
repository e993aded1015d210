"""docs/extend.md, followed by a new user: its files in an empty folder, its commands one after another, made small."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dsm.cli import main
from dsm.config.listing import OWN_CONF
from tests.shell import launched
from tests.test_docs import fences

SMALL = {
    "problems": ["problems.n_train=80", "problems.n_test=10"],
    "tokenizer": ["tokenizer.vocab_size=400"],
    "tokenize": ["store.workers=1"],
    "sft": ["trainer.steps=2", "trainer.sequences_per_step=1", "parallel.accelerator=cpu", "callbacks.progress=false"],
    "pretrain": ["trainer.tokens=4_096", "trainer.tokens_per_step=1_024", "parallel.accelerator=cpu"],
    "rl": [
        *("trainer.steps=1", "trainer.prompts_per_step=2", "rollout.group_size=2", "rollout.max_new_tokens=6"),
        *("grader.workers=1", "parallel.accelerator=cpu", "callbacks.progress=false"),
    ],
    "eval": ["limit=2", "sampling.max_new_tokens=6", "grader.workers=1", "parallel.accelerator=cpu"],
}


def made_small(arguments: list[str]) -> list[str]:
    """A command of the page with the settings above in the place of its own."""
    stage = next((word[6:] for word in arguments if word.startswith("stage=")), "rl")
    keys = {setting.partition("=")[0] for setting in SMALL[stage]}
    return [word for word in arguments if word.partition("=")[0] not in keys] + SMALL[stage]


def run_of(name: str) -> Path:
    (folder,) = Path("runs").glob(f"*/{name}-*")
    return folder


def last_metrics(name: str) -> dict[str, Any]:
    lines = (run_of(name) / "metrics.jsonl").read_text().splitlines()
    metrics: dict[str, Any] = json.loads(lines[-1])
    return metrics


def test_the_page_from_an_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(OWN_CONF, "")  # what a command sets is taken back
    shell = ""
    for language, title, text in fences("extend.md"):
        if title:
            (tmp_path / title).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / title).write_text(text, encoding="utf-8")
        elif language == "bash":
            shell += text
    done = 0
    while found := launched(shell, tmp_path, after=done):
        ((_, command),) = found
        assert main(made_small(command)) == 0, f"{command}: {capsys.readouterr().err}"
        done += 1
    assert done == 10
    assert last_metrics("median")["advantage/mean"] is not None
    assert {"reward/brief", "reward/correct"} <= set(last_metrics("brief"))
    assert {"reward/brief", "advantage/mean"} <= set(last_metrics("short_answers"))
    results = json.loads((run_of("stories") / "results.json").read_text())
    assert "stories" in json.dumps(results)
    for name in ("textbook", "thirds"):
        assert (run_of(name) / "export/model.safetensors").is_file()
