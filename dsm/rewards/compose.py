"""The reward of a run: its parts made ready, fed with groups while others are still being written, put together.

    with Rewards(config.reward, tokenizer, grader=..., sandbox=..., tools=...) as rewards:
        ahead = rewards.ahead(prompts)
        rollouts = sampler.sample(prompts, n, on_group=ahead.take, ...)   # answers are checked while others are written
        scored = ahead.scored(rollouts)

Rules and functions of the user's are scored group by group in threads of their own, all parts at once. Reward models
come last, over all samples in one go, in the caller's thread: they want the device that writes. Results do not depend
on any of this: `score` after the fact gives the same.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from itertools import groupby
from pathlib import Path
from types import TracebackType

import numpy as np
from pydantic import ValidationError
from transformers import PreTrainedTokenizerBase

from dsm.answers import EXTRACTORS, GraderPool
from dsm.config.answers import GraderConfig
from dsm.config.listing import closest
from dsm.config.reward import (
    RULES,
    AnswerPart,
    CodePart,
    FormatPart,
    FunctionPart,
    LengthPart,
    ModelPart,
    ProgramPart,
    RewardConfig,
    cautions,
)
from dsm.config.sandbox import SandboxConfig
from dsm.config.tools import ToolConfig
from dsm.errors import UserError
from dsm.rewards.combine import combine, raw
from dsm.rewards.functions import Functions, Pattern, joined, loaded
from dsm.rewards.models import Scorer, model_marks, open_scorer
from dsm.rewards.parts import Answers, Format, Length, Marks, Part, Programs, Tests
from dsm.rewards.scored import Fault, Scored
from dsm.rollout.record import Prompt, Rollout
from dsm.runtime import watch
from dsm.sandbox import Sandbox

log = logging.getLogger("dsm")
_THREADS = 8  # groups of a part that wait for a pool at the same time
_Timed = tuple[Marks, float]


class Rewards:
    """Scores samples by the parts of a `RewardConfig`. A context manager; owns what it has started.

    Args:
        tokenizer: of the policy, which wrote the samples.
        grader, sandbox, tools: the run's; a `Sandbox` that is running already is used and left running.
        device: of reward models.
        models: scorers by the part's name, used instead of loading the part's path.
        faults_file: a line for each fault is appended here (JSONL).

    Raises:
        UserError: a function cannot be loaded, programs cannot be isolated here, an extractor that does not exist.
    """

    def __init__(
        self,
        config: RewardConfig,
        tokenizer: PreTrainedTokenizerBase,
        *,
        grader: GraderConfig,
        sandbox: SandboxConfig | Sandbox,
        tools: ToolConfig,
        device: str = "cpu",
        models: Mapping[str, Scorer] | None = None,
        faults_file: Path | None = None,
    ) -> None:
        self.config, self._tokenizer, self._grader, self._tools = config, tokenizer, grader, tools
        self._sandbox, self._device, self._faults_file = sandbox, device, faults_file
        self._pools: dict[GraderConfig, GraderPool] = {}
        self._parts: dict[str, Part] = {}
        self._threads: dict[str, ThreadPoolExecutor] = {}
        self._scorers: dict[str, Scorer] = {}
        self._stack = ExitStack()
        _check_extractors(config)
        for line in cautions(config, grader):
            log.warning("%s", line)
        try:
            for name, part in config.parts.items():
                if isinstance(part, ModelPart):
                    given = (models or {}).get(name)
                    self._scorers[name] = given or open_scorer(part, tokenizer, device, f"reward.parts.{name}")
                else:
                    self._add(name, part)
            self._load_functions()
        except BaseException:
            self.close()
            raise

    # ------------------------------------------------------------ making ready

    def _add(
        self, name: str, config: AnswerPart | ProgramPart | CodePart | FormatPart | LengthPart | FunctionPart
    ) -> None:
        threads = 1
        key = f"reward.parts.{name}"
        match config:
            case AnswerPart():
                self._parts[name], threads = Answers(config, self._pool(config, key)), _THREADS
            case ProgramPart():
                part = Programs(config, self._pool(config, key), self._running_sandbox(), self._tools)
                self._parts[name], threads = part, _THREADS
            case CodePart():
                self._parts[name], threads = Tests(config, self._running_sandbox(), self._tools), _THREADS
            case LengthPart():
                self._parts[name] = Length(config)
            case FormatPart() if config.pattern is None:
                self._parts[name] = Format(config)
            case FormatPart():
                self._parts[name] = Pattern(config, self._tokenizer)
            case FunctionPart():
                self._parts[name], threads = Functions(config, self._tokenizer), config.workers
        pool = ThreadPoolExecutor(threads, thread_name_prefix=f"reward-{name}")
        self._threads[name] = pool
        self._stack.callback(pool.shutdown, wait=False, cancel_futures=True)

    def _load_functions(self) -> None:
        """Start the processes of all functions at once, each in the thread that it will belong to."""
        starting = []
        for name, part in self._parts.items():
            if isinstance(part, Functions | Pattern):
                self._stack.callback(part.caller.close)
                starting.append(self._threads[name].submit(loaded, part.caller, f"reward.parts.{name}.function"))
        for start in starting:
            start.result()

    def _pool(self, config: AnswerPart | ProgramPart, key: str) -> GraderPool:
        """The processes that compare answers; parts with the same rules share them."""
        try:
            rules = config.grader_with(self._grader)
        except ValidationError as error:
            raise UserError(f"{key}.grader={config.grader}: {error.errors()[0]['msg']}") from None
        if rules not in self._pools:
            self._pools[rules] = self._stack.enter_context(GraderPool(rules))
        return self._pools[rules]

    def _running_sandbox(self) -> Sandbox:
        if not isinstance(self._sandbox, Sandbox):
            self._sandbox = self._stack.enter_context(Sandbox(self._sandbox))
        return self._sandbox

    def close(self) -> None:
        """End all processes that were started for this; calls under way end as faults. Safe to repeat."""
        self._stack.close()

    def __enter__(self) -> Rewards:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------ scoring

    def score(self, prompts: Sequence[Prompt], rollouts: Sequence[Rollout], *, step: int = 0) -> Scored:
        """Score samples that are all there; `prompts[i]` belongs to `rollouts[i]`. See `Ahead.scored`."""
        return self.ahead(prompts, step=step).scored(rollouts)

    def ahead(self, prompts: Sequence[Prompt], *, step: int = 0) -> Ahead:
        """Score samples as they come.

        Args:
            prompts: all that samples may answer; found by their number.
            step: the trainer's, for functions that look at `trainer_state.global_step`.
        """
        return Ahead(self, {prompt.number: prompt for prompt in prompts}, step)

    def replace_model(self, name: str, scorer: Scorer) -> None:
        """Score the part of this name with another reward model from now on (iterated GRPO)."""
        self._scorers[name] = scorer

    def _submit(self, prompt: Prompt, rollouts: Sequence[Rollout], step: int) -> dict[str, Future[_Timed]]:
        return {
            name: self._threads[name].submit(_timed, partial(part.score, prompt, rollouts, step))
            for name, part in self._parts.items()
        }

    def _model_marks(self, rollouts: Sequence[Rollout]) -> dict[str, _Timed]:
        found = {}
        for name, scorer in self._scorers.items():
            config = self.config.parts[name]
            assert isinstance(config, ModelPart)
            found[name] = _timed(partial(model_marks, scorer, config, rollouts))
            watch.progress(f"reward model {name}")
        return found

    def _report(self, scored: Scored, rollouts: Sequence[Rollout], step: int) -> None:
        """Faults are counted in the log, and kept with their reasons."""
        if not scored.faults:
            return
        log.warning("step %d: %s", step, scored.complaint())
        if self._faults_file is not None:
            with self._faults_file.open("a", encoding="utf-8") as file:
                for fault in scored.faults:
                    rollout = rollouts[fault.sample]
                    row = {"step": step, "part": fault.part, "prompt": fault.prompt, "reason": fault.reason}
                    row |= {"group": rollout.group, "sample": rollout.sample, "text": rollout.text}
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")


class Ahead:
    """The scoring of one exploration, under way."""

    def __init__(self, rewards: Rewards, prompts: Mapping[int, Prompt], step: int) -> None:
        self._rewards, self._prompts, self._step = rewards, prompts, step
        self._under_way: dict[tuple[tuple[int, int], ...], dict[str, Future[_Timed]]] = {}

    def take(self, group: Sequence[Rollout]) -> None:
        """Begin to score the samples of one group, complete; returns at once. A callback for `Sampler.sample`."""
        prompt = self._prompts[group[0].prompt]
        self._under_way[_key(group)] = self._rewards._submit(prompt, tuple(group), self._step)

    def scored(self, rollouts: Sequence[Rollout]) -> Scored:
        """The rewards of these samples in this order, once all are there; groups not taken yet are taken now.

        Raises:
            FaultyRewardsError: too many faults (reward.max_fault_share).
        """
        order = sorted(range(len(rollouts)), key=lambda i: (rollouts[i].group, rollouts[i].sample))
        groups = [list(members) for _, members in groupby(order, key=lambda i: rollouts[i].group)]
        for members in groups:
            group = [rollouts[i] for i in members]
            if _key(group) not in self._under_way:
                self.take(group)
        by_model = self._rewards._model_marks(rollouts)
        calls: dict[str, list[Marks]] = {name: [] for name in self._rewards._parts}
        seconds = dict.fromkeys(self._rewards.config.parts, 0.0)
        for members in groups:
            for name, future in self._under_way.pop(_key([rollouts[i] for i in members])).items():
                call, took = future.result()
                calls[name].append(call)
                seconds[name] += took
            watch.progress("rewards")
        back = np.argsort(np.array(order, dtype=np.int64))
        marks = {name: _ordered(joined(found), back.tolist()) for name, found in calls.items()}
        for name, (by_one, took) in by_model.items():
            marks[name], seconds[name] = by_one, took
        scored = self._together({name: marks[name] for name in self._rewards.config.parts}, rollouts, seconds)
        self._rewards._report(scored, rollouts, self._step)
        scored.refuse_beyond(self._rewards.config.max_fault_share)
        return scored

    def _together(
        self, marks: Mapping[str, Marks], rollouts: Sequence[Rollout], seconds: Mapping[str, float]
    ) -> Scored:
        parts = self._rewards.config.parts
        combined = combine(parts, marks, [len(rollout.step_ends) for rollout in rollouts])
        reasons = [(name, i, reason) for name, found in marks.items() for i, reason in sorted(found.faults.items())]
        reasons += [("reward", i, reason) for i, reason in sorted(combined.reasons.items())]
        rules = [name for name, part in parts.items() if isinstance(part, RULES)]
        return Scored(
            reward=combined.reward,
            parts={name: raw(found) for name, found in marks.items()},
            correct=raw(marks[rules[0]]) > 0 if rules else None,
            steps=combined.steps,
            faults=[Fault(name, i, self._prompts[rollouts[i].prompt].id, reason) for name, i, reason in reasons],
            seconds=seconds,
            metrics={f"{name}/{key}": value for name, found in marks.items() for key, value in found.metrics.items()},
            notes={f"{name}/{key}": texts for name, found in marks.items() for key, texts in found.notes.items()},
        )


def _check_extractors(config: RewardConfig) -> None:
    for name, part in config.parts.items():
        if isinstance(part, AnswerPart) and part.extractor not in EXTRACTORS:
            key = f"reward.parts.{name}.extractor={part.extractor}"
            raise UserError(f"{key}: must be one of {', '.join(EXTRACTORS)}{closest(part.extractor, EXTRACTORS)}")


def _key(group: Sequence[Rollout]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted((rollout.group, rollout.sample) for rollout in group))


def _timed(score: Callable[[], Marks]) -> _Timed:
    start = time.perf_counter()
    return score(), time.perf_counter() - start


def _ordered(marks: Marks, places: Sequence[int]) -> Marks:
    """Marks so that the i-th is that of sample `places[i]`."""
    at = {place: i for i, place in enumerate(places)}
    return Marks(
        [marks.values[place] for place in places],
        {at[place]: reason for place, reason in marks.faults.items()},
        [marks.steps[place] for place in places] if marks.steps is not None else None,
        marks.metrics,
        {name: [texts[place] for place in places] for name, texts in marks.notes.items()},
    )
