"""`stage=label`: rollouts in, the same rollouts out with labels of their steps, for `stage=reward supervision=process`.

The solutions are dealt out in portions; a portion that lies in the run's store is done, whoever has done it, so a
killed run goes on with those that are missing. `labels.jsonl` lists the counts for a person to read.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from dsm.answers import EXTRACTORS, GraderPool
from dsm.config.listing import closest
from dsm.config.reward_model import LabelConfig
from dsm.data.tokenizer import load_tokenizer, tokenizer_fingerprint
from dsm.errors import UserError
from dsm.files import atomic_write_text
from dsm.models.build import build_model, transformers_config
from dsm.models.fingerprint import model_fingerprint
from dsm.rollout.engines import make_engine
from dsm.rollout.record import Prompt, Rollout
from dsm.rollout.stops import Detokenizer
from dsm.rollout.store import RolloutStore
from dsm.runtime.launch import own_device
from dsm.runtime.session import Session, session
from dsm.training.reward.completing import Completer
from dsm.training.reward.rollouts import rollouts_fingerprint

log = logging.getLogger("dsm")


@dataclass(frozen=True)
class Solution:
    """A rollout to be labelled, with what it answers."""

    rollout: Rollout
    id: str
    question: str
    gold: str

    @property
    def prompt(self) -> Prompt:
        """As far as the store has kept it."""
        ids = tuple(self.rollout.token_ids[: self.rollout.prompt_tokens].tolist())
        return Prompt(self.rollout.prompt, self.id, self.question, ids, "", {"gold": self.gold})


def label(config: LabelConfig) -> dict[str, Any]:
    """`stage=label`: complete each prefix of each solution; returns the final metrics."""
    extractor = config.completions.extractor
    if extractor not in EXTRACTORS:
        known = ", ".join(EXTRACTORS)
        raise UserError(f"completions.extractor={extractor}: must be one of {known}{closest(extractor, EXTRACTORS)}")
    with session(config, config.parallel) as here, ExitStack() as stack:
        if here.run.finished is not None:
            return here.run.finished
        tokenizer = load_tokenizer(config.tokenizer_path)
        architecture = transformers_config(config.model, len(tokenizer))
        source = RolloutStore.open(config.data.path, "data.path")
        store = here.world.on_first(lambda: _open(config, source, tokenizer, here))
        solutions = list(_solutions(config, source))
        portions = [
            solutions[first : first + config.solutions_together]
            for first in range(0, len(solutions), config.solutions_together)
        ]
        done = set(here.world.broadcast(store.parts()))
        left = [number for number in range(len(portions)) if _name(number) not in done]
        steps = sum(len(solution.rollout.step_ends) for solution in solutions)
        log.info("to label: %s solutions, %s steps, %d completions of each", f"{len(solutions):,}", f"{steps:,}",
                 config.completions.n)  # fmt: skip
        if done:
            log.info("%d of %d portions are labelled already", len(portions) - len(left), len(portions))
        device = own_device(config.parallel, here.world)
        model = build_model(config.model, len(tokenizer), seed=config.seed).eval().to(device)
        engine = make_engine(config.engine, model, tokenizer)
        completer = Completer(
            engine,
            Detokenizer(tokenizer, len(tokenizer)),
            stack.enter_context(GraderPool(config.grader)),
            config.completions,
            seed=config.seed,
            positions=getattr(architecture, "max_position_embeddings", None),
        )
        for turn, number in enumerate(left[here.world.rank :: here.world.size]):
            _label(store, number, portions[number], completer, config.completions.n)
            log.info("labelled: portion %d of %d", turn * here.world.size + 1, len(left))
        here.world.wait()
        return here.world.on_first(lambda: _finish(config, store, here))


def _open(config: LabelConfig, source: RolloutStore, tokenizer: PreTrainedTokenizerBase, here: Session) -> RolloutStore:
    """The run's store; its facts say what labels depend on."""
    theirs = source.facts.get("tokenizer")
    ours = tokenizer_fingerprint(tokenizer)
    if theirs not in (None, ours):
        raise UserError(
            f"tokenizer.path={config.tokenizer_path}: not the tokenizer of data.path={config.data.path}; the completer"
            " goes on from its tokens and must read them"
        )
    completer = model_fingerprint(config.model.path) if config.model.path is not None else f"new, seed {config.seed}"
    facts = {
        "tokenizer": ours,
        "rollouts": rollouts_fingerprint(config.data.path, "data.path"),
        "completer": completer,
        "completions": config.completions.model_dump_json(),
        "grader": config.grader.model_dump_json(exclude={"workers", "cache_size", "recycle_pairs"}),
        "seed": str(config.seed),
    }
    store = RolloutStore(here.run.path / "rollouts", facts)
    store.clear()
    return store


def _solutions(config: LabelConfig, source: RolloutStore) -> Iterator[Solution]:
    """What is to be labelled, in the order of the store.

    Raises:
        UserError: the store holds no reference answers.
    """
    known: set[bytes] = set()
    found = 0
    for rollout, row in zip(_each(source), source.rows(), strict=True):
        if "gold" not in row or row["gold"] is None:
            raise UserError(
                f"data.path={config.data.path}: the rollouts for prompt {row['id']} come without a reference answer;"
                " labels need one (prompts.sources.NAME.gold)"
            )
        digest = hashlib.sha256(rollout.token_ids.tobytes()).digest()
        if config.data.distinct and digest in known:
            continue
        known.add(digest)
        yield Solution(rollout, row["id"], row["question"], str(row["gold"]))
        found += 1
        if found == config.data.limit:
            return


def _each(store: RolloutStore) -> Iterator[Rollout]:
    for part in store.parts():
        yield from store.read([part])


def _name(number: int) -> str:
    return f"{number:08d}"


def _label(store: RolloutStore, number: int, solutions: list[Solution], completer: Completer, n: int) -> None:
    """One portion: labels, then the part on the disk; what cannot be labelled has no `step_rewards`."""
    labelled = completer.label([solution.rollout for solution in solutions], [solution.gold for solution in solutions])
    rollouts = [
        replace(
            solution.rollout,
            step_rewards=None if found.reason else found.counts / n,
            rewards={**solution.rollout.rewards, "label_n": float(n)},
        )
        for solution, found in zip(solutions, labelled, strict=True)
    ]
    prompts = {solution.prompt.number: solution.prompt for solution in solutions}
    store.write(_name(number), rollouts, list(prompts.values()))


def _finish(config: LabelConfig, store: RolloutStore, here: Session) -> dict[str, Any]:
    """labels.jsonl, what the labels are like, metrics.json."""
    n, without = config.completions.n, 0
    lines: list[str] = []
    shares: list[float] = []
    for row in store.rows():
        rewards = row["step_rewards"]
        if rewards is None:
            without += 1
            continue
        counts = [round(share * n) for share in rewards]
        told = {name: row[name] for name in ("id", "group", "sample", "correct")} | {"counts": counts, "n": n}
        lines.append(json.dumps(told, ensure_ascii=False) + "\n")
        shares += rewards
    if not shares:
        raise UserError(
            f"data.path={config.data.path}: not one of {without} solutions has steps; rollout.steps must not be null"
            " where they are made"
        )
    store.complete()
    atomic_write_text(here.run.path / "labels.jsonl", "".join(lines))
    values = np.asarray(shares)
    final: dict[str, Any] = {
        "label/solutions": len(lines),
        "label/without": without,
        "label/steps": len(values),
        "label/n": n,
        "label/good_steps": float((values > 0).mean()),
        "label/mean_share": float(values.mean()),
        "rollouts": str(store.folder),
    }
    atomic_write_text(here.run.path / "metrics.json", json.dumps(final, indent=2) + "\n")
    log.info(
        "labels: %s steps of %s solutions, %.1f%% good, mean share %.2f; in %s",
        f"{len(values):,}", f"{len(lines):,}", 100 * final["label/good_steps"], final["label/mean_share"], store.folder,
    )  # fmt: skip
    return final
