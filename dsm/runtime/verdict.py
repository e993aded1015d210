"""Who keeps a job from going on: judged from what the ranks report, without clocks, sockets or threads.

Every rank reports what its main thread does and since when it has made no progress. Nobody is blamed for being slow:

- a rank is *dead* when its process is gone though it never said good-bye;
- a rank is *silent* when not even its reports come any more: stopped, or stuck in native code, or its machine is lost;
- a rank *failed* when it left with an error and the others are still there;
- the job *hangs* when every rank is overdue. One that has reason to be slow (it compiles, it writes a checkpoint) is
  not overdue, and as long as there is one such rank the others may be waiting for it, however long.

Whose fault a hang is shows in the stacks: the others wait inside torch.distributed for the one that is elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dsm.errors import LOST_RANK
from dsm.runtime.process import ProcessId

GRACE_S = 10.0
"""How long a rank may be missing once there is other evidence: a broken connection, an error elsewhere."""
MARGIN = 0.9
"""The part of the time-out that may pass without progress; the rest is for noticing, telling and ending."""
DEAF_S = 3.0
"""How long a process is missed before it counts as dead where no reports can be fetched any more."""
_STACKS = 4  # different ones in a message
_RESUME = "the job ends; the same command goes on from the last checkpoint"


Left = Literal["", "done", "stopped", "failed"]


@dataclass(frozen=True)
class Report:
    """What a rank says of itself.

    Attributes:
        beat: rises as long as the process runs at all.
        where: what the main thread does.
        idle_s: seconds since its last progress.
        overdue: are these more than it may take there?
        waiting: does it stand in a call that waits for other ranks?
        stack: where it stands, innermost last; only of an overdue rank.
        lost: the error by which it lost the others.
        left: whether it has gone: 'done', 'stopped' (by a mistake or a signal that it announced), 'failed' (a bug).
        error: the error it left with.
    """

    beat: int = 0
    where: str = "start-up"
    idle_s: float = 0.0
    overdue: bool = False
    waiting: bool = False
    stack: str = ""
    lost: str = ""
    left: Left = ""
    error: str = ""


@dataclass(frozen=True)
class Verdict:
    """Why the job ends.

    Attributes:
        message: for the user.
        status: the exit status of every rank.
        culprits: ranks that may be past ending themselves.
        by: the rank that says so.
    """

    message: str
    status: int
    culprits: tuple[int, ...]
    by: int


class Judge:
    """Hears reports, at each tick those there are; keeps how long each rank has been silent.

    Args:
        rank: the judge's own.
        members: the process of each rank.
        timeout_s: seconds without progress, or without a report, that end the job.
        store_host: the rank in whose process the reports are kept; None: the launcher keeps them.
        last_words: the stack of a silent process, if there is a way to it.
    """

    def __init__(
        self,
        rank: int,
        members: Sequence[ProcessId],
        timeout_s: float,
        store_host: int | None = None,
        last_words: Callable[[int], str] = lambda rank: "",
    ) -> None:
        self.rank = rank
        self.members = members
        self.timeout_s = timeout_s
        self.store_host = store_host
        self.last_words = last_words
        self._heard = 0
        self._deaf_s = 0.0  # since reports were fetched
        self._silent_s = [0.0] * len(members)  # how long each has sent none, as far as they were fetched
        self._beats = [-1] * len(members)
        self._gone: dict[int, tuple[int, float]] = {}  # rank -> how much was heard when it was first missed, and since
        self._trouble_s = 0.0  # since the first rank lost another, or failed

    def tick(self, elapsed_s: float, reports: Mapping[int, Report], heard: int) -> Verdict | None:
        """What is to be done, `elapsed_s` after the last tick; None: go on.

        Args:
            reports: the newest of the judge itself and of those it watches: all, or its neighbours and the first.
            heard: how often the reports have been fetched so far.
        """
        present = {rank: report for rank, report in reports.items() if not report.left}
        self._deaf_s += elapsed_s
        if heard != self._heard:
            for rank, report in reports.items():
                quiet = rank in present and report.beat == self._beats[rank]
                self._silent_s[rank] = self._silent_s[rank] + self._deaf_s if quiet else 0.0
                self._beats[rank] = report.beat
            self._heard, self._deaf_s = heard, 0.0
        failed = [rank for rank, report in reports.items() if report.left == "failed"]
        lost = [rank for rank, report in present.items() if report.lost]
        self._trouble_s = self._trouble_s + elapsed_s if failed or lost else 0.0
        if not present:
            return None
        return (
            self._dead(present, elapsed_s, heard, bool(lost))
            or self._failed(reports, failed, bool(lost))
            or self._silenced(present, bool(lost))
            or self._disconnected(present, lost)
            or self._hanging(reports, present)
        )

    def _dead(self, present: Mapping[int, Report], elapsed_s: float, heard: int, lost: bool) -> Verdict | None:
        """A process that is gone may have said good-bye since its report was fetched: look once more."""
        dead = []
        for rank in present:
            if self.members[rank].state() != "gone":
                continue
            first, missed_s = self._gone.get(rank, (heard, 0.0))
            self._gone[rank] = first, missed_s + elapsed_s
            if heard >= first + 2 or lost or missed_s > DEAF_S:
                dead.append(rank)
        return self._verdict(dead, "died", f"{self._last_seen(present, dead)}; {_RESUME}") if dead else None

    def _failed(self, reports: Mapping[int, Report], failed: Sequence[int], lost: bool) -> Verdict | None:
        """An error that all ranks meet lets each end by itself; one that only one meets must end the others."""
        stopped = [rank for rank, report in reports.items() if report.left == "stopped"]
        if lost and stopped and not failed:
            return self._stopped(stopped[0], reports)
        if not failed or not (lost or self._trouble_s > GRACE_S):
            return None
        text = f"{self._where(reports, failed)}: {reports[failed[0]].error}; the traceback is in its own output"
        return self._verdict(failed, "failed", text, status=1)

    def _silenced(self, present: Mapping[int, Report], lost: bool) -> Verdict | None:
        limit = MARGIN * self.timeout_s
        if lost:
            limit = min(limit, GRACE_S)
        silent = [rank for rank in present if rank != self.rank and self._silent_s[rank] >= limit]
        quiet_s = max((self._silent_s[rank] for rank in silent), default=self._deaf_s)
        if not silent and self._deaf_s >= limit:
            if self.store_host in (None, self.rank):
                return self._verdict([self.rank], "lost", f" the launcher's store of keys and values; {_RESUME}")
            silent = [self.store_host]
        if not silent:
            return None
        states = {
            "stopped": "is stopped (SIGSTOP)",
            "stuck": "is stuck in the kernel (a disk or a network that does not answer)",
            "alive": "is stuck in native code",
            "gone": "died",
            None: "is dead or stopped, or its machine is lost",
        }
        state = states[self.members[silent[0]].state()]
        text = f"{self._last_seen(present, silent)}: no sign of life for {quiet_s:.0f} s; {_RESUME}"
        words = self.last_words(silent[0])
        return self._verdict(silent, state, text + (f". It stands at:\n{words}" if words else ""))

    def _disconnected(self, present: Mapping[int, Report], lost: Sequence[int]) -> Verdict | None:
        """Connections broke, yet everyone lives: it is the network."""
        if not lost or self._trouble_s <= 2 * GRACE_S:
            return None
        return self._verdict(lost[:1], "lost", f" its connection to the others ({present[lost[0]].lost}); {_RESUME}")

    def _hanging(self, reports: Mapping[int, Report], present: Mapping[int, Report]) -> Verdict | None:
        everyone = len(reports) == len(self.members)
        if not present or not everyone or not all(report.overdue for report in present.values()):
            return None
        stopped = [rank for rank, report in reports.items() if report.left == "stopped"]
        if stopped:
            return self._stopped(stopped[0], reports)
        guilty = _suspects(present)
        idle = min(report.idle_s for report in present.values())
        since = f"{self._where(present, guilty)}: no progress for {idle:.0f} s (parallel.timeout_s={self.timeout_s:g})"
        if len(guilty) < len(present):
            since += " while the others wait"
        by_stack: dict[str, list[int]] = {}
        for rank in guilty:
            by_stack.setdefault(present[rank].stack, []).append(rank)
        stacks = "".join(f"\n{_named(ranks)} at:\n{stack}" for stack, ranks in list(by_stack.items())[:_STACKS])
        return self._verdict(guilty, "hangs", f"{since}; {_RESUME}. Where it hangs:{stacks}")

    def _stopped(self, rank: int, reports: Mapping[int, Report]) -> Verdict:
        """A mistake that one rank alone has met; the first has said so itself."""
        return Verdict(f"rank {rank}: {reports[rank].error}" if rank else "", 2, (), self.rank)

    def _verdict(self, ranks: Sequence[int], verb: str, text: str, status: int = LOST_RANK) -> Verdict:
        process = f" ({self.members[ranks[0]]})" if len(ranks) == 1 else ""
        if len(ranks) > 1:
            verb = {"hangs": "hang"}.get(verb, verb.replace("is ", "are ", 1))
        message = f"{_named(ranks)} of {len(self.members)}{process} {verb}{text}"
        return Verdict(message, status, tuple(ranks), self.rank)

    def _where(self, reports: Mapping[int, Report], ranks: Sequence[int]) -> str:
        places = {reports[rank].where for rank in ranks if rank in reports}
        return f" in {places.pop()}" if len(places) == 1 else ""

    def _last_seen(self, reports: Mapping[int, Report], ranks: Sequence[int]) -> str:
        where = self._where(reports, ranks)
        return f", last seen{where}" if where else ""


def _suspects(present: Mapping[int, Report]) -> list[int]:
    """Those that do not wait; where all or none do, those that stand where few stand; else all of them."""
    elsewhere = [rank for rank, report in present.items() if not report.waiting]
    if 0 < len(elsewhere) < len(present):
        return elsewhere
    stacks = [report.stack for report in present.values()]
    usual = max(set(stacks), key=stacks.count)
    few = [rank for rank, report in present.items() if report.stack != usual]
    return few if 0 < len(few) < len(present) / 2 else list(present)


def _named(ranks: Sequence[int]) -> str:
    """'rank 3', 'ranks 0-2, 5'."""
    runs: list[list[int]] = []
    for rank in sorted(ranks):
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    text = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
    return f"rank{'s' if len(ranks) > 1 else ''} {text}"
