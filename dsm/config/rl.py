"""`stage=rl`: improve a policy by reward (section 4 of the paper). One schema for every row of its Table 10."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from dsm.config.algorithm import AlgorithmConfig, GAEConfig, GroupConfig, LeaveOneOutConfig, MeanOnlyConfig, PairsConfig
from dsm.config.answers import GraderConfig
from dsm.config.base import Count, Schema
from dsm.config.engine import AnyEngineConfig
from dsm.config.in_training import MeasuredConfig
from dsm.config.model import ModelConfig
from dsm.config.prompts import PromptDataConfig
from dsm.config.reward import RULES, RewardConfig
from dsm.config.rollout import RolloutConfig
from dsm.config.sandbox import SandboxConfig
from dsm.config.tools import ToolConfig
from dsm.config.training import LoopConfig


class RLTrainerConfig(LoopConfig):
    """A budget in steps, samples or passes; a step counted in prompts and samples of each."""

    steps: Count | None
    samples: int | None = Field(gt=0, lt=2**63, description="answers drawn in the whole run")
    epochs: float | None = Field(gt=0, description="passes over the prompts")
    prompts_per_step: Count = Field(description="prompts of one exploration, over all ranks")
    updates: Count = Field(description="mu: optimiser steps on one exploration")

    @model_validator(mode="after")
    def _one_budget(self) -> RLTrainerConfig:
        given = {key: getattr(self, key) for key in ("steps", "samples", "epochs") if getattr(self, key) is not None}
        if len(given) != 1:
            shown = ", ".join(f"{key}={value}" for key, value in given.items()) or "none"
            raise ValueError(f"give exactly one of steps, samples and epochs (given: {shown}; set the others to null)")
        return self


class RLRolloutConfig(RolloutConfig):
    """How prompts are answered, and by whom (the data source of Table 10)."""

    source: Literal["policy", "start", "store", "data"] = Field(
        description="policy: the live one (online); start: the weights the run began with (offline); store: a folder of"
        " stage=rollouts, with its rewards; data: the prompts' own solutions"
    )
    store: str | None = Field(description="the folder, for source=store")

    @model_validator(mode="after")
    def _source_is_named(self) -> RLRolloutConfig:
        if (self.source == "store") != (self.store is not None):
            raise ValueError(f"store={self.store}: goes with source=store and only with it (source={self.source})")
        return self


class ReferenceConfig(Schema):
    """The frozen copy of the start that the KL penalty and DPO compare with; made only where they do."""

    placement: Literal["device", "cpu"] = Field(
        description="device: a second copy of the weights there; cpu: in the host's memory, copied over to score"
    )


class CriticConfig(Schema):
    """PPO's value model: a reward model's network."""

    path: str | None = Field(description="a reward model's folder to begin with; null = the policy's, with a new head")
    lr: float = Field(gt=0, description="its learning rate; the schedule's shape is the policy's")


class CurriculumConfig(Schema):
    """Which prompts are not worth asking again, by what the policy made of them in this run."""

    min_pass_rate: float = Field(ge=0, le=1, description="asked again only if the last group's pass rate was this high")
    max_pass_rate: float = Field(ge=0, le=1, description="... and at most this")
    refill_rounds: Count = Field(
        description="with algorithm.saturated=refill: draws of further prompts in one exploration, in place of groups"
        " in which no answer is better than another"
    )

    @model_validator(mode="after")
    def _a_range(self) -> CurriculumConfig:
        if self.min_pass_rate > self.max_pass_rate:
            raise ValueError(
                f"min_pass_rate={self.min_pass_rate}: must not be above max_pass_rate={self.max_pass_rate}"
            )
        return self


class AlarmsConfig(Schema):
    """When answers that grow, or a part of the reward that rises, are told of: if accuracy does not rise with them."""

    window: Count = Field(description="explorations on either side of the comparison")
    length_growth: float = Field(gt=0, description="relative growth of the mean length")
    part_rise: float = Field(gt=0, description="rise of a reward part, as a share of its largest mean")
    accuracy_rise: float = Field(ge=0, description="rise of the accuracy that makes either welcome")


class RolloutTableConfig(Schema):
    """Samples to read: RUN/rollouts.jsonl and a table at W&B."""

    every: Count | None = Field(description="explorations between two entries; null = none")
    groups: Count = Field(description="groups of each")
    samples: Count = Field(description="samples of each group")
    keep: bool = Field(description="all samples, as a store of rollouts in RUN/rollouts/")


class IterationConfig(Schema):
    """Algorithm 1's outer loop: the reference becomes the policy, the reward model learns from the policy's samples."""

    count: Count = Field(description="I; trainer's budget is that of each")
    replay: str | None = Field(
        description="what the first reward model was trained on, to be replayed in part; later ones replay the samples"
        " before them"
    )
    reward: dict[str, Any] = Field(description="settings of the stage=reward runs between two iterations")
    label: dict[str, Any] = Field(description="settings of the stage=label runs, for rewards of steps")


class RLConfig(MeasuredConfig):
    """`stage=rl algorithm=...`: prompts, rollouts, rewards, updates."""

    stage: Literal["rl"]
    prompts: PromptDataConfig | None
    rollout: RLRolloutConfig
    engine: AnyEngineConfig
    reward: RewardConfig
    grader: GraderConfig
    sandbox: SandboxConfig
    tools: ToolConfig
    algorithm: AlgorithmConfig
    reference: ReferenceConfig
    critic: CriticConfig
    curriculum: CurriculumConfig
    trainer: RLTrainerConfig
    alarms: AlarmsConfig
    table: RolloutTableConfig
    iteration: IterationConfig

    @property
    def context(self) -> int:
        """Tokens that a prompt with its answer has at most, as far as the settings tell."""
        asked = None if self.prompts is None else self.prompts.max_tokens
        return (asked or 1024) + self.rollout.max_new_tokens

    @property
    def samples_policy(self) -> bool:
        """Are answers drawn in this run, from the policy or its start?"""
        return self.rollout.source in ("policy", "start")

    @property
    def samples_per_step(self) -> int:
        """Answers of one exploration."""
        return self.trainer.prompts_per_step * self.rollout.group_size

    def steps_for(self, prompts_in_an_epoch: float) -> int:
        """Optimiser steps of the budget; whole explorations unless it is given in steps."""
        budget = self.trainer
        if budget.steps is not None:
            return budget.steps
        prompts = (
            prompts_in_an_epoch * budget.epochs if budget.epochs else (budget.samples or 0) / self.rollout.group_size
        )
        return budget.updates * max(1, -int(-prompts // budget.prompts_per_step))

    def explorations(self, step: int) -> int:
        """How many there are before a step."""
        return -(-step // self.trainer.updates)

    @property
    def has_rule(self) -> bool:
        """Does a part of the reward say which answers are correct?"""
        return any(isinstance(part, RULES) for part in self.reward.parts.values())

    @property
    def critic_model(self) -> ModelConfig:
        """What the critic is built from."""
        if self.critic.path is None:
            return self.model
        kept = self.model.model_dump(include={"attention", "activation_checkpointing", "compile"})
        return ModelConfig(path=self.critic.path, **kept)

    @property
    def old_logprobs(self) -> bool:
        """Are the policy's log-probabilities before the update computed? With one update they are the update's own."""
        return self.trainer.updates > 1 or "old" in self.algorithm.needs

    @model_validator(mode="after")
    def _algorithm_fits(self) -> RLConfig:
        algorithm, name = self.algorithm, self.algorithm.name
        comparing = isinstance(algorithm.advantage, GroupConfig | MeanOnlyConfig | LeaveOneOutConfig | PairsConfig)
        if comparing and self.rollout.group_size < 2:
            raise ValueError(
                f"rollout.group_size=1: algorithm={name} compares the answers of a group; at least 2 (paper: 64)"
            )
        if "steps" in algorithm.needs and not self.reward.process_parts:
            raise ValueError(
                f"algorithm={name}: needs rewards of steps and the reward has none; allowed: reward=process_model,"
                " reward=process_rule, or a part with supervision=process"
            )
        if isinstance(algorithm.advantage, GAEConfig) and (self.parallel.shard or 1) * self.parallel.tensor > 1:
            raise ValueError(
                f"parallel.shard={self.parallel.shard}: the critic of algorithm={name} is not cut; allowed: whole"
                " copies (parallel.shard=null parallel.tensor=1)"
            )
        if (self.prompts is None) != (self.rollout.source == "store"):
            raise ValueError(
                f"rollout.source={self.rollout.source}: stored rollouts bring their prompts, all others need them;"
                " allowed: prompts=none with rollout.source=store, and only there"
            )
        if self.table.keep and self.prompts is None:
            raise ValueError(
                "table.keep=true: the rollouts are kept already; allowed with rollout.source=policy, start"
            )
        if self.iteration.count > 1 and self.rollout.source != "policy":
            raise ValueError(
                f"iteration.count={self.iteration.count}: iterations learn from samples of the policy"
                f" (rollout.source={self.rollout.source}); allowed: rollout.source=policy"
            )
        if (problem := algorithm.misfit(self.loss)) is not None:
            raise ValueError(problem)
        return self
