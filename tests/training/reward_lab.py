"""Sums with right and wrong steps, as text: what the reward models of the tests are trained on."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from dsm.data.formats import PLAIN
from dsm.data.tokenizer import save_tokenizer, tokenizer_fingerprint, train_tokenizer
from dsm.rollout.record import Prompt, Rollout
from dsm.rollout.store import RolloutStore
from dsm.training.reward.data import tokenise
from dsm.training.reward.rows import Judged, read_row

MODEL = (
    "model=tiny", "model.config.hidden_size=48", "model.config.intermediate_size=96",
    "model.config.num_hidden_layers=2",
)  # fmt: skip


@dataclass(frozen=True)
class Sum:
    """A question, one solution in steps, and which of its steps are still right."""

    prompt: str
    steps: tuple[str, ...]
    labels: tuple[int, ...]

    @property
    def solution(self) -> str:
        return "\n".join(self.steps)

    @property
    def right(self) -> bool:
        return bool(self.labels[-1])


def sums(count: int, seed: int, *, tries: int = 4, wrong: float = 0.3, largest: int = 9, terms: int = 4) -> list[Sum]:
    """`tries` solutions of each of `count` questions; a step errs with a chance of `wrong`, what follows builds on it.

    Digits are added modulo 10, so that every sum is one token.
    """
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        numbers = [rng.randint(0, largest) for _ in range(terms)]
        for _ in range(tries):
            total, good, steps, labels = numbers[0], 1, [], []
            for number in numbers[1:]:
                result = (total + number) % 10
                if rng.random() < wrong:
                    result, good = (result + rng.randint(1, 9)) % 10, 0
                steps.append(f"{total} + {number} = {result}")
                labels.append(good)
                total = result
            found.append(Sum(" + ".join(map(str, numbers)), tuple(steps), tuple(labels)))
    return found


def write(rows: list[dict[str, Any]], file: Path) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def in_steps(found: list[Sum], file: Path) -> Path:
    """Rows of {prompt, steps, labels, label}."""
    rows = [
        {"prompt": s.prompt, "steps": list(s.steps), "labels": list(s.labels), "label": int(s.right)} for s in found
    ]
    return write(rows, file)


def rollouts(found: list[Sum], tokenizer: PreTrainedTokenizerBase, *, labelled: bool = False) -> list[Rollout]:
    """The same as a policy would have written it; `tries` solutions in a row make a group."""
    made = []
    numbers: dict[str, int] = {}
    for one in found:
        number = numbers.setdefault(one.prompt, len(numbers))
        (text,) = read_row({"prompt": one.prompt, "steps": list(one.steps), "labels": list(one.labels)})
        assert isinstance(text, Judged)
        tokens = tokenise(text, tokenizer, PLAIN)
        mask = np.arange(len(tokens.ids)) >= tokens.prompt
        made.append(
            Rollout(
                prompt=number, group=number, sample=len(made), token_ids=tokens.ids, action_mask=mask,
                logprobs=np.zeros(len(mask), dtype=np.float32), temperature=1.0, text=one.solution,
                finish_reason="eos", policy_version=1, step_ends=tokens.marks, correct=one.right,
                step_rewards=np.asarray(one.labels, dtype=np.float64) if labelled else None,
            )
        )  # fmt: skip
    return made


def stored(found: list[Sum], tokenizer: PreTrainedTokenizerBase, folder: Path, *, labelled: bool = False) -> Path:
    """A complete store of them; the reference answer is the right sum."""
    made = rollouts(found, tokenizer, labelled=labelled)
    prompts = {}
    for one, rollout in zip(found, made, strict=True):
        gold = str(sum(map(int, one.prompt.split(" + "))) % 10)
        ids = tuple(rollout.token_ids[: rollout.prompt_tokens].tolist())
        prompts[rollout.prompt] = Prompt(rollout.prompt, f"sum-{rollout.prompt}", one.prompt, ids, "", {"gold": gold})
    store = RolloutStore(folder, {"tokenizer": tokenizer_fingerprint(tokenizer)})
    half = len(made) // 2
    for name, part in (("0", made[:half]), ("1", made[half:])):
        store.write(name, part, list(prompts.values()))
    store.complete()
    return folder


def judged(found: list[Sum], file: Path) -> Path:
    """Rows of {prompt, completion, label}."""
    return write([{"prompt": s.prompt, "completion": s.solution, "label": s.right} for s in found], file)


def tokenizer(folder: Path) -> Path:
    """One that knows digits and signs."""
    save_tokenizer(train_tokenizer((f"{s.prompt} {s.solution}" for s in sums(50, 0)), 300), folder)
    return folder


def command(runs: Path, tokenizer: Path, *settings: str) -> list[str]:
    """The arguments of a short run of `stage=reward`; `settings` add to these or replace them."""
    defaults = [
        "stage=reward", *MODEL, f"tokenizer.path={tokenizer}", "data.context=192", "data.template=plain",
        "data.validation.fraction=0.1",
        "parallel.accelerator=cpu", "parallel.tokens_per_microbatch=1024", "trainer.epochs=null", "trainer.steps=6",
        "trainer.examples_per_step=8", "trainer.validate_every=3", "checkpoint.every=2", "callbacks.progress=false",
        "optim.lr=1.0e-3", f"paths.runs={runs}", f"paths.cache={runs / 'cache'}",
    ]  # fmt: skip
    given = {setting.partition("=")[0]: setting for setting in (*defaults, *settings)}
    return list(given.values())
