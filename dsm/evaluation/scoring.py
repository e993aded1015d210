"""A reward model beside the judge of a benchmark: samples get scores, so votes can be weighted and the best taken.

The weights of Math-Shepherd's vote are these scores, summed for each answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from threading import Lock

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from dsm.config.reward_model import ScorerConfig
from dsm.evaluation.benchmarks import Item
from dsm.evaluation.judge import Judge, Written
from dsm.evaluation.records import Sample
from dsm.evaluation.tasks import Task
from dsm.rewards.reward_model import RewardScorer, reward_model_fingerprint
from dsm.rollout.record import Rollout
from dsm.rollout.steps import StepFinder, chosen_ends
from dsm.rollout.stops import Detokenizer
from dsm.tools.tool_use import Trajectory


class Scoring:
    """Scores what a model writes; one for all benchmarks of an evaluation.

    Args:
        tokenizer: of the model that is measured.

    Raises:
        UserError: there is no reward model in the folder.
    """

    def __init__(self, config: ScorerConfig, tokenizer: PreTrainedTokenizerBase, device: str) -> None:
        self.config = config
        self.scorer = RewardScorer(
            config.path,
            config.supervision,
            tokenizer=tokenizer,
            device=device,
            reduction=config.reduction,
            dtype=getattr(torch, config.dtype),
            tokens_per_microbatch=config.tokens_per_microbatch,
        )
        self._steps = StepFinder(Detokenizer(tokenizer, len(tokenizer)), config.steps)
        self._lock = Lock()  # judges work in several threads, the model in one at a time

    def task(self, task: Task) -> Task:
        """The task with the reward model in its protocol: results with another one are others."""
        told = {"path": self.config.path, "weights": reward_model_fingerprint(self.config.path)}
        told |= self.config.model_dump(include={"supervision", "reduction", "steps"})
        return replace(task, protocol=task.protocol | {"reward_model": told})

    def judge(self, task: Task, judge: Judge) -> Judge:
        """The task's judge, whose samples have scores then."""
        prompts = {item.id: prompt.input_ids for item, prompt in zip(task.items, task.prompts, strict=True)}

        def scored(item: Item, written: Sequence[Written]) -> tuple[Sample, ...]:
            samples = judge(item, written)
            rollouts = [self._rollout(prompts[item.id], answer) for answer in written]
            with self._lock:
                scores = self.scorer.probabilities(rollouts)
            return tuple(
                replace(sample, score=float(score))
                if np.isfinite(score)
                else replace(sample, score=0.0, flags=(*sample.flags, "unscored"))
                for sample, score in zip(samples, scores, strict=True)
            )

        return scored

    def _rollout(self, prompt: tuple[int, ...], written: Written) -> Rollout:
        """What was written, as the record that reward models read."""
        length = len(prompt) + len(written.token_ids)
        mask = np.zeros(length, dtype=np.bool_)
        mask[len(prompt) :] = written.action_mask if isinstance(written, Trajectory) else True
        ends = self._steps.ends(written.token_ids, ended=written.finish_reason == "eos")
        return Rollout(
            prompt=0,
            group=0,
            sample=0,
            token_ids=np.asarray([*prompt, *written.token_ids], dtype=np.int64),
            action_mask=mask,
            logprobs=np.zeros(length, dtype=np.float32),
            temperature=0.0,
            text=written.text,
            finish_reason=written.finish_reason,
            policy_version=0,
            step_ends=chosen_ends([len(prompt) + end for end in ends], mask),
        )
