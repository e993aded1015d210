"""The threads and processes of a `GraderPool`: a queue of chunks, a thread a worker, and the nursery they come from."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from dsm.answers.verdict import Outcome, Verdict, ungradable
from dsm.answers.worker import CODES, FORK, PID, READY, REAP, REQUEST
from dsm.config.answers import GraderConfig

_START_S = 120.0  # of a nursery: a second on an idle machine
_FORK_S = 30.0
_CHUNK = 64
_OUTCOMES = cast("dict[str, Outcome]", {code: outcome for outcome, code in CODES.items()})

Pair = tuple[str, str]


class Batch:
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
class Worker:
    """A worker as its thread sees it: `received` is the beginning of a line that has not come through yet."""

    pid: int
    link: socket.socket
    nursery: subprocess.Popen[bytes]
    graded: int = 0
    received: bytes = b""


class Lost(Exception):
    """The worker is gone (`timeout` false) or late (true); `done` verdicts of its chunk had arrived."""

    def __init__(self, done: int, timeout: bool) -> None:
        super().__init__()
        self.done, self.timeout = done, timeout


@dataclass
class Crew:
    """The nursery, the queue, and a thread a worker. Has no reference to the pool, so that an unused pool goes away."""

    config: GraderConfig
    workers: int
    grade_path: str
    pid: int = field(default_factory=os.getpid)
    closed: bool = False

    def __post_init__(self) -> None:
        self.queue: queue.SimpleQueue[tuple[Batch, range] | None] = queue.SimpleQueue()
        self.threads: list[threading.Thread] = []
        self.batches: set[Batch] = set()
        self.lock = threading.RLock()
        self.nursery = Nursery(self.config, self.grade_path)

    def grade(self, pairs: Sequence[Pair]) -> list[Verdict]:
        batch = Batch(pairs)
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
        try:
            for chunk in chunks:
                self.queue.put((batch, chunk))
            batch.done.wait()
        finally:
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
        worker: Worker | None = None
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

    def _run(self, batch: Batch, indices: list[int], worker: Worker | None) -> Worker | None:
        """Grade a chunk, in as many workers as it takes; returns the last one, if it may go on."""
        tried: int | None = None  # the pair that the last worker died of
        while indices:
            if worker is None:
                worker = self.nursery.fork()
            try:
                peak_mb = self._exchange(batch, indices, worker)
            except Lost as lost:
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

    def _exchange(self, batch: Batch, indices: list[int], worker: Worker) -> int:
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
                    raise Lost(done, timeout=False)
                *lines, worker.received = (worker.received + data).split(b"\n")
                for line in lines:
                    if done == len(indices):
                        return int(line)
                    code, reason = json.loads(line)
                    batch.put(indices[done], Verdict(_OUTCOMES[code], reason))
                    done += 1
        except TimeoutError:
            raise Lost(done, timeout=True) from None
        except OSError:
            raise Lost(done, timeout=False) from None


class Nursery:
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

    def fork(self) -> Worker:
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

    def _fork(self) -> Worker:
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
        return Worker(PID.unpack(reply)[0], link, self.process)

    def kill(self, worker: Worker) -> None:
        """End a worker at once. Until the nursery reaps it, nobody else can have its number."""
        worker.link.close()
        with self.lock:
            if self.closed or worker.nursery is not self.process or self.process.poll() is not None:
                return  # it went with its nursery; the number may be another process's by now
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
