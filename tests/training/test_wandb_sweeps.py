"""Runs under `wandb agent`: its own code makes the command line and the environment; W&B is kept offline.

W&B is imported where it is used: it takes six seconds, which every process that only collects tests would spend.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dsm.cli import main
from dsm.config.compose import compose_config
from tests.training.harness import Lab, run_folder

if TYPE_CHECKING:
    from wandb.proto.wandb_internal_pb2 import Record

SWEEPS = sorted((Path(__file__).resolve().parents[2] / "scripts/sweeps").glob("*.yaml"))


class Started:
    """What the agent would start: its process' command and environment."""

    def __init__(self, command: list[str], env: dict[str, str], **_: Any) -> None:
        self.command, self.environment = command, env


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What W&B's agent does with a run that the server has chosen; takes command, parameters and the run's id."""
    from wandb import wandb_agent

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(wandb_agent, "AgentProcess", Started)
    for name in ("WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH", "WANDB_DIR"):
        monkeypatch.setenv(name, "x")  # so that what the agent sets is taken back
        monkeypatch.delenv(name)

    def start(command: list[str], parameters: dict[str, Any], run_id: str = "run-of-agent") -> list[str]:
        os.environ["WANDB_SWEEP_ID"] = "sweep1"
        agent = wandb_agent.Agent(api=None, queue=None, sweep_id="sweep1")
        agent._sweep_command = list(command)
        values = {key: {"value": value} for key, value in parameters.items()}
        answer = agent._process_command({"type": "run", "run_id": run_id, "program": "dsm", "args": values})
        assert "exception" not in answer, answer
        started = agent._run_processes[run_id]
        os.environ.update(started.environment)
        return started.command[started.command.index("dsm") + 1 :]

    return start


def sample(parameter: dict[str, Any]) -> list[Any]:
    """Values that a sweep may choose: all that are listed, or the ends of a range."""
    return parameter.get("values") or [parameter["min"], parameter["max"]]


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_the_sweeps_that_we_ship(
    file: Path, start: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Their numbers are numbers, and every value composes and can be planned."""
    from wandb.sdk.launch.sweeps.utils import load_sweep_config

    Path("START").mkdir()
    Path("START/tokenizer.json").write_text("{}")
    for name in ("PROMPTS", "HELD_OUT"):
        Path(name).write_text(json.dumps({"question": "1 + 1?", "answer": "2"}) + "\n")
    for name, value in {"START": "START", "PROMPTS": "PROMPTS", "HELD_OUT": "HELD_OUT", "GPUS": "2"}.items():
        monkeypatch.setenv(name, value)
    sweep = load_sweep_config(str(file))
    assert sweep is not None
    parameters = {key: sample(parameter) for key, parameter in sweep["parameters"].items()}
    assert all(isinstance(value, int | float) for values in parameters.values() for value in values)
    for pick in (0, -1):
        arguments = start(sweep["command"], {key: values[pick] for key, values in parameters.items()})
        assert main([*arguments, "mode=plan"]) == 0, capsys.readouterr().err


VALUES = {  # what stands in the sweep's YAML -> what our settings become
    "optim.lr": (1e-05, 1e-05),
    "optim.betas": ([0.9, 0.95], (0.9, 0.95)),
    "trainer.steps": ("null", None),  # None itself would be the word None
    "trainer.tokens": (100_000, 100_000),
    "callbacks.progress": (False, False),
    "data.packing": ("best_fit", "best_fit"),
    "data.validation.fraction": (0, 0.0),
    "name": ("a-1", "a-1"),
    "data.sources.a.path": ("/data/my file.jsonl", "/data/my file.jsonl"),
}


def test_values_arrive_as_they_are(start: Any) -> None:
    """Numbers, lists, truths, text with blanks, and the text null for nothing."""
    command = ["${env}", "dsm", "stage=sft", "tokenizer.path=t", "${args_no_hyphens}"]
    config = compose_config(start(command, {key: given for key, (given, _) in VALUES.items()}))
    for key, (_, wanted) in VALUES.items():
        found: Any = config
        for part in key.split("."):
            found = found[part] if isinstance(found, dict) else getattr(found, part)
        assert (tuple(found) if isinstance(found, list) else found) == wanted, key


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("trainer.steps", None, "trainer.steps=None: must be an integer"),
        ("optim", {"lr": 1e-5}, "optim={'lr': 1e-05}: cannot be read"),
        ("optim.name", "a,b", "optim.name=a,b: several values make a sweep, which needs -m"),
    ],
)
def test_values_that_cannot_be_passed(
    key: str, value: Any, message: str, start: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """They end the run at once, in one line."""
    arguments = start(["${env}", "dsm", "stage=sft", "tokenizer.path=t", "${args_no_hyphens}"], {key: value})
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Settings that log to W&B without W&B."""
    import wandb

    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")  # Lightning sets it for good
    wandb.teardown()
    yield ["logger=wandb", "logger.wandb.mode=offline", "trainer.validate_every=3"]
    wandb.teardown()  # what it knows of the environment is of this sweep


def records(folder: Path, run_id: str) -> list[Record]:
    """What a run has told W&B."""
    from wandb.proto.wandb_internal_pb2 import Record

    (file,) = folder.glob(f"wandb/offline-run-*-{run_id}/*.wandb")
    return [Record.FromString(data) for data in log_entries(file.read_bytes())]


def log_entries(data: bytes) -> Iterator[bytes]:
    """W&B's file is a log as LevelDB's: blocks of 32 KiB of parts (checksum, length, kind), after a head of 7 bytes."""
    place, entry = 7, b""
    while place + 7 <= len(data):
        left = 32_768 - place % 32_768
        if left < 7:
            place += left
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        entry += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, last
            yield entry
            entry = b""


def logged(found: list[Record], key: str) -> list[float]:
    """A metric over the run, by the name that a sweep's YAML gives it."""
    items = [item for record in found if record.HasField("history") for item in record.history.item]
    return [json.loads(item.value_json) for item in items if key in (item.key, "/".join(item.nested_key))]


def test_a_run_of_the_agent(lab: Lab, start: Any, offline: list[str], tmp_path: Path) -> None:
    """It is the agent's run of the agent's sweep; the same settings drawn again are told to the sweep again."""
    import wandb

    runs = tmp_path / "runs"
    command = ["${env}", "dsm", *lab.command(runs, *offline), "${args_no_hyphens}"]
    command.remove("optim.lr=1.0e-3")
    curves = []
    for run_id in ("first", "again"):
        assert main(start(command, {"optim.lr": 2e-3}, run_id)) == 0
        wandb.teardown()  # as each run of an agent is a process of its own
        folder = run_folder(runs)
        assert (folder / "wandb_id").read_text() == run_id
        found = records(folder, run_id)
        (run,) = [record.run for record in found if record.HasField("run")][:1]
        assert (run.run_id, run.sweep_id) == (run_id, "sweep1")
        config = {item.key: json.loads(item.value_json) for item in run.config.update}
        assert config["optim.lr"] == 2e-3
        curves.append(logged(found, "validation/loss"))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert curves == [[line["validation/loss"] for line in lines if "validation/loss" in line]] * 2
