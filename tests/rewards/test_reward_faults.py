"""Whatever a reward function does, it is caught, named, and costs nobody else a reward."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scoring_lab import FAULTY, function, group, prompt, rewards

from dsm.errors import UserError
from dsm.rewards.compose import Rewards
from dsm.rewards.scored import FaultyRewardsError, Scored

DEADLINE = 2.0
LATE = rf"the call took longer than timeout_s={DEADLINE:g}"
TEXTS = ["good", "BAD", "fine", "well"]

# Functions that fail for the bad sample alone, and what is said of it.
ALONE = {
    "raises": r"ValueError: no answer in 'text' \(faulty.py:\d+\)",
    "recurses": r"RecursionError: maximum recursion depth exceeded",
    "exits": r"SystemExit: 3 ",
    "interrupts": r"KeyboardInterrupt \(",
    "generator_exit": r"GeneratorExit",
    "strange_error": r"Odd: odd error",
    "asserts": r"AssertionError",
    "hangs_in_python": LATE,
    "hangs_in_sleep": LATE,
    "hangs_in_c": LATE,
    "hangs_in_arithmetic": LATE,
    "hangs_in_lock": LATE,
    "hangs_with_child": LATE,
    "hangs_ignoring_signals": LATE,
    "hangs_async": LATE,
    "stops_itself": LATE,
    "ends_process": r"the call ended its process: exit status 7",
    "segfaults": r"the call ended its process: SIGSEGV",
    "aborts": r"the call ended its process: SIGABRT",
    "kills_itself": r"the call ended its process: SIGKILL",
    "closes_files": r"the call (ended its process: exit status 1|closed its process's files)",
    "allocates": r"needs more memory than memory_mb",
    "allocates_bit_by_bit": r"needs more memory than memory_mb",
    "broken_generator": r"ValueError: half-way through",
    "nan": r"returned nan",
    "inf": r"returned inf",
    "minus_inf": r"returned -inf",
    "numpy_nan": r"returned nan",
    "text": r"returned str '1.0', not a number",
    "empty_text": r"returned str '', not a number",
    "nested": r"returned a list, not a number",
    "mapping": r"returned a dict, not a number",
    "complex_number": r"returned a complex, not a number",
    "too_large": r"returned a number that is too large",
    "a_function": r"returned a builtin_function_or_method, not a number",
    "decimal": r"returned a Decimal, not a number",
    "numpy_row": r"returned a ndarray, not a number",
}
# Functions that leave the whole call without a reward that could be told to belong to a sample.
TOGETHER = {
    "too_few": r"returned 3 rewards for 4 samples",
    "too_many": r"returned more rewards for 4 samples",
    "nothing": r"returned 0 rewards for 4 samples",
    "none": r"returned None, not a list",
    "one_number": r"returned float 1.0, not a list",
    "one_text": r"returned str '1.0', not a list",
    "a_dict": r"returned a dict, not a list",
    "a_set": r"returned a set, not a list",
    "endless": r"returned more rewards for 4 samples",
    "a_type": r"returned a type, not a list",
    "coroutines": r"returned a coroutine, not a number",
    "wants_column": r"asks for column 'solution'; the rows have gold",
    "misses_key": r"KeyError: 'solution' \(faulty.py:\d+\)",
}
HARMLESS = [
    "prints", "leaves", "numpy_scalars", "numpy_array", "generates", "threads", "changes_signals",
]  # fmt: skip


def _part(name: str) -> dict[str, object]:
    late = ALONE.get(name) == LATE
    return function(f"{FAULTY}:{name}", timeout_s=DEADLINE if late else 60.0, memory_mb=300)


@pytest.fixture(scope="module")
def scored() -> Iterator[Scored]:
    """All of them as parts of one reward, scored at the same time; then once more, a group without a bad sample."""
    of = prompt(gold="2")
    parts = {name: _part(name) for name in [*ALONE, *TOGETHER, *HARMLESS]}
    with rewards(parts) as made:
        yield made.score([of] * 8, [*group(of, TEXTS), *group(of, ["a", "b", "c", "d"], 1)])


def _reasons(scored: Scored, part: str) -> dict[int, str]:
    return {fault.sample: fault.reason for fault in scored.faults if fault.part == part}


@pytest.mark.parametrize("name", ALONE)
def test_a_bad_sample_is_named_and_the_others_have_their_rewards(name: str, scored: Scored) -> None:
    reasons = _reasons(scored, name)
    assert list(reasons) == [1]
    assert np.array_equal(scored.parts[name], [1, np.nan, 1, 1, 1, 1, 1, 1], equal_nan=True)
    assert re.match(ALONE[name], reasons[1]), reasons[1]


@pytest.mark.parametrize("name", TOGETHER)
def test_rewards_that_belong_to_nobody_are_nobodys(name: str, scored: Scored) -> None:
    reasons = _reasons(scored, name)
    always = name in ("wants_column", "misses_key")
    assert list(reasons) == (list(range(8)) if always else [0, 1, 2, 3])
    assert np.isnan(scored.parts[name][list(reasons)]).all()
    assert always or (scored.parts[name][4:] == 1).all()
    assert re.match(TOGETHER[name], reasons[1]), reasons[1]


@pytest.mark.parametrize("name", HARMLESS)
def test_odd_is_not_faulty(name: str, scored: Scored) -> None:
    assert not _reasons(scored, name)
    assert (scored.parts[name] == 1).all()


def test_a_sample_with_a_fault_has_no_reward(scored: Scored) -> None:
    assert np.isnan(scored.reward[:4]).all()  # too_few and others have none for any of them
    of = prompt()
    with rewards({"one": _part("nan"), "two": _part("text") | {"weight": 0.5}}) as made:
        found = made.score([of] * 4, group(of, TEXTS))
    assert np.array_equal(found.reward, [1.5, np.nan, 1.5, 1.5], equal_nan=True)
    assert [(fault.part, fault.sample, fault.prompt) for fault in found.faults] == [("one", 1, "p0"), ("two", 1, "p0")]
    assert found.attached(group(of, TEXTS))[1].reward is None


# ---------------------------------------------------------------- limits


def test_too_many_faults_end_the_run_with_one_line(tmp_path: Path) -> None:
    of, kept = prompt(), tmp_path / "faults.jsonl"
    with rewards({"mine": _part("raises")}, max_fault_share=0.25, faults_file=kept) as made:
        assert made.score([of] * 4, group(of, TEXTS)).fault_share == 0.25  # not more than allowed
        with pytest.raises(FaultyRewardsError) as caught:
            made.score([of] * 4, group(of, ["BAD", "BAD", "fine", "well"]))
    message = str(caught.value)
    assert message.startswith(
        "reward.max_fault_share=0.25: 2 of 4 samples could not be scored (2 x mine: ValueError: no answer in 'text'"
    )
    assert isinstance(caught.value, UserError)
    assert "\n" not in message
    assert kept.read_text().count('"part": "mine", "prompt": "p0", "reason": "ValueError') == 3


def test_a_function_that_always_hangs_costs_bounded_time() -> None:
    of = prompt()
    samples = [rollout for number in range(20) for rollout in group(of, ["BAD"] * 8, number)]
    part = function(f"{FAULTY}:hangs_in_sleep", timeout_s=0.2)
    with rewards({"mine": part}) as made:
        start = time.monotonic()
        found = made.score([of] * len(samples), samples)
    assert time.monotonic() - start < 15  # not 180 deadlines
    assert len(found.faults) == len(samples)
    said = {fault.reason.split(":")[0] for fault in found.faults}
    assert said == {"the call took longer than timeout_s=0.2", "not called"}


def test_without_retry_a_call_is_made_once() -> None:
    of = prompt()
    with rewards({"mine": _part("raises") | {"retry": False}}) as made:
        found = made.score([of] * 4, group(of, TEXTS))
    assert list(_reasons(found, "mine")) == [0, 1, 2, 3]


def test_closing_ends_calls_under_way() -> None:
    of = prompt()
    made = rewards({"mine": function(f"{FAULTY}:hangs_in_sleep", timeout_s=600.0)})
    ahead = made.ahead([of])
    ahead.take(group(of, ["BAD"]))
    time.sleep(0.3)
    process = _processes(made)[0]
    start = time.monotonic()
    made.close()
    assert time.monotonic() - start < 5
    assert not Path(f"/proc/{process}").exists()


def test_a_hanging_function_does_not_outlive_a_killed_trainer() -> None:
    code = (
        "from dsm.rewards.process import FunctionProcess\n"
        f"worker = FunctionProcess({FAULTY + ':hangs_in_python'!r}, None, 60, 300).start()\n"
        "print(worker._process.pid, flush=True)\n"
        "worker.ask({'samples': 1, 'given': {'completions': ['BAD'], 'trainer_state': 0}, 'steps': False}, 600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as trainer:
        assert trainer.stdout is not None
        pid = int(trainer.stdout.readline())
        time.sleep(0.2)
        assert Path(f"/proc/{pid}").exists()
        trainer.kill()
    end = time.monotonic() + 10
    while _runs(pid) and time.monotonic() < end:
        time.sleep(0.02)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_scores_from_any_thread_and_at_the_same_time() -> None:
    of = prompt()
    sleepy = {name: function(f"{Path(__file__).parent}/slow.py:one_second") for name in ("one", "two", "three")}
    found: list[Scored] = []
    with rewards(sleepy) as made:
        start = time.monotonic()
        thread = threading.Thread(target=lambda: found.append(made.score([of], group(of, ["good"]))))
        thread.start()
        thread.join()
        assert time.monotonic() - start < 2.5  # not 3
    assert found[0].reward.tolist() == [3.0]


def _processes(made: Rewards) -> list[int]:
    callers = [part.caller for part in made._parts.values() if hasattr(part, "caller")]
    return [worker._process.pid for caller in callers for worker in caller._workers]


# ---------------------------------------------------------------- what cannot be loaded


@pytest.mark.parametrize(
    ("source", "name", "said"),
    [
        ("import no_such_module", "f", "ModuleNotFoundError: No module named 'no_such_module' (mine.py:1)"),
        ("", "f", "TypeError: f is a int, not a function"),
        ("raise SystemExit(2)", "f", "SystemExit: 2 (mine.py:1)"),
        ("import json; json.loads(5)", "f", "TypeError: the JSON object must be str, bytes or bytearray, not int"),
        ("import os; os._exit(4)", "f", "loading it ended its process: exit status 4"),
        ("import time; time.sleep(100)", "f", "loading it took longer than start_s=1"),
    ],
)
def test_what_cannot_be_loaded_is_said_before_anything_else(source: str, name: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(f"{source}\nf = 5")
    with pytest.raises(UserError) as caught:
        rewards({"mine": function(f"{file}:{name}", start_s=1.0 if "sleep" in source else 60.0)})
    assert str(caught.value).startswith(f"reward.parts.mine.function={file}:{name}: cannot be loaded: {said}")
