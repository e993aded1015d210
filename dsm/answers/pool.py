"""Grading in worker processes that can be killed: no pair takes longer than its deadline, whatever it is.

A signal cannot interrupt a thread that is not the main one, nor a C function that does not return; killing a process
always works. So pairs go to workers (see `worker`), and a thread a worker waits for verdicts with a deadline:

    grade(pairs) --cache, cheap pairs--> chunks --queue--> thread --socket--> worker

A worker that is late or dies is killed and replaced; its other pairs go on in the new one.
"""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import cast

from dsm.answers.verdict import Outcome, Verdict, ungradable
from dsm.answers.worker import CODES, FORK, GRADERS, PID, READY, REAP, REQUEST, checked, grader
from dsm.config.answers import GraderConfig

_START_S = 120.0  # of a nursery: a second on an idle machine
_FORK_S = 30.0
_CHUNK = 64
_LONGEST_CACHED = 4_000  # characters of gold and answer together
_LONGEST_EQUAL = 200
_OUTCOMES = cast("dict[str, Outcome]", {code: outcome for outcome, code in CODES.items()})
# Decided here, since a worker's answer would take longer to arrive: no operator, no structure, a bounded length.
_PLAIN = re.compile(r"[-+]?\\?\$?(?:[0-9]{1,15}(?:\.[0-9]{1,15})?|[0-9]{1,3}(?:,[0-9]{3}){1,4}(?:\.[0-9]{1,15})?)(?:\\?%)?")

Pair = tuple[str, str]


class GraderPool:
    """Grades pairs of a reference answer and an answer, from any thread, in order, cached.

    Ungradable, besides what the grader itself finds so: no answer (None), over the deadline ("timeout"), a worker that
    died of the pair twice ("crashed"), over the memory limit ("memory").

    Args:
        config: the grader, its house rules and the pool's limits.
        workers: processes; None: `config.workers`, or one for each usable core.
        grade: `module:function` of a grader of your own, called as function(gold, answer, config) in the workers only;
            None: the one that `config.name` names.

    Raises:
        RuntimeError: if the worker processes do not start; the message has what they printed.
    """

    def __init__(self, config: GraderConfig, workers: int | None = None, *, grade: str | None = None) -> None:
        self.config = config
        self._workers = workers or config.workers or _usable_cores()
        self._path = grade or GRADERS[config.name]
        self._here = grader(self._path) if grade is None else None  # ours are known to be quick with cheap pairs
        self._cache: OrderedDict[Pair, Verdict] = OrderedDict()
        self._lock = threading.Lock()
        self._start()

    def _start(self) -> None:
        self._crew = _Crew(self.config, self._workers, self._path)
        self._close = weakref.finalize(self, self._crew.close)  # at the latest when the interpreter ends

    def grade(self, pairs: Sequence[tuple[str, str | None]]) -> list[Verdict]:
        """A verdict for each (gold, answer), in order; blocks until all are there.

        Raises:
            RuntimeError: if the pool is closed, or its processes cannot be started again.
        """
        if self._crew.pid != os.getpid():  # this process was forked from the one that made the pool
            self._lock = threading.Lock()
            self._close.detach()
            self._start()
        if self._crew.closed:
            raise RuntimeError("the grader pool is closed")
        verdicts: dict[Pair, Verdict] = {}
        open_pairs: list[Pair] = []
        for gold, answer in dict.fromkeys(pairs):
            if answer is None:
                continue
            pair = (gold, answer)
            known = self._known(pair)
            if known is not None:
                verdicts[pair] = known
            elif self._here is not None and _is_cheap(gold, answer):
                verdicts[pair] = self._keep(pair, checked(self._here, gold, answer, self.config))
            else:
                open_pairs.append(pair)
        if open_pairs:
            for pair, verdict in zip(open_pairs, self._crew.grade(open_pairs), strict=True):
                verdicts[pair] = self._keep(pair, verdict)
        nothing = ungradable("no answer")
        return [nothing if answer is None else verdicts[gold, answer] for gold, answer in pairs]

    def close(self) -> None:
        """End all processes; unfinished calls of `grade` in other threads raise. Safe to repeat."""
        self._close()

    def __enter__(self) -> GraderPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------ the cache

    def _known(self, pair: Pair) -> Verdict | None:
        with self._lock:
            verdict = self._cache.get(pair)
            if verdict is not None:
                self._cache.move_to_end(pair)
            return verdict

    def _keep(self, pair: Pair, verdict: Verdict) -> Verdict:
        if len(pair[0]) + len(pair[1]) <= _LONGEST_CACHED and verdict.reason != "crashed":
            with self._lock:
                self._cache[pair] = verdict
                if len(self._cache) > self.config.cache_size:
                    self._cache.popitem(last=False)
        return verdict


def _is_cheap(gold: str, answer: str) -> bool:
    """Whether the grader is done with a pair at once: short equal texts, two plain numbers."""
    if gold == answer:
        return len(gold) <= _LONGEST_EQUAL
    return _PLAIN.fullmatch(gold) is not None and _PLAIN.fullmatch(answer) is not None


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# ---------------------------------------------------------------- threads and processes


class _Batch:
    """The pairs of one call and the verdicts on them so far."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.pairs = pairs
        self.verdicts: list[Verdict | None] = [None] * len(pairs)
        self.error: Exception | None = None
        self.done = threading.Event()
        self._left, self._lock = len(pairs), threading.Lock()

    def put(self, index: int, verdict: Verdict) -> None:
        with self._lock:
            self.verdicts[index] = verdict
            self._left -= 1
            if not self._left:
                self.done.set()

    def fail(self, error: Exception) -> None:
        self.error = error
        self.done.set()


@dataclass
class _Worker:
    """A worker as its thread sees it: `received` is the beginning of a line that has not come through yet."""

    pid: int
    link: socket.socket
    graded: int = 0
    received: bytes = b""


class _Lost(Exception):
    """The worker is gone (`timeout` false) or late (true); `done` verdicts of its chunk had arrived."""

    def __init__(self, done: int, timeout: bool) -> None:
        super().__init__()
        self.done, self.timeout = done, timeout


@dataclass
class _Crew:
    """The nursery, the queue, and a thread a worker. Has no reference to the pool, so that an unused pool goes away."""

    config: GraderConfig
    workers: int
    grade_path: str
    pid: int = field(default_factory=os.getpid)
    closed: bool = False

    def __post_init__(self) -> None:
        self.queue: queue.SimpleQueue[tuple[_Batch, range] | None] = queue.SimpleQueue()
        self.threads: list[threading.Thread] = []
        self.batches: set[_Batch] = set()
        self.lock = threading.RLock()
        self.nursery = _Nursery(self.config, self.grade_path)

    def grade(self, pairs: Sequence[Pair]) -> list[Verdict]:
        batch = _Batch(pairs)
        size = max(1, min(_CHUNK, -(-len(pairs) // (4 * self.workers))))
        chunks = [range(i, min(i + size, len(pairs))) for i in range(0, len(pairs), size)]
        with self.lock:
            if self.closed:
                raise RuntimeError("the grader pool is closed")
            self.batches.add(batch)
            while len(self.threads) < min(self.workers, len(self.batches) + len(chunks) - 1):
                thread = threading.Thread(target=self._serve, name="dsm-grader", daemon=True)
                self.threads.append(thread)
                thread.start()
        for chunk in chunks:
            self.queue.put((batch, chunk))
        batch.done.wait()
        with self.lock:
            self.batches.discard(batch)
        if batch.error is not None:
            raise RuntimeError(str(batch.error)) from batch.error
        return cast("list[Verdict]", batch.verdicts)

    def close(self) -> None:
        if self.closed or self.pid != os.getpid():
            return
        with self.lock:
            self.closed = True
            for batch in self.batches:
                batch.fail(RuntimeError("the grader pool was closed"))
        for _ in self.threads:
            self.queue.put(None)
        self.nursery.close()  # takes the workers along, which wakes their threads
        for thread in self.threads:
            if thread is not threading.current_thread():
                thread.join(5)

    # ------------------------------------------------------------ a thread

    def _serve(self) -> None:
        worker: _Worker | None = None
        while (task := self.queue.get()) is not None:
            batch, chunk = task
            if batch.error is not None:
                continue
            try:
                worker = self._run(batch, list(chunk), worker)
            except Exception as error:
                worker = None
                batch.fail(error)
        if worker is not None:
            worker.link.close()

    def _run(self, batch: _Batch, indices: list[int], worker: _Worker | None) -> _Worker | None:
        """Grade a chunk, in as many workers as it takes; returns the last one, if it may go on."""
        tried: int | None = None  # the pair that the last worker died of
        while indices:
            if worker is None:
                worker = self.nursery.fork()
            try:
                peak_mb = self._exchange(batch, indices, worker)
            except _Lost as lost:
                self.nursery.kill(worker)
                worker = None
                if self.closed:
                    raise RuntimeError("the grader pool was closed") from None
                indices = indices[lost.done :]
                culprit = indices[0]
                if lost.timeout:
                    batch.put(culprit, ungradable("timeout"))
                elif tried == culprit:
                    batch.put(culprit, ungradable("crashed"))
                else:  # it may have been killed for no fault of the pair: by the system, when memory ran out
                    tried = culprit
                    continue
                indices = indices[1:]
                continue
            worker.graded += len(indices)
            if worker.graded >= self.config.recycle_pairs or peak_mb > self.config.memory_mb:
                self.nursery.kill(worker)
                worker = None
            return worker
        return worker

    def _exchange(self, batch: _Batch, indices: list[int], worker: _Worker) -> int:
        """Send a chunk, take its verdicts; returns the worker's peak memory in MB."""
        request = json.dumps([batch.pairs[i] for i in indices]).encode() + b"\n"
        done = 0
        try:
            worker.link.settimeout(_FORK_S)
            worker.link.sendall(request)
            worker.link.settimeout(self.config.timeout_s)
            while True:
                data = worker.link.recv(1 << 16)
                if not data:
                    raise _Lost(done, timeout=False)
                *lines, worker.received = (worker.received + data).split(b"\n")
                for line in lines:
                    if done == len(indices):
                        return int(line)
                    code, reason = json.loads(line)
                    batch.put(indices[done], Verdict(_OUTCOMES[code], reason))
                    done += 1
        except TimeoutError:
            raise _Lost(done, timeout=True) from None
        except OSError:
            raise _Lost(done, timeout=False) from None


class _Nursery:
    """The process that workers are forked from, and the way to them. Started again if it died."""

    def __init__(self, config: GraderConfig, grade_path: str) -> None:
        self.config, self.grade_path = config, grade_path
        self.lock = threading.Lock()
        self.closed = False
        self._start()

    def _start(self) -> None:
        self.control, theirs = socket.socketpair()
        boot = (
            "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from dsm.answers.worker import nursery; "
            "nursery(int(sys.argv[2]), *sys.argv[3:])"
        )
        path = json.dumps([folder or os.getcwd() for folder in sys.path])
        arguments = [path, str(theirs.fileno()), self.config.model_dump_json(), self.grade_path]
        with tempfile.TemporaryFile() as printed, theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", boot, *arguments],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=printed,
                start_new_session=True,  # Ctrl-C at the terminal is the pool's affair
            )
            theirs.close()
            self.control.settimeout(_START_S)
            try:
                ready = self.control.recv(1)
            except OSError:
                ready = b""
            if ready != READY:
                self._end()
                printed.seek(0)
                said = printed.read().decode(errors="replace").strip().splitlines()
                raise RuntimeError(f"the grader's workers do not start: {said[-1] if said else 'no reason given'}")
        self.control.settimeout(_FORK_S)

    def fork(self) -> _Worker:
        """A new worker."""
        with self.lock:
            if self.closed:
                raise RuntimeError("the grader pool was closed")
            try:
                return self._fork()
            except OSError:  # it died: one more try with a new one
                self._end()
                self._start()
                return self._fork()

    def _fork(self) -> _Worker:
        link, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(self.control, [REQUEST.pack(FORK, 0)], [theirs.fileno()])
            reply = self.control.recv(PID.size, socket.MSG_WAITALL)
            if len(reply) < PID.size:
                raise ConnectionError("the nursery is gone")
        except OSError:
            link.close()
            raise
        return _Worker(PID.unpack(reply)[0], link)

    def kill(self, worker: _Worker) -> None:
        """End a worker at once. Until the nursery reaps it, nobody else can have its number."""
        worker.link.close()
        with self.lock:
            if self.closed or self.process.poll() is not None:
                return  # it went with its nursery
            try:
                os.kill(worker.pid, signal.SIGKILL)
                self.control.sendall(REQUEST.pack(REAP, worker.pid))
            except OSError:
                pass

    def close(self) -> None:
        with self.lock:
            self.closed = True
            self._end()

    def _end(self) -> None:
        self.control.close()
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
