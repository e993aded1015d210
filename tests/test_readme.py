"""The README cannot rot: the shell reads its commands, and every `dsm` command among them is planned."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dsm.cli import main
from dsm.config.stages import STAGES
from dsm.data.problems import split_problems, write_jsonl
from dsm.data.tokenizer import save_tokenizer, train_tokenizer
from tests.shell import launched, to_plan

README = Path(__file__).resolve().parents[1] / "README.md"
BLOCKS = re.findall(r"^```bash\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_every_command_composes_and_can_be_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    problems = tmp_path / "runs/problems/tour-01234567/export"
    train, test = split_problems(50, 10, seed=0)
    write_jsonl(train, problems / "train.jsonl")
    write_jsonl(test, problems / "test.jsonl")
    tokenizer = tmp_path / "runs/tokenizer/tour-01234567/export"
    save_tokenizer(train_tokenizer([problem.question + problem.solution for problem in train], 400), tokenizer)
    for stage in ("pretrain", "sft", "rl"):
        (tmp_path / f"runs/{stage}/tour-01234567/export").mkdir(parents=True)
        (tmp_path / f"runs/{stage}/tour-01234567/export/tokenizer.json").write_text("{}")
    for folder in ("crawl/tour", "mine/tour", "tokenize/tour", "eval/instruct", "eval/improved"):
        (tmp_path / f"runs/{folder}-01234567/export").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    for _, command in launched("".join(BLOCKS), tmp_path):
        assert main(to_plan(command)) == 0, f"{command}: {capsys.readouterr().err}"
        assert ("Plan of stage=" if command != ["--help"] else "Usage: dsm") in capsys.readouterr().out, command


def test_every_stage_has_a_command() -> None:
    """In the README or in the documents."""
    text = "".join(path.read_text(encoding="utf-8") for path in [README, *(README.parent / "docs").glob("*.md")])
    assert set(STAGES) - {"pipeline"} <= set(re.findall(r"\bstage=(\w+)", text))


def test_the_names_it_mentions_exist() -> None:
    """Links and the targets of make."""
    text = README.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert link.startswith("https://") or (README.parent / link).exists(), link
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")
    targets = {target for block in BLOCKS for target in re.findall(r"^make (\w+)$", block, re.MULTILINE)}
    assert targets == {"quickstart", "test"}
    assert all(f"\n{target}:" in makefile for target in targets)
