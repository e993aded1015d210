"""`stage=rl`, from a checked configuration to what it leaves in its run folder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from transformers import PreTrainedTokenizerBase

from dsm.config.algorithm import GAEConfig
from dsm.config.reward import ModelPart
from dsm.config.rl import RLConfig
from dsm.data.batch import Document
from dsm.data.tokenizer import load_tokenizer, tokenizer_fingerprint
from dsm.errors import UserError
from dsm.models.build import build_model
from dsm.models.reward import RewardModel, build_reward_model
from dsm.objectives.advantages import equal_groups
from dsm.objectives.algorithm import Algorithm, build_algorithm
from dsm.rewards.reward_model import reward_model_fingerprint
from dsm.rollout.opening import Judges, counted, open_prompts, positions_of
from dsm.rollout.record import Rollout
from dsm.runtime.launch import own_device
from dsm.runtime.session import Session, session
from dsm.training.bench_callback import in_training_evaluation
from dsm.training.fit import fit
from dsm.training.material import Material
from dsm.training.rl.draw import Draw
from dsm.training.rl.explorer import Explorer, Scoring, Source, Team
from dsm.training.rl.keep import KeptSamples
from dsm.training.rl.module import PolicyModule
from dsm.training.rl.reference import Reference, fingerprint
from dsm.training.rl.scoring import PerToken, Scorer
from dsm.training.rl.sources import DataSource, PolicySource, StoreSource, Supply
from dsm.training.rl.table import RolloutTable
from dsm.training.step import StepSettings
from dsm.training.strategy import model_sharding

log = logging.getLogger("dsm")


def improve(config: RLConfig) -> dict[str, Any]:
    """`stage=rl`: improve a policy by reward; returns the final metrics."""
    if config.iteration.count > 1:
        from dsm.training.rl.iterate import improve_in_turns  # which comes back here for each of them

        return improve_in_turns(config)
    with session(config, config.parallel) as here, ExitStack() as stack:
        if here.run.finished is not None:
            return here.run.finished
        return _improve(config, here, stack)


def _improve(config: RLConfig, here: Session, stack: ExitStack) -> dict[str, Any]:
    tokenizer = load_tokenizer(config.tokenizer_path)
    positions = positions_of(config, tokenizer)
    algorithm = build_algorithm(config.algorithm)
    supply, source_for = _supplied(config, tokenizer, positions, here, stack)
    draw = Draw(supply.order, config.curriculum)
    steps = config.steps_for(draw.epoch)
    benchmarks = in_training_evaluation(
        config, tokenizer, here, lambda step: config.explorations(step) * config.samples_per_step * config.context
    )
    device = own_device(config.parallel, here.world)
    module = _module(config, algorithm, tokenizer, here, steps).to(device)
    source = source_for(module)
    limit = config.tokens_per_microbatch(device.type)
    policy, scores, facts = _scores(config, module, tokenizer, device, limit, here)
    if config.rollout.source == "start":
        facts["start"] = fingerprint(module.model)
    team = Team(source, algorithm, policy, scores, _telling(config))
    explorer = Explorer(config, module, team, draw, here, limit, steps)
    table = RolloutTable(config.table, supply.asked, here.run.path / "rollouts.jsonl", here.world)
    explorer.shown_to.append(table.show)
    callbacks: list[Callback] = [table, explorer, *benchmarks]
    if config.table.keep and supply.prompt is not None:
        kept = KeptSamples(here.run.path, {"tokenizer": tokenizer_fingerprint(tokenizer)}, supply.prompt, here.world)
        explorer.shown_to.append(kept.keep)
        callbacks.append(kept)
    material = Material(
        stream=explorer,
        sources=[],
        validation=[],
        held_out=[],
        prompts=[],
        facts=supply.facts | _settings(config) | facts,
        about={
            "prompts": supply.about,
            "algorithm": config.algorithm.name,
            "samples of a prompt": config.rollout.group_size,
            "reward": ", ".join(config.reward.parts),
        },
    )
    log.info(
        "budget: %s steps, %s explorations of %d prompts x %d samples", f"{steps:,}",
        f"{config.explorations(steps):,}", config.trainer.prompts_per_step, config.rollout.group_size,
    )  # fmt: skip
    return fit(config, module, material, tokenizer, here, callbacks)


def _supplied(
    config: RLConfig, tokenizer: PreTrainedTokenizerBase, positions: int | None, here: Session, stack: ExitStack
) -> tuple[Supply, Callable[[PolicyModule], Source]]:
    """What there is to ask, and who answers once there is a policy.

    What judges answers starts here, before a model is loaded: a reward that cannot be is told at once.
    """
    if config.prompts is None:
        stored = StoreSource(config, tokenizer, here.world)
        return stored.supply, lambda module: stored
    prompts = open_prompts(config, tokenizer, positions, here)

    def asked(rollout: Rollout) -> tuple[str, Any]:
        prompt = prompts[rollout.prompt]
        return prompt.question, prompt.columns.get("gold")

    supply = Supply(prompts.order(config.seed), prompts.facts, counted(prompts), asked, prompts.__getitem__)
    if not config.samples_policy:
        return supply, lambda module: DataSource(config, tokenizer, prompts, here.world)
    judges = Judges.open(config, tokenizer, own_device(config.parallel, here.world), here, stack)
    return supply, lambda module: PolicySource(config, module, tokenizer, prompts, judges, here.world, positions)


def _module(
    config: RLConfig, algorithm: Algorithm, tokenizer: PreTrainedTokenizerBase, here: Session, steps: int
) -> PolicyModule:
    sharding = model_sharding(config, here.world)
    model = build_model(config.model, len(tokenizer), seed=config.seed, sharding=sharding)
    log.info("policy: %s parameters, %s", f"{model.num_parameters():,}", here.world.layout)
    settings = StepSettings.of(config, steps, temperature=config.rollout.temperature)
    critic: RewardModel | None = None
    value_clip = None
    if isinstance(config.algorithm.advantage, GAEConfig):
        if sharding is not None:
            raise UserError(
                f"parallel: {here.world.layout}: the critic of algorithm={config.algorithm.name} is not cut; allowed:"
                " strategy=ddp"
            )
        critic = build_reward_model(config.critic_model, len(tokenizer), seed=config.seed)
        value_clip = config.algorithm.advantage.value_clip
    return PolicyModule(
        model,
        settings,
        algorithm,
        gap_limit=config.rollout.gap_limit,
        critic=critic,
        critic_rate=config.critic.lr / config.optim.lr,
        value_clip=value_clip,
    )


def _scores(
    config: RLConfig, module: PolicyModule, tokenizer: PreTrainedTokenizerBase, device: torch.device, limit: int,
    here: Session,
) -> tuple[Scoring, dict[str, Scoring], dict[str, str]]:  # fmt: skip
    """The policy's scores, those that the algorithm needs, and what the checkpoint must know of them."""
    precision, temperature, needs = module.settings.precision, config.rollout.temperature, config.algorithm.needs
    scorer = Scorer(module.model, precision, device, limit)

    def policy(documents: Sequence[Document]) -> PerToken:
        return scorer.logprobs(documents, temperature)

    scores: dict[str, Scoring] = {"old": policy} if config.old_logprobs else {}
    facts = {}
    if "reference" in needs:
        sharding = model_sharding(config, here.world)
        start = build_model(config.model, len(tokenizer), seed=config.seed, sharding=sharding)
        reference = Reference(start, config.reference, precision, device, limit)
        scores["reference"] = lambda documents: reference.logprobs(documents, temperature)
        facts["reference"] = reference.fingerprint
    if (critic := module.critic) is not None:
        values = Scorer(critic, precision, device, limit)
        scores["values"] = lambda documents: values.scores(documents, lambda b: critic.values(b.input_ids, b.varlen))
    return policy, scores, facts


def _telling(config: RLConfig) -> Callable[[Sequence[Rollout]], set[int]]:
    """Groups that have something to say: their rewards, or verdicts, differ."""

    def telling(rollouts: Sequence[Rollout]) -> set[int]:
        scored = [rollout for rollout in rollouts if rollout.reward is not None]
        group = np.array([rollout.group for rollout in scored], dtype=np.int64)
        by_reward = config.algorithm.saturated_by == "reward"
        worth = np.array([rollout.reward if by_reward else float(bool(rollout.correct)) for rollout in scored])
        return set(group.tolist()) - set(equal_groups(worth, group)) if len(scored) else set()

    return telling


def _settings(config: RLConfig) -> dict[str, str]:
    """What makes the samples of a step, beside the prompts; another value refuses a resume."""
    settings = {
        "trainer.prompts_per_step": config.trainer.prompts_per_step,
        "trainer.updates": config.trainer.updates,
        "rollout": config.rollout.model_dump(exclude={"timeout_s", "gap_limit"}),
        "curriculum": config.curriculum.model_dump(),
        "algorithm": config.algorithm.model_dump(),
        "reward": config.reward.model_dump(exclude={"max_fault_share"}),
        "seed": config.seed,
    }
    models = (
        [part for part in config.reward.parts.values() if isinstance(part, ModelPart)] if config.samples_policy else []
    )
    return {key: str(value) for key, value in settings.items()} | {
        f"reward model {part.path}": reward_model_fingerprint(part.path) for part in models
    }
