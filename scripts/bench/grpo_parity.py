"""Ours against TRL's `GRPOTrainer` in numbers: same weights, samples and rewards; same loss, gradient and new weights?

    PYTHONPATH=. PEERS_ENV/bin/python scripts/bench/grpo_parity.py

Needs an environment that has TRL 1.16 and sees what dsm needs: `sft.py --peers-env PEERS_ENV` makes one. TRL runs its
own `train()`: its advantages, its scoring passes, its micro-batches, two optimiser steps; `rollout_func` hands it the
samples, and its gradients are read before each step of the optimiser. Ours goes the way of `stage=rl`: rollouts,
`Samples`, `assign`, packed micro-batches in which prompts are shared, `PolicyModule`. All in fp32 on a CPU, with plain
SGD: AdamW would blow up a difference where a gradient is near zero. The learning rate is large enough for ratios to
leave the clip between the two updates of mu = 2.
"""

from __future__ import annotations

import copy
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from dsm.config.algorithm import AlgorithmConfig
from dsm.config.training import ConstantConfig, LossConfig, OptimConfig
from dsm.models.wrapper import CausalLM
from dsm.objectives.algorithm import build_algorithm
from dsm.objectives.normalise import normaliser
from dsm.rollout.record import Rollout
from dsm.training.rl.batch import shared_batch
from dsm.training.rl.module import PolicyModule
from dsm.training.rl.samples import documents_of, samples_of, units_of
from dsm.training.rl.scoring import Scorer
from dsm.training.step import StepSettings

CONF = Path(__file__).resolve().parents[2] / "conf" / "algorithm"
VOCABULARY, EOS, PAD = 96, 1, 0
PROMPTS, GROUP, LONGEST = 4, 4, 16
STEPS = 2
LR = 0.005
TEMPERATURE = 0.8
LIMIT = 1e-5
THEIR_STD = {"advantage.ddof": 1, "advantage.eps": 1e-4}
"""TRL divides by the sample standard deviation + 1e-4 and has no key for it."""


@dataclass(frozen=True)
class Case:
    """One algorithm in the two systems' words."""

    name: str
    theirs: dict[str, Any]
    ours: dict[str, Any]
    algorithm: str
    loss: str


@dataclass
class Steps:
    """What a system did in its optimiser steps."""

    losses: list[float] = field(default_factory=list)
    gradients: list[Tensor] = field(default_factory=list)
    clipped: list[float] = field(default_factory=list)
    weights: Tensor = field(default_factory=lambda: torch.zeros(0))


def cases() -> list[Case]:
    """GRPO, Dr. GRPO and DAPO with and without a KL penalty; GSPO and CISPO.

    TRL weights the KL by the ratio unless told not to, which changes its gradient even at ratio 1 (`kl.weighted`).
    """
    found = []
    for beta in (0.0, 0.04):
        kl = {"kl.coef": beta}
        plain = {"beta": beta, "use_bias_correction_kl": False}
        found += [
            Case(f"grpo, beta {beta}", plain | {"loss_type": "grpo"}, THEIR_STD | kl, "grpo", "sequence"),
            Case(
                f"dr_grpo, beta {beta}",
                plain | {"loss_type": "dr_grpo", "scale_rewards": "none"},
                kl,
                "dr_grpo",
                "constant",
            ),
            Case(
                f"dapo, beta {beta}",
                plain | {"loss_type": "dapo", "epsilon_high": 0.28},
                THEIR_STD | kl | {"saturated": "keep", "truncated": "keep"},
                "dapo",
                "token",
            ),
        ]
    weighted = THEIR_STD | {"kl.weighted": True}
    found.append(Case("grpo, weighted KL", {"loss_type": "grpo", "beta": 0.04}, weighted, "grpo", "sequence"))
    gspo = {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.05, "epsilon_high": 0.1}
    wider = THEIR_STD | {"policy.clip_low": 0.05, "policy.clip_high": 0.1}
    found.append(Case("gspo", gspo | {"beta": 0.0}, wider, "gspo", "sequence"))
    cispo = {"loss_type": "cispo", "epsilon_high": 5.0, "beta": 0.0}
    found.append(Case("cispo", cispo, THEIR_STD, "cispo", "token"))
    return found


def make_models(folder: Path) -> None:
    """A random model of two layers in `folder`/reference, a policy that has moved away from it in `folder`/policy."""
    from tokenizers import Tokenizer, models

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=False,
        pad_token_id=PAD,
        eos_token_id=EOS,
        bos_token_id=2,
        initializer_range=0.3,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder / "reference")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    model.save_pretrained(folder / "policy")
    words = {"<pad>": PAD, "</s>": EOS} | {f"w{i}": i for i in range(2, VOCABULARY)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<pad>")), pad_token="<pad>", eos_token="</s>"
    )
    for name in ("reference", "policy"):
        tokenizer.save_pretrained(folder / name)


def make_rollouts() -> list[Rollout]:
    """Random answers of 3 to `LONGEST` tokens, no two alike; some are cut off, one group's rewards are all equal."""
    random = np.random.default_rng(0)
    rollouts = []
    for prompt in range(PROMPTS):
        question = random.integers(2, VOCABULARY, random.integers(3, 9))
        for sample in range(GROUP):
            length = int(random.integers(3, LONGEST + 1))
            answer = random.integers(2, VOCABULARY, length)
            if length < LONGEST:
                answer[-1] = EOS
            ids = np.concatenate([question, answer])
            rollouts.append(
                Rollout(
                    prompt=prompt,
                    group=prompt,
                    sample=sample,
                    token_ids=ids,
                    action_mask=np.arange(len(ids)) >= len(question),
                    logprobs=np.zeros(len(ids), dtype=np.float32),
                    temperature=TEMPERATURE,
                    text="",
                    finish_reason="stop" if length < LONGEST else "length",
                    policy_version=0,
                    reward=0.1 if prompt == 2 else float(random.integers(0, 3)) / 2,
                )
            )
    return rollouts


def flat(model: nn.Module, *, gradient: bool) -> Tensor:
    """All parameters, or their gradients, by name in one vector."""
    parts = sorted(model.named_parameters())
    return torch.cat([(p.grad if gradient else p.detach()).flatten().clone() for _, p in parts])


def run_theirs(case: Case, rollouts: Sequence[Rollout], mu: int, folder: Path) -> Steps:
    """`GRPOTrainer.train()` on these samples."""
    import datasets
    from transformers import AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    steps = Steps()
    micro: list[float] = []
    by_prompt = [[r for r in rollouts if r.prompt == prompt] for prompt in range(PROMPTS)]
    rewards = {tuple(r.token_ids[r.action_mask].tolist()): r.reward for r in rollouts}
    assert len(rewards) == len(rollouts)

    def rollout_func(prompts: list[str], trainer: Any) -> dict[str, Any]:
        following = [iter(group) for group in by_prompt]
        chosen = [next(following[int(prompt)]) for prompt in prompts]
        return {
            "prompt_ids": [r.token_ids[~r.action_mask].tolist() for r in chosen],
            "completion_ids": [r.token_ids[r.action_mask].tolist() for r in chosen],
            "logprobs": [[0.0] * r.actions for r in chosen],
        }

    def reward(prompts: list[str], completions: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        return [float(rewards[tuple(ids)] or 0.0) for ids in completion_ids]

    class Watch(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            steps.gradients.append(flat(trainer.model, gradient=True))

    class Watched(GRPOTrainer):  # type: ignore[misc]
        def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
            loss = super().training_step(*args, **kwargs)
            micro.append(float(loss))
            return loss

    arguments = GRPOConfig(
        output_dir=str(folder / "out"),
        per_device_train_batch_size=PROMPTS * GROUP // 2,
        gradient_accumulation_steps=2,
        num_generations=GROUP,
        num_iterations=mu,
        max_completion_length=LONGEST,
        max_steps=STEPS,
        temperature=TEMPERATURE,
        optim="sgd",
        learning_rate=LR,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=0.0,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        save_strategy="no",
        report_to=[],
        logging_strategy="no",
        disable_tqdm=True,
        seed=0,
        **case.theirs,
    )
    model = LlamaForCausalLM.from_pretrained(folder / "policy", dtype=torch.float32)
    model.config._name_or_path = str(folder / "reference")  # where TRL takes its reference model from
    trainer = Watched(
        model=model,
        args=arguments,
        reward_funcs=reward,
        train_dataset=datasets.Dataset.from_dict({"prompt": [str(i) for i in range(PROMPTS)]}),
        processing_class=AutoTokenizer.from_pretrained(folder / "policy"),
        rollout_func=rollout_func,
        callbacks=[Watch()],
    )
    trainer.train()
    steps.losses = [sum(micro[2 * i : 2 * i + 2]) for i in range(STEPS)]
    steps.weights = flat(trainer.model, gradient=False)
    return steps


def run_ours(case: Case, rollouts: Sequence[Rollout], mu: int, folder: Path) -> Steps:
    """The same samples through the parts of `stage=rl`."""
    raw = OmegaConf.load(CONF / f"{case.algorithm}.yaml")
    for key, value in case.ours.items():
        OmegaConf.update(raw.algorithm, key, value)
    algorithm = build_algorithm(AlgorithmConfig.model_validate(OmegaConf.to_container(raw.algorithm)))
    loss = LossConfig.model_validate(
        {"normalisation": case.loss, "constant_length": LONGEST if case.loss == "constant" else None}
    )
    policy, reference = (
        CausalLM(LlamaForCausalLM.from_pretrained(folder / name, dtype=torch.float32))
        for name in ("policy", "reference")
    )
    settings = StepSettings(
        optim=OptimConfig(lr=LR, betas=[0.9, 0.95], eps=1e-8, weight_decay=0.0, clip_norm=None),
        scheduler=ConstantConfig(name="constant", warmup_steps=0),
        loss=loss,
        total_steps=STEPS,
        precision="fp32",
        max_skipped_steps=0,
        temperature=TEMPERATURE,
    )
    module = PolicyModule(policy, settings, algorithm)
    optimizer = torch.optim.SGD(policy.parameters(), lr=LR)
    documents = documents_of(rollouts)
    cpu = torch.device("cpu")
    steps = Steps()
    for step in range(STEPS):
        if step % mu == 0:
            scores = {}
            if mu > 1:
                scores["old"] = Scorer(policy, "fp32", cpu, 64).logprobs(documents, TEMPERATURE)
            if "reference" in algorithm.needs:
                scores["reference"] = Scorer(reference, "fp32", cpu, 64).logprobs(documents, TEMPERATURE)
            units = units_of(documents, algorithm.assign(samples_of(rollouts, scores, steps=False, drawn=False)))
        batch = shared_batch(units, tokens_per_microbatch=64)
        count = normaliser(loss.normalisation, batch.sequences, batch.tokens, loss.constant_length)
        total, acted = 0.0, 0.0
        for microbatch in batch.microbatches:
            weighted, _, seen = module.forward_microbatch(microbatch)
            (-weighted / count).backward()
            total -= float(weighted.detach()) / count
            acted += float(seen["clip/low"] + seen["clip/high"]) / batch.tokens
        steps.losses.append(total)
        steps.clipped.append(acted)
        steps.gradients.append(flat(policy.model, gradient=True))
        optimizer.step()
        optimizer.zero_grad()
    steps.weights = flat(policy.model, gradient=False)
    return steps


def compare(case: Case, mu: int, folder: Path) -> dict[str, float]:
    """Differences between the two (the largest over both steps), and what ours looks like."""
    rollouts = make_rollouts()
    theirs, ours = run_theirs(case, rollouts, mu, folder), run_ours(case, copy.deepcopy(rollouts), mu, folder)
    assert len(theirs.gradients) == len(ours.gradients) == STEPS
    pairs = list(zip(theirs.gradients, ours.gradients, strict=True))
    return {
        "loss": max(abs(a - b) for a, b in zip(theirs.losses, ours.losses, strict=True)),
        "gradient": max(float((a - b).abs().max()) for a, b in pairs),
        "relative": max(float((a - b).norm() / a.norm()) for a, b in pairs),
        "weights": float((theirs.weights - ours.weights).abs().max()),
        "norm": float(ours.gradients[-1].norm()),
        "clipped": ours.clipped[-1],
        "last_loss": ours.losses[-1],
    }


def main() -> int:
    """Print the table; status 1 where loss or gradient differ by more than 1e-5."""
    torch.set_num_threads(1)
    failed = False
    with tempfile.TemporaryDirectory(prefix="dsm-parity-") as temporary:
        folder = Path(temporary)
        make_models(folder)
        heads = ("loss", "|gradient|", "clipped", "d loss", "d gradient", "relative", "d weights")
        lines = [f"{'case':22}{'mu':>3}" + "".join(f"{head:>13}" for head in heads)]
        for case in cases():
            for mu in (1, 2):
                d = compare(case, mu, folder)
                bad = not max(d["loss"], d["gradient"], d["relative"]) < LIMIT
                failed |= bad
                lines.append(
                    f"{case.name:22}{mu:3}{d['last_loss']:13.6f}{d['norm']:13.4f}{d['clipped']:13.3f}{d['loss']:13.1e}"
                    f"{d['gradient']:13.1e}{d['relative']:13.1e}{d['weights']:13.1e}{'  <- differs' if bad else ''}"
                )
    print("\n".join(lines))
    print(
        f"\nloss, |gradient|, clipped (share of tokens): ours, step {STEPS}; differences: the largest of {STEPS} steps"
    )
    print("relative: |difference of gradients| / |gradient|")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
