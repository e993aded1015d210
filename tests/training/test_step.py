"""The shared step against one example a forward pass in plain transformers, and what it does when numbers run away."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from dsm.config.training import ConstantConfig, LossConfig, OptimConfig
from dsm.data.batch import Document, MicroBatch, StepBatch, step_batch
from dsm.errors import NonFiniteError
from dsm.models.wrapper import CausalLM
from dsm.training.likelihood import LikelihoodModule
from dsm.training.step import StepSettings

CONFIG = LlamaConfig(
    vocab_size=96, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, initializer_range=0.2, tie_word_embeddings=True,
)  # fmt: skip
LOSSES = {
    "sequence": LossConfig(normalisation="sequence"),
    "token": LossConfig(normalisation="token"),
    "constant": LossConfig(normalisation="constant", constant_length=7),
}


def network() -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(copy.deepcopy(CONFIG), attn_implementation="eager").train()


def make_rows(seed: int = 0) -> list[list[Document]]:
    """Seven packed sequences of one to four documents; one document teaches nothing."""
    rng = np.random.default_rng(seed)
    rows = []
    for size in (1, 4, 2, 3, 1, 2, 1):
        lengths = rng.integers(2, 14, size)
        prompts = [int(rng.integers(1, length)) for length in lengths]
        rows.append(
            [Document(rng.integers(0, 96, n), np.arange(n) >= p) for n, p in zip(lengths, prompts, strict=True)]
        )
    nothing = rows[1][2]
    rows[1][2] = Document(nothing.ids, nothing.trained & False)
    return rows


ROWS = make_rows()


class Observed(LikelihoodModule):
    """SFT that keeps the gradients of its last step; the objective of the steps in `bad` is not finite."""

    bad: Iterable[int] = ()

    def objective(self, logprobs: Tensor, entropy: Tensor, batch: MicroBatch) -> Tensor:
        return logprobs * (math.nan if self.progress.step in self.bad else 1.0)

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.gradients = {name: weight.grad.clone() for name, weight in self.model.model.named_parameters()}

    def on_train_start(self) -> None:
        self.losses: list[dict[str, float]] = []

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.before = self.snapshot()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.losses.append(self.report.extra)

    def snapshot(self) -> tuple[Any, Any]:
        return copy.deepcopy((self.model.state_dict(), self.optimizers(use_pl_optimizer=False).state_dict()["state"]))


def observed(loss: str = "sequence", **changes: Any) -> Observed:
    settings = {"precision": "fp32", "clip_norm": None, "total_steps": 10, "max_skipped_steps": 2} | changes
    optim = OptimConfig(lr=1e-3, betas=[0.9, 0.95], eps=1e-8, weight_decay=0.1, clip_norm=settings.pop("clip_norm"))
    constant = ConstantConfig(name="constant", warmup_steps=0)
    return Observed(CausalLM(network()), StepSettings(optim, constant, LOSSES[loss], **settings))


def train(module: Observed, batches: list[StepBatch], *callbacks: pl.Callback) -> Observed:
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=list(callbacks),
    )  # fmt: skip
    trainer.fit(module, torch.utils.data.DataLoader(batches, batch_size=None))
    return module


def token_logprobs(model: PreTrainedModel, document: Document) -> Tensor:
    """(trained tokens,) log pi of one example alone, from full logits."""
    ids = torch.from_numpy(document.ids)
    logprobs = model(input_ids=ids[None], use_cache=False).logits[0, :-1].log_softmax(-1)
    return logprobs.gather(1, ids[1:, None])[:, 0][torch.from_numpy(document.trained[1:])]


def reference(loss: str) -> tuple[float, dict[str, Tensor]]:
    """The loss and its gradients, one example a forward pass."""
    model = network()
    answers = [token_logprobs(model, document) for row in ROWS for document in row]
    answers = [answer for answer in answers if len(answer)]
    value = {
        "sequence": lambda: torch.stack([answer.mean() for answer in answers]).mean(),
        "token": lambda: torch.cat(answers).mean(),
        "constant": lambda: torch.cat(answers).sum() / (7 * len(answers)),
    }[loss]()
    (-value).backward()
    return -value.item(), {name: weight.grad for name, weight in model.named_parameters()}


def assert_equal_gradients(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert float((found[name] - gradient).norm() / gradient.norm()) < tolerance, name


@pytest.mark.parametrize("loss", LOSSES)
def test_every_split_gives_the_gradient_of_one_example_at_a_time(loss: str) -> None:
    value, expected = reference(loss)
    splits = []
    for tokens_per_microbatch in (1, 30, 60, 10**6):
        batch = step_batch(ROWS, tokens_per_microbatch)
        splits.append(len(batch.microbatches))
        module = train(observed(loss), [batch])
        assert_equal_gradients(module.gradients, expected)
        assert module.report.loss == pytest.approx(value, rel=1e-6)
        norm = math.sqrt(sum(float(gradient.square().sum()) for gradient in expected.values()))
        assert module.report.grad_norm == pytest.approx(norm, rel=1e-5)
        assert (module.report.sequences, module.report.tokens) == (batch.sequences, batch.tokens)
    assert splits == [len(ROWS), 5, 3, 1]


def test_losses_and_tokens_are_told_for_each_source() -> None:
    rows = [[document._replace(source=number % 2) for document in row] for number, row in enumerate(ROWS)]
    model, positions = network(), [0, 0]
    answers: list[list[Tensor]] = [[], []]
    for document in (document for row in rows for document in row):
        answers[document.source].append(token_logprobs(model, document))
        positions[document.source] += len(document.ids)
    module = train(observed("token", source_names=("a", "b", "absent")), [step_batch(rows, 30)] * 2)
    for name, logprobs in zip("ab", answers, strict=True):
        first = module.losses[0][f"train/loss/{name}"]
        assert first == pytest.approx(-float(torch.cat(logprobs).mean()), rel=1e-5)
    assert "train/loss/absent" not in module.losses[0]
    assert module.progress.source_positions == [2 * positions[0], 2 * positions[1], 0]
    assert module.report.extra["mix/tokens/b"] == 2 * positions[1]


def test_equation_7_token_by_token() -> None:
    """grad J = (1 / n) sum_i (1 / |o_i|) sum_t grad log pi(o_it): each token's gradient taken by itself."""
    model = network()
    weights = dict(model.named_parameters())
    answers = [answer for row in ROWS for d in row if len(answer := token_logprobs(model, d))]
    total = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for answer in answers:
        for logprob in answer:
            for name, gradient in zip(
                weights, torch.autograd.grad(logprob, list(weights.values()), retain_graph=True), strict=True
            ):
                total[name] += gradient / (len(answer) * len(answers))
    module = train(observed(), [step_batch(ROWS, 50)])
    assert_equal_gradients(module.gradients, {name: -gradient for name, gradient in total.items()})


def test_the_logged_norm_is_the_one_before_clipping() -> None:
    free, clipped = (train(observed(clip_norm=limit), [step_batch(ROWS, 50)]) for limit in (None, 0.25))
    assert clipped.report.grad_norm == free.report.grad_norm > 1
    scaled = {name: gradient * (0.25 / free.report.grad_norm) for name, gradient in free.gradients.items()}
    assert_equal_gradients(clipped.gradients, scaled)


class After(pl.Callback):
    """What each step left: (applied, weights and optimiser as before the step, skipped so far, in a row)."""

    def __init__(self) -> None:
        self.steps: list[tuple[bool, bool, int, int]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        unchanged = all(map(_same, module.before, module.snapshot()))
        progress = module.progress
        self.steps.append((module.report.applied, unchanged, progress.skipped, progress.skipped_in_a_row))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return bool(torch.equal(one, other))


def test_a_step_that_is_not_finite_changes_nothing_and_is_counted() -> None:
    module, after = observed(), After()
    module.bad = (1, 2, 4)
    train(module, [step_batch(make_rows(seed), 50) for seed in range(6)], after)
    assert after.steps == [
        (True, False, 0, 0),
        (False, True, 1, 1),
        (False, True, 2, 2),
        (True, False, 2, 0),
        (False, True, 3, 1),
        (True, False, 3, 0),
    ]
    assert module.progress.step == 6
    assert all(torch.isfinite(weight).all() for weight in module.parameters())


def test_too_many_such_steps_in_a_row_stop_the_run() -> None:
    module = observed()
    module.bad = (1, 2, 3)
    before = network().state_dict()
    with pytest.raises(NonFiniteError, match=r"3 steps in a row .* trainer\.max_skipped_steps=2"):
        train(module, [step_batch(ROWS, 50)] * 6)
    assert module.progress.step == 3
    assert all(torch.isfinite(weight).all() for weight in module.parameters())
    assert any(not torch.equal(weight, before[name]) for name, weight in module.model.model.state_dict().items())


def test_a_step_with_nothing_to_learn_changes_nothing() -> None:
    nothing = [[Document(d.ids, d.trained & False) for d in row] for row in ROWS]
    module, after = observed(), After()
    train(module, [step_batch(ROWS, 50), step_batch(nothing, 50)], after)
    assert after.steps[1] == (False, True, 1, 1)
    assert (module.report.sequences, module.report.tokens) == (0, 0)


def test_bf16_computes_in_bf16_over_fp32_weights() -> None:
    exact, rough = (train(observed(precision=precision), [step_batch(ROWS, 50)]) for precision in ("fp32", "bf16"))
    moments = [state["exp_avg"] for state in rough.snapshot()[1].values()]
    tensors = [*rough.parameters(), *rough.gradients.values(), *moments]
    assert {tensor.dtype for tensor in tensors} == {torch.float32}
    assert 0 < abs(rough.report.loss - exact.report.loss) < 0.02 * exact.report.loss
    for name, gradient in exact.gradients.items():
        assert 1e-4 < float((rough.gradients[name] - gradient).norm() / gradient.norm()) < 0.1, name
