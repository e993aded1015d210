"""Who does the tasks of a step: processes of this machine, Slurm jobs, a Ray cluster.

An executor only calls a function on items; what is finished and what is not, the files say (dsm/corpus/steps.py). So a
task may be lost with its process at any time. The executor says which one it was and why, and goes on with the others,
until three have failed. This module is the first that a worker imports, and stays light for it.
"""

from __future__ import annotations

import os
import pickle
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from dsm.errors import UserError

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from dsm.config.executor import ExecutorConfig

MAX_FAILURES = 3
"""Tasks that may fail before no others are begun."""

T = TypeVar("T")
R = TypeVar("R")


class Executor(Protocol):
    """Calls a picklable function on each of some picklable items, in any order."""

    def map(self, function: Callable[[T], R], items: Sequence[T], on_done: Callable[[T, R], None]) -> None:
        """Call `on_done` in this process with each item and its result, as they come.

        Raises:
            UserError: a task is wrong about its input, or its process died; names the task. What was done is kept.
            TaskError: a task raised anything else.
        """
        ...


class TaskError(Exception):
    """An error in a task that is a bug of ours; the message holds the worker's traceback."""


@dataclass(frozen=True)
class Failure:
    """A task that was not done: an error of the user's making, a dead process or a bug."""

    name: str
    kind: Literal["user", "died", "bug"]
    message: str


def make_executor(config: ExecutorConfig, folder: Path) -> Executor:
    """The executor that a configuration asks for; `folder` takes what it writes itself (logs of Slurm jobs)."""
    from dsm.corpus import clusters

    if config.kind == "local":
        return LocalExecutor(config.workers)
    return clusters.SlurmExecutor(config, folder) if config.kind == "slurm" else clusters.RayExecutor(config)


class Failures:
    """What went wrong so far."""

    def __init__(self) -> None:
        self.found: list[Failure] = []

    def add(self, item: object, kind: Literal["user", "died", "bug"], message: str) -> None:
        """One more; `item` is told by its name."""
        self.found.append(Failure(str(getattr(item, "name", item)), kind, message))

    @property
    def too_many(self) -> bool:
        """Should no other task be begun?"""
        return len(self.found) >= MAX_FAILURES

    def raise_first(self) -> None:
        """One error, of the first failure, if there was one."""
        if not self.found:
            return
        first = self.found[0]
        names = ", ".join(failure.name for failure in self.found[1:])
        also = f" (and so did {names})" if names else ""
        kept = "what the others did is kept"
        if first.kind == "user":
            also = f"; {names} failed too" if names else ""
            raise UserError(f"{first.name}: {first.message}{also}")
        if first.kind == "died":
            again = "run the same command again, with fewer executor.workers if memory is short"
            raise UserError(f"{first.name}: {first.message}{also}; {kept}: {again}")
        raise TaskError(f"{first.name} failed{also}; {kept}\n{first.message}")


# ---------------------------------------------------------------- processes of this machine


class LocalExecutor:
    """Processes that end with this one, however it ends; their number changes nothing in the results.

    They stay from one call to the next, unless a task fails: starting one costs more than many a task.
    """

    def __init__(self, workers: int | None = None) -> None:
        """As many as there are usable cores, or `workers`; 0 calls the function in this process."""
        self.workers = usable_cores() if workers is None else workers
        self._crew: list[_Worker] = []

    def map(self, function: Callable[[T], R], items: Sequence[T], on_done: Callable[[T, R], None]) -> None:
        """See `Executor.map`."""
        self.failures_of(function, items, on_done).raise_first()

    def failures_of(self, function: Callable[[T], R], items: Sequence[T], on_done: Callable[[T, R], None]) -> Failures:
        """`map` that returns what failed."""
        failures = Failures()
        try:
            work = self._in_this_process if self.workers == 0 else self._in_others
            work(function, deque(items), on_done, failures)
        except BaseException:
            self.close()
            raise
        if failures.found:
            self.close()
        return failures

    def close(self) -> None:
        """End the processes, whatever they are at; the next call starts others."""
        for worker in self._crew:
            worker.end()
        self._crew.clear()

    def _in_this_process(
        self, function: Callable[[T], R], waiting: deque[T], on_done: Callable[[T, R], None], failures: Failures
    ) -> None:
        while waiting and not failures.too_many:
            item = waiting.popleft()
            ok, result = _attempt(function, item)
            if ok:
                on_done(item, result)
            else:
                failures.add(item, *result)

    def _in_others(
        self, function: Callable[[T], R], waiting: deque[T], on_done: Callable[[T, R], None], failures: Failures
    ) -> None:
        payload = pickle.dumps(function)
        while True:
            if not failures.too_many:
                for worker in self._crew:
                    if waiting and worker.item is None:
                        worker.give(payload, waiting.popleft())
                while waiting and len(self._crew) < self.workers:
                    self._crew.append(_Worker())
                    self._crew[-1].give(payload, waiting.popleft())
            busy = [worker for worker in self._crew if worker.item is not None]
            if not busy:
                return
            ready = connection.wait([handle for worker in busy for handle in (worker.pipe, worker.process.sentinel)])
            for worker in [worker for worker in busy if worker.pipe in ready or worker.process.sentinel in ready]:
                item, answer = worker.take()
                if answer is None:
                    failures.add(item, "died", worker.end())
                    self._crew.remove(worker)
                elif answer[0]:
                    on_done(item, answer[1])
                else:
                    failures.add(item, *answer[1])


def usable_cores() -> int:
    """Cores that this process may use; containers and Slurm often give fewer than there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Worker:
    """This process's view of one other and of the item it is at."""

    def __init__(self) -> None:
        context = get_context("spawn")  # a fork would copy this process's threads and all that it imported
        self.pipe, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_work, args=(theirs, os.getpid()), daemon=True)
        self.process.start()
        theirs.close()
        self.item: Any = None
        self._payload = b""

    def give(self, payload: bytes, item: Any) -> None:
        """Have it call a pickled function on an item; if it is dead, `take` will say so."""
        self.item = item
        with suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send_bytes(payload if payload != self._payload else b"")
            self.pipe.send(item)
        self._payload = payload

    def take(self) -> tuple[Any, tuple[bool, Any] | None]:
        """The item and (True, result) or (False, (kind, message)); None for it if the process died."""
        item, self.item = self.item, None
        try:
            return item, self.pipe.recv() if self.pipe.poll() else None
        except (EOFError, OSError):
            return item, None

    def end(self) -> str:
        """See to it that it is gone; how it went, in words."""
        self.pipe.close()
        self.process.join(0.2)  # one that broke off closes its pipe a little before it is gone
        if self.process.is_alive():
            self.process.terminate()
            self.process.join(2.0)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        return _death(self.process.exitcode or 0)


def _death(status: int) -> str:
    if status < 0:
        cause = ", most often for want of memory" if -status == signal.SIGKILL else ""
        return f"its process was killed by {signal.Signals(-status).name}{cause}"
    return f"its process ended with status {status}"


# ---------------------------------------------------------------- in such a process


def _work(pipe: Connection, parent: int) -> None:
    """Functions and items in, results out, until the other end closes."""
    from dsm.runtime.process import end_with_parent

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at the terminal is the parent's affair
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with_parent()
    if os.getppid() != parent:  # it had died before
        os._exit(1)
    threading.Thread(target=_follow_parent, daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = "1"  # the processes share the cores; numpy and the like are not imported yet
    payload, function = b"", None
    while True:
        try:
            newer, item = pipe.recv_bytes(), pipe.recv()
        except EOFError:
            return
        if newer:  # else the function is that of the item before
            payload, function = newer, None
        try:
            function = function or pickle.loads(payload)
        except Exception:
            pipe.send((False, ("bug", traceback.format_exc())))
            continue
        pipe.send(_attempt(function, item))


def _attempt(function: Callable[[T], R], item: T) -> tuple[bool, Any]:
    try:
        return True, function(item)
    except UserError as error:
        return False, ("user", str(error))
    except Exception:
        return False, ("bug", traceback.format_exc())


def _follow_parent() -> None:
    """Where the kernel cannot tell that the parent is gone."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
