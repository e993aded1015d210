"""A watch over the ranks of a job: one that dies, stops or hangs ends the whole job with one message, never silently.

Collectives have no time-out of their own here, for they cannot know why they wait; this watch is the only judge. The
main thread tells its progress (`progress`), two threads of each rank do the rest: one exchanges reports through the
key-value store of the rendezvous (rank 0 reads all, the others rank 0's and their neighbours'), one judges them
(dsm/runtime/verdict.py) and ends the process when it must, whatever the main thread is stuck in. Time is counted in
ticks of that thread, so a job that is suspended as a whole (`scontrol suspend`) finds nothing amiss when it wakes.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import math
import multiprocessing
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

import torch.distributed as dist

from dsm.errors import LostRankError, StoppedError, UserError
from dsm.runtime.process import ProcessId
from dsm.runtime.verdict import MARGIN, Judge, Left, Report, Verdict

SLOW = 12.0
"""Patience with what may rightly take minutes: a checkpoint, a compilation (two hours at the default time-out)."""
_FRAMES = 10  # of a stack in a message
_NONE = "-"
_CONNECTION = re.compile(r"gloo|NCCL|[Cc]onnection (closed|reset|refused)|Broken pipe", re.ASCII)
_COMPILING = ("torch/_dynamo/convert_frame.py", "torch/_inductor/compile_fx.py", "torch/_inductor/async_compile.py")

_current: Watch | None = None


def progress(where: str, patience: float = 1.0) -> None:
    """Tell that the main thread goes on, and with what: 'step 12', 'validation', 'checkpoint'.

    More is expected within `patience` times parallel.timeout_s; infinity: as long as it takes. Costs next to nothing,
    and does nothing in a single process. Until it is first called, the patience is infinite.
    """
    if _current is not None:
        _current.told = (where, patience)


@contextmanager
def watching(rank: int, size: int, store: dist.Store, timeout_s: float, *, hosted: bool) -> Iterator[Watch]:
    """Watch over the ranks for this long; all must enter.

    Args:
        store: of this run alone, on a connection of this watch's own.
        timeout_s: without progress or a sign of life; also for all to come.
        hosted: does the store live in rank 0 (or in the launcher)?

    Raises:
        LostRankError: not all came.
    """
    global _current
    _current = watch = Watch(rank, size, store, timeout_s, hosted=hosted)
    try:
        with watch.running():
            yield watch
    finally:
        _current = None


class Watch:
    """One rank's part of it."""

    def __init__(self, rank: int, size: int, store: dist.Store, timeout_s: float, *, hosted: bool) -> None:
        self.rank = rank
        self.size = size
        self.store = store
        self.timeout_s = timeout_s
        self.store_host = 0 if hosted else None
        self.interval_s = min(2.0, max(0.1, timeout_s / 30))
        self.told: tuple[str, float] = ("start-up", math.inf)  # a new object with every call
        self._main = threading.get_ident()
        self._dump = _memory_file()
        # Each is written by one thread and read by others: the judge's view of the main thread, how that one fared,
        # what was fetched, what was judged.
        self._seen = Report()
        self._lost = ""
        self._left: tuple[Left, str] = ("", "")
        self._reports: dict[int, Report] = {}
        self._heard = 0
        self._final: Verdict | None = None
        self._proposed: Verdict | None = None
        self._stop = False
        self._news, self._sent_last = threading.Event(), threading.Event()

    @property
    def report(self) -> Report:
        """This rank's."""
        left, error = self._left
        return replace(self._seen, lost=self._lost, left=left, error=error)

    # -- the main thread ----------------------------------------------------------------------------------------------

    @contextmanager
    def running(self) -> Iterator[None]:
        """Meet the others, then watch."""
        self._meet()
        threads = [
            threading.Thread(target=self._guarded, args=(run,), daemon=True) for run in (self._talk, self._judge)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop = True
            self._news.set()
            for thread in threads:
                thread.join(2 * self.interval_s)
            faulthandler.cancel_dump_traceback_later()
            if self._dump >= 0:
                os.close(self._dump)

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Have the others know how this rank leaves the block.

        A broken connection is not its own fault: it waits here for the verdict, which ends the process.
        """
        try:
            yield
        except (UserError, StoppedError, KeyboardInterrupt) as error:
            self._leave("stopped", str(error))
            raise
        except BaseException as error:
            if _lost_connection(error):
                self._ask_why(error)
            self._leave("failed", traceback.format_exception_only(error)[-1].strip())
            raise
        self._leave("done")

    def _meet(self) -> None:
        """Everyone puts down who it is; nobody goes on before all have."""
        member = ProcessId.own()
        card = asdict(member) | {"dump": self._dump}
        if self.rank == 0:
            self.store.set("verdict", _NONE)
        self.store.set(f"report {self.rank}", json.dumps(asdict(self.report)))
        self.store.set(f"member {self.rank}", json.dumps(card))
        names = [f"member {rank}" for rank in range(self.size)]
        try:
            self.store.wait(names, timedelta(seconds=self.timeout_s))
        except RuntimeError:
            missing = [rank for rank, name in enumerate(names) if not self.store.check([name])]
            raise LostRankError(
                f"{len(missing)} of {self.size} ranks did not come within parallel.timeout_s={self.timeout_s:g} s,"
                f" first rank {missing[0] if missing else '?'}; look at their output"
            ) from None
        cards = [json.loads(text) for text in self.store.multi_get(names)]
        self._dumps = [card.pop("dump") for card in cards]
        self._members = [ProcessId(**card) for card in cards]
        near = [rank for rank, other in enumerate(self._members) if other.machine == member.machine or rank == 0]
        self._watched = [rank for rank in (range(self.size) if self.rank == 0 else near) if rank != self.rank]
        self._neighbours = [rank for rank, other in enumerate(self._members) if other.local]

    def _leave(self, how: Left, error: str = "") -> None:
        self._left = how, error[:500]
        if how == "done":
            return
        self._news.set()
        self._sent_last.wait(2.0)
        if self.store_host == self.rank:  # it would end with this process, and the others could not hear why
            deadline = time.monotonic() + 5.0
            while time.monotonic() < deadline and not all(report.left for report in self._reports.values()):
                time.sleep(self.interval_s)

    def _ask_why(self, error: BaseException) -> None:
        """The connection to another rank broke: wait for the verdict, which ends the process."""
        text = " ".join(str(error).split())
        self._lost = text[:200]
        self._news.set()
        time.sleep(60.0)
        raise LostRankError(f"the connection to another rank broke ({text[:200]})") from error

    # -- the thread that talks ----------------------------------------------------------------------------------------

    def _talk(self) -> None:
        """Put down the own report, fetch the others'. It may be stuck as long as the store is."""
        names = [f"report {rank}" for rank in self._watched]
        while not self._stop:
            sent = self.report
            try:
                self.store.set(f"report {self.rank}", json.dumps(asdict(sent)))
                if self._proposed is not None and self._final is None:
                    self.store.compare_set("verdict", _NONE, json.dumps(asdict(self._proposed)))
                verdict, *texts = (text.decode() for text in self.store.multi_get(["verdict", *names]))
            except RuntimeError:  # gone, with whoever hosts it: the judge sees that no news comes any more
                self._sent_last.set()
                return
            reports = [Report(**json.loads(text)) for text in texts]
            self._reports = dict(zip(self._watched, reports, strict=True))
            self._heard += 1
            if verdict != _NONE:
                self._final = _verdict(json.loads(verdict))
            if sent.left:
                self._sent_last.set()
            self._news.wait(self.interval_s / 2)
            self._news.clear()

    # -- the thread that judges ---------------------------------------------------------------------------------------

    def _judge(self) -> None:
        judge = Judge(self.rank, self._members, self.timeout_s, self.store_host, self._last_words)
        before, told, idle_s = time.monotonic(), self.told, 0.0
        while not self._stop:
            time.sleep(self.interval_s)
            now = time.monotonic()
            elapsed_s, before = min(now - before, 2 * self.interval_s), now
            idle_s, told = (idle_s + elapsed_s, told) if told is self.told else (0.0, self.told)
            if self._left[0] == "done":
                return
            self._arm()
            self._seen = self._look(told, idle_s)
            verdict = judge.tick(elapsed_s, self._reports | {self.rank: self.report}, self._heard)
            if self._final is not None or verdict is not None:
                self._end(self._final or verdict)

    def _look(self, told: tuple[str, float], idle_s: float) -> Report:
        """At the main thread."""
        where, patience = told
        report = Report(beat=self._seen.beat + 1, where=where, idle_s=round(idle_s, 1))
        limit = MARGIN * self.timeout_s * patience
        if idle_s < limit:
            return report
        stack = _stack(sys._current_frames().get(self._main))
        return replace(
            report,
            overdue=idle_s >= limit * SLOW or not _compiling(),
            waiting=_waiting(stack),
            stack="".join(stack.format()).rstrip(),
        )

    def _arm(self) -> None:
        """Should native code keep this thread from running, faulthandler's clock needs no interpreter lock."""
        if self._dump >= 0:
            os.ftruncate(self._dump, 0)
            os.lseek(self._dump, 0, os.SEEK_SET)
            faulthandler.dump_traceback_later(MARGIN * self.timeout_s * 0.9, file=self._dump)

    def _last_words(self, rank: int) -> str:
        """What faulthandler wrote in a neighbour that runs no Python any more: its main thread stands last."""
        member, dump = self._members[rank], self._dumps[rank]
        if not member.local or dump < 0:
            return ""
        with suppress(OSError):
            lines = Path(f"/proc/{member.pid}/fd/{dump}").read_text(errors="replace").splitlines()
            heads = [number for number, line in enumerate(lines) if "Thread" in line or "Stack" in line]
            frames = [line for line in lines[heads[-1] + 1 :] if line.strip()] if heads else []
            return "\n".join(reversed(frames[:_FRAMES]))
        return ""

    def _end(self, verdict: Verdict | None) -> None:
        """Agree on one verdict, have one rank say it, end this process and what cannot end itself."""
        assert verdict is not None
        if self._final is None:
            self._proposed = verdict
            deadline = time.monotonic() + (0.0 if self.store_host in verdict.culprits else 3.0)
            while self._final is None and time.monotonic() < deadline:
                self._news.set()
                time.sleep(0.05)
        agreed = self._final is not None
        verdict = self._final or verdict
        alive = [rank for rank in self._neighbours if self._members[rank].state() == "alive"]
        speaks = verdict.by == self.rank if agreed else self.rank == min(alive, default=self.rank)
        if self._left[0] != "failed":  # its own traceback says enough
            _say(verdict.message, aloud=speaks)
        for rank in verdict.culprits:
            if rank != self.rank and self._members[rank].state() in ("stopped", "stuck", "alive"):
                self._kill_slowly(rank)
        if self.store_host == self.rank and agreed:
            time.sleep(3 * self.interval_s)
        for child in multiprocessing.active_children():
            child.kill()
        os._exit(verdict.status)

    def _kill_slowly(self, rank: int) -> None:
        """A neighbour that can still read the verdict ends itself."""
        deadline = time.monotonic() + 3 * self.interval_s + 0.5
        while self._members[rank].state() == "alive" and time.monotonic() < deadline:
            time.sleep(0.05)
        self._members[rank].kill()

    def _guarded(self, run: Any) -> None:
        """A watch that fails ends the job too: unwatched, it could hang for ever."""
        try:
            run()
        except BaseException:
            if not self._stop:
                traceback.print_exc()
                os._exit(1)


# -- stacks -----------------------------------------------------------------------------------------------------------


def _stack(frame: FrameType | None) -> traceback.StackSummary:
    """The innermost frames, the innermost last."""
    found = traceback.StackSummary.extract(traceback.walk_stack(frame), limit=_FRAMES) if frame is not None else []
    return traceback.StackSummary.from_list(list(reversed(found)))


def _waiting(stack: Sequence[traceback.FrameSummary]) -> bool:
    """Does it stand inside torch.distributed, or in a backward pass whose hooks do?"""
    innermost = stack[-3:]
    return any("torch/distributed/" in frame.filename for frame in innermost) or (
        bool(stack) and stack[-1].name == "_engine_run_backward"
    )


def _compiling() -> bool:
    """Is torch.compile at work in any thread? It shows on the stack, first calls and recompilations alike."""
    for innermost in sys._current_frames().values():
        frame: FrameType | None = innermost
        while frame is not None:
            if frame.f_code.co_filename.endswith(_COMPILING):
                return True
            frame = frame.f_back
    return False


# -- odds and ends ----------------------------------------------------------------------------------------------------


def _lost_connection(error: BaseException | None) -> bool:
    """Did a collective or the store break, in this error or in one that led to it?"""
    while error is not None:
        if isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and _CONNECTION.search(str(error))):
            return True
        error = error.__cause__ or error.__context__
    return False


def _verdict(fields: dict[str, Any]) -> Verdict:
    return Verdict(**fields | {"culprits": tuple(fields["culprits"])})


def _memory_file() -> int:
    """A file without a name that neighbours can read through /proc; -1 where there is no such thing."""
    try:
        return os.memfd_create("dsm-watch")
    except (AttributeError, OSError):
        return -1


def _say(message: str, *, aloud: bool) -> None:
    """To stderr past Python's streams, whose locks the stuck main thread may hold; and to run.log, if it opens soon."""
    if not message:
        return
    if aloud:
        os.write(2, f"\ndsm: {message}\n".encode())

    def keep() -> None:
        for handler in logging.getLogger("dsm").handlers:
            if isinstance(handler, logging.FileHandler):
                handler.handle(logging.LogRecord("dsm", logging.ERROR, __file__, 0, message, None, None))

    keeper = threading.Thread(target=keep, daemon=True)
    keeper.start()
    keeper.join(1.0)
