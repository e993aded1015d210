"""Who wrote the samples: the policy as it is, the policy as it was at the start, a folder, or the data themselves.

These are the data sources of the paper's Table 10. On-line samples come from an engine that takes over the policy's
weights once an exploration; off-line ones from an engine that keeps the weights that the run began with, or from what
lies on the disk. Rewards are taken beside generation, group by group.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from dsm.config.rl import RLConfig
from dsm.data.prompt_order import PromptOrder
from dsm.data.prompts import Prompts
from dsm.data.tokenizer import tokenizer_fingerprint
from dsm.errors import UserError
from dsm.rollout.cache import give_back
from dsm.rollout.engine import RolloutEngine
from dsm.rollout.engines import make_engine
from dsm.rollout.opening import Judges
from dsm.rollout.record import Prompt, Rollout
from dsm.rollout.sampler import Sampler
from dsm.rollout.store import RolloutStore
from dsm.runtime.launch import World
from dsm.training.reward.rollouts import rollouts_fingerprint
from dsm.training.rl.clock import Clock
from dsm.training.rl.module import PolicyModule

Faults = dict[str, float]


@dataclass(frozen=True)
class Supply:
    """What there is to ask.

    Attributes:
        order: in which it is asked.
        facts: what it depends on; another value refuses a resume.
        about: the same for a person.
        asked: a rollout's question and reference answer.
        prompt: a prompt by its number; None where rollouts are read from a store.
    """

    order: PromptOrder
    facts: dict[str, str]
    about: str
    asked: Callable[[Rollout], tuple[str, Any]]
    prompt: Callable[[int], Prompt] | None = None


class PolicySource:
    """Samples of the policy, rewarded as they come.

    Under source=policy the engine takes over the live weights before each exploration; under source=start it keeps
    those that the module has when this is made.
    """

    def __init__(
        self,
        config: RLConfig,
        module: PolicyModule,
        tokenizer: PreTrainedTokenizerBase,
        prompts: Prompts,
        judges: Judges,
        world: World,
        positions: int | None,
    ) -> None:
        self.config, self.module, self.tokenizer = config, module, tokenizer
        self.prompts, self.judges, self.world, self.positions = prompts, judges, world, positions
        self.live = config.rollout.source == "policy"
        self._engine: RolloutEngine | None = None if self.live else self._made()

    def sample(self, numbers: Sequence[int], first_group: int, clock: Clock) -> tuple[list[Rollout], Faults]:
        """This rank's share of the groups, rewarded."""
        with clock.phase("sync"):
            engine = self._synchronised()
        mine = _share(numbers, self.world)
        prompts = [self.prompts[numbers[i]] for i in mine]
        if not prompts:
            self._release(engine)
            return [], {}
        config, step = self.config.rollout, self.module.progress.step
        ahead = self.judges.rewards.ahead(prompts, step=step)
        sampler = Sampler(
            engine,
            self.tokenizer,
            config,
            sandbox=self.judges.sandbox,
            tools=self.config.tools,
            positions=self.positions,
        )
        with clock.phase("generate"):
            rollouts = sampler.sample(
                prompts,
                config.group_size,
                seed=self.config.seed,
                first_group=first_group + mine.start,
                on_group=ahead.take,
            )
        clock.tokens["generate"] += sum(rollout.actions for rollout in rollouts)
        self._release(engine)
        with clock.phase("reward"):
            scored = ahead.scored(rollouts)
        faults: Faults = {}
        for fault in scored.faults:
            faults[f"faults/{fault.part}"] = faults.get(f"faults/{fault.part}", 0) + 1
        return scored.attached(rollouts), faults

    def _synchronised(self) -> RolloutEngine:
        """The engine, with the weights it is to sample with; of a sharded model all ranks come here together."""
        if self._engine is None:
            self._engine = self._made()
        elif self.live:
            self._engine.sync(self.module.model)
        return self._engine

    def _made(self) -> RolloutEngine:
        asked = self.config.engine
        if asked.dtype == "auto":
            precision = "bfloat16" if self.module.settings.precision == "bf16" else "float32"
            asked = asked.model_copy(update={"dtype": precision})
        return make_engine(asked, self.module.model, self.tokenizer)

    def _release(self, engine: RolloutEngine) -> None:
        """Between explorations its memory is for the update; it comes back with the next weights."""
        if self.live:
            engine.free()
        give_back()


class DataSource:
    """The prompts' own solutions, one each, as supervised fine-tuning learns them (first row of Table 10)."""

    def __init__(self, config: RLConfig, tokenizer: PreTrainedTokenizerBase, prompts: Prompts, world: World) -> None:
        self.config, self.tokenizer, self.prompts, self.world = config, tokenizer, prompts, world

    def sample(self, numbers: Sequence[int], first_group: int, clock: Clock) -> tuple[list[Rollout], Faults]:
        """This rank's share: a solution counts as correct, and is worth 1."""
        return [self._solution(numbers[i], first_group + i) for i in _share(numbers, self.world)], {}

    def _solution(self, number: int, group: int) -> Rollout:
        prompt = self.prompts[number]
        text = prompt.columns.get("solution")
        if not isinstance(text, str) or not text:
            raise UserError(
                f"rollout.source=data: prompt {prompt.id} has no solution (column 'solution'); allowed: policy, start"
            )
        answer = [*self.tokenizer(text, add_special_tokens=False)["input_ids"], self.tokenizer.eos_token_id]
        ids = np.array([*prompt.input_ids, *answer], dtype=np.int64)
        chosen = np.arange(len(ids)) >= len(prompt.input_ids)
        return Rollout(
            number, group, 0, ids, chosen, np.zeros(len(ids), dtype=np.float32), self.config.rollout.temperature, text,
            "eos", 0, reward=1.0, correct=True,
        )  # fmt: skip


class StoreSource:
    """Groups of a folder of rollouts, with the rewards that they were stored with; read whole, into memory."""

    def __init__(self, config: RLConfig, tokenizer: PreTrainedTokenizerBase, world: World) -> None:
        self.world, path = world, str(config.rollout.store)
        store = RolloutStore.open(path, "rollout.store")
        theirs = store.facts.get("tokenizer")
        if theirs not in (None, tokenizer_fingerprint(tokenizer)):
            raise UserError(
                f"rollout.store={path}: its tokens are another tokenizer's; give tokenizer.path of its policy"
            )
        groups: dict[int, list[Rollout]] = {}
        temperatures = set()
        for rollout in store.read():
            groups.setdefault(rollout.group, []).append(rollout)
            temperatures.add(rollout.temperature)
        if temperatures != {config.rollout.temperature}:
            shown = ", ".join(map(str, sorted(temperatures)))
            raise UserError(
                f"rollout.temperature={config.rollout.temperature}: the rollouts of {path} were drawn at {shown}"
            )
        self._groups = list(groups.values())
        asked = {(row["group"], row["sample"]): (row["question"], row.get("gold")) for row in store.rows()}
        self.supply = Supply(
            PromptOrder(np.zeros(len(self._groups), dtype=np.int64), [1.0], config.seed),
            {"rollout.store": rollouts_fingerprint(path, "rollout.store")},
            f"{len(self._groups):,} groups, {sum(map(len, self._groups)):,} rollouts of {path}",
            lambda rollout: asked[self._groups[rollout.prompt][0].group, rollout.sample],
        )

    def sample(self, numbers: Sequence[int], first_group: int, clock: Clock) -> tuple[list[Rollout], Faults]:
        """This rank's share; a rollout's prompt is the place of its group in the store."""
        return [
            replace(rollout, group=first_group + i, prompt=numbers[i])
            for i in _share(numbers, self.world)
            for rollout in self._groups[numbers[i]]
        ], {}


def _share(numbers: Sequence[int], world: World) -> range:
    """Places of the prompts that this rank sees to: a run of them, so that their groups are numbered in a row."""
    return range(len(numbers) * world.rank // world.size, len(numbers) * (world.rank + 1) // world.size)
