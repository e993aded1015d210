"""Reward functions in the shapes in which they are published for TRL's GRPOTrainer. Unchanged, they have to work."""
# ruff: noqa: B905 (as published)

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any


def reward_len(completions, **kwargs):
    """TRL's quick start."""
    return [-abs(20 - len(completion)) for completion in completions]


def reward_func(prompts, completions, **kwargs):
    """TRL, 'Using a custom reward function', conversational."""
    contents = [completion[0]["content"] for completion in completions]
    return [float(len(prompt[-1]["content"])) + len(content) for prompt, content in zip(prompts, contents)]


def by_ids(completion_ids, **kwargs):
    """TRL: reward of the number of tokens."""
    return [float(len(ids)) for ids in completion_ids]


def format_reward_func(completions, **kwargs):
    """TRL: checks the format with a regular expression."""
    pattern = r"^<think>.*?</think><answer>.*?</answer>$"
    contents = [completion[0]["content"] for completion in completions]
    return [1.0 if re.match(pattern, content) else 0.0 for content in contents]


def correct_answer(completions, ground_truth, **kwargs):
    """TRL: compares with a column."""
    matches = [re.search(r"\\boxed\{(.*?)\}", completion) for completion in completions]
    contents = [match.group(1) if match else "" for match in matches]
    return [1.0 if c == gt else 0.0 for c, gt in zip(contents, ground_truth)]


def math_reward_func(prompts, completions, task, **kwargs):
    """TRL: multi-task, None where it does not apply."""
    return [len(completion) / 10 if t == "math" else None for completion, t in zip(completions, task)]


def coding_reward_func(prompts, completions, task, **kwargs):
    """Its counterpart."""
    return [2.0 if t == "coding" else None for completion, t in zip(completions, task)]


async def async_reward(prompts, completions, **kwargs):
    """TRL: asynchronous."""

    async def judge(text):
        await asyncio.sleep(0.01)
        return float(len(text))

    return list(await asyncio.gather(*(judge(text) for text in completions)))


def curriculum(completions, trainer_state, **kwargs):
    """TRL: shaped by the progress of training."""
    return [float(trainer_state.global_step) for _ in completions]


def logging_reward(completions, answer, log_extra=None, log_metric=None, **kwargs):
    """TRL: logs columns and metrics."""
    rewards = [float(text == gold) for text, gold in zip(completions, answer)]
    if log_extra:
        log_extra("golden", list(answer))
    if log_metric:
        log_metric("share", sum(rewards) / len(rewards))
    return rewards


class Cosine:
    """TRL's get_cosine_scaled_reward: a factory of callable objects."""

    __name__ = "cosine"

    def __init__(self, max_len: int):
        self.max_len = max_len

    def __call__(self, completion_ids: list[list[int]], **kwargs) -> list[float]:
        return [min(len(ids) / self.max_len, 1.0) for ids in completion_ids]


def get_soft_overlong_punishment(max_completion_len: int, soft_punish_cache: int) -> Callable:
    """TRL's (Eq. 13 of DAPO)."""

    def reward(completion_ids: list[list[int]], **kwargs) -> list[float]:
        rewards = []
        for ids in completion_ids:
            completion_length = len(ids)
            if completion_length <= max_completion_len - soft_punish_cache:
                rewards.append(0.0)
            elif max_completion_len - soft_punish_cache < completion_length <= max_completion_len:
                rewards.append((max_completion_len - soft_punish_cache - completion_length) / soft_punish_cache)
            else:
                rewards.append(-1.0)
        return rewards

    return reward


def verl_like(completions, answer):
    """No **kwargs: TRL would refuse it, here it gets what it asks for."""
    return [float(text.endswith(gold)) for text, gold in zip(completions, answer)]


def step_lengths(steps: list[list[str]], **kwargs: Any) -> list[list[float]]:
    """Process supervision: a number a step."""
    return [[float(len(step)) for step in solution] for solution in steps]
