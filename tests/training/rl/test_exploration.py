"""What lies between samples and updates: dealing, keeping, scoring, choosing prompts, alarms."""

from __future__ import annotations

import copy
import random
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from dsm.config.rl import CurriculumConfig
from dsm.config.training import ConstantConfig, LossConfig, OptimConfig
from dsm.data.batch import Document, StepBatch, step_batch
from dsm.data.prompt_order import PromptOrder
from dsm.errors import UserError
from dsm.models.wrapper import CausalLM
from dsm.objectives.algorithm import build_algorithm
from dsm.ops.logprobs import IGNORE
from dsm.rollout.record import Rollout
from dsm.training.rl.alarms import Alarms
from dsm.training.rl.batch import shared_batch
from dsm.training.rl.draw import Draw
from dsm.training.rl.exploration import Exploration, dealt, forget_before
from dsm.training.rl.module import PolicyModule
from dsm.training.rl.samples import action_ends
from dsm.training.rl.scoring import Scorer
from dsm.training.step import StepSettings
from tests.training.rl.lab import algorithm_config
from tests.training.test_step import network

STREAMS = ("advantage", "reference", "old", "engine")


def documents(count: int = 9) -> list[Document]:
    """Of unequal lengths, with a token in the midst of the answer that was put in."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        prompt, answer = int(rng.integers(2, 7)), int(rng.integers(3, 15))
        trained = np.arange(prompt + answer) >= prompt
        trained[prompt + 1] = False
        streams = {
            name: np.where(trained, rng.normal(size=prompt + answer), 0).astype(np.float32)
            * (1.0 if name == "advantage" else 0.1)
            for name in STREAMS
        }
        for name in STREAMS[1:]:
            streams[name] -= 4.0 * trained
        made.append(Document(rng.integers(0, 96, prompt + answer), trained, streams=streams))
    return made


def module() -> PolicyModule:
    optim = OptimConfig(lr=1e-3, betas=[0.9, 0.95], eps=1e-8, weight_decay=0.0, clip_norm=None)
    settings = StepSettings(
        optim, ConstantConfig(name="constant", warmup_steps=0), LossConfig(normalisation="sequence"), 10, "fp32", 2,
        temperature=0.7,
    )  # fmt: skip
    return PolicyModule(CausalLM(copy.deepcopy(network())), settings, build_algorithm(algorithm_config("grpo")))


def gradient(batches: list[StepBatch]) -> Tensor:
    """Summed over ranks, not yet divided by the count."""
    policy = module()
    for batch in batches:
        for microbatch in batch.microbatches:
            objective, _, _ = policy.forward_microbatch(microbatch)
            objective.backward()
    return torch.cat([weight.grad.flatten() for weight in policy.parameters()])


def test_no_split_and_no_order_of_groups_changes_the_gradient() -> None:
    made = documents()
    whole = gradient([Exploration(0, [[d] for d in made], {}).share(0, 1, 10**6)])
    random.Random(0).shuffle(made)
    shuffled = Exploration(0, [[document] for document in made], {})
    for ranks in (1, 2, 3, 12):
        for tokens in (1, 30, 10**6):
            split = gradient([shuffled.share(rank, ranks, tokens) for rank in range(ranks)])
            assert float((split - whole).norm() / whole.norm()) < 1e-5


@pytest.mark.parametrize("tokens", [1, 40, 10**6])
def test_a_prompt_is_computed_once_for_its_answers(tokens: int) -> None:
    """Scores and gradients as with a copy for each; fewer tokens, each trained one where it was."""
    made = [document for one in documents(3) for document in answers(one)]
    units = [[document] for document in made]
    alone, shared = step_batch(units, 1), shared_batch(units, tokens)
    assert (shared.sequences, shared.tokens) == (alone.sequences, alone.tokens)
    assert shared.positions == sum(len(batch.input_ids) for batch in shared.microbatches)
    assert all(len(batch.input_ids) <= tokens or len(batch.varlen.lengths) == 1 for batch in shared.microbatches)
    assert (shared.positions < alone.positions) == (tokens > 1)
    for name in STREAMS:
        both = ([b.streams[name][b.targets != IGNORE] for b in batch.microbatches] for batch in (alone, shared))
        assert torch.equal(*map(torch.cat, both))
    one, other = gradient([alone]), gradient([shared])
    assert float((one - other).norm() / one.norm()) < 1e-5


def answers(document: Document) -> list[Document]:
    """Four to the same prompt, one of them twice."""
    rng = np.random.default_rng(1)
    begins = int(document.trained.argmax())
    others = [np.where(np.arange(len(document.ids)) < begins, document.ids, rng.integers(0, 96, len(document.ids)))]
    shorter = document._replace(
        ids=document.ids[:-1],
        trained=document.trained[:-1],
        streams={name: values[:-1] for name, values in document.streams.items()},
    )
    return [document, *[document._replace(ids=ids) for ids in others], shorter, document]


def test_an_exploration_on_the_disk_is_the_same(tmp_path: Path) -> None:
    made = documents()
    made[3] = made[3]._replace(streams={"advantage": made[3].streams["advantage"]})
    kept = Exploration(7, [made[:2], made[2:3], made[3:5]], {"reward/mean": 0.1 + 0.2})
    kept.write(tmp_path)
    read = Exploration.read([tmp_path / "absent", tmp_path], 7)
    assert (read.number, read.facts, read.streams) == (7, kept.facts, kept.streams)
    assert [len(unit) for unit in read.units] == [2, 1, 2]
    for one, other in zip(chain(*read.units), chain(*kept.units), strict=True):
        assert np.array_equal(one.ids, other.ids)
        assert np.array_equal(one.trained, other.trained)
        assert one.streams.keys() == other.streams.keys()
        assert all(np.array_equal(one.streams[name], other.streams[name]) for name in one.streams)
    forget_before(tmp_path, 7)
    assert Exploration.read([tmp_path], 7).number == 7
    forget_before(tmp_path, 8)
    with pytest.raises(UserError, match="the samples of exploration 7 are gone"):
        Exploration.read([tmp_path], 7)


def test_units_are_dealt_evenly_and_whole() -> None:
    rng = random.Random(1)
    for shares in (1, 2, 3, 8):
        sizes = [rng.randrange(1, 100) for _ in range(64)]
        portions = dealt(sizes, shares)
        assert sorted(i for portion in portions for i in portion) == list(range(64))
        loads = [sum(sizes[i] for i in portion) for portion in portions]
        assert max(loads) - min(loads) <= max(sizes)
    assert dealt([], 2) == [[], []]


def test_packed_scores_are_those_of_padded_batches() -> None:
    model, made = network(), documents()
    found = Scorer(CausalLM(copy.deepcopy(model)), "fp32", torch.device("cpu"), 40).logprobs(made, 0.7)
    longest = max(len(document.ids) for document in made)
    ids = torch.tensor([[*document.ids.tolist(), *[0] * (longest - len(document.ids))] for document in made])
    real = torch.tensor([[i < len(document.ids) for i in range(longest)] for document in made])
    with torch.no_grad():
        logits = model.eval()(input_ids=ids, attention_mask=real.long()).logits / 0.7
    padded = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
    for row, document, scores in zip(padded, made, found, strict=True):
        expected = row[: len(document.ids) - 1][torch.from_numpy(document.trained[1:])]
        torch.testing.assert_close(torch.from_numpy(scores), expected, rtol=0, atol=1e-5)


def test_streams_stand_at_the_tokens_they_belong_to() -> None:
    (microbatch,) = Exploration(0, [[document] for document in documents()], {}).share(0, 1, 10**6).microbatches
    for name in STREAMS:
        assert torch.equal(microbatch.streams[name] != 0, microbatch.targets != IGNORE)


def test_ends_of_steps_are_counted_in_tokens_that_the_policy_chose() -> None:
    mask = np.array([0, 0, 1, 1, 0, 0, 1, 1], dtype=bool)
    rollout = Rollout(
        0, 0, 0, np.arange(8), mask, np.zeros(8, dtype=np.float32), 1.0, "", "eos", 0, step_ends=np.array([2, 3, 7])
    )
    assert action_ends(rollout).tolist() == [0, 1, 3]


def curriculum(low: float, high: float) -> CurriculumConfig:
    return CurriculumConfig(min_pass_rate=low, max_pass_rate=high, refill_rounds=2)


def draw(low: float = 0.0, high: float = 1.0, count: int = 10) -> Draw:
    return Draw(PromptOrder(np.zeros(count, dtype=np.int64), [1.0], seed=3), curriculum(low, high))


def test_prompts_come_in_an_order_that_is_a_function_of_the_seed() -> None:
    one, other = draw(), draw()
    first = [one.next(4) for _ in range(5)]
    assert [number for _ in range(4) for number in other.next(5)] == list(chain(*first))
    assert sorted(list(chain(*first))[:10]) == list(range(10))
    again = draw()
    again.load_state_dict({"place": 8, "drawn": 8, "rates": {}})
    assert again.next(4) == first[2]
    assert again.drawn == 12


def test_what_is_too_easy_or_too_hard_is_passed_by() -> None:
    one = draw(0.1, 0.9)
    epoch = one.next(10)
    one.record({number: number / 9 for number in epoch})  # 0 is hopeless, 9 is known
    assert sorted(one.next(8)) == list(range(1, 9))
    assert (one.skipped, one.retired) == (2, 2)
    resumed = draw(0.1, 0.9)
    resumed.load_state_dict(one.state_dict())
    assert resumed.next(8) == one.next(8)
    one.record(dict.fromkeys(range(10), 1.0))
    with pytest.raises(UserError, match="no prompt is left between them"):
        one.next(1)


@pytest.mark.parametrize(
    ("length", "part", "accuracy", "sounds"),
    [
        (1.0, 0.0, 0.0, {"length"}),
        (1.0, 1.0, 0.0, {"length", "format"}),
        (1.0, 1.0, 0.1, set()),
        (0.0, 0.0, 0.0, set()),
    ],
)
def test_an_alarm_is_growth_without_improvement(length: float, part: float, accuracy: float, sounds: set[str]) -> None:
    alarms = Alarms(window=5)
    for step in range(12):
        found = alarms.hear(
            {
                "rollout/length": 100 * (1 + length * step / 12),
                "reward/format": 0.5 + part * step / 24,
                "reward/mean": 0.5 + step,
                "rollout/accuracy": 0.3 + accuracy * step,
            }
        )
        assert bool(found) == (step >= 9)
    assert {name.removeprefix("alarm/") for name, on in found.items() if on} == sounds
    again = Alarms(window=5)
    again.load_state_dict(alarms.state_dict())
    assert again.state_dict() == alarms.state_dict()
