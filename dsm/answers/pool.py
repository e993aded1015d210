"""Grading in worker processes that can be killed: no pair takes longer than its deadline, whatever it is.

A signal cannot interrupt a thread that is not the main one, nor a C function that does not return; killing a process
always works. So pairs go to workers (see `worker`), and a thread a worker waits for verdicts with a deadline:

    grade(pairs) --cache, cheap pairs--> chunks --queue--> thread --socket--> worker

A worker that is late or dies is killed and replaced; its other pairs go on in the new one.
"""

from __future__ import annotations

import os
import re
import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from types import TracebackType

from dsm.answers.crew import Crew, Pair
from dsm.answers.verdict import Verdict, ungradable
from dsm.answers.worker import GRADERS, checked, grader
from dsm.config.answers import GraderConfig

_LONGEST_CACHED = 4_000  # characters of gold and answer together
_LONGEST_EQUAL = 200
# Decided here, since a worker's answer would take longer to arrive: no operator, no structure, a bounded length.
_PLAIN = re.compile(
    r"[-+]?\\?\$?(?:[0-9]{1,15}(?:\.[0-9]{1,15})?|[0-9]{1,3}(?:,[0-9]{3}){1,4}(?:\.[0-9]{1,15})?)(?:\\?%)?"
)


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
        self._crew = Crew(self.config, self._workers, self._path)
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
