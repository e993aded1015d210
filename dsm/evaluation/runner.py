"""One benchmark on one model: items to prompts, prompts to completions, completions to records, over all ranks.

The items left to answer are dealt out to the ranks; each rank's engine hands a request back the moment it is complete,
and judging happens beside generation. What a rank has judged is on the disk at once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any

from tqdm import tqdm

from dsm.config.evaluation import EvalConfig
from dsm.errors import UserError
from dsm.evaluation.choices import score_choices
from dsm.evaluation.judge import Judge, Written, chosen
from dsm.evaluation.records import ItemRecord, ItemStore, Sample
from dsm.evaluation.tasks import Task
from dsm.files import atomic_write_text
from dsm.rollout.engine import Request, RolloutEngine, Sampling
from dsm.runtime.launch import World
from dsm.tools.tool_use import ToolUse

JUDGES = 4  # threads; they wait for the pools' processes and compute nothing themselves
_SCORED_TOGETHER = 64  # items with choices, between two writes


class Runner:
    """Answers tasks with one engine, as one of the ranks of `world`; keeps records in `folder`.

    `stop` is asked after each item that this rank has generated; once it says so, the rank leaves its others undone.
    """

    def __init__(
        self,
        config: EvalConfig,
        engine: RolloutEngine,
        folder: Path,
        world: World,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.config, self.engine, self.folder, self.world = config, engine, folder, world
        self.stop = stop

    def run(self, task: Task, judge: Judge | None, tool_use: ToolUse | None = None) -> list[dict[str, Any]]:
        """The records of all items that are done, in order; on other ranks than the first, an empty list.

        Raises:
            UserError: the folder holds answers from other data, prompts or weights.
        """
        store = ItemStore(self.folder, task.name, self.world.rank)
        order = [item.id for item in task.items]
        done = set(self.world.on_first(lambda: self._answered(task, store, order)))
        left = [index for index, name in enumerate(order) if name not in done]
        mine = left[self.world.rank :: self.world.size]
        with (
            tqdm(total=len(left), desc=task.title, unit="item", disable=not self.world.first) as bar,
            _Desk(task, store, judge, bar, self.world.size) as desk,
            suppress(_StoppedError),
        ):
            self._answer(task, mine, desk, tool_use)
        self.world.wait()
        return store.gather(order) if self.world.first else []

    def _answered(self, task: Task, store: ItemStore, order: Sequence[str]) -> list[str]:
        """The items that an earlier start has finished, if it did so in the same way."""
        note = self.folder / f"{task.name}.protocol.json"
        if note.is_file() and (before := json.loads(note.read_text())) != task.protocol:
            differing = [key for key in task.protocol if before.get(key) != task.protocol[key]]
            raise UserError(
                f"{self.folder}: {task.name} was begun with another {', '.join(differing) or 'protocol'}; its answers"
                " do not go together with new ones: resume=never starts anew"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        atomic_write_text(note, json.dumps(task.protocol, indent=2, ensure_ascii=False) + "\n")
        return [row["id"] for row in store.gather(order)]

    def _answer(self, task: Task, indices: Sequence[int], desk: _Desk, tool_use: ToolUse | None) -> None:
        if task.config.kind == "choices":
            for start in range(0, len(indices), _SCORED_TOGETHER):
                chunk = indices[start : start + _SCORED_TOGETHER]
                scores = score_choices([task.items[index] for index in chunk], task.prompter, self.engine)
                for index, of_item in zip(chunk, scores, strict=True):
                    desk.keep(index, (chosen(task.items[index], of_item, task.config.likelihood.normalisation),))
                self._go_on()
            return
        requests = [self._request(task, index) for index in indices]

        def hand_in(place: int, completions: Sequence[Written]) -> None:
            desk.hand_in(indices[place], completions)
            self._go_on()

        if tool_use is None:
            self.engine.generate(requests, hand_in)
        else:
            tool_use.generate(requests, hand_in)

    def _go_on(self) -> None:
        if self.stop():
            raise _StoppedError

    def _request(self, task: Task, index: int) -> Request:
        asked = self.config.sampling_of(task.config)
        item = task.items[index]
        sampling = Sampling(
            max_new_tokens=asked.max_new_tokens or task.config.max_new_tokens,
            temperature=asked.temperature,
            top_p=asked.top_p,
            n=asked.n,
            stop=tuple(task.protocol["stop"]),
            seed=item_seed(self.config.seed, task.name, item.id),
        )
        return Request(task.prompts[index].input_ids, sampling)


class _StoppedError(Exception):
    """Generation ends here: it was asked to."""


class _Desk:
    """Takes finished generations: threads judge them, and what is judged is written down at once.

    Leaving it waits for all; an error of a judge comes out here or at the next generation handed in.
    """

    def __init__(self, task: Task, store: ItemStore, judge: Judge | None, bar: tqdm[Any], ranks: int) -> None:
        self.task, self.store, self.judge, self.bar, self.ranks = task, store, judge, bar, ranks
        self._threads = ThreadPoolExecutor(JUDGES, thread_name_prefix="judge")
        self._pending: list[Future[None]] = []
        self._lock = Lock()
        self._answers = self._correct = 0

    def __enter__(self) -> _Desk:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._threads.shutdown(cancel_futures=kind is not None)
        if kind is None:
            self._raise_errors()

    def hand_in(self, index: int, completions: Sequence[Written]) -> None:
        """All completions of item `index` are there."""
        self._raise_errors()
        self._pending.append(self._threads.submit(self._judge, index, completions))

    def _raise_errors(self) -> None:
        finished = [future for future in self._pending if future.done()]
        self._pending = [future for future in self._pending if not future.done()]
        for future in finished:
            future.result()

    def _judge(self, index: int, completions: Sequence[Written]) -> None:
        assert self.judge is not None  # only choices need none, and they are kept as they are scored
        self.keep(index, self.judge(self.task.items[index], completions))

    def keep(self, index: int, samples: Sequence[Sample]) -> None:
        """Write down the judged samples of item `index`."""
        item, prompt = self.task.items[index], self.task.prompts[index]
        record = ItemRecord(
            self.task.name, item.id, item.question, prompt.text, item.gold, dict(item.groups), tuple(samples)
        )
        with self._lock:
            self.store.append(record)
            self._answers += len(samples)
            self._correct += sum(sample.verdict == "correct" for sample in samples)
            self.bar.set_postfix(accuracy=f"{self._correct / self._answers:.1%}", refresh=False)
            self.bar.update(min(self.ranks, self.bar.total - self.bar.n))  # the other ranks are about as far


def item_seed(seed: int, benchmark: str, item: str) -> int:
    """63 bits that depend on the run's seed and the item alone, not on the order or the rank that answers it."""
    digest = hashlib.sha256(json.dumps([seed, benchmark, item]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
