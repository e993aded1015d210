"""What stage=rollouts and stage=rl begin with: how long a sequence may be, what is asked, who judges the answers."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from dsm.config.rl import RLConfig
from dsm.config.rollout import RolloutsConfig
from dsm.data.prompts import Prompts, load_prompts
from dsm.errors import UserError
from dsm.models.build import transformers_config
from dsm.rewards.compose import Rewards
from dsm.runtime.session import Session
from dsm.sandbox import Sandbox

log = logging.getLogger("dsm")


def positions_of(config: RolloutsConfig | RLConfig, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """How long a sequence the model takes; None = of any length.

    Raises:
        UserError: answers of rollout.max_new_tokens leave no room for a prompt.
    """
    network = transformers_config(config.model, len(tokenizer), tensor=config.parallel.tensor)
    positions: int | None = getattr(network, "max_position_embeddings", None)
    asked = config.rollout.max_new_tokens
    if positions is not None and asked >= positions:
        raise UserError(
            f"rollout.max_new_tokens={asked}: the model has {positions} positions for prompt and answer together; give"
            " less"
        )
    return positions


def open_prompts(
    config: RolloutsConfig | RLConfig, tokenizer: PreTrainedTokenizerBase, positions: int | None, here: Session
) -> Prompts:
    """The prompts that leave room for an answer; RUN/prompts_set_aside.jsonl lists the others with their reasons."""
    assert config.prompts is not None
    room = None if positions is None else positions - config.rollout.max_new_tokens
    prompts = load_prompts(config.prompts, tokenizer, Path(config.paths.cache), here.world, room=room)
    log.info("prompts: %s", counted(prompts))
    file = here.run.path / "prompts_set_aside.jsonl"
    if here.world.first and prompts.write_set_aside(file):
        log.warning("prompts set aside, with reasons: %s", file)
    return prompts


def counted(prompts: Prompts) -> str:
    """How many of what, for a person."""
    return ", ".join(f"{count:,} {name}" for name, count in prompts.counts.items())


@dataclass(frozen=True)
class Judges:
    """What answers are rewarded with, and where their programs run."""

    rewards: Rewards
    sandbox: Sandbox | None

    @classmethod
    def open(
        cls,
        config: RolloutsConfig | RLConfig,
        tokenizer: PreTrainedTokenizerBase,
        device: torch.device,
        here: Session,
        stack: ExitStack,
    ) -> Judges:
        """Start them; they end with the stack. Faults of rewards go to RUN/faults*.jsonl, a file for each rank."""
        faults = "faults.jsonl" if here.world.first else f"faults.rank-{here.world.rank}.jsonl"
        sandbox = None
        if config.rollout.tools != "none" or config.reward.needs_sandbox:
            sandbox = stack.enter_context(Sandbox(config.sandbox))
        rewards = Rewards(
            config.reward,
            tokenizer,
            grader=config.grader,
            sandbox=sandbox or config.sandbox,
            tools=config.tools,
            device=str(device),
            faults_file=here.run.path / faults,
        )
        return cls(stack.enter_context(rewards), sandbox)
