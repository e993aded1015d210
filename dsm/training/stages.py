"""The stages, from a checked configuration to what they leave in their run folder."""

from __future__ import annotations

import json
import logging
import math
import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from dsm.config.run import SFTConfig, TokenizerConfig, tokens_per_microbatch
from dsm.data import tokenizer as tokenizers
from dsm.data.batch import MicroBatch, step_batch
from dsm.data.instructions import (
    TokenisedExamples,
    fit_context,
    hold_out,
    load_instructions,
    require_examples,
    sources_fingerprint,
)
from dsm.data.order import PackedOrder
from dsm.data.packing import pack
from dsm.data.stream import StepStream
from dsm.data.texts import read_texts
from dsm.files import atomic_directory, atomic_write_text
from dsm.models.build import build_model, transformers_config
from dsm.training.fit import Material, fit
from dsm.training.launch import World, accelerator
from dsm.training.session import Session, session
from dsm.training.sft import SFTModule
from dsm.training.step import StepSettings

log = logging.getLogger("dsm")


def fine_tune(config: SFTConfig) -> dict[str, Any]:
    """`stage=sft`: fine-tune on packed instructions; returns the final metrics."""
    with session(config, config.parallel) as here:
        if here.run.finished is not None:
            log.info("finished before: %s (resume=never makes it anew)", here.run.path)
            return here.run.finished
        log.info("run folder: %s", here.run.path)
        tokenizer = tokenizers.load_tokenizer(config.tokenizer_path)
        transformers_config(config.model, len(tokenizer))  # a model that cannot be is refused before the data is read
        material = _instructions(config, tokenizer, here)
        model = build_model(config.model, len(tokenizer), seed=config.seed)
        log.info("model: %s parameters", f"{model.num_parameters():,}")
        precision = config.trainer.precision
        if precision == "auto":
            precision = "bf16" if accelerator(config.parallel) == "cuda" else "fp32"
        settings = StepSettings(
            optim=config.optim,
            scheduler=config.scheduler,
            loss=config.loss,
            total_steps=material.stream.steps,
            precision=precision,
            max_skipped_steps=config.trainer.max_skipped_steps,
        )
        return fit(config, SFTModule(model, settings), material, tokenizer, here)


def train_tokenizer(config: TokenizerConfig) -> dict[str, Any]:
    """`stage=tokenizer`: learn a byte-level BPE; returns its size and how well it compresses."""
    with session(config) as here:
        if here.run.finished is not None:
            log.info("finished before: %s (resume=never makes it anew)", here.run.path)
            return here.run.finished
        log.info("run folder: %s", here.run.path)
        learnt = config.tokenizer
        tokenizer = tokenizers.train_tokenizer(
            read_texts(config.data), learnt.vocab_size, min_frequency=learnt.min_frequency
        )
        with atomic_directory(here.run.export) as folder:
            tokenizers.save_tokenizer(tokenizer, folder)
        report = tokenizers.tokenizer_report(tokenizer, islice(read_texts(config.data), 2000))
        final = {f"tokenizer/{key}": value for key, value in report.items()} | {"export": str(here.run.export)}
        log.info(
            "tokenizer: %s ids, %.2f bytes a token, in %s", len(tokenizer), report["bytes_per_token"], here.run.export
        )
        atomic_write_text(here.run.path / "metrics.json", json.dumps(final, indent=2) + "\n")
        return final


def _instructions(config: SFTConfig, tokenizer: PreTrainedTokenizerBase, here: Session) -> Material:
    """Tokenise (rank 0, the others read its cache), hold out, fit to the context, order and pack."""
    data, cache, world = config.data, Path(config.paths.cache), here.world
    world.on_first(lambda: load_instructions(data.sources, data.template, tokenizer, cache))
    examples, reports, rejected = load_instructions(data.sources, data.template, tokenizer, cache)
    facts = sources_fingerprint(data.sources, data.template, tokenizer, "data.sources")
    if data.validation.sources:
        train, key = examples, "data.validation.sources"
        world.on_first(lambda: load_instructions(data.validation.sources, data.template, tokenizer, cache, key))
        held_out, _, _ = load_instructions(data.validation.sources, data.template, tokenizer, cache, key)
        held_out_names = list(data.validation.sources)
    else:
        train, held_out = hold_out(examples, data.validation.fraction, data.validation.max_examples)
        held_out_names = list(data.sources)
    train, long = fit_context(train, data.context, data.too_long)
    held_out, _ = fit_context(held_out, data.context, "drop")
    require_examples(train, data.context)

    order = PackedOrder(
        train.lengths,
        train.sources,
        [source.weight for source in data.sources.values()],
        data.context,
        data.packing,
        config.seed,
    )
    budget = config.trainer
    if budget.epochs is not None:
        sequences = order.sequences_in(budget.epochs)
    else:
        steps = budget.steps or math.ceil((budget.tokens or 0) / (budget.sequences_per_step * data.context))
        sequences = steps * budget.sequences_per_step
    limit = tokens_per_microbatch(config, accelerator(config.parallel))
    stream = StepStream(
        train, order, budget.sequences_per_step, sequences, limit, rank=world.rank, world_size=world.size
    )

    facts |= {f"data.{key}": str(getattr(data, key)) for key in ("context", "packing", "too_long")}
    facts |= {
        "data.weights": str(order.weights),
        "data.validation": data.validation.model_dump_json(),
        "trainer.sequences_per_step": str(budget.sequences_per_step),
        "seed": str(config.seed),
    }
    first_epoch = order.epoch(0)
    fill = int(train.lengths[first_epoch.examples].sum()) / (len(first_epoch) * data.context)
    about = {
        report.name: f"{report.examples:,} examples, {report.tokens:,} tokens, {report.trained_tokens:,} trained on"
        + (f", {report.rejected:,} rows set aside" if report.rejected else "")
        for report in reports
    }
    about |= {
        "held out": f"{len(held_out):,} examples",
        "packing": f"{data.packing}: {len(train):,} examples in {len(first_epoch):,} sequences an epoch, {fill:.2%} full",
    }
    if long:
        about["too long"] = (
            f"{long['too_long']:,} over {data.context} tokens ({data.too_long}), {long['left_out']:,} left out"
        )
    for name, text in about.items():
        log.info("data, %s: %s", name, text)
    if world.first and rejected.stat().st_size:
        shutil.copy(rejected, here.run.path / "rejected.jsonl")
        log.warning("rows set aside, with reasons: %s", here.run.path / "rejected.jsonl")
    log.info("budget: %d steps of %d sequences, %d tokens each", stream.steps, budget.sequences_per_step, data.context)
    return Material(
        stream=stream,
        validation=_validation_batches(held_out, data.context, limit, world),
        source_names=held_out_names if len(held_out) else [],
        prompts=[_prompt(held_out, i) for i in range(min(config.callbacks.samples.prompts, len(held_out)))],
        facts=facts,
        about=about,
    )


def _validation_batches(held_out: TokenisedExamples, context: int, limit: int, world: World) -> list[MicroBatch]:
    mine = held_out.select(np.arange(world.rank, len(held_out), world.size))
    if not len(mine):
        return []
    rows = pack(mine.lengths, np.arange(len(mine)), context, "random")
    return step_batch([[mine[int(i)] for i in rows[row]] for row in range(len(rows))], limit).microbatches


def _prompt(examples: TokenisedExamples, number: int) -> list[int]:
    document = examples[number]
    return [int(token) for token in document.ids[: int(document.trained.argmax())]]
