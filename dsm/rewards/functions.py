"""Functions of the user's as parts of a reward: called as TRL calls them, in processes that can be killed.

The unit of a call is one prompt's samples, however many prompts an exploration has and whenever they are scored: what a
function returns then depends on nothing else. A call that throws, hangs or ends its process is repeated sample by
sample, so that the fault has a name and the others have their rewards.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from dsm.config.reward import FormatPart, FunctionPart
from dsm.errors import UserError
from dsm.rewards.parts import Format, Marks, Steps, cells
from dsm.rewards.process import FunctionProcess, LoadError, LostError, Worker
from dsm.rollout.record import Prompt, Rollout

_LOST_ALONE = 2
"""Samples of a prompt that may cost a process, when they are asked for alone; the others are not asked any more."""
_LOST_IN_A_ROW = 8
"""Processes lost in a row, after which the function is not called any more."""
_PATTERN = "dsm.rewards.inside:searched"


class Caller:
    """Calls one function, from as many threads as there should be processes: each thread has its own."""

    def __init__(self, start: FunctionProcess, timeout_s: float) -> None:
        self.start, self.timeout_s = start, timeout_s
        self._mine = threading.local()
        self._lock = threading.Lock()
        self._workers: set[Worker] = set()
        self._lost = 0
        self._closed = False

    def load(self) -> None:
        """Have this thread's process ready.

        Raises:
            LoadError: the function cannot be loaded.
            LostError: closed, or too many were lost in a row.
        """
        if getattr(self._mine, "worker", None) is not None:
            return
        with self._lock:
            if self._closed or self._lost >= _LOST_IN_A_ROW:
                why = "closed" if self._closed else f"{self._lost} calls in a row have cost their process"
                raise LostError(f"not called: {why}")
        worker = self.start.start()
        with self._lock:
            if self._closed:
                worker.kill()
                raise LostError("not called: closed")
            self._workers.add(worker)
        self._mine.worker = worker

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """One call of `worker.call`.

        Raises:
            LostError: it cost the process, or there is none to be had.
        """
        try:
            self.load()
        except LoadError as error:  # it could be loaded before
            raise LostError(f"cannot be loaded any more: {error}") from None
        worker: Worker = self._mine.worker
        try:
            reply = worker.ask(request, self.timeout_s)
        except LostError:
            self._mine.worker = None
            with self._lock:
                self._workers.discard(worker)
                self._lost += 1
            raise
        self._lost = 0
        return reply

    def close(self) -> None:
        """End all processes; calls under way end with them."""
        with self._lock:
            self._closed = True
            workers, self._workers = self._workers, set()
        for worker in workers:
            worker.kill()


class Functions:
    """A function of the user's as a part."""

    def __init__(self, config: FunctionPart, tokenizer: PreTrainedTokenizerBase) -> None:
        self.config, self.tokenizer = config, tokenizer
        start = FunctionProcess(config.function, config.arguments, config.start_s, config.memory_mb)
        self.caller = Caller(start, config.timeout_s)

    def score(self, prompt: Prompt, rollouts: Sequence[Rollout], step: int) -> Marks:
        """One mark a rollout."""
        marks, failed = self._call(prompt, rollouts, step)
        if not failed or not self.config.retry or len(rollouts) == 1:
            return marks
        alone: list[Marks] = []
        lost: list[str] = []
        for rollout in rollouts:
            if len(lost) == _LOST_ALONE:
                alone.append(Marks.none(1, f"not called: two other samples of its prompt came to this: {lost[-1]}"))
                continue
            found, failed = self._call(prompt, [rollout], step)
            if failed == "lost":
                lost.append(found.faults[0])
            alone.append(found)
        return joined(alone)

    def _call(self, prompt: Prompt, rollouts: Sequence[Rollout], step: int) -> tuple[Marks, str]:
        """The marks, and "thrown" or "lost" where another call with fewer samples may do better."""
        n = len(rollouts)
        request = {"samples": n, "given": self.given(prompt, rollouts, step), "steps": self.config.steps}
        try:
            reply = self.caller.ask(request)
        except LostError as lost:
            return Marks.none(n, str(lost)), "lost"
        if "error" in reply:
            return Marks.none(n, reply["error"]), "thrown" if reply["again"] else ""
        return self._read(reply, rollouts), ""

    def given(self, prompt: Prompt, rollouts: Sequence[Rollout], step: int) -> dict[str, Any]:
        """The keyword arguments of a call, one list entry a sample."""
        n, columns = len(rollouts), prompt.columns
        asked: Any = columns.get("prompt")
        completions: list[Any] = [rollout.text for rollout in rollouts]
        if self.config.form == "messages":
            if not isinstance(asked, list | tuple):
                asked = [{"role": "user", "content": prompt.question}]
            completions = [[{"role": "assistant", "content": text}] for text in completions]
        elif not isinstance(asked, str):
            asked = self.tokenizer.decode(list(prompt.input_ids), skip_special_tokens=True)
        given: dict[str, Any] = {name: [value] * n for name, value in cells(prompt).items()}
        given |= {
            "prompts": [asked] * n,
            "completions": completions,
            "completion_ids": [rollout.token_ids[rollout.prompt_tokens :].tolist() for rollout in rollouts],
            "trainer_state": step,
        }
        if self.config.steps:
            given["step_ends"] = [(rollout.step_ends - rollout.prompt_tokens).tolist() for rollout in rollouts]
            given["steps"] = [self._texts(rollout) for rollout in rollouts]
        return given

    def _texts(self, rollout: Rollout) -> list[str]:
        """The steps of a solution; each begins behind the last one's end."""
        borders = [rollout.prompt_tokens, *(int(end) + 1 for end in rollout.step_ends)]
        return [
            self.tokenizer.decode(rollout.token_ids[start:end].tolist(), skip_special_tokens=True)
            for start, end in pairwise(borders)
        ]

    def _read(self, reply: Mapping[str, Any], rollouts: Sequence[Rollout]) -> Marks:
        faults = {int(index): reason for index, reason in reply["faults"].items()}
        notes = {name: column for name, column in reply["notes"].items() if len(column) == len(rollouts)}
        if not self.config.steps:
            return Marks(reply["values"], faults, None, reply["metrics"], notes)
        steps: list[Steps | None] = []
        for index, (row, rollout) in enumerate(zip(reply["values"], rollouts, strict=True)):
            wanted = len(rollout.step_ends)
            if row is not None and len(row) != wanted:
                faults[index] = f"returned {len(row)} rewards for {wanted} steps"
            steps.append(np.array(row, dtype=np.float64) if row is not None and len(row) == wanted else None)
        return step_marks(steps, faults, self.config.solution, reply["metrics"], notes)


def step_marks(
    steps: list[Steps | None],
    faults: dict[int, str],
    solution: str,
    metrics: Mapping[str, float] | None = None,
    notes: Mapping[str, list[str]] | None = None,
) -> Marks:
    """Marks from rewards of steps: a solution's is that of its weakest step, of all of them, or of its last."""
    values: list[float | None] = []
    for index, row in enumerate(steps):
        if row is not None and not len(row):
            faults[index] = "has no steps"
            steps[index] = row = None
        values.append(None if row is None else float(SOLUTION[solution](row)))
    return Marks(values, faults, steps, metrics or {}, notes or {})


SOLUTION: dict[str, Callable[[Steps], float]] = {"min": np.min, "product": np.prod, "last": lambda row: row[-1]}
"""How the rewards of a solution's steps are one number (Math-Shepherd: the minimum)."""


class Pattern:
    """A format with a pattern: Python's regular expressions can take for ever, holding the interpreter's lock."""

    def __init__(self, config: FormatPart, tokenizer: PreTrainedTokenizerBase) -> None:
        function = FunctionPart(
            name="custom", function=_PATTERN, arguments={"pattern": config.pattern}, timeout_s=config.timeout_s
        )
        self.format, self.functions = Format(config), Functions(function, tokenizer)
        self.caller = self.functions.caller

    def score(self, prompt: Prompt, rollouts: Sequence[Rollout], step: int) -> Marks:
        """One mark a rollout."""
        marks = self.functions.score(prompt, rollouts, step)
        holds = [self.format.holds(rollout) for rollout in rollouts]
        marks.values = [
            None if value is None else value * good for value, good in zip(marks.values, holds, strict=True)
        ]
        return marks


def loaded(caller: Caller, key: str) -> None:
    """Load a function in the calling thread's process, before anything expensive happens.

    Raises:
        UserError: if it cannot be loaded.
    """
    try:
        caller.load()
    except (LoadError, LostError) as error:
        raise UserError(f"{key}={caller.start.function}: cannot be loaded: {error}") from None


def joined(parts: Sequence[Marks]) -> Marks:
    """The marks of several calls, one after the other; a metric is the mean over the samples it was logged for."""
    offsets = np.cumsum([0, *(len(part.values) for part in parts)]).tolist()
    faults = {offset + i: why for offset, part in zip(offsets, parts, strict=False) for i, why in part.faults.items()}
    steps = [row for part in parts for row in (part.steps or [None] * len(part.values))]
    metrics: dict[str, list[tuple[float, int]]] = {}
    notes: dict[str, list[str]] = {}
    for offset, part in zip(offsets, parts, strict=False):
        for name, value in part.metrics.items():
            metrics.setdefault(name, []).append((value, len(part.values)))
        for name, texts in part.notes.items():
            column = notes.setdefault(name, [""] * offsets[-1])
            column[offset : offset + len(texts)] = texts
    means = {name: sum(v * n for v, n in found) / sum(n for _, n in found) for name, found in metrics.items()}
    stepwise = any(part.steps is not None for part in parts)
    return Marks([value for part in parts for value in part.values], faults, steps if stepwise else None, means, notes)
