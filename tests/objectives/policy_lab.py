"""A policy small enough to be differentiated by hand: bigram logits; and samples of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import Tensor

from dsm.config.algorithm import AlgorithmConfig
from dsm.data.batch import Document, MicroBatch, collate
from dsm.objectives.algorithm import Algorithm, Assigned, Samples, build_algorithm
from dsm.objectives.normalise import Normalisation, normaliser, token_weights
from dsm.ops.logprobs import IGNORE

CONF = Path(__file__).resolve().parents[2] / "conf" / "algorithm"
NAMES = sorted(file.stem for file in CONF.glob("*.yaml"))
VOCABULARY = 5
COMMON_LENGTH = 16


def configured(name: str, **changes: Any) -> tuple[Algorithm, Normalisation]:
    """The algorithm of conf/algorithm with single keys changed (dots as '__'), and its normalisation."""
    raw = OmegaConf.load(CONF / f"{name}.yaml")
    loss = raw.pop("defaults")[0]["override /loss"]
    settings = OmegaConf.create({**raw, "loss": {"constant_length": COMMON_LENGTH}})
    for key, value in changes.items():
        OmegaConf.update(settings.algorithm, key.replace("__", "."), value, merge=False, force_add=True)
    plain = OmegaConf.to_container(settings, resolve=True)
    assert isinstance(plain, dict)
    return build_algorithm(AlgorithmConfig.model_validate(plain["algorithm"])), loss


def exploration(
    seed: int, groups: Sequence[int] = (4, 3, 1, 4), lengths: Sequence[int] = (2, 4, 8, 1)
) -> tuple[Samples, list[Document]]:
    """Samples with everything an algorithm may ask for, and their documents without streams.

    Log-probabilities of old, reference and engine are those of three other policies. Lengths are powers of two unless
    told otherwise: their inverses have no rounding.
    """
    random = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(groups)) * 7 + 3, groups)
    length = random.choice(lengths, len(group))
    answers = [random.integers(0, VOCABULARY, count) for count in length]
    prompts = [random.integers(0, VOCABULARY, random.integers(1, 4)) for _ in length]
    documents = [
        Document(np.concatenate([prompt, answer]), np.repeat([False, True], [len(prompt), len(answer)]))
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    correct = random.random(len(group)) < 0.5
    correct[:2] = [True, False]
    ends = [
        np.array(sorted({int(end) for end in random.integers(0, count, 3)} | ({count - 1} if i % 2 else set())))
        for i, count in enumerate(length)
    ]
    away = {name: parameters(seed + 1 + i) for i, name in enumerate(("old", "reference", "engine"))}
    samples = Samples(
        group=group,
        reward=np.where(correct, 1.0, 0.0) + random.normal(0, 0.3, len(group)),
        correct=correct,
        lengths=length,
        truncated=random.random(len(group)) < 0.2,
        step_rewards=[random.normal(0, 1, len(own)) for own in ends],
        step_ends=ends,
        values=[random.normal(0, 1, count) for count in length],
        **{name: [answer_logprobs(theta, document).numpy() for document in documents] for name, theta in away.items()},
    )
    return samples, documents


def parameters(seed: int) -> Tensor:
    """Bigram logits, (V, V) float64."""
    return torch.randn(VOCABULARY, VOCABULARY, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def answer_logprobs(theta: Tensor, document: Document) -> Tensor:
    """log pi of the answer's tokens, (|o|,) float64."""
    ids = torch.from_numpy(np.asarray(document.ids))
    return theta.log_softmax(1)[ids[:-1], ids[1:]][torch.from_numpy(document.trained[1:])]


def batch_logprobs(theta: Tensor, batch: MicroBatch) -> Tensor:
    """log pi of every target, (T,) float64; 0 where nothing is trained."""
    trained = batch.targets != IGNORE
    logprobs = theta.log_softmax(1)[batch.input_ids, batch.targets.clamp(min=0)]
    return torch.where(trained, logprobs, 0)


def microbatch(assigned: Assigned, documents: Sequence[Document], numbers: Sequence[Sequence[int]]) -> MicroBatch:
    """Those samples with their streams."""
    laid = []
    for i in (number for together in numbers for number in together):
        streams = {}
        for name, values in assigned.streams[i].items():
            whole = np.zeros(len(documents[i].ids), dtype=np.float32)
            whole[documents[i].trained] = values
            streams[name] = whole
        laid.append(documents[i]._replace(streams=streams))
    return collate(laid)


def weighted(algorithm: Algorithm, loss: Normalisation, theta: Tensor, batch: MicroBatch) -> Tensor:
    """Sum over the micro-batch of weight times objective."""
    logprobs = batch_logprobs(theta, batch)
    weights = token_weights(batch.targets != IGNORE, batch.varlen, loss)
    return (algorithm.objective(logprobs, torch.zeros_like(logprobs), batch) * weights).sum()


def counts(documents: Sequence[Document], kept: Sequence[Sequence[int]], loss: Normalisation) -> int:
    """N of the step."""
    numbers = [i for together in kept for i in together]
    tokens = sum(documents[i].trained_tokens for i in numbers)
    return normaliser(loss, len(numbers), tokens, COMMON_LENGTH)


def step_gradient(
    algorithm: Algorithm,
    loss: Normalisation,
    theta: Tensor,
    samples: Samples,
    documents: Sequence[Document],
    per_microbatch: int = 1000,
) -> tuple[float, Tensor]:
    """Objective and gradient of a whole step, as `UpdateModule` makes them."""
    assigned = algorithm.assign(samples)
    theta = theta.clone().requires_grad_()
    count = counts(documents, assigned.kept, loss)
    total = 0.0
    for start in range(0, len(assigned.kept), per_microbatch):
        batch = microbatch(assigned, documents, assigned.kept[start : start + per_microbatch])
        objective = weighted(algorithm, loss, theta, batch) / count
        objective.backward()
        total += float(objective.detach())
    assert theta.grad is not None
    return total, theta.grad


def finite_differences(function: Callable[[Tensor], float], theta: Tensor, step: float = 1e-5) -> Tensor:
    """Central differences, entry by entry."""
    gradient = torch.zeros_like(theta)
    for place in np.ndindex(*theta.shape):
        up, down = theta.clone(), theta.clone()
        up[place] += step
        down[place] -= step
        gradient[place] = (function(up) - function(down)) / (2 * step)
    return gradient
