"""One trainer for every stage that updates weights: Lightning's loop around the shared step, exact resume, export."""

from __future__ import annotations

import json
import logging
import math
import shlex
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from dsm.config.run import TrainingConfig
from dsm.errors import StoppedError
from dsm.files import atomic_write_text
from dsm.models.export import export_model
from dsm.models.sharding import full_state_dict
from dsm.models.wrapper import CausalLM
from dsm.runtime import watch
from dsm.runtime.launch import World, accelerator, environment
from dsm.runtime.loggers import JsonlLogger, build_loggers, close
from dsm.runtime.session import Session
from dsm.training.callbacks import Metrics, ProgressLine, Samples, Validation
from dsm.training.checkpoint import ExactCheckpoint
from dsm.training.material import Material, Steps
from dsm.training.step import UpdateModule
from dsm.training.strategy import choose_strategy

log = logging.getLogger("dsm")


def fit(
    config: TrainingConfig,
    module: UpdateModule,
    material: Material[Steps],
    tokenizer: PreTrainedTokenizerBase,
    here: Session,
    callbacks_of_stage: Sequence[Callback] = (),
) -> dict[str, Any]:
    """Train to the end of the budget, export, and leave metrics.json.

    Returns:
        the final metrics.

    Raises:
        StoppedError: a signal came; the checkpoint is saved and the same command goes on from it.
    """
    world, run = here.world, here.run
    stream = material.stream
    flops_per_token = module.model.flops_per_token(stream.mean_attended_length)
    metrics = Metrics(config.trainer.log_every, flops_per_token, world.size)
    checkpoint = ExactCheckpoint(
        run.checkpoints, config.checkpoint, material.facts, world, config.seed, start=run.checkpoint
    )
    callbacks: list[Callback] = [metrics]
    if world.first and config.callbacks.progress:
        callbacks.append(ProgressLine(metrics))
    callbacks += [
        Validation(material.validation, material.held_out, config.trainer.validate_every),
        *callbacks_of_stage,
        Samples(config.callbacks.samples, material.prompts, tokenizer, run.path / "samples.jsonl", world),
        checkpoint,
    ]
    loggers = build_loggers(config.logger, run.path, config.name, config.model_dump()) if world.first else []
    trainer = pl.Trainer(
        **_devices(config, world, module.model),
        plugins=[environment(world)],
        logger=loggers,
        callbacks=callbacks,
        max_epochs=1,
        limit_val_batches=0,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=True,
        default_root_dir=run.path,
    )
    if run.checkpoint is not None:
        log.info("going on from %s", run.checkpoint)
    began, status = time.time(), 1
    try:
        with checkpoint.listening(), suppress(SIGTERMException):  # Lightning's own, if it was quicker
            trainer.fit(module, stream.loader(lambda: module.progress.step))
        stopped = checkpoint.signal if module.progress.step < stream.steps else None
        status = 0 if stopped is None else 128 + stopped
    finally:
        watch.progress("the end of the run", math.inf)
        close(loggers, status)
    if stopped is not None:
        raise StoppedError(
            stopped,
            f"stopped by {stopped.name} after step {module.progress.step} of {stream.steps}; the same command"
            " goes on from there",
        )
    final: dict[str, Any] = {}
    seconds = time.time() - began
    weights = full_state_dict(module.model, keep=world.first)
    if world.first:
        final = _finish(config, module, material, tokenizer, here, weights, seconds)
    return world.broadcast(final)


def _devices(config: TrainingConfig, world: World, model: CausalLM) -> dict[str, Any]:
    """Trainer arguments for this machine: one device a process."""
    return {
        "accelerator": accelerator(config.parallel),
        "devices": world.local_size,
        "num_nodes": world.size // world.local_size,
        "strategy": choose_strategy(model, config.parallel, world),
        "precision": "32-true",  # the step itself chooses what is computed in bf16
    }


def _finish(
    config: TrainingConfig,
    module: UpdateModule,
    material: Material[Steps],
    tokenizer: PreTrainedTokenizerBase,
    here: Session,
    weights: dict[str, Tensor],
    seconds: float,
) -> dict[str, Any]:
    """Export and the final metrics, on rank 0."""
    run = here.run
    newest = JsonlLogger(run.path).last()
    final = {key: value for key, value in newest.items() if "/" in key and not key.startswith("speed/")}
    final |= {f"total/{key}": value for key, value in asdict(module.progress).items()}
    facts = {
        "stage": config.stage,
        "seed": config.seed,
        "precision": module.settings.precision,
        "command": shlex.join(["dsm", *sys.argv[1:]]),
        "data": material.about,
        "training": {
            "steps": module.progress.step,
            "packed positions": module.progress.positions,
            "trained tokens": module.progress.tokens,
            "sequences a step": f"{float(material.stream.sequences_per_step):g}",
            "learning rate": config.optim.lr,
            "schedule": config.scheduler.name,
            "loss": config.loss.normalisation,
        },
        "metrics": {key: value for key, value in final.items() if "loss" in key},
    }
    if config.model.path is not None:
        facts["base model"] = config.model.path
    export_model(module.model, tokenizer, run.export, title=config.name, facts=facts, state_dict=weights)
    log.info("export: %s", run.export)
    final["seconds"] = round(seconds, 1)
    final["export"] = str(run.export)
    atomic_write_text(run.path / "metrics.json", json.dumps(final, indent=2) + "\n")
    return final
