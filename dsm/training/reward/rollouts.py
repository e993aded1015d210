"""Rollouts as judged solutions: their tokens are taken as they are, so places of steps are exact."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from dsm.data.records import Rejected
from dsm.data.tokenizer import tokenizer_fingerprint
from dsm.errors import UserError
from dsm.models.reward import Supervision
from dsm.rollout.record import Rollout
from dsm.rollout.store import RolloutStore


class JudgedTokens(NamedTuple):
    """Tokens of question and solution, how many are the question's, outcome, ends of steps, their labels."""

    ids: NDArray[np.int64]
    prompt: int
    outcome: float
    marks: NDArray[np.int64]
    labels: NDArray[np.float64]


def holds_rollouts(path: str) -> bool:
    """Is this a folder of rollouts, or that of the run which made them?"""
    folder = Path(path).expanduser()
    return any((place / "manifest.json").is_file() for place in (folder, folder / "rollouts"))


def rollouts_fingerprint(path: str, key: str) -> str:
    """SHA-256 (hex) that tells the rollouts of one folder from others.

    Raises:
        UserError: the folder is not complete.
    """
    folder, digest = RolloutStore.open(path, key).folder, hashlib.sha256()
    for file in sorted(folder.glob("part-*/part.json")):  # it holds the checksums of the others
        digest.update(f"{file.parent.name}:{file.read_text()}".encode())
    return digest.hexdigest()


def read_rollouts(
    path: str, supervision: Supervision, tokenizer: PreTrainedTokenizerBase, key: str
) -> Iterator[JudgedTokens | Rejected]:
    """The rollouts of a folder, judged by what they carry, or why one cannot be used.

    Raises:
        UserError: the folder is not complete or damaged, or another tokenizer made its tokens.
    """
    store = RolloutStore.open(path, key)
    theirs = store.facts.get("tokenizer")
    if theirs not in (None, tokenizer_fingerprint(tokenizer)):
        raise UserError(f"{key}={path}: its tokens are another tokenizer's; set tokenizer.path to the policy's")
    for part in store.parts():
        for place, rollout in enumerate(store.read([part]), start=1):
            yield judged(rollout, supervision, f"{store.folder}/part-{part}:{place}")


def judged(rollout: Rollout, supervision: Supervision, location: str) -> JudgedTokens | Rejected:
    """One rollout.

    Its outcome is what the rule says; without a rule, a reward from 0 to 1. Steps need `step_rewards` from 0 to 1.
    """
    outcome = float("nan")
    if rollout.correct is not None:
        outcome = float(rollout.correct)
    elif rollout.reward is not None and 0 <= rollout.reward <= 1:
        outcome = float(rollout.reward)
    marks, labels = np.asarray(rollout.step_ends, dtype=np.int64), np.zeros(0)
    reason = ""
    if supervision == "outcome" and np.isnan(outcome):
        reason = "neither the rule nor a reward from 0 to 1 judges it"
    if supervision == "process":
        if rollout.step_rewards is None or not len(marks):
            reason = "its steps have no labels (stage=label finds them)"
        else:
            labels = np.asarray(rollout.step_rewards, dtype=np.float64)
            if len(labels) != len(marks):
                reason = f"{len(marks)} steps have {len(labels)} labels"
            elif not ((labels >= 0) & (labels <= 1)).all():
                reason = "labels of steps must lie between 0 and 1"
    if reason:
        return Rejected(location, reason, rollout.text[:200])
    return JudgedTokens(np.asarray(rollout.token_ids), rollout.prompt_tokens, outcome, marks, labels)
