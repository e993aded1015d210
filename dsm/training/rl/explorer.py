"""Explorations: prompts, samples, rewards, scores, advantages; then the updates on them.

An exploration begins when the first of its updates is asked for, on the main thread and with the weights that all
updates before have made. What it draws is a function of the seed and of how far the walk over the prompts has come, and
never of the number of ranks: each samples and rewards some of the groups, scores some of the samples, and all of it is
put together on every rank before an advantage is taken.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from lightning.pytorch.callbacks import Callback

from dsm.config.rl import RLConfig
from dsm.config.runs import checkpoints_in
from dsm.data.batch import Document, StepBatch
from dsm.errors import UserError
from dsm.objectives.samples import Assigned, Samples
from dsm.rollout.gap import GapMonitor, engine_gap
from dsm.rollout.record import Rollout
from dsm.runtime import watch
from dsm.runtime.session import Session
from dsm.training.rl.alarms import Alarms
from dsm.training.rl.clock import Clock
from dsm.training.rl.draw import Draw
from dsm.training.rl.exploration import Exploration, dealt, forget_before
from dsm.training.rl.module import PolicyModule
from dsm.training.rl.samples import (
    advantage_facts,
    documents_of,
    pass_rates,
    rollout_facts,
    samples_of,
    units_of,
    usable,
)
from dsm.training.rl.scoring import PerToken

log = logging.getLogger("dsm")
FOLDER = "explorations"


class Source(Protocol):
    """Who wrote the samples."""

    def sample(self, numbers: Sequence[int], first_group: int, clock: Clock) -> tuple[list[Rollout], dict[str, float]]:
        """This rank's share of the groups of the prompts with these numbers, rewarded, and counts of faults.

        Groups are numbered from `first_group` on; one group lies on one rank.
        """
        ...


class Assigning(Protocol):
    """Of an algorithm, what an exploration needs."""

    def assign(self, samples: Samples) -> Assigned:
        """Which samples are trained on, with which streams."""
        ...


Scoring = Callable[[Sequence[Document]], PerToken]
"""Gives each trained token of documents a number."""
_LOOKED_AT = 64  # documents, to find out why engine and policy differ


@dataclass(frozen=True)
class Team:
    """Who does what in an exploration."""

    source: Source
    algorithm: Assigning
    policy: Scoring
    scores: dict[str, Scoring]
    """By name: old, reference, values."""
    telling: Callable[[Sequence[Rollout]], set[int]]
    """The groups in which some answer is better than another."""


class Explorer(Callback):
    """The steps of a run, each exploration made when its first update is due.

    Attributes:
        steps: of the whole run.
        shown_to: called with an exploration's number, its rollouts, what is assigned and to which of them.
    """

    def __init__(
        self, config: RLConfig, module: PolicyModule, team: Team, draw: Draw, here: Session, limit: int, steps: int
    ) -> None:
        self.config, self.module, self.team, self.draw = config, module, team, draw
        self.world, self.run, self.limit, self.steps = here.world, here.run, limit, steps
        alarms = config.alarms
        self.alarms = Alarms(alarms.window, alarms.length_growth, alarms.part_rise, alarms.accuracy_rise)
        self.shown_to: list[Callable[[int, Sequence[Rollout], Assigned, Sequence[Rollout]], None]] = []
        self._current: Exploration | None = None
        module.diagnose = self._diagnose

    # -- the steps of the run -----------------------------------------------------------------------------------------

    @property
    def sequences_per_step(self) -> int:
        """Samples of one exploration."""
        return self.config.samples_per_step

    def first_sequence(self, step: int) -> int:
        """Samples drawn before a step."""
        return self.config.explorations(step) * self.sequences_per_step

    @property
    def mean_attended_length(self) -> float:
        """As if every answer were as long as allowed."""
        return (self.config.context + 1) / 2

    def loader(self, first_step: Callable[[], int]) -> _Loader:
        """Step after step; with a length, so that Lightning asks for none before it is due."""
        return _Loader(self, first_step)

    def batch(self, step: int) -> StepBatch:
        """This rank's part of a step."""
        number, update = divmod(step, self.config.trainer.updates)
        if self.module.progress.step != step:
            raise RuntimeError(f"step {step} is asked for when {self.module.progress.step} are made")
        speed: dict[str, float] = {}
        if self._current is None or self._current.number != number:
            if update == 0:
                self._current, speed = self._explore(number)
            else:
                self._current = Exploration.read(self._folders(), number)
        exploration = self._current
        self.module.streams, self.module.online = exploration.streams, self._is_online(number)
        self.module.facts = exploration.facts | speed
        return exploration.share(self.world.data_rank, self.world.data_size, self.limit)

    def _diagnose(self) -> None:
        """Why engine and policy differ, from the samples at hand and the weights that the update has met.

        Raises:
            EngineGapError: with the likely cause.
        """
        assert self._current is not None
        documents = [document for unit in self._current.units for document in unit][:_LOOKED_AT]
        engine = [document.streams["engine"][document.trained] for document in documents]
        trainer = self._together(self.team.policy, documents)
        gap = engine_gap(np.concatenate(engine), np.concatenate(trainer))
        GapMonitor(self.config.rollout.gap_limit).check(gap, self.module.progress.step)

    def _is_online(self, number: int) -> bool:
        """Are an exploration's samples drawn with the weights that its first update meets?"""
        source = self.config.rollout.source
        return source == "policy" or (source == "start" and number == 0)

    def _folders(self) -> list[Path]:
        """Where an exploration under way may lie: this run's, and that of the checkpoint it came from."""
        folders = [self.run.path / FOLDER]
        if self.run.checkpoint is not None:
            folders.append(self.run.checkpoint.parent.parent / FOLDER)
        return folders

    # -- one exploration ----------------------------------------------------------------------------------------------

    def _explore(self, number: int) -> tuple[Exploration, dict[str, float]]:
        clock = Clock()
        rollouts, facts = self._rollouts(clock)
        steps = "steps" in self.config.algorithm.needs
        good = usable(rollouts, steps=steps)
        facts |= rollout_facts(rollouts)
        if not good:
            raise UserError(
                f"reward: not one of {len(rollouts)} samples could be scored; what went wrong is told above, and in"
                f" {self.run.path}/faults.jsonl"
            )
        documents = documents_of(good)
        with clock.phase("score"):
            scores = {name: self._together(of, documents) for name, of in self.team.scores.items()}
        if scores:
            clock.tokens["score"] += sum(len(document.ids) for document in documents) // self.world.size
        drawn = self.config.rollout.source != "data"
        assigned = self.team.algorithm.assign(samples_of(good, scores, steps=steps, drawn=drawn))
        facts |= assigned.facts | advantage_facts(assigned)
        facts |= self.alarms.hear(facts)
        exploration = Exploration(number, units_of(documents, assigned), facts)
        self._keep(exploration)
        for show in self.shown_to:
            show(number, rollouts, assigned, good)
        return exploration, clock.metrics(self.world.gather(clock))

    def _rollouts(self, clock: Clock) -> tuple[list[Rollout], dict[str, float]]:
        """The groups of one exploration, on every rank; those in which no answer is better replaced, if asked."""
        refill = self.config.algorithm.saturated == "refill"
        wanted = self.config.trainer.prompts_per_step
        kept: list[Rollout] = []
        counts: dict[str, float] = {}
        rounds, skipped, replaced = 0, 0, 0
        while wanted and rounds < (self.config.curriculum.refill_rounds if refill else 1):
            first_group = self.draw.drawn
            numbers = self.draw.next(wanted)
            watch.progress("samples", watch.SLOW)
            every = self._sampled(numbers, first_group, clock)
            found = sorted((r for part, _ in every for r in part), key=lambda r: (r.group, r.sample))
            for _, own in every:
                counts |= {name: counts.get(name, 0) + value for name, value in own.items()}
            self.draw.record(pass_rates(found))
            rounds, skipped = rounds + 1, skipped + self.draw.skipped
            if refill and rounds < self.config.curriculum.refill_rounds:
                telling = self.team.telling(found)
                replaced += len(numbers) - len(telling)
                found = [rollout for rollout in found if rollout.group in telling]
                wanted -= len(telling)
            else:
                wanted = 0
            kept += found
        facts = counts | {"prompts/skipped": skipped, "prompts/retired": self.draw.retired}
        if refill:
            facts |= {"groups/replaced": replaced, "groups/rounds": rounds}
        return kept, facts

    def _sampled(
        self, numbers: Sequence[int], first_group: int, clock: Clock
    ) -> list[tuple[list[Rollout], dict[str, float]]]:
        """What each rank has sampled; a `UserError` of one is raised on all."""
        mine: Any
        try:
            mine = self.team.source.sample(numbers, first_group, clock)
        except UserError as error:
            mine = error
        watch.progress("samples of the other ranks", watch.SLOW)
        every = self.world.gather(mine)
        for part in every:
            if isinstance(part, UserError):
                raise part
        return every

    def _together(self, of: Scoring, documents: Sequence[Document]) -> PerToken:
        """Scores of all documents on every rank: each has computed its share."""
        mine = dealt([len(document.ids) for document in documents], self.world.data_size)[self.world.data_rank]
        own = of([documents[i] for i in mine])
        every: PerToken = [np.zeros(0, dtype=np.float32)] * len(documents)
        for numbers, scores in self.world.gather((mine, own)):
            for i, values in zip(numbers, scores, strict=True):
                every[i] = values
        return every

    def _keep(self, exploration: Exploration) -> None:
        """On the disk before the first of several updates; what no checkpoint asks for goes."""
        updates = self.config.trainer.updates
        if updates == 1:
            return
        folder = self.run.path / FOLDER
        if self.world.first:
            exploration.write(folder)
            steps = [int(path.name.rpartition("-")[2]) for path in checkpoints_in(self.run.checkpoints)]
            forget_before(folder, min([step // updates for step in steps], default=0))
        self.world.wait()

    # -- what the checkpoint holds ------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"draw": self.draw.state_dict(), "alarms": self.alarms.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Put it back."""
        self.draw.load_state_dict(state_dict["draw"])
        self.alarms.load_state_dict(state_dict["alarms"])


@dataclass(frozen=True)
class _Loader:
    """The steps still to come."""

    explorer: Explorer
    first_step: Callable[[], int]

    def __iter__(self) -> Iterator[StepBatch]:
        return map(self.explorer.batch, range(self.first_step(), self.explorer.steps))

    def __len__(self) -> int:
        return max(0, self.explorer.steps - self.first_step())
