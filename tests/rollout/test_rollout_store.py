"""Stores of rollouts: what is written comes back to the bit, parts are whole, other facts are refused."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dsm.errors import UserError
from dsm.rollout.record import Prompt, Rollout
from dsm.rollout.store import RolloutStore

FACTS = {"prompts": "abc", "temperature": "1.0"}
PROMPTS = [Prompt(i, f"id{i}", f"What is {i}?", (5, i), "s", {"gold": str(i)}) for i in range(4)]


def _rollouts(group: int, n: int = 3) -> list[Rollout]:
    random = np.random.default_rng(group)
    found = []
    for sample in range(n):
        length = 3 + sample
        mask = np.arange(length) >= 2
        found.append(
            Rollout(
                prompt=group % 4,
                group=group,
                sample=sample,
                token_ids=random.integers(0, 100, length),
                action_mask=mask,
                logprobs=random.standard_normal(length).astype(np.float32),
                temperature=0.7,
                text="4 × 3 = 12\u2028\n“done”",
                finish_reason="eos",
                policy_version=2,
                step_ends=np.arange(2, length)[: sample % 3],
                rewards={"correct": 1 / 3, "format": None},
                reward=None if sample == 1 else 0.1,
                correct=sample == 2,
                step_rewards=None if sample == 1 else random.random(sample),
            )
        )
    return found


def _equal(a: Rollout, b: Rollout) -> bool:
    for field in dataclasses.fields(Rollout):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if isinstance(x, np.ndarray):
            if x.dtype != y.dtype or not np.array_equal(x, y):
                return False
        elif x != y:
            return False
    return True


def test_what_is_written_comes_back(tmp_path):
    """All fields to the bit, in the order of parts, whatever the order in which they were written."""
    store = RolloutStore(tmp_path / "store", FACTS)
    store.write("000002", [*_rollouts(2), *_rollouts(3)], PROMPTS)
    store.write("000001", _rollouts(0), PROMPTS)
    assert store.parts() == ["000001", "000002"]
    again = RolloutStore(tmp_path / "store", FACTS)
    expected = [*_rollouts(0), *_rollouts(2), *_rollouts(3)]
    assert all(_equal(a, b) for a, b in zip(again.read(), expected, strict=True))
    assert all(_equal(a, b) for a, b in zip(again.read(["000001"]), _rollouts(0), strict=True))
    assert again.complete() == {"parts": 2, "groups": 3, "rollouts": 9, "tokens": 18}


def test_a_person_can_read_it(tmp_path):
    store = RolloutStore(tmp_path, FACTS)
    store.write("0", _rollouts(1), PROMPTS)
    [first, *_] = (tmp_path / "part-0" / "rollouts.jsonl").read_text().split("\n")
    assert json.loads(first) == {
        "id": "id1", "question": "What is 1?", "gold": "1", "prompt": 1, "group": 1, "sample": 0, "temperature": 0.7,
        "text": "4 × 3 = 12\u2028\n“done”", "finish_reason": "eos", "policy_version": 2, "reward": 0.1,
        "correct": False, "rewards": {"correct": 1 / 3, "format": None}, "step_rewards": [], "tokens": 1,
    }  # fmt: skip
    assert [row["sample"] for row in store.rows()] == [0, 1, 2]


def test_other_facts_are_refused(tmp_path):
    RolloutStore(tmp_path, FACTS)
    with pytest.raises(UserError, match=r"holds rollouts of another policy, temperature; they do not go together"):
        RolloutStore(tmp_path, {"prompts": "abc", "temperature": "0.5", "policy": "x"})


def test_only_a_complete_store_is_opened(tmp_path):
    with pytest.raises(UserError, match=r"^rollout.store=.*: holds no rollouts; give the folder of a stage=rollouts"):
        RolloutStore.open(str(tmp_path), "rollout.store")
    store = RolloutStore(tmp_path / "rollouts", FACTS)
    store.write("0", _rollouts(0), PROMPTS)
    with pytest.raises(UserError, match="are not complete; run the command"):
        RolloutStore.open(str(tmp_path), "rollout.store")
    store.complete()
    assert len(RolloutStore.open(str(tmp_path), "rollout.store").read()) == 3
    assert RolloutStore.open(str(tmp_path / "rollouts"), "rollout.store").facts == FACTS
    store.write("1", _rollouts(1), PROMPTS)
    with pytest.raises(UserError, match="parts are missing or were changed"):
        RolloutStore.open(str(tmp_path), "rollout.store")


def test_damage_is_found(tmp_path):
    store = RolloutStore(tmp_path, FACTS)
    store.write("0", _rollouts(0), PROMPTS)
    file = tmp_path / "part-0" / "rollouts.jsonl"
    file.write_text(file.read_text().replace("0.1", "0.9"))
    with pytest.raises(UserError, match=r"part-0: rollouts.jsonl is damaged; remove this part and run again"):
        store.read()
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match="none of a store of rollouts"):
        RolloutStore(tmp_path, FACTS)


def test_a_nan_is_never_stored(tmp_path):
    store = RolloutStore(tmp_path, FACTS)
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.write("0", [dataclasses.replace(_rollouts(0)[0], reward=float("nan"))], PROMPTS)
    assert store.parts() == []


def test_killed_while_writing(tmp_path):
    """Whole parts stay, half a part is never seen."""
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_rollout_store import FACTS, PROMPTS, _rollouts
from dsm.rollout.store import RolloutStore
from pathlib import Path
store = RolloutStore(Path({str(tmp_path)!r}), FACTS)
for group in range(100_000):
    store.write(f"{{group:06d}}", _rollouts(group, 40), PROMPTS)
"""
    worker = subprocess.Popen([sys.executable, "-c", script])
    while not (tmp_path / "part-000003").exists() and worker.poll() is None:
        time.sleep(0.005)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    store = RolloutStore(tmp_path, FACTS)
    store.clear()
    parts = store.parts()
    assert parts == [f"{group:06d}" for group in range(len(parts))]
    assert len(parts) >= 4
    for group, part in enumerate(parts):
        assert all(_equal(a, b) for a, b in zip(store.read([part]), _rollouts(group, 40), strict=True))
