"""Prompts and rollouts made of texts, and rewards made of a few lines of settings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter
from transformers import PreTrainedTokenizerFast

from dsm.config.answers import GraderConfig
from dsm.config.reward import FunctionPart, RewardConfig
from dsm.config.sandbox import SandboxConfig
from dsm.config.tools import ToolConfig
from dsm.data.tokenizer import train_tokenizer
from dsm.rewards.compose import Rewards
from dsm.rollout.record import Prompt, Rollout

HERE = Path(__file__).parent
FAULTY, PUBLISHED = str(HERE / "faulty.py"), str(HERE / "published.py")


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    """Mostly single bytes."""
    return train_tokenizer(["What is 1 + 1? It is 2. The answer is 2."] * 3, 300)


def ids(text: str) -> list[int]:
    found: list[int] = tokenizer()(text, add_special_tokens=False)["input_ids"]
    return found


def prompt(number: int = 0, question: str = "What is 1 + 1?", **columns: Any) -> Prompt:
    return Prompt(number, f"p{number}", question, tuple(ids(f"User: {question}")), "lab", columns)


def rollout(
    text: str, *, of: Prompt, group: int = 0, sample: int = 0, finish: str = "eos", steps: Sequence[str] | None = None
) -> Rollout:
    """A rollout with this answer; with `steps` the answer is these, one after the other."""
    text = "".join(steps) if steps is not None else text
    answer = [ids(step) for step in steps] if steps is not None else [ids(text)]
    ends = len(of.input_ids) + np.cumsum([len(step) for step in answer]) - 1
    tokens = [token for step in answer for token in step] + ([tokenizer().eos_token_id] if finish == "eos" else [])
    mask = np.array([False] * len(of.input_ids) + [True] * len(tokens))
    return Rollout(
        prompt=of.number,
        group=group,
        sample=sample,
        token_ids=np.array([*of.input_ids, *tokens], dtype=np.int64),
        action_mask=mask,
        logprobs=np.zeros(len(mask), dtype=np.float32),
        temperature=1.0,
        text=text,
        finish_reason=finish,
        policy_version=0,
        step_ends=ends.astype(np.int64) if steps is not None else np.zeros(0, dtype=np.int64),
    )


def group(of: Prompt, texts: Sequence[str], number: int = 0, **settings: Any) -> list[Rollout]:
    return [rollout(text, of=of, group=number, sample=i, **settings) for i, text in enumerate(texts)]


def rewards(parts: dict[str, dict[str, Any]], *, max_fault_share: float = 1.0, **settings: Any) -> Rewards:
    config = RewardConfig.model_validate({"parts": parts, "max_fault_share": max_fault_share})
    grader = GraderConfig(workers=1, fallback=False)  # both start sooner so
    return Rewards(
        config, tokenizer(), grader=grader, sandbox=SandboxConfig(workers=1, preload=[]), tools=ToolConfig(), **settings
    )


def function(path: str, **settings: Any) -> dict[str, Any]:
    """Settings of a function part."""
    part = {"name": "custom", "function": path, **settings}
    return TypeAdapter(FunctionPart).validate_python(part).model_dump(exclude_unset=True)
