"""From rollouts to what an algorithm sees, from what it makes of them to documents, and what is told of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dsm.data.batch import Document
from dsm.objectives.samples import Assigned, Samples
from dsm.rollout.record import Rollout
from dsm.training.rl.exploration import Unit
from dsm.training.rl.scoring import PerToken


def usable(rollouts: Sequence[Rollout], *, steps: bool) -> list[Rollout]:
    """Those that have a reward (of their steps, where the algorithm looks at these) and a token to train on."""
    return [
        rollout
        for rollout in rollouts
        if rollout.reward is not None and rollout.actions and not (steps and rollout.step_rewards is None)
    ]


def documents_of(rollouts: Sequence[Rollout]) -> list[Document]:
    """Prompt and answer as one document each; what the policy chose is trained on."""
    return [Document(rollout.token_ids, rollout.action_mask) for rollout in rollouts]


def samples_of(rollouts: Sequence[Rollout], scores: Mapping[str, PerToken], *, steps: bool, drawn: bool) -> Samples:
    """Usable rollouts as an algorithm sees them.

    Args:
        scores: the trainer's: old, reference, values.
        steps: does the algorithm look at rewards of steps?
        drawn: has an engine drawn them, so that its log-probabilities say something?
    """
    return Samples(
        group=np.array([rollout.group for rollout in rollouts], dtype=np.int64),
        reward=np.array([rollout.reward for rollout in rollouts], dtype=np.float64),
        correct=np.array([_is_correct(rollout) for rollout in rollouts], dtype=bool),
        lengths=np.array([rollout.actions for rollout in rollouts], dtype=np.int64),
        truncated=np.array([rollout.finish_reason == "length" for rollout in rollouts], dtype=bool),
        step_rewards=[rollout.step_rewards for rollout in rollouts if rollout.step_rewards is not None]
        if steps
        else None,
        step_ends=[action_ends(rollout) for rollout in rollouts] if steps else None,
        engine=[rollout.logprobs[rollout.action_mask] for rollout in rollouts] if drawn else None,
        **scores,
    )


def action_ends(rollout: Rollout) -> NDArray[np.int64]:
    """Ends of the steps as numbers of action tokens; a step that ends in a tool's output ends with the token before."""
    return np.maximum(np.cumsum(rollout.action_mask)[rollout.step_ends] - 1, 0)


def units_of(documents: Sequence[Document], assigned: Assigned) -> list[Unit]:
    """The documents that are trained on, with their streams."""
    return [[_with_streams(documents[i], assigned.streams[i]) for i in together] for together in assigned.kept]


def _with_streams(document: Document, streams: Mapping[str, NDArray[np.float32]]) -> Document:
    whole = {}
    for name, values in streams.items():
        whole[name] = np.zeros(len(document.ids), dtype=np.float32)
        whole[name][document.trained] = values
    return document._replace(streams=whole)


def pass_rates(rollouts: Sequence[Rollout]) -> dict[int, float]:
    """Share of correct answers by number of the prompt."""
    found: dict[int, list[bool]] = {}
    for rollout in rollouts:
        if rollout.reward is not None:
            found.setdefault(rollout.prompt, []).append(_is_correct(rollout))
    return {prompt: sum(correct) / len(correct) for prompt, correct in found.items()}


def rollout_facts(rollouts: Sequence[Rollout]) -> dict[str, float]:
    """Reward and its parts, accuracy, lengths, how answers ended."""
    rewards = np.array([rollout.reward for rollout in rollouts if rollout.reward is not None])
    lengths = np.array([rollout.actions for rollout in rollouts])
    facts: dict[str, float] = {"samples/unscored": len(rollouts) - len(rewards)}
    if len(rewards):
        facts |= {"reward/mean": float(rewards.mean()), "reward/std": float(rewards.std())}
    for name in dict.fromkeys(name for rollout in rollouts for name in rollout.rewards):
        values = [value for rollout in rollouts if (value := rollout.rewards.get(name)) is not None]
        if values:
            facts[f"reward/{name}"] = float(np.mean(values))
    judged = [rollout for rollout in rollouts if rollout.correct is not None]
    if judged:
        rates = pass_rates(judged)
        facts["rollout/accuracy"] = sum(bool(rollout.correct) for rollout in judged) / len(judged)
        facts["rollout/solved"] = sum(rate > 0 for rate in rates.values()) / max(len(rates), 1)
    facts |= {
        "rollout/length": float(lengths.mean()),
        "rollout/length_max": float(lengths.max()),
        "rollout/truncated": sum(rollout.finish_reason == "length" for rollout in rollouts) / len(rollouts),
        "rollout/prompt_tokens": float(np.mean([rollout.prompt_tokens for rollout in rollouts])),
    }
    return facts


def advantage_facts(assigned: Assigned) -> dict[str, float]:
    """Of the advantages of what is trained on, a token each."""
    kept = [i for together in assigned.kept for i in together]
    values = [assigned.streams[i]["advantage"] for i in kept if "advantage" in assigned.streams[i]]
    if not values:
        return {}
    whole = np.concatenate(values).astype(np.float64)
    return {"advantage/mean": float(whole.mean()), "advantage/std": float(whole.std())}


def _is_correct(rollout: Rollout) -> bool:
    """What the rule says; where there is none, whether there is a reward."""
    return bool(rollout.correct) if rollout.correct is not None else (rollout.reward or 0.0) > 0
