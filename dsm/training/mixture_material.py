"""What a pre-training run consumes: the mix of token stores as steps, and held-out documents of each source."""

from __future__ import annotations

import logging
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from dsm.config.pretrain import PretrainConfig
from dsm.data.batch import Document, MicroBatch, step_batch
from dsm.data.mixture import Mixture
from dsm.data.stream import StepStream
from dsm.data.tokenizer import tokenizer_fingerprint
from dsm.runtime.launch import accelerator
from dsm.runtime.session import Session
from dsm.training.material import Material

log = logging.getLogger("dsm")
_PROMPT_TOKENS = 32


def mixture_material(
    config: PretrainConfig, tokenizer: PreTrainedTokenizerBase, vocab_size: int, here: Session
) -> Material[StepStream]:
    """Open the stores (rank 0 first, for it may have documents to pack), lay out the budget, read the held-out rows.

    Args:
        vocab_size: rows of the model's embedding.
    """
    world = here.world

    def opened() -> Mixture:
        return Mixture.open(
            config.mix,
            seed=config.seed,
            cache=Path(config.paths.cache),
            sequences=config.sequences,
            vocab_size=vocab_size,
            tokenizer_hash=tokenizer_fingerprint(tokenizer),
        )

    world.on_first(lambda: opened() and None)
    mixture = opened()
    limit = config.tokens_per_microbatch(accelerator(config.parallel))
    stream = StepStream(
        mixture, config.sequences_per_step, config.sequences, limit,
        rank=world.data_rank, shares=world.data_size, workers=config.parallel.data_workers,
    )  # fmt: skip
    held_out = mixture.validation()
    rows = [row for source in held_out.values() for row in source]
    about = mixture.about() if world.first else {}
    for name, text in about.items():
        log.info("data, %s: %s", name, text)
    log.info(
        "budget: %s steps of %s tokens, %s in all",
        f"{stream.steps:,}", f"{config.trainer.tokens_per_step:,}", f"{config.sequences * config.context:,}",
    )  # fmt: skip
    return Material(
        stream=stream,
        sources=mixture.names,
        validation=_batches(rows[world.data_rank :: world.data_size], limit),
        held_out=list(held_out),
        prompts=_prompts(rows, config.callbacks.samples.prompts),
        facts=mixture.facts | {"trainer.tokens_per_step": str(config.trainer.tokens_per_step)},
        about=about,
    )


def _batches(rows: list[list[Document]], limit: int) -> list[MicroBatch]:
    return step_batch(rows, limit).microbatches if rows else []


def _prompts(rows: list[list[Document]], count: int) -> list[list[int]]:
    """Beginnings of held-out documents, spread evenly over the sources, to be gone on with."""
    documents = [document for row in rows for document in row if len(document.ids) > _PROMPT_TOKENS]
    spread = documents[:: max(1, len(documents) // count)][:count]
    return [document.ids[:_PROMPT_TOKENS].tolist() for document in spread]
