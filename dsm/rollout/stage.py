"""`stage=rollouts`, from a checked configuration to what it leaves in its run folder.

RUN/rollouts/ is the store (`dsm.rollout.store`), RUN/pass_rates.jsonl what `prompts.difficulty` reads. Prompts are
dealt out to the ranks in parts; what a rank has finished is on the disk, and the same command goes on with the parts
that are left, on any number of ranks: the answer to a prompt depends on neither.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from dsm.config.rollout import RolloutsConfig
from dsm.data.prompts import Prompts
from dsm.data.tokenizer import load_tokenizer
from dsm.files import atomic_write_text, digest
from dsm.models.build import build_model
from dsm.models.fingerprint import model_fingerprint
from dsm.models.wrapper import CausalLM
from dsm.rewards.compose import Rewards
from dsm.rollout.engines import make_engine
from dsm.rollout.gap import GapMonitor, measure_gap
from dsm.rollout.opening import Judges, open_prompts, positions_of
from dsm.rollout.record import Prompt, Rollout
from dsm.rollout.sampler import Sampler
from dsm.rollout.store import RolloutStore
from dsm.rollout.summary import Summary
from dsm.runtime.launch import own_device
from dsm.runtime.metrics import log_once
from dsm.runtime.session import Session, session

log = logging.getLogger("dsm")
_SHOWN = 100  # rollouts in the loggers' tables
_GAP_SAMPLES = 8  # rollouts that the engine's log-probabilities are compared on


def make_rollouts(config: RolloutsConfig) -> dict[str, Any]:
    """`stage=rollouts`: answer prompts, reward the answers, store them; returns the final metrics."""
    with session(config, config.parallel) as here, ExitStack() as stack:
        if here.run.finished is not None:
            return here.run.finished
        tokenizer = load_tokenizer(config.tokenizer_path)
        positions = positions_of(config, tokenizer)
        prompts = open_prompts(config, tokenizer, positions, here)
        numbers = list(range(len(prompts)))
        if config.limit is not None:
            numbers = sorted(prompts.order(config.seed).numbers(0, min(config.limit, len(prompts))))
        store = _open(config, prompts, here)
        device = own_device(config.parallel, here.world)
        judges = Judges.open(config, tokenizer, device, here, stack)
        parts = _parts_left(config, numbers, here.world.on_first(store.parts))
        speed: dict[str, float] = {}
        if parts:
            model = build_model(config.model, len(tokenizer), seed=config.seed).eval().to(device)
            log.info("model: %s parameters on %s", f"{model.num_parameters():,}", device)
            engine = make_engine(config.engine, model, tokenizer)
            sampler = Sampler(
                engine, tokenizer, config.rollout, sandbox=judges.sandbox, tools=config.tools, positions=positions
            )
            speed = _Maker(config, prompts, sampler, judges.rewards, store, model, here).make(parts)
        here.world.wait()
        final = _finish(config, here, store, speed) if here.world.first else None
        metrics: dict[str, Any] = here.world.broadcast(final)
        return metrics


def _open(config: RolloutsConfig, prompts: Prompts, here: Session) -> RolloutStore:
    """The run's store; what an earlier start left of it must have come about in the same way."""
    facts = prompts.facts | {
        "policy": model_fingerprint(config.model.path) if config.model.path is not None else f"new, seed {config.seed}",
        "rollout": digest(config.rollout.model_dump(exclude={"timeout_s", "gap_limit"})),
        "reward": digest(config.reward.model_dump(exclude={"max_fault_share"})),
        "parts": f"{config.limit} by {config.prompts_per_part}",
        "seed": str(config.seed),
    }
    folder = here.run.path / "rollouts"

    def begin() -> None:
        RolloutStore(folder, facts).clear()

    here.world.on_first(begin)
    return RolloutStore(folder, facts)


@dataclass(frozen=True)
class _Part:
    """Prompts that are answered and written together; the first of them is drawn in group `first`."""

    name: str
    first: int
    numbers: Sequence[int]


def _parts_left(config: RolloutsConfig, numbers: Sequence[int], done: Sequence[str]) -> list[_Part]:
    size = config.prompts_per_part
    parts = [
        _Part(f"{start // size:08d}", start, numbers[start : start + size]) for start in range(0, len(numbers), size)
    ]
    return [part for part in parts if part.name not in done]


class _Maker:
    """Makes one rank's share of the parts."""

    def __init__(
        self,
        config: RolloutsConfig,
        prompts: Prompts,
        sampler: Sampler,
        rewards: Rewards,
        store: RolloutStore,
        model: CausalLM,
        here: Session,
    ) -> None:
        self.config, self.prompts, self.sampler, self.rewards = config, prompts, sampler, rewards
        self.store, self.model, self.world = store, model, here.world
        self.gap: dict[str, float] = {}

    def make(self, parts: Sequence[_Part]) -> dict[str, float]:
        """Answer, reward and write; returns numbers about the engine."""
        tokens, seconds = 0, 0.0
        total = sum(len(part.numbers) for part in parts)
        with tqdm(total=total, desc="rollouts", unit="prompt", disable=not self.world.first) as bar:
            for part in parts[self.world.rank :: self.world.size]:
                asked = [self.prompts[number] for number in part.numbers]
                began = time.perf_counter()
                rollouts = self._rollouts(part, asked, bar)
                seconds += time.perf_counter() - began
                tokens += sum(rollout.actions for rollout in rollouts)
                self.store.write(part.name, rollouts, asked)
                right = [rollout.correct for rollout in rollouts if rollout.correct is not None]
                if right:
                    bar.set_postfix(accuracy=f"{sum(right) / len(right):.1%}", refresh=False)
        return self.gap | {"speed/tokens_per_s": tokens / seconds if seconds else 0.0}

    def _rollouts(self, part: _Part, asked: Sequence[Prompt], bar: tqdm[Any]) -> list[Rollout]:
        ahead = self.rewards.ahead(asked)

        def take(group: list[Rollout]) -> None:
            if not self.gap:
                gap = measure_gap(self.model, group[:_GAP_SAMPLES])
                self.gap = GapMonitor(self.config.rollout.gap_limit).check(gap, group[0].policy_version)
            ahead.take(group)
            bar.update(min(self.world.size, bar.total - bar.n))  # the other ranks are about as far

        rollouts = self.sampler.sample(
            asked, self.config.rollout.group_size, seed=self.config.seed, first_group=part.first, on_group=take
        )
        return ahead.scored(rollouts).attached(rollouts)


def _finish(config: RolloutsConfig, here: Session, store: RolloutStore, speed: dict[str, float]) -> dict[str, Any]:
    """Close the store; the loggers; last, metrics.json, which says that the run has ended."""
    counts = store.complete()
    summary = Summary()
    shown: list[dict[str, Any]] = []
    for row in store.rows():
        summary.add(row)
        if len(shown) < _SHOWN:
            shown.append({key: row[key] for key in ("id", "question", "text", "reward", "correct", "finish_reason")})
    lines = "".join(json.dumps(rate) + "\n" for rate in summary.pass_rates())
    atomic_write_text(here.run.path / "pass_rates.jsonl", lines)
    numbers = summary.metrics() | speed | {f"rollouts/{name}": float(count) for name, count in counts.items()}
    final = numbers | {"rollouts": str(store.folder)}
    log_once(config.logger, here.run.path, config.name, config.model_dump(), numbers, {"rollouts": shown})
    atomic_write_text(here.run.path / "metrics.json", json.dumps(final, indent=2) + "\n")
    log.info("%s", ", ".join(f"{name} {value:.4g}" for name, value in numbers.items()))
    log.info("rollouts: %s", store.folder)
    return final
