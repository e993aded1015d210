"""From the settings of `stage=reward` to its steps: sources and replay, what is held out, pairs, order."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from math import lcm
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from dsm.config.reward_model import REPLAY, RewardSourceConfig, RewardTrainingConfig
from dsm.data.batch import Document
from dsm.data.instructions import hold_out
from dsm.data.order import PackedOrder
from dsm.data.permutation import keyed_permutation
from dsm.data.stream import StepStream
from dsm.errors import UserError
from dsm.files import atomic_write_text
from dsm.runtime.launch import accelerator
from dsm.runtime.session import Session
from dsm.training.material import Material
from dsm.training.reward.batch import value_batch
from dsm.training.reward.data import Solutions, TokenisedSolutions, tokenise_solutions

log = logging.getLogger("dsm")
_PAIR_ORDER = 11  # keys of permutations; dsm.data.order has 1 to 3


@dataclass(frozen=True)
class Examples:
    """The examples of a run in their order, as `StepStream` reads them.

    Attributes:
        units: (U, 1) solutions or (U, 2) pairs, the better one first, by number.
        order: which unit comes when.
    """

    solutions: Solutions
    units: NDArray[np.int64]
    order: PackedOrder

    def __getitems__(self, numbers: Sequence[int]) -> list[list[Document]]:
        """The solutions of each of these examples."""
        units = [self.units[int(self.order[number][0])] for number in numbers]
        return [[self.solutions[int(solution)] for solution in unit] for unit in units]


@dataclass(frozen=True)
class RewardMaterial:
    """What the stage trains on and what it is measured with."""

    material: Material[StepStream]
    held_out: Solutions
    held_out_pairs: NDArray[np.int64]


def reward_material(config: RewardTrainingConfig, tokenizer: PreTrainedTokenizerBase, here: Session) -> RewardMaterial:
    """Tokenise (rank 0; the others read its cache), hold out, fit to the context, pair, order."""
    data, world = config.data, here.world
    sources = dict(data.sources)
    if data.replay.path is not None:
        sources[REPLAY] = RewardSourceConfig(path=data.replay.path, split=data.replay.split)
    tokenised = world.on_first(
        lambda: tokenise_solutions(
            sources, config.supervision, data.labels, data.template, tokenizer, Path(config.paths.cache)
        )
    )
    everything = tokenised.solutions()
    fitting = everything.select(_whole_pairs(everything, everything.lengths <= data.context))
    train, held_out = hold_out(fitting, data.validation.fraction, data.validation.max_examples)
    if config.objective == "pairwise":
        units = pairs_of(train, data.pairs_per_question, config.seed)
        held_out_pairs = pairs_of(held_out, None, config.seed)
    else:
        units, held_out_pairs = np.arange(len(train))[:, None], np.zeros((0, 2), dtype=np.int64)
    if not len(units):
        raise UserError(
            f"data.context={data.context}: nothing is left to train on; "
            + ("no question has a right and a wrong solution" if config.objective == "pairwise" else "raise it")
            + f" within {data.context} tokens"
        )
    unit_sources = train.sources[units[:, 0]]
    names = list(sources)
    weights = _weights(config, names, np.bincount(unit_sources, minlength=len(names)))
    order = PackedOrder(np.ones(len(units), dtype=np.int64), unit_sources, weights, 1, "random", config.seed)
    trainer = config.trainer
    if trainer.epochs is not None:
        examples = order.sequences_in(trainer.epochs)
    else:
        examples = (trainer.steps or 0) * trainer.examples_per_step
    stream = StepStream(
        Examples(train, units, order), trainer.examples_per_step, examples,
        config.tokens_per_microbatch(accelerator(config.parallel)),
        rank=world.data_rank, shares=world.data_size, workers=config.parallel.data_workers, batch=value_batch,
    )  # fmt: skip

    about = _about(tokenised) | {"held out": f"{len(held_out):,} solutions"}
    if dropped := len(everything) - len(fitting):
        about["too long"] = f"{dropped:,} solutions, left out (data.context={data.context})"
    if config.objective == "pairwise":
        asked = len(np.unique(train.questions))
        paired = len(np.unique(train.questions[units[:, 0]]))
        about["pairs"] = f"{len(units):,}, of {paired:,} questions; {asked - paired:,} without a right and a wrong one"
    if data.replay.path is not None:
        counts = np.bincount(unit_sources, weights=np.asarray(weights)[unit_sources], minlength=len(names))
        about["replay"] = f"{counts[-1] / counts.sum():.1%} of the examples (data.replay.share={data.replay.share})"
    for name, text in about.items():
        log.info("data, %s: %s", name, text)
    log.info("budget: %d steps of %d examples", stream.steps, trainer.examples_per_step)
    if world.first and (text := tokenised.rejected.read_text(encoding="utf-8")):
        atomic_write_text(here.run.path / "rejected.jsonl", text)
        log.warning("rows set aside, with reasons: %s", here.run.path / "rejected.jsonl")

    settings = {
        "objective": config.objective,
        "data.context": data.context,
        "data.pairs_per_question": data.pairs_per_question,
        "data.validation.fraction": data.validation.fraction,
        "data.validation.max_examples": data.validation.max_examples,
        "data.sources.*.weight": weights,
        "trainer.examples_per_step": trainer.examples_per_step,
        "seed": config.seed,
    }
    facts = tokenised.facts | {key: str(value) for key, value in settings.items()}
    material = Material(
        stream=stream, sources=names, validation=[], held_out=[], prompts=[], facts=facts, about=about
    )  # fmt: skip
    return RewardMaterial(material, held_out, held_out_pairs)


def _whole_pairs(solutions: Solutions, kept: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Of a given pair both or none."""
    kept = kept.copy()
    first = np.flatnonzero(solutions.partners == 1)
    both = kept[first] & kept[first + 1]
    kept[first] = kept[first + 1] = both
    return kept


def _weights(config: RewardTrainingConfig, names: Sequence[str], sizes: NDArray[np.int64]) -> list[float]:
    """Passes over each source in one epoch; of the replay as many as give it its share, at most one."""
    weights = [config.data.sources[name].weight for name in names if name != REPLAY]
    if REPLAY in names:
        new = sum(weight * size for weight, size in zip(weights, sizes, strict=False))
        share = config.data.replay.share
        weights.append(min(1.0, float(new) * share / (1 - share) / max(int(sizes[-1]), 1)))
    return weights


def pairs_of(solutions: Solutions, most: int | None, seed: int) -> NDArray[np.int64]:
    """(P, 2) numbers of solutions of one question, the better one first.

    Given pairs stay as they are. Of the other solutions of a question, up to `most` pairs of a right and a wrong one
    that use as many different solutions as there are, chosen by `seed` and the question.
    """
    pairs = [(first, first + 1) for first in np.flatnonzero(solutions.partners == 1).tolist()]
    alone = np.flatnonzero(solutions.partners == 0)
    order = alone[np.argsort(solutions.questions[alone], kind="stable")]
    borders = np.flatnonzero(np.diff(solutions.questions[order])) + 1
    for members in np.split(order, borders) if len(order) else []:
        outcomes = solutions.outcomes[members]
        right, wrong = members[outcomes > 0.5], members[outcomes <= 0.5]
        total = len(right) * len(wrong)
        if not total:
            continue
        question = int(solutions.questions[members[0]])
        right = right[keyed_permutation(len(right), seed, _PAIR_ORDER, question, 1)]
        wrong = wrong[keyed_permutation(len(wrong), seed, _PAIR_ORDER, question, 0)]
        period = lcm(len(right), len(wrong))
        pairs += [
            (int(right[number % len(right)]), int(wrong[(number + number // period) % len(wrong)]))
            for number in range(min(total, most or total))
        ]
    return np.asarray(pairs, dtype=np.int64).reshape(-1, 2)


def _about(tokenised: TokenisedSolutions) -> dict[str, str]:
    about = {}
    for report in tokenised.reports:
        text = f"{report.solutions:,} solutions, {report.tokens:,} tokens, {report.scored:,} labels,"
        text += f" {report.good:.1%} of them good"
        about[report.name] = text + (f"; {report.rejected:,} rows set aside" if report.rejected else "")
    return about
