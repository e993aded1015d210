"""The sandbox as its users see it: programs in, executions out, from any thread.

Each worker is a thread with a jail of its own. A worker's jail runs one program at a time, so a program that breaks its
jail takes no other program along: the worker builds a new one and goes on.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from types import TracebackType

from dsm.config.sandbox import SandboxConfig
from dsm.errors import UserError
from dsm.sandbox.jail import Execution, Jail, JailError, Program
from dsm.sandbox.probe import probe

_Job = tuple[Program, "Future[Execution]"]


class Sandbox:
    """Warm workers that run model-written programs. Use as a context manager, or `close()` it.

    `isolation` says what holds programs: "jail", or "weaker" (see `SandboxConfig.allow_weaker`).

    Raises:
        UserError: if programs cannot be isolated here; the text says what is missing and how to get it.
    """

    def __init__(self, config: SandboxConfig) -> None:
        self.isolation = probe(config)
        self._config = config
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        count = config.workers or len(os.sched_getaffinity(0))
        self._threads = [
            threading.Thread(target=self._work, args=(number,), name=f"sandbox-{number}", daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, program: Program) -> Future[Execution]:
        """Queue a program. What becomes of it is the future's result; asyncio waits with `asyncio.wrap_future`.

        Raises:
            RuntimeError: if the sandbox is closed.
        """
        future: Future[Execution] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("the sandbox is closed")
            self._jobs.put((program, future))
        return future

    def run(self, programs: Sequence[Program]) -> list[Execution]:
        """Run programs, as many at once as there are workers; their executions in the same order."""
        futures = [self.submit(program) for program in programs]
        return [future.result() for future in futures]

    def close(self) -> None:
        """End the workers. Programs that run are finished first, those that wait are cancelled."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            waiting = []
            while True:
                try:
                    waiting.append(self._jobs.get_nowait())
                except queue.Empty:
                    break
            for _ in self._threads:
                self._jobs.put(None)
        for job in waiting:
            if job is not None:
                job[1].cancel()
        for thread in self._threads:
            thread.join()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _work(self, number: int) -> None:
        jail: Jail | None = None
        with contextlib.suppress(JailError):  # the first program meets it again, and can say so
            jail = self._jail(number)
        while (job := self._jobs.get()) is not None:
            program, future = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                jail = jail or self._jail(number)
                execution, usable = jail.run(program)
            except JailError as error:
                future.set_exception(UserError(f"sandbox: a worker does not start: {error}"))
            except BaseException as error:
                future.set_exception(error)
            else:
                if not usable:
                    jail.close()
                    jail = None
                future.set_result(execution)
        if jail is not None:
            jail.close()

    def _jail(self, number: int) -> Jail:
        return Jail(self._config, weaker=self.isolation == "weaker", number=number)
