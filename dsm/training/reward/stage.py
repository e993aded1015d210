"""`stage=reward`, from a checked configuration to what it leaves in its run folder."""

from __future__ import annotations

import logging
from typing import Any

from dsm.config.reward_model import RewardTrainingConfig
from dsm.data.tokenizer import load_tokenizer
from dsm.models.build import transformers_config
from dsm.models.reward import build_reward_model, supervision_of
from dsm.runtime.launch import accelerator
from dsm.runtime.session import session
from dsm.training.fit import fit
from dsm.training.reward.material import reward_material
from dsm.training.reward.module import RewardModule
from dsm.training.reward.validation import RewardValidation
from dsm.training.step import StepSettings
from dsm.training.strategy import model_sharding

log = logging.getLogger("dsm")


def train_reward_model(config: RewardTrainingConfig) -> dict[str, Any]:
    """`stage=reward`: fit a value head and its trunk to judgements; returns the final metrics."""
    with session(config, config.parallel) as here:
        if here.run.finished is not None:
            return here.run.finished
        tokenizer = load_tokenizer(config.tokenizer_path)
        transformers_config(config.model, len(tokenizer), tensor=config.parallel.tensor)
        found = reward_material(config, tokenizer, here)
        material = found.material
        before = None if config.model.path is None else supervision_of(config.model.path)
        if before not in (None, config.supervision):
            log.warning("model.path=%s: its head has judged by %s until now", config.model.path, before)
        model = build_reward_model(
            config.model,
            len(tokenizer),
            supervision=config.supervision,
            seed=config.seed,
            sharding=model_sharding(config, here.world),
        )
        head = "a new head" if before is None else "the head that it has"
        log.info("model: %s parameters, %s, %s", f"{model.num_parameters():,}", head, here.world.layout)
        kind = accelerator(config.parallel)
        settings = StepSettings.of(config, material.stream.steps, sources=material.sources)
        validation = RewardValidation(
            found.held_out,
            found.held_out_pairs,
            config.supervision,
            config.objective,
            config.reduction,
            config.tokens_per_microbatch(kind),
            config.trainer.validate_every,
            here.world,
        )
        return fit(config, RewardModule(model, settings, config.objective), material, tokenizer, here, [validation])
