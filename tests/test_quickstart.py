"""The quickstart, shrunk: everything it promises to leave behind is there, and running it again changes nothing."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

SMALL = [
    "model.config.hidden_size=32",
    "model.config.num_hidden_layers=1",
    "data.context=128",
    "data.validation.fraction=0.1",
    "trainer.steps=4",
    "scheduler.warmup_steps=1",
    "trainer.sequences_per_step=2",
]


@pytest.fixture
def quickstart(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    file = Path(__file__).resolve().parents[1] / "scripts" / "quickstart.py"
    spec = importlib.util.spec_from_file_location("quickstart", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "MAX_NEW_TOKENS", 8)
    return module


def test_it_ends_with_a_model_and_its_accuracy_and_says_the_same_again(
    quickstart: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [*SMALL, f"paths.runs={tmp_path}"]
    assert quickstart.main(settings, train=150, test=5) == 0
    first = capsys.readouterr()
    assert re.search(r"before training +0\.0%\n +after +\d+\.\d%", first.out)
    assert "finished before" not in first.err

    export = Path(re.search(r"^export +(\S+)", first.out, re.MULTILINE)[1])  # type: ignore[index]
    assert AutoModelForCausalLM.from_pretrained(export).config.num_hidden_layers == 1
    assert AutoTokenizer.from_pretrained(export)("1 + 1").input_ids
    assert json.loads((export.parent / "metrics.json").read_text())["total/step"] == 4
    rows = {name: (tmp_path / "data" / f"{name}.jsonl").read_text().splitlines() for name in ("train", "test")}
    assert (len(rows["train"]), len(rows["test"])) == (150, 5)
    questions = {name: {json.loads(line)["question"] for line in lines} for name, lines in rows.items()}
    assert questions["train"].isdisjoint(questions["test"])

    assert quickstart.main(settings, train=150, test=5) == 0
    second = capsys.readouterr()
    assert second.out == first.out
    assert second.err.count("finished before") == 4


def test_a_wrong_setting_is_one_line(quickstart: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert quickstart.main(["trainer.stepps=3"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("quickstart: trainer.stepps=3: unknown key (did you mean steps?)")
    assert error.count("\n") == 1
