"""Who is blamed, and when: the judge alone, with hand-made reports."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dsm.errors import LOST_RANK
from dsm.runtime.process import ProcessId
from dsm.runtime.verdict import DEAF_S, GRACE_S, Judge, Report, Verdict

TIMEOUT = 100.0
ELSEWHERE = ProcessId("node7", "another machine", 42, 1)
GONE = replace(ProcessId.own(), started=1)  # the same process id, another process
STEP = Report(where="step 3")


class Lab:
    """A judge, reports that go on by themselves, and a clock."""

    def __init__(self, *members: ProcessId, rank: int = 0, store_host: int | None = 0) -> None:
        self.judge = Judge(rank, members, TIMEOUT, store_host, lambda rank: f"stack of {rank}")
        self.reports = dict.fromkeys(range(len(members)), STEP)
        self.frozen: set[int] = set()
        self.beat = 0
        self.heard = 0

    def tick(self, seconds: float = 1.0, *, deaf: bool = False) -> Verdict | None:
        self.beat += 1
        self.heard += not deaf
        for rank, report in self.reports.items():
            if rank not in self.frozen and not (deaf and rank != self.judge.rank):
                self.reports[rank] = replace(report, beat=self.beat)
        return self.judge.tick(seconds, self.reports, self.heard)

    def until(self, seconds: float, *, deaf: bool = False) -> tuple[Verdict, float]:
        """The first verdict within so many seconds, and when it came."""
        for second in range(int(seconds)):
            if (verdict := self.tick(deaf=deaf)) is not None:
                return verdict, second + 1.0
        raise AssertionError("no verdict")


def overdue(report: Report, stack: str, *, waiting: bool) -> Report:
    return replace(report, overdue=True, idle_s=95.0, waiting=waiting, stack=stack)


def test_nobody_is_blamed_for_being_slow() -> None:
    """One rank writes a checkpoint for hours; the others, overdue, wait for it."""
    lab = Lab(*[ELSEWHERE] * 3)
    lab.reports[1] = lab.reports[2] = overdue(STEP, "all_reduce", waiting=True)
    assert all(lab.tick() is None for _ in range(1_000))


@pytest.mark.parametrize("culprit", [0, 1, 2])
def test_a_hang_is_the_one_that_does_not_wait(culprit: int) -> None:
    lab = Lab(*[ELSEWHERE] * 3)
    for rank in range(3):
        lab.reports[rank] = overdue(
            STEP, "user.py, line 7" if rank == culprit else "all_reduce", waiting=rank != culprit
        )
    verdict = lab.tick()
    assert verdict is not None
    assert verdict.culprits == (culprit,)
    assert verdict.status == LOST_RANK
    assert f"rank {culprit} of 3 (process 42 on node7) hangs in step 3: no progress for 95 s" in verdict.message
    assert verdict.message.endswith(f"rank {culprit} at:\nuser.py, line 7")


def test_where_no_call_tells_the_odd_one_out_is_named() -> None:
    """On a GPU all stand at a synchronisation of their own code; with two ranks, both are shown."""
    lab = Lab(*[ELSEWHERE] * 4)
    lab.reports = {rank: overdue(STEP, "odd" if rank == 2 else "float()", waiting=False) for rank in range(4)}
    verdict = lab.tick()
    assert verdict is not None
    assert verdict.culprits == (2,)
    lab = Lab(*[ELSEWHERE] * 2)
    lab.reports = {rank: overdue(STEP, f"line {rank}", waiting=True) for rank in range(2)}
    verdict = lab.tick()
    assert verdict is not None
    assert "ranks 0-1 of 2 hang in step 3" in verdict.message
    assert "rank 0 at:\nline 0\nrank 1 at:\nline 1" in verdict.message


def test_silence_ends_the_job_within_the_time_out() -> None:
    lab = Lab(*[ELSEWHERE] * 3)
    lab.tick()
    lab.frozen = {1, 2}
    verdict, after = lab.until(200)
    assert TIMEOUT * 0.8 < after <= TIMEOUT
    assert verdict.culprits == (1, 2)
    assert "ranks 1-2 of 3 are dead or stopped, or its machine is lost" in verdict.message.replace("their", "its")
    assert verdict.message.endswith("It stands at:\nstack of 1")


def test_silence_is_short_where_a_connection_broke() -> None:
    lab = Lab(*[ELSEWHERE] * 3)
    lab.tick()
    lab.frozen = {2}
    lab.reports[0] = replace(STEP, lost="Connection closed by peer")
    verdict, after = lab.until(200)
    assert after <= GRACE_S + 2
    assert verdict.culprits == (2,)


def test_a_broken_network_is_told_as_such() -> None:
    lab = Lab(*[ELSEWHERE] * 3)
    lab.reports[1] = replace(STEP, lost="Connection reset by peer")
    verdict, after = lab.until(200)
    assert after <= 2 * GRACE_S + 2
    assert "rank 1 of 3 (process 42 on node7) lost its connection to the others (Connection reset" in verdict.message


def test_a_dead_neighbour_is_looked_for_twice() -> None:
    """Between the report that was fetched and the look at its process it may have said good-bye."""
    lab = Lab(ProcessId.own(), GONE)
    assert lab.tick() is None
    assert lab.tick() is None
    verdict = lab.tick()
    assert verdict is not None
    assert "rank 1 of 2" in verdict.message
    assert "died, last seen in step 3" in verdict.message
    lab = Lab(ProcessId.own(), GONE)
    assert lab.tick() is None
    lab.reports[1] = replace(STEP, left="done")
    assert all(lab.tick() is None for _ in range(1000))


def test_whoever_hosts_the_reports_is_missed_by_their_absence() -> None:
    """Rank 1 hears nothing any more, neither of rank 0 nor of its own neighbour: only rank 0 is to blame."""
    lab = Lab(ELSEWHERE, ProcessId.own(), ProcessId.own(), rank=1)
    lab.tick()
    verdict, after = lab.until(200, deaf=True)
    assert verdict.culprits == (0,)
    assert after <= TIMEOUT
    lab = Lab(GONE, ProcessId.own(), rank=1)
    lab.tick()
    verdict, after = lab.until(200, deaf=True)
    assert "rank 0 of 2" in verdict.message
    assert after <= DEAF_S + 3


def test_a_failure_waits_for_those_that_fail_too() -> None:
    """An error that all meet is theirs to tell; one that a single rank meets ends the others after a grace."""
    failed = replace(STEP, left="failed", error="ValueError: boom")
    lab = Lab(*[ELSEWHERE] * 2)
    lab.reports[1] = failed
    verdict, after = lab.until(100)
    assert GRACE_S < after <= GRACE_S + 2
    assert verdict.status == 1
    assert "rank 1 of 2 (process 42 on node7) failed in step 3: ValueError: boom" in verdict.message
    lab = Lab(*[ELSEWHERE] * 2)
    lab.reports = {0: failed, 1: failed}
    assert all(lab.tick() is None for _ in range(100))


def test_a_mistake_that_one_rank_met_is_everyones() -> None:
    """At once where the others lost their connection, else when they wait in vain."""
    stopped = replace(STEP, left="stopped", error="data=x: no")
    for other in (replace(STEP, lost="Connection closed"), overdue(STEP, "all_reduce", waiting=True)):
        lab = Lab(*[ELSEWHERE] * 2)
        lab.reports = {0: other, 1: stopped}
        verdict = lab.tick()
        assert verdict is not None
        assert (verdict.message, verdict.status) == ("rank 1: data=x: no", 2)
    lab = Lab(*[ELSEWHERE] * 2)
    lab.reports[1] = stopped
    assert all(lab.tick() is None for _ in range(1000))
