"""The stages, from a checked configuration to what they leave in their run folder."""

from __future__ import annotations

import logging
from typing import Any

from transformers import PreTrainedTokenizerBase

from dsm.config.pretrain import PretrainConfig
from dsm.config.run import SFTConfig, TrainingConfig
from dsm.data import tokenizer as tokenizers
from dsm.models.build import build_model, embedding_rows, transformers_config
from dsm.runtime.session import Session, session
from dsm.training.bench_callback import in_training_evaluation
from dsm.training.fit import fit
from dsm.training.likelihood import LikelihoodModule
from dsm.training.material import Material, Steps, instruction_material
from dsm.training.mixture_material import mixture_material
from dsm.training.spikes import SpikeGuard
from dsm.training.step import StepSettings
from dsm.training.strategy import model_sharding

log = logging.getLogger("dsm")


def pretrain(config: PretrainConfig) -> dict[str, Any]:
    """`stage=pretrain`: next-token prediction on a mix of token stores; returns the final metrics."""
    with session(config, config.parallel) as here:
        if here.run.finished is not None:
            return here.run.finished
        tokenizer = tokenizers.load_tokenizer(config.tokenizer_path)
        rows = embedding_rows(config.model, len(tokenizer), tensor=config.parallel.tensor)
        material = mixture_material(config, tokenizer, rows, here)
        stream = material.stream
        benchmarks = in_training_evaluation(
            config, tokenizer, here, lambda step: stream.first_sequence(step) * config.context
        )
        module = _module(config, material, tokenizer, here)
        module.spikes = spikes = SpikeGuard(
            config.spikes,
            here.run.path / "spikes.jsonl",
            stream.first_sequence,
            mix_changes=[segment.first for segment in config.mix.segments()[1:]],
            first=here.world.first,
        )
        return fit(config, module, material, tokenizer, here, [spikes, *benchmarks])


def fine_tune(config: SFTConfig) -> dict[str, Any]:
    """`stage=sft`: fine-tune on packed instructions; returns the final metrics."""
    with session(config, config.parallel) as here:
        if here.run.finished is not None:
            return here.run.finished
        tokenizer = tokenizers.load_tokenizer(config.tokenizer_path)
        # A model that cannot be is refused before the data is read.
        transformers_config(config.model, len(tokenizer), tensor=config.parallel.tensor)
        material = instruction_material(config, tokenizer, here)
        return fit(config, _module(config, material, tokenizer, here), material, tokenizer, here)


def _module(
    config: TrainingConfig, material: Material[Steps], tokenizer: PreTrainedTokenizerBase, here: Session
) -> LikelihoodModule:
    """The model, whole or in shards, with the step that trains it."""
    sharding = model_sharding(config, here.world)
    model = build_model(config.model, len(tokenizer), seed=config.seed, sharding=sharding)
    log.info("model: %s parameters, %s", f"{model.num_parameters():,}", here.world.layout)
    return LikelihoodModule(model, StepSettings.of(config, material.stream.steps, sources=material.sources))
