"""One run folder, one run: who may take a lock, and from whom."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from dsm.errors import UserError
from dsm.runtime.lock import NAME, RunLock, run_lock
from dsm.runtime.process import ProcessId

ELSEWHERE = replace(ProcessId.own(), host="node7", machine="another machine")


def write(folder: Path, holder: ProcessId, age_s: float = 0.0, **more: Any) -> None:
    """A lock that somebody else has left or holds."""
    file = folder / NAME
    file.write_text(json.dumps(asdict(holder) | {"token": "theirs", "job": None} | more))
    os.utime(file, (time.time() - age_s,) * 2)


def holder(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / NAME).read_text())
    return found


def test_the_second_is_refused_and_told_by_whom(tmp_path: Path) -> None:
    """Until the first has released it; nothing is left then."""
    first, second = RunLock(), RunLock()
    first.take(tmp_path)
    with pytest.raises(UserError, match=rf"another run is at work here \(process {os.getpid()} on "):
        second.take(tmp_path)
    second.release()
    assert holder(tmp_path)["token"] == first.token
    first.release()
    second.take(tmp_path)
    second.release()
    assert not list(tmp_path.iterdir())


def test_what_a_killed_run_left_is_taken_over_at_once(tmp_path: Path) -> None:
    """Also where its process id has come round again."""
    write(tmp_path, replace(ProcessId.own(), started=1))
    with run_lock() as lock:
        lock.take(tmp_path)
        assert holder(tmp_path)["token"] == lock.token
    assert not list(tmp_path.iterdir())


def test_another_machine_is_believed_while_it_renews(tmp_path: Path) -> None:
    """A young lock that ages is taken over; one that is renewed in the meantime is not."""
    write(tmp_path, ELSEWHERE)
    lock = RunLock(renew_s=0.1, stale_s=0.6)
    began = time.monotonic()
    lock.take(tmp_path)
    assert 0.4 < time.monotonic() - began < 3.0
    lock.release()

    write(tmp_path, ELSEWHERE)
    process = multiprocessing.get_context("fork").Process(target=_renew, args=(tmp_path / NAME,))
    process.start()
    try:
        with pytest.raises(UserError, match="on node7"):
            RunLock(renew_s=0.1, stale_s=5.0).take(tmp_path)
    finally:
        process.kill()
        process.join()


def _renew(file: Path) -> None:
    time.sleep(0.3)
    os.utime(file)


def test_an_old_lock_and_one_of_the_same_job_do_not_hold_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that comes back from the queue on another node finds the lock of its former self."""
    write(tmp_path, ELSEWHERE, age_s=120.0)
    with run_lock() as lock:
        lock.take(tmp_path)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    write(tmp_path, ELSEWHERE, job="7")
    with run_lock() as lock:
        lock.take(tmp_path)


def test_it_is_renewed(tmp_path: Path) -> None:
    lock = RunLock(renew_s=0.05)
    lock.take(tmp_path)
    os.utime(tmp_path / NAME, (0, 0))
    time.sleep(0.5)
    assert (tmp_path / NAME).stat().st_mtime > 1
    lock.release()


def test_of_many_at_once_one_wins(tmp_path: Path) -> None:
    """With a dead run's lock in the way, again and again."""
    context = multiprocessing.get_context("fork")
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        write(folder, replace(ProcessId.own(), started=1))
        start, done = context.Barrier(8), context.Barrier(8)
        won = context.Value("i", 0)
        processes = [context.Process(target=_contend, args=(folder, start, done, won)) for _ in range(8)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(20)
        assert won.value == 1


def _contend(folder: Path, start: Any, done: Any, won: Any) -> None:
    lock = RunLock()
    start.wait(10)
    try:
        lock.take(folder)
        with won.get_lock():
            won.value += 1
    except UserError:
        pass
    done.wait(10)
    os._exit(0)


def test_whoever_was_stopped_too_long_ends_itself(tmp_path: Path) -> None:
    """Its lock is another's by now: it must write no more."""
    process = multiprocessing.get_context("fork").Process(target=_hold, args=(tmp_path,))
    process.start()
    deadline = time.monotonic() + 10
    while not (tmp_path / NAME).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    write(tmp_path, ELSEWHERE)
    process.join(10)
    assert process.exitcode == 75
    assert holder(tmp_path)["token"] == "theirs"


def _hold(folder: Path) -> None:
    RunLock(renew_s=0.05).take(folder)
    time.sleep(20)
