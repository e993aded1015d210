"""The README cannot rot: the shell reads its commands, and every `dsm` command among them is planned."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from dsm.cli import main
from dsm.config.stages import STAGES
from dsm.data.problems import split_problems, write_jsonl
from dsm.data.tokenizer import save_tokenizer, train_tokenizer

README = Path(__file__).resolve().parents[1] / "README.md"
BLOCKS = re.findall(r"^```bash\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
# What a block would start is written down instead, argument by argument.
SHELL = r"""
set -euo pipefail
make() { :; }
source() { :; }
dsm() { printf '%s\0' "$@" $'\n' >> commands; }
torchrun() { [ "$1 $3 $4" = "--nproc-per-node -m dsm" ]; dsm "${@:5}"; }
"""


def commands(folder: Path) -> list[list[str]]:
    """The arguments of every `dsm` of the README, as bash passes them in `folder`."""
    subprocess.run(["bash", "-c", SHELL + "".join(BLOCKS)], cwd=folder, check=True)
    lines = (folder / "commands").read_text(encoding="utf-8").split("\n\0")
    return [line.split("\0")[:-1] for line in lines[:-1]]


def test_every_command_composes_and_can_be_planned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train, test = split_problems(50, 10, seed=0)
    write_jsonl(train, tmp_path / "runs/quickstart/data/train.jsonl")
    write_jsonl(test, tmp_path / "runs/quickstart/data/test.jsonl")
    tokenizer = tmp_path / "runs/tokenizer/mine-01234567/export"
    save_tokenizer(train_tokenizer([problem.question + problem.solution for problem in train], 400), tokenizer)
    for folder in (
        "sft/mine-01234567/export",
        "eval/greedy-01234567",
        "eval/votes-01234567",
        "tokenize/corpus-01234567/export",
        "rollouts/answers-01234567/rollouts",
        "reward/outcomes-01234567/export",
        "crawl/web-01234567/export/crawl",
        "mine/web-01234567",
    ):
        (tmp_path / "runs" / folder).mkdir(parents=True)
    for export in ("sft/mine-01234567/export", "reward/outcomes-01234567/export"):
        (tmp_path / "runs" / export / "tokenizer.json").write_text("{}")
    monkeypatch.chdir(tmp_path)

    found = commands(tmp_path)
    stages = [argument for command in found for argument in command if argument.startswith("stage=")]
    assert {f"stage={stage}" for stage in STAGES} == set(stages)
    for command in found:
        extra = [] if command == ["--help"] or "mode=plan" in command else ["mode=plan"]
        assert main([*command, *extra]) == 0, f"{command}: {capsys.readouterr().err}"
        assert ("Plan of stage=" if command != ["--help"] else "Usage: dsm") in capsys.readouterr().out, command


def test_the_names_it_mentions_exist() -> None:
    """Links and the targets of make."""
    text = README.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert link.startswith("https://") or (README.parent / link).exists(), link
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")
    targets = {target for block in BLOCKS for target in re.findall(r"^make (\w+)$", block, re.MULTILINE)}
    assert targets == {"quickstart", "test"}
    assert all(f"\n{target}:" in makefile for target in targets)
