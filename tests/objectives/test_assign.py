"""What is trained on, what is told, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from dsm.config.algorithm import AlgorithmConfig
from dsm.config.training import LossConfig
from dsm.data.batch import NOTHING, MicroBatch, collate
from dsm.errors import UserError
from dsm.objectives.algorithm import Algorithm, build_algorithm
from dsm.objectives.normalise import Normalisation, token_weights
from dsm.objectives.observe import EDGES, bin_names
from dsm.ops.logprobs import IGNORE
from tests.objectives.policy_lab import (
    NAMES,
    answer_logprobs,
    batch_logprobs,
    configured,
    exploration,
    microbatch,
    parameters,
)

THETA = parameters(100)


@pytest.mark.parametrize("name", NAMES)
def test_only_what_is_needed_is_needed(name: str) -> None:
    algorithm, _ = configured(name)
    samples, _ = exploration(0)
    places = {"steps": "step_rewards"}
    bare = replace(samples, step_rewards=None, old=None, reference=None, values=None, engine=None)
    needed = {places.get(need, need): getattr(samples, places.get(need, need)) for need in algorithm.needs}
    algorithm.assign(replace(bare, **needed))
    for need in algorithm.needs:
        with pytest.raises(ValueError, match=f"algorithm={name}: the samples bring no {need}"):
            algorithm.assign(replace(samples, **{places.get(need, need): None}))


def test_beta_of_zero_needs_no_reference() -> None:
    assert "reference" not in configured("grpo", kl__coef=0)[0].needs
    assert configured("ppo", kl__coef=0)[0].needs == {"values"}


def test_rewards_must_be_finite() -> None:
    samples, _ = exploration(0)
    with pytest.raises(ValueError, match="without a finite reward"):
        replace(samples, reward=np.full(len(samples), np.nan))


def test_truncated_and_saturated_samples() -> None:
    samples, _ = exploration(0, groups=(3, 3, 3))
    correct = np.array([True] * 3 + [True, False, False] + [False] * 3)
    reward = np.array([1.0, 1.0, 0.9] + [1.0, 0.0, 0.0] + [0.0] * 3)
    truncated = np.array([False] * 5 + [True] + [False] * 3)
    samples = replace(samples, correct=correct, reward=reward, truncated=truncated)
    first, _, third = samples.group[[0, 3, 6]].tolist()
    got = configured("dapo")[0].assign(samples)
    assert got.kept == [[3], [4]]
    assert got.saturated == [first, third]
    assert got.facts["groups/zero_variance"] == 1
    assert got.facts["samples/dropped_truncated"] == 1
    assert got.facts["samples/dropped_saturated"] == 6
    # The advantage is taken among all samples of the prompt, a truncated one too.
    np.testing.assert_allclose(
        [float(own["advantage"][0]) for own in got.streams[3:6]], [2**0.5, -(0.5**0.5), -(0.5**0.5)], rtol=1e-5
    )
    by_reward = configured("dapo", saturated_by="reward", truncated="keep", saturated="drop")[0].assign(samples)
    assert by_reward.saturated == [third]
    assert by_reward.kept == [[i] for i in range(6)]
    assert configured("grpo")[0].assign(samples).kept == [[i] for i in range(9)]


def test_pairs_lie_together_with_signs() -> None:
    samples, _ = exploration(0, groups=(4, 2))
    samples = replace(samples, correct=np.array([False, True, False, False, True, True]))
    got = configured("dpo")[0].assign(samples)
    assert got.kept == [[1, 3]]
    assert [float(own["preferred"][0]) for own in got.streams] == [0, 1, 0, -1, 0, 0]
    assert got.facts["pairs"] == 1
    assert got.facts["groups/without_pair"] == 1
    assert got.facts["samples/trained"] == 2


def test_kl_in_the_reward_of_a_group() -> None:
    """r - beta sum_t k1 before the advantage."""
    samples, _ = exploration(1)
    assert samples.old is not None
    assert samples.reference is not None
    penalty = [0.1 * (old - ref).sum() for old, ref in zip(samples.old, samples.reference, strict=True)]
    inside, _ = configured("grpo", kl__place="reward", kl__estimator="k1", kl__coef=0.1)
    outside, _ = configured("grpo", kl__coef=0)
    got = inside.assign(samples).streams
    expected = outside.assign(replace(samples, reward=samples.reward - np.array(penalty))).streams
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a["advantage"], b["advantage"], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("grpo", {"advantage": {"name": "pairs", "by": "correct", "per_group": None}}, "goes with policy.name=prefer"),
        ("dpo", {"kl__coef": 0.1}, "has the reference in it already"),
        ("sft", {"kl__place": "reward"}, "takes no such reward"),
        ("grpo_seed", {"kl__place": "reward"}, "is for kl.place=loss"),
        ("grpo", {"policy__clip_low": 1.5}, "less than or equal to 1"),
        ("cispo", {"policy__clip_low": 0.2}, "Extra inputs"),
    ],
)
def test_parts_that_do_not_fit(name: str, changes: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        configured(name, **changes)


def test_losses_that_do_not_fit() -> None:
    token, sequence = LossConfig(normalisation="token"), LossConfig(normalisation="sequence")
    constant = LossConfig(normalisation="constant", constant_length=16)
    assert "needs loss=sequence" in str(configured("dpo")[0].config.misfit(token))
    assert configured("dpo")[0].config.misfit(sequence) is None
    assert "needs loss=constant" in str(configured("grpo_seed")[0].config.misfit(sequence))
    assert configured("grpo_seed")[0].config.misfit(constant) is None
    assert configured("grpo")[0].config.misfit(token) is None


def seen(algorithm: Algorithm, loss: Normalisation, batch: MicroBatch) -> dict[str, torch.Tensor]:
    logprobs = batch_logprobs(THETA, batch)
    weights = token_weights(batch.targets != IGNORE, batch.varlen, loss)
    return algorithm.observe(logprobs.float(), torch.zeros_like(logprobs), weights, batch)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_told_adds_up(name: str) -> None:
    algorithm, loss = configured(name)
    samples, documents = exploration(11)
    assigned = algorithm.assign(samples)
    whole = seen(algorithm, loss, microbatch(assigned, documents, assigned.kept))
    parts = [seen(algorithm, loss, microbatch(assigned, documents, [together])) for together in assigned.kept]
    parts.append(seen(algorithm, loss, collate([NOTHING])))
    assert all(list(part) == list(whole) for part in parts)
    for key, value in whole.items():
        if key.startswith("max/"):
            assert float(value) == pytest.approx(max(float(part[key]) for part in parts), rel=1e-5)
        else:
            assert float(value) == pytest.approx(sum(float(part[key]) for part in parts), rel=1e-4, abs=1e-4)
    tokens = sum(documents[i].trained_tokens for together in assigned.kept for i in together)
    told = algorithm.tell({key: float(value) for key, value in whole.items()}, tokens, len(assigned.kept))
    assert told["train/coefficient/positive"] + told["train/coefficient/negative"] + told[
        "train/coefficient/zero"
    ] == pytest.approx(1)
    shares = [told[f"train/coefficient/bin/{bin_name}"] for bin_name in bin_names()]
    assert sum(shares) == pytest.approx(1 - told["train/coefficient/zero"])
    negative = bin_names().index("-0.01_to_0") + 1
    assert sum(shares[:negative]) == pytest.approx(told["train/coefficient/negative"])
    assert len(shares) == len(EDGES) + 1
    assert all(np.isfinite(value) for value in told.values())


def test_what_is_told_of_ratios_and_kl() -> None:
    algorithm, loss = configured("dapo", saturated="keep", truncated="keep", max_engine_weight=1.5)
    samples, documents = exploration(12)
    assigned = algorithm.assign(samples)
    batch = microbatch(assigned, documents, assigned.kept)
    tokens = int((batch.targets != IGNORE).sum())
    told = algorithm.tell({k: float(v) for k, v in seen(algorithm, loss, batch).items()}, tokens, len(samples))
    now = [batch_logprobs(THETA, microbatch(assigned, documents, [[i]])) for i in range(len(samples))]
    now = [own[own != 0].numpy() for own in now]
    old, reference, engine = (np.concatenate(own) for own in (samples.old, samples.reference, samples.engine))
    current = np.concatenate(now)
    advantage = np.concatenate([own["advantage"] for own in assigned.streams])
    ratio = np.exp(current - old)
    assert told["train/ratio/mean"] == pytest.approx(ratio.mean(), rel=1e-4)
    assert told["train/ratio_max"] == pytest.approx(ratio.max(), rel=1e-4)
    assert told["train/ratio/clipped_mean"] == pytest.approx(ratio.clip(0.8, 1.28).mean(), rel=1e-4)
    assert told["train/clip/low"] == pytest.approx(((ratio < 0.8) & (advantage < 0)).mean())
    assert told["train/clip/high"] == pytest.approx(((ratio > 1.28) & (advantage > 0)).mean())
    assert told["train/kl/k1"] == pytest.approx((current - reference).mean(), abs=1e-4)
    assert told["train/kl/k3"] == pytest.approx(
        (np.exp(reference - current) - (reference - current) - 1).mean(), rel=1e-4
    )
    assert told["train/engine/gap_abs"] == pytest.approx(abs(old - engine).mean(), rel=1e-4)
    assert told["train/engine/gap_abs_max"] == pytest.approx(abs(old - engine).max(), rel=1e-4)
    assert told["train/engine/weight_raw"] == pytest.approx(np.exp(old - engine).mean(), rel=1e-4)
    assert told["train/engine/weight"] == pytest.approx(np.exp(old - engine).clip(max=1.5).mean(), rel=1e-4)


def test_what_is_told_of_pairs() -> None:
    algorithm, loss = configured("dpo")
    samples, documents = exploration(14)
    assigned = algorithm.assign(samples)
    batch = microbatch(assigned, documents, assigned.kept)
    assert samples.reference is not None
    margins = [
        [float((answer_logprobs(THETA, documents[i]).numpy() - samples.reference[i]).mean()) for i in pair]
        for pair in assigned.kept
    ]
    told = algorithm.tell({k: float(v) for k, v in seen(algorithm, loss, batch).items()}, 1000, 2 * len(margins))
    assert len(margins) > 2
    assert told["train/preference/accuracy"] == pytest.approx(np.mean([a > b for a, b in margins]))
    assert told["train/preference/delta"] == pytest.approx(np.mean([2 * (a - b) for a, b in margins]), rel=1e-4)


def test_a_new_algorithm_is_a_function_and_a_file(tmp_path: Path) -> None:
    """No line of dsm changes for it."""
    file = tmp_path / "mine.py"
    file.write_text(
        "import torch\n"
        "def ranks(samples, power):\n"
        "    return samples.reward.argsort().argsort().astype(float) ** power\n"
        "def squashed(logprobs, old, advantages, batch, width):\n"
        "    return advantages * width * torch.tanh((logprobs - old) / width)\n"
    )
    plain = configured("grpo", kl__coef=0)[0].config.model_dump()
    plain["advantage"] = {"name": "custom", "function": f"{file}:ranks", "options": {"power": 2}}
    plain["policy"] = {"name": "custom", "function": f"{file}:squashed", "options": {"width": 0.5}}
    algorithm = build_algorithm(AlgorithmConfig.model_validate(plain))
    samples, documents = exploration(13)
    assigned = algorithm.assign(samples)
    expected = samples.reward.argsort().argsort().astype(float) ** 2
    assert [float(own["advantage"][0]) for own in assigned.streams] == expected.tolist()
    batch = microbatch(assigned, documents, assigned.kept)
    told = seen(algorithm, "sequence", batch)
    assert float(told["coefficient/positive"]) > 0


@pytest.mark.parametrize(
    ("function", "message"),
    [("nowhere_at_all:f", "cannot be imported"), ("math:nothing", "has no function")],
)
def test_functions_that_are_not_there(function: str, message: str) -> None:
    plain = configured("grpo")[0].config.model_dump()
    plain["advantage"] = {"name": "custom", "function": function}
    with pytest.raises(UserError, match=f"algorithm.advantage.function={function}: {message}"):
        build_algorithm(AlgorithmConfig.model_validate(plain))


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("samples.reward[1:]", r"returned \d+ advantages for \d+ samples"),
        ("0.5", r"returned a float for \d+ samples"),
        ("[reward if i else float('nan') for i, reward in enumerate(samples.reward)]", "returned nan for sample 0"),
        ("[reward + 0 * samples.lengths[:1] for reward in samples.reward]", r"returned shape \(1,\) for sample \d"),
    ],
)
def test_what_an_estimator_of_the_user_s_returns_is_checked(returned: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(f"def wrong(samples):\n    return {returned}\n")
    plain = configured("grpo")[0].config.model_dump()
    plain["advantage"] = {"name": "custom", "function": f"{file}:wrong"}
    algorithm = build_algorithm(AlgorithmConfig.model_validate(plain))
    with pytest.raises(UserError, match=f"algorithm.advantage.function={file}:wrong: {said}"):
        algorithm.assign(exploration(13)[0])
