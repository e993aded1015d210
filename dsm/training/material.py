"""From a run's data settings to what its steps consume, with the figures a person wants to see before it starts."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from transformers import PreTrainedTokenizerBase

from dsm.config.data import SourceConfig
from dsm.config.run import SFTConfig
from dsm.data.batch import MicroBatch, StepBatch, step_batch
from dsm.data.instructions import (
    PackedExamples,
    TokenisedExamples,
    TokenisedSources,
    fit_context,
    hold_out,
    require_examples,
    tokenise_sources,
)
from dsm.data.order import PackedOrder
from dsm.data.packing import pack
from dsm.data.stream import StepStream
from dsm.files import atomic_write_text
from dsm.runtime.launch import World, accelerator
from dsm.runtime.session import Session

log = logging.getLogger("dsm")


class Steps(Protocol):
    """The steps of a run as Lightning's loop wants them: read from data, or sampled on the way."""

    @property
    def steps(self) -> int:
        """In the whole run."""
        ...

    @property
    def sequences_per_step(self) -> int | Fraction:
        """Over all ranks."""
        ...

    def first_sequence(self, step: int) -> int:
        """The sequence that a step begins with; of `steps`, the number of all."""
        ...

    @property
    def mean_attended_length(self) -> float:
        """Tokens that a token attends to on average, for the count of operations."""
        ...

    def loader(self, first_step: Callable[[], int]) -> Iterable[StepBatch]:
        """The steps from `first_step()` on, in order; with a length, or Lightning would fetch one ahead."""
        ...


S_co = TypeVar("S_co", bound=Steps, covariant=True)


@dataclass(frozen=True)
class Material(Generic[S_co]):
    """What a run trains on.

    Attributes:
        stream: the steps.
        sources: names of the training sources by number.
        validation: this rank's held-out micro-batches.
        held_out: names of the held-out sources by number; none where nothing is held out.
        prompts: token ids of held-out questions, to generate from.
        facts: what the data is, by name; another value refuses a resume.
        about: what the log and the model card say of the data.
    """

    stream: S_co
    sources: Sequence[str]
    validation: Sequence[MicroBatch]
    held_out: Sequence[str]
    prompts: Sequence[list[int]]
    facts: dict[str, str]
    about: dict[str, Any]


def instruction_material(config: SFTConfig, tokenizer: PreTrainedTokenizerBase, here: Session) -> Material[StepStream]:
    """Tokenise (rank 0; the others read its cache), hold out, fit to the context, order and pack."""
    data, world = config.data, here.world
    cache = Path(config.paths.cache)

    def tokenised(sources: Mapping[str, SourceConfig], key: str) -> TokenisedSources:
        return world.on_first(lambda: tokenise_sources(sources, data.template, tokenizer, cache, key))

    found = [tokenised(data.sources, "data.sources")]
    train, names = found[0].examples(), list(data.sources)
    if data.validation.sources:
        found.append(tokenised(data.validation.sources, "data.validation.sources"))
        held_out, names = found[1].examples(), list(data.validation.sources)
    else:
        train, held_out = hold_out(train, data.validation.fraction, data.validation.max_examples)
    about = _about_sources(found)
    train, about_train = _fit(train, config, "training")
    held_out, about_held_out = _fit(held_out, config, "held out")
    require_examples(train, data.context)

    weights = [source.weight for source in data.sources.values()]
    order = PackedOrder(train.lengths, train.sources, weights, data.context, data.packing, config.seed)
    limit = config.tokens_per_microbatch(accelerator(config.parallel))
    per_step = config.trainer.sequences_per_step
    stream = StepStream(
        PackedExamples(train, order), per_step, _budget(config, order), limit,
        rank=world.data_rank, shares=world.data_size, workers=config.parallel.data_workers,
    )  # fmt: skip

    about |= about_train | about_held_out | {"held out": f"{len(held_out):,} examples"} | _about_packing(order)
    for name, text in about.items():
        log.info("data, %s: %s", name, text)
    log.info("budget: %d steps of %d sequences, %d tokens each at most", stream.steps, per_step, data.context)
    if world.first:
        _keep_rejected(found, here.run.path / "rejected.jsonl")

    settings = {
        "data.context": data.context,
        "data.packing": data.packing,
        "data.too_long": data.too_long,
        "data.validation.fraction": data.validation.fraction,
        "data.validation.max_examples": data.validation.max_examples,
        "data.sources.*.weight": weights,
        "trainer.sequences_per_step": per_step,
        "seed": config.seed,
    }
    facts = {key: str(value) for key, value in settings.items()}
    return Material(
        stream=stream,
        sources=list(data.sources),
        validation=_validation_batches(held_out, data.context, limit, world),
        held_out=names if len(held_out) else [],
        prompts=[_prompt(held_out, i) for i in range(min(config.callbacks.samples.prompts, len(held_out)))],
        facts=facts | {key: value for sources in found for key, value in sources.facts.items()},
        about=about,
    )


def _budget(config: SFTConfig, order: PackedOrder) -> int:
    """The run's packed sequences; under a budget of epochs the last step may be short."""
    budget = config.trainer
    if budget.epochs is not None:
        return order.sequences_in(budget.epochs)
    steps = budget.steps or math.ceil((budget.tokens or 0) / (budget.sequences_per_step * config.data.context))
    return steps * budget.sequences_per_step


def _fit(examples: TokenisedExamples, config: SFTConfig, name: str) -> tuple[TokenisedExamples, dict[str, str]]:
    """The examples within the context, and a line where there were longer ones."""
    context, policy = config.data.context, config.data.too_long
    fitted, counts = fit_context(examples, context, policy)
    if not counts:
        return fitted, {}
    text = f"{counts['too_long']:,} over {context} tokens ({policy}), {counts['left_out']:,} left out"
    return fitted, {f"too long, {name}": text}


def _about_sources(found: Sequence[TokenisedSources]) -> dict[str, str]:
    about = {}
    for sources in found:
        for report in sources.reports():
            text = f"{report.examples:,} examples, {report.tokens:,} tokens, {report.trained_tokens:,} trained on"
            about[report.name] = text + (f"; {report.rejected:,} rows set aside" if report.rejected else "")
    return about


def _about_packing(order: PackedOrder) -> dict[str, str]:
    epoch = order.epoch(0)
    fill = int(order.lengths[epoch.examples].sum()) / (len(epoch) * order.capacity)
    examples, sequences = len(epoch.examples), len(epoch)
    return {"packing": f"{order.method}, {examples:,} examples in {sequences:,} sequences an epoch, {fill:.2%} full"}


def _keep_rejected(found: Sequence[TokenisedSources], file: Path) -> None:
    """The rows set aside, beside the run's other files."""
    text = "".join(sources.rejected.read_text(encoding="utf-8") for sources in found)
    if text:
        atomic_write_text(file, text)
        log.warning("rows set aside, with reasons: %s", file)


def _validation_batches(held_out: TokenisedExamples, context: int, limit: int, world: World) -> list[MicroBatch]:
    """This rank's share of the held-out examples."""
    mine = held_out.select(np.arange(world.data_rank, len(held_out), world.data_size))
    if not len(mine):
        return []
    rows = pack(mine.lengths, np.arange(len(mine)), context, "random")
    return step_batch([[mine[int(i)] for i in rows[row]] for row in range(len(rows))], limit).microbatches


def _prompt(examples: TokenisedExamples, number: int) -> list[int]:
    document = examples[number]
    return [int(token) for token in document.ids[: int(document.trained.argmax())]]
