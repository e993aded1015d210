"""The documents cannot rot: their commands compose, their examples run, their links lead somewhere."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from omegaconf import OmegaConf
from pydantic import BaseModel

from dsm.cli import main
from dsm.config.algorithm import AlgorithmConfig
from dsm.config.compose import compose_raw
from dsm.config.listing import OWN_CONF
from dsm.config.stages import STAGES
from dsm.objectives.algorithm import build_algorithm
from dsm.objectives.samples import Samples
from tests.shell import launched, to_plan

DOCS = Path(__file__).resolve().parents[1] / "docs"
FENCE = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```', re.MULTILINE | re.DOTALL)


def fences(page: str) -> list[tuple[str, str, str]]:
    """(language, title, text) of a page's code."""
    return FENCE.findall((DOCS / page).read_text(encoding="utf-8"))


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files of the examples, and with what their commands name."""
    for _, title, text in (fence for page in DOCS.glob("*.md") for fence in fences(page.name)):
        if title:
            (tmp_path / title).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / title).write_text(text, encoding="utf-8")
    rows = [{"question": "1 + 1?", "answer": "2", "gold": "2", "kind": "a"}]
    problems = "runs/problems/own-01234567/export"
    for name in ("train.jsonl", "more.jsonl", "test.jsonl", f"{problems}/train.jsonl", f"{problems}/test.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "runs/tokenize/own-01234567/export").mkdir(parents=True)
    for name in ("MODEL", "TOKENIZER", "runs/tokenizer/own-01234567/export", "runs/sft/own-01234567/export"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "tokenizer.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(OWN_CONF, "")  # what a command sets is taken back
    return tmp_path


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))
def test_every_command_can_be_planned(page: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shell = "".join(text for language, _, text in fences(page) if language == "bash")
    for command in dict.fromkeys(tuple(to_plan(command)) for _, command in launched(shell, workplace)):
        assert main(command) == 0, f"{command}: {capsys.readouterr().err}"


def test_the_algorithm_of_the_example(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OWN_CONF, "own")
    composed = compose_raw(["stage=rl", "algorithm=median"])
    algorithm = build_algorithm(AlgorithmConfig.model_validate(OmegaConf.to_container(composed.algorithm)))
    n, rewards = 6, np.array([0.0, 0.0, 1.0, 5.0, 2.0, 3.0])
    samples = Samples(
        group=np.array([0, 0, 0, 1, 1, 1]),
        reward=rewards,
        correct=rewards > 0,
        lengths=np.full(n, 2),
        truncated=np.zeros(n, dtype=bool),
        old=[np.zeros(2)] * n,
        reference=[np.zeros(2)] * n,
    )
    found = [float(streams["advantage"][0]) for streams in algorithm.assign(samples).streams]
    assert found == [0.0, 0.0, 1.0, 2.0, -1.0, 0.0]


def test_the_reward_of_the_example(workplace: Path) -> None:
    spec = importlib.util.spec_from_file_location("brief", workplace / "brief.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.brief(completions=["", "x" * 100, "x" * 300], prompts=[], gold=[]) == [1.0, 0.5, 0.0]


def test_options_of_ones_own_are_ours_too(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--config-dir", "own", "--help"]) == 0
    assert "median" in capsys.readouterr().out
    assert main(["--config-dir", "own", "stage=rl", "algorithm=medain"]) == 2
    assert "did you mean median?" in capsys.readouterr().err
    assert main(["--config-dir", "nowhere", "stage=rl"]) == 2
    assert "--config-dir nowhere: no such folder" in capsys.readouterr().err
    (workplace / "own/algorithm/grpo.yaml").write_text("name: grpo\n")
    assert main(["--config-dir=own", "stage=rl"]) == 2
    assert "algorithm/grpo.yaml is there already" in capsys.readouterr().err


def test_links_lead_somewhere() -> None:
    for page in DOCS.glob("*.md"):
        for link in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            generated = link.startswith("reference/")
            assert generated or link.startswith("https://") or (DOCS / link).is_file(), f"{page.name}: {link}"


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    """docs/hooks.py, as mkdocs loads it."""
    spec = importlib.util.spec_from_file_location("hooks", DOCS / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_memory_table_is_the_planners(hooks: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python docs/hooks.py` prints the one to put there."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert hooks.memory_table() in (DOCS / "scaling.md").read_text(encoding="utf-8")


def test_the_reference_has_every_setting(hooks: ModuleType) -> None:
    pages = hooks.pages()
    assert set(pages) == {"index", *STAGES}
    for stage, (schema, _) in STAGES.items():
        assert f"| `{next(iter(schema.model_fields))}`" in pages[stage]
        for name, field in schema.model_fields.items():
            whole = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
            assert f"| `{name}{'.' if whole else ''}" in pages[stage], f"{stage}: {name}"
    assert "| `optim.lr` | number, more than 0 | `1e-06` | peak learning rate |" in pages["rl"]
    assert "| `parallel.tensor` | integer, more than 0 | `1` |" in pages["rl"]
