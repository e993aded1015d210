"""Iterated GRPO: the outer loop of Algorithm 1.

    for each iteration: the reference becomes the policy; steps of GRPO; the reward models learn from its samples,
    with 10 % of older data among them

Each iteration is an ordinary run in RUN/iteration-K/ that begins from the export of the one before, which is also its
reference; so is each training of a reward model between two (and, for rewards of steps, the labelling of its samples by
completions of the policy). All of them go on by themselves where they were stopped, and so does the whole.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from dsm.config.compose import compose_config
from dsm.config.reward import ModelPart
from dsm.config.reward_model import LabelConfig, RewardTrainingConfig
from dsm.config.rl import IterationConfig, RLConfig
from dsm.config.settings import overrides
from dsm.files import atomic_write_text
from dsm.runtime.launch import World
from dsm.runtime.metrics import read_lines
from dsm.runtime.session import session
from dsm.training.reward.label import label
from dsm.training.reward.stage import train_reward_model
from dsm.training.rl.keep import SAMPLES
from dsm.training.rl.stage import improve

log = logging.getLogger("dsm")
_SEED_STRIDE = 7919  # between the seeds of two iterations, so that neighbouring seeds of a sweep share no noise


def improve_in_turns(config: RLConfig) -> dict[str, Any]:
    """Run the iterations; returns the metrics of the last, and each one's as iteration-K/NAME."""
    with session(config, config.parallel) as here:
        if here.run.finished is not None:
            return here.run.finished
        log.info("%d iterations", config.iteration.count)
        root = here.run.path
    policy, judges = None, {name: part.path for name, part in _models(config).items()}
    replay = dict.fromkeys(judges, config.iteration.replay)
    told: dict[str, Any] = {}
    final: dict[str, Any] = {}
    for number in range(1, config.iteration.count + 1):
        turn = iteration(config, number, root, policy, judges)
        final = improve(turn)
        policy = str(final["export"])
        _add_curve(root, number, Path(policy).parent)
        told |= {f"iteration-{number}/{key}": value for key, value in final.items() if "/" in key and key != "export"}
        if number < config.iteration.count and judges:
            samples = str(Path(policy).parent / SAMPLES)
            for name, path in judges.items():
                judges[name], replay[name] = _continued(config, name, turn, policy, samples, replay[name], path)
    final = final | told | {"iterations": config.iteration.count}
    if World.from_environment().first:
        _point(root / "export", Path(policy or ""))
        atomic_write_text(root / "metrics.json", json.dumps(final, indent=2) + "\n")
    return final


def iteration(config: RLConfig, number: int, root: Path, policy: str | None, judges: dict[str, str]) -> RLConfig:
    """The run of one iteration, numbered from 1: from this policy (None: the start), judged by these reward models."""
    parts = {
        name: part.model_copy(update={"path": judges[name]}) if name in judges else part
        for name, part in config.reward.parts.items()
    }
    model, tokenizer = config.model, config.tokenizer
    if policy is not None:
        kept = model.model_dump(include={"attention", "activation_checkpointing", "compile"})
        model = type(model)(path=policy, **kept)
        tokenizer = tokenizer.model_copy(update={"path": None})
    updates = {
        "name": "policy",
        "seed": (config.seed + _SEED_STRIDE * (number - 1)) % 2**31,
        "resume": "auto",
        "paths": config.paths.model_copy(update={"runs": str(root / f"iteration-{number}")}),
        "model": model,
        "tokenizer": tokenizer,
        "reward": config.reward.model_copy(update={"parts": parts}),
        "table": config.table.model_copy(update={"keep": bool(judges) or config.table.keep}),
        "iteration": IterationConfig(count=1, replay=None, reward={}, label={}),
    }
    return config.model_copy(update=updates)


def _models(config: RLConfig) -> dict[str, ModelPart]:
    """The parts of the reward that learn."""
    return {name: part for name, part in config.reward.parts.items() if isinstance(part, ModelPart)}


def _continued(
    config: RLConfig, name: str, turn: RLConfig, policy: str, samples: str, replay: str | None, path: str
) -> tuple[str, str]:
    """A reward model trained on with the samples of an iteration and some older data: its new folder, and that data."""
    part = _models(config)[name]
    if part.supervision == "process":
        samples = _labelled(config, turn, policy, samples)
    asked = {
        "stage": "reward",
        "name": name,
        "seed": turn.seed,
        "supervision": part.supervision,
        "model.path": path,
        "data.sources.samples.path": samples,
        "data.replay.path": replay,
        "data.context": config.context,
        "paths": {"runs": turn.paths.runs, "cache": turn.paths.cache},
        "parallel.accelerator": config.parallel.accelerator,
    }
    learning = compose_config(list((overrides(asked) | overrides(config.iteration.reward)).values()))
    assert isinstance(learning, RewardTrainingConfig)
    return str(train_reward_model(learning)["export"]), samples


def _labelled(config: RLConfig, turn: RLConfig, policy: str, samples: str) -> str:
    """The samples with labels of their steps: the policy completes each prefix."""
    asked = {
        "stage": "label",
        "name": "labels",
        "seed": turn.seed,
        "model.path": policy,
        "data.path": samples,
        "completions.max_new_tokens": config.rollout.max_new_tokens,
        "paths": {"runs": turn.paths.runs, "cache": turn.paths.cache},
        "parallel.accelerator": config.parallel.accelerator,
    }
    labelling = compose_config(list((overrides(asked) | overrides(config.iteration.label)).values()))
    assert isinstance(labelling, LabelConfig)
    return str(label(labelling)["rollouts"])


def _add_curve(root: Path, number: int, run: Path) -> None:
    """The iteration's metrics behind those of the ones before, with steps counted on."""
    if not World.from_environment().first:
        return
    file = root / "metrics.jsonl"
    before = [line for line in read_lines(file) if line["iteration"] < number]
    first = max((line["step"] for line in before), default=0)
    lines = [line | {"step": first + line["step"], "iteration": number} for line in read_lines(run / file.name)]
    atomic_write_text(file, "".join(json.dumps(line) + "\n" for line in [*before, *lines]))


def _point(link: Path, target: Path) -> None:
    """A link to where the last policy lies, in the place where every run has its export."""
    if not link.is_symlink():
        link.symlink_to(target.resolve().relative_to(link.parent.resolve()), target_is_directory=True)
