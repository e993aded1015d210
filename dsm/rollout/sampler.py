"""From prompts to groups of rollouts: one engine, n answers a prompt, with or without programs that run meanwhile.

A group is handed over the moment it is complete, while others are still being generated, so that rewards are worked out
beside generation. What a sample says depends on (seed, group, prompt, number of the sample) and on nothing else: not on
the rank, not on who else is under way. The group counts the prompts that a run has drawn, and so a prompt that is drawn
twice is answered with other noise.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dsm.config.rollout import RolloutConfig
from dsm.config.tools import ToolConfig
from dsm.errors import UserError
from dsm.rollout.engine import Completion, Request, RolloutEngine, Sampling
from dsm.rollout.patience import patience
from dsm.rollout.record import Prompt, Rollout, Steps
from dsm.rollout.steps import StepFinder, chosen_ends
from dsm.rollout.stops import Detokenizer
from dsm.runtime import watch
from dsm.sandbox import Sandbox
from dsm.tools.tool_use import ToolUse, Trajectory

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OnGroup = Callable[[list[Rollout]], None]
"""Called with a group as soon as its last sample is there, in the thread that generates."""


class Sampler:
    """Draws rollouts with an engine.

    Args:
        sandbox, tools: where programs run and what of their output is shown; rollout.tools=tir needs both.
        positions: of the model, for prompt and answer together, where tools are used; None = no limit.
    """

    def __init__(
        self,
        engine: RolloutEngine,
        tokenizer: PreTrainedTokenizerBase,
        config: RolloutConfig,
        *,
        sandbox: Sandbox | None = None,
        tools: ToolConfig | None = None,
        positions: int | None = None,
    ) -> None:
        self.engine, self.config = engine, config
        detokenizer = Detokenizer(tokenizer, len(tokenizer))
        self._steps = StepFinder(detokenizer, config.steps) if config.steps is not None else None
        self._tool_use = None
        if config.tools == "tir":
            if sandbox is None or tools is None:
                raise UserError("rollout.tools=tir: programs need a sandbox and tools to run in; none was given")
            self._tool_use = ToolUse(engine, sandbox, tokenizer, tools, positions)

    def sample(
        self,
        prompts: Sequence[Prompt],
        n: int,
        *,
        seed: int,
        first_group: int = 0,
        groups: Sequence[int] | None = None,
        on_group: OnGroup | None = None,
    ) -> list[Rollout]:
        """n rollouts of each prompt, a group after the other, with the ends of their steps.

        Args:
            prompts: to answer; the same one may stand there twice.
            n: rollouts of each.
            seed: of the run; the noise of a sample is a function of it, of its group, prompt and number.
            first_group: number of the first prompt's group; those after it follow.
            groups: the number of each prompt's group, where they do not follow each other.
            on_group: takes groups in the order in which they are finished.

        Raises:
            UserError: no group was finished for rollout.timeout_s.
        """
        numbers = list(groups) if groups is not None else list(range(first_group, first_group + len(prompts)))
        if len(numbers) != len(prompts):
            raise ValueError(f"{len(numbers)} groups for {len(prompts)} prompts")
        found: list[list[Rollout]] = [[] for _ in prompts]
        requests = [self._request(prompt, n, seed, group) for prompt, group in zip(prompts, numbers, strict=True)]

        with patience(self.config.timeout_s, "no group of answers was finished", "rollout.timeout_s") as progress:

            def take(index: int, written: Sequence[Completion | Trajectory]) -> None:
                progress()
                watch.progress("sampling", watch.SLOW)
                found[index] = [
                    self._rollout(prompts[index], numbers[index], sample, answer)
                    for sample, answer in enumerate(written)
                ]
                if on_group is not None:
                    on_group(found[index])

            watch.progress("sampling", watch.SLOW)
            if self._tool_use is None:
                self.engine.generate(requests, take)
            else:
                self._tool_use.generate(requests, take)
        return [rollout for group in found for rollout in group]

    def _request(self, prompt: Prompt, n: int, seed: int, group: int) -> Request:
        config = self.config
        sampling = Sampling(
            max_new_tokens=config.max_new_tokens,
            temperature=config.temperature,
            top_p=config.top_p,
            n=n,
            stop=tuple(config.stop),
            seed=group_seed(seed, group),
        )
        return Request(prompt.input_ids, sampling)

    def _rollout(self, prompt: Prompt, group: int, sample: int, answer: Completion | Trajectory) -> Rollout:
        start, length = len(prompt.input_ids), len(answer.token_ids)
        mask = np.zeros(start + length, dtype=np.bool_)
        mask[start:] = answer.action_mask if isinstance(answer, Trajectory) else True
        logprobs = np.zeros(start + length, dtype=np.float32)
        logprobs[start:] = answer.logprobs
        return Rollout(
            prompt=prompt.number,
            group=group,
            sample=sample,
            token_ids=np.asarray([*prompt.input_ids, *answer.token_ids], dtype=np.int64),
            action_mask=mask,
            logprobs=logprobs,
            temperature=self.config.temperature,
            text=answer.text,
            finish_reason=answer.finish_reason,
            policy_version=self.engine.policy_version,
            step_ends=self._step_ends(answer, mask, start),
        )

    def _step_ends(self, answer: Completion | Trajectory, mask: np.ndarray, start: int) -> Steps:
        if self._steps is None:
            return np.zeros(0, dtype=np.int64)
        ends = self._steps.ends(answer.token_ids, ended=answer.finish_reason == "eos")
        return chosen_ends([start + end for end in ends], mask)


def group_seed(seed: int, group: int) -> int:
    """62 bits for the noise of one group (engines add the number of the sample)."""
    digest = hashlib.sha256(json.dumps([seed, group]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 2
