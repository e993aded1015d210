"""Groups of rollouts: complete when handed over, the same whoever else is under way, tools' words masked out."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from dsm.config.rollout import RolloutConfig
from dsm.config.tools import ToolConfig
from dsm.errors import UserError
from dsm.ops.logprobs import IGNORE
from dsm.ops.varlen import Varlen
from dsm.rollout.engine import Completion, Request
from dsm.rollout.patience import patience
from dsm.rollout.record import Prompt, Rollout
from dsm.rollout.sampler import Sampler
from dsm.sandbox import Execution


def _config(**settings: Any) -> RolloutConfig:
    defaults = {
        "group_size": 4, "max_new_tokens": 12, "temperature": 0.8, "top_p": 1.0, "stop": [], "tools": "none",
        "steps": {"split": "lines"}, "timeout_s": 60.0, "gap_limit": None,
    }  # fmt: skip
    return RolloutConfig.model_validate(defaults | settings)


def _prompts(ids: Sequence[tuple[int, ...]]) -> list[Prompt]:
    return [Prompt(i, f"p{i}", f"q{i}?", each, "s", {"gold": str(i)}) for i, each in enumerate(ids)]


def _same(a: Rollout, b: Rollout) -> bool:
    arrays = ("token_ids", "action_mask", "logprobs", "step_ends")
    return a.text == b.text and all(np.array_equal(getattr(a, name), getattr(b, name)) for name in arrays)


def test_groups_and_their_logprobs(make_model, make_engine, tokenizer, prompts):
    """Prompt and answer as one sequence, with the trainer's own log-probabilities at the temperature."""
    model = make_model()
    asked = _prompts(prompts[:4])
    rollouts = Sampler(make_engine(model), tokenizer, _config()).sample(asked, 3, seed=5, first_group=10)
    assert [(r.prompt, r.group, r.sample) for r in rollouts] == [(p, 10 + p, s) for p in range(4) for s in range(3)]
    for rollout in rollouts:
        prompt = asked[rollout.prompt].input_ids
        assert tuple(rollout.token_ids[: rollout.prompt_tokens]) == prompt
        assert rollout.actions == 12 == len(rollout.token_ids) - len(prompt)
        ids = torch.tensor(rollout.token_ids)
        targets = torch.where(torch.from_numpy(rollout.action_mask), ids, IGNORE).roll(-1)
        with torch.no_grad():
            logprobs, _ = model.logprobs(ids, Varlen.from_lengths([len(ids)]), targets, 0.8)
        assert rollout.logprobs == pytest.approx(logprobs.roll(1).numpy(), abs=2e-5)
        assert rollout.step_ends[-1] == len(ids) - 1
        assert rollout.action_mask[rollout.step_ends].all()


def test_noise_is_of_seed_group_prompt_and_sample(make_model, make_engine, tokenizer, prompts):
    """In any company, on any rank, in any order; a prompt drawn twice is answered anew."""
    sampler = Sampler(make_engine(make_model()), tokenizer, _config())
    asked = [*_prompts(prompts[:5]), *_prompts(prompts[:1])]
    whole = sampler.sample(asked, 2, seed=1)
    for rank in range(2):
        part = sampler.sample(asked[rank::2], 2, seed=1, groups=list(range(rank, 6, 2)))
        for rollout in part:
            assert _same(rollout, whole[2 * rollout.group + rollout.sample])
    assert not _same(whole[0], whole[10])
    assert not _same(whole[0], whole[1])
    assert not _same(whole[0], sampler.sample(asked[:1], 1, seed=2)[0])
    with pytest.raises(ValueError, match="1 groups for 2 prompts"):
        sampler.sample(asked[:2], 1, seed=1, groups=[0])


def test_groups_come_while_others_are_written(make_model, make_engine, tokenizer, prompts):
    """Each once, complete, and not all at the end."""
    engine = make_engine(make_model(), max_rows=4)
    seen: list[int] = []
    rows: list[int] = []
    decode = engine._network.forward

    def forward(*args: Any) -> Any:
        rows.append(len(seen))
        return decode(*args)

    engine._network.forward = forward
    groups: list[list[Rollout]] = []

    def take(group: list[Rollout]) -> None:
        seen.append(group[0].group)
        groups.append(group)

    rollouts = Sampler(engine, tokenizer, _config(steps=None)).sample(_prompts(prompts), 2, seed=0, on_group=take)
    assert sorted(seen) == list(range(len(prompts)))
    assert len({id(r) for group in groups for r in group} & {id(r) for r in rollouts}) == len(rollouts)
    assert rows[-1] > len(prompts) // 2  # forward passes were still to come when half of them were handed over
    assert all(len(r.step_ends) == 0 for r in rollouts)


def test_ends_and_versions(make_model, make_engine, tokenizer, prompts):
    """An EOS is an action and no part of a step; the policy's version is the engine's."""
    model = make_model()
    sampler = Sampler(make_engine(model, ends=range(40, 80)), tokenizer, _config(max_new_tokens=30))
    ended = [r for r in sampler.sample(_prompts(prompts), 4, seed=0) if r.finish_reason == "eos" and r.actions > 1]
    assert ended
    assert all(r.step_ends[-1] == len(r.token_ids) - 2 and r.action_mask[-1] for r in ended)
    sampler.engine.sync(model)
    assert {r.policy_version for r in sampler.sample(_prompts(prompts[:1]), 1, seed=0)} == {1}


class _Box:
    """A sandbox that has run every program already."""

    def submit(self, program: object) -> Any:
        from concurrent.futures import Future

        done: Future[Execution] = Future()
        done.set_result(Execution("ok", "12\n", "", None, 0.1))
        return done


class _Script:
    """An engine that says what it is told to."""

    def __init__(self, tokenizer: Any, turns: Sequence[str]) -> None:
        self.tokenizer, self.turns, self.policy_version = tokenizer, list(turns), 3

    def generate(self, requests: Sequence[Request], on_done: Callable[..., None] | None = None) -> list[Any]:
        found = []
        for index, request in enumerate(requests):
            text = self.turns.pop(0)
            ids = tuple(self.tokenizer(text, add_special_tokens=False)["input_ids"])
            stop = next((stop for stop in request.sampling.stop if stop in text), None)
            said = text[: text.index(stop)] if stop else text
            found.append([Completion(ids, (-0.5,) * len(ids), said, "stop" if stop else "length", stop)])
            if on_done is not None:
                on_done(index, found[-1])
        return found


def test_tool_output_is_masked(tokenizer):
    """What the interpreter wrote is in the context and no action; no step ends in it."""
    engine = _Script(tokenizer, ["a\n```python\nprint(12)\n```\n", "so 12"])
    sampler = Sampler(
        engine,
        tokenizer,
        _config(tools="tir", max_new_tokens=200),
        sandbox=_Box(),
        tools=ToolConfig(),
        positions=500,  # type: ignore[arg-type]
    )
    [rollout] = sampler.sample(_prompts([(9, 10)]), 1, seed=0)
    assert rollout.text == "a\n```python\nprint(12)\n```\n```output\n12\n```\nso 12"
    ids, mask = rollout.token_ids, rollout.action_mask
    assert tokenizer.decode(ids[2:][~mask[2:]]) == "```output\n12\n```\n"
    assert tokenizer.decode(ids[mask]) == "a\n```python\nprint(12)\n```\nso 12"
    assert (rollout.logprobs == np.where(mask, np.float32(-0.5), 0)).all()
    assert mask[rollout.step_ends].all()
    said = [tokenizer.decode(ids[2 : end + 1]).rsplit("\n", 2)[-2] for end in rollout.step_ends[:-1]]
    assert said == ["a", "```python", "print(12)", "```"]
    assert rollout.policy_version == 3
    with pytest.raises(UserError, match=r"^rollout.tools=tir"):
        Sampler(engine, tokenizer, _config(tools="tir"))  # type: ignore[arg-type]


def test_a_hang_is_ended(tokenizer):
    """No group for rollout.timeout_s: one line that says so, not a wait for ever."""

    class Hangs(_Script):
        def generate(self, requests: Sequence[Request], on_done: Callable[..., None] | None = None) -> list[Any]:
            while True:
                time.sleep(0.01)

    with pytest.raises(UserError, match=r"^rollout.timeout_s=0.2: no group of answers was finished within that time"):
        Sampler(Hangs(tokenizer, []), tokenizer, _config(timeout_s=0.2)).sample(_prompts([(9,)]), 1, seed=0)  # type: ignore[arg-type]


def test_a_hang_outside_python_is_ended():
    """What no interrupt reaches ends with the process: status 75, try again."""
    script = """
import ctypes
from dsm.rollout import patience
patience._GRACE_S = 0.2
with patience.patience(0.2, "nothing came", "x"):
    while True:
        ctypes.CDLL(None).usleep(10_000_000)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 75
    assert "dsm: x=0.2: nothing came within that time" in ended.stderr


def test_patience():
    """Progress restarts the clock; an interrupt of the user's stays one; threads are left alone."""
    with patience(0.2, "nothing came", "x") as progress:
        for _ in range(6):
            time.sleep(0.1)
            progress()
    with pytest.raises(KeyboardInterrupt), patience(5.0, "nothing came", "x"):
        raise KeyboardInterrupt
    left: list[bool] = []

    def work() -> None:
        with patience(0.05, "nothing came", "x"):
            time.sleep(0.3)
        left.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert left == [True]
