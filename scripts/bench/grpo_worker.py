"""One GRPO run of one method, for `grpo.py`: `python grpo_worker.py METHOD SPEC.json` prints one JSON line.

The peer runs in the throwaway environment that `grpo.py` makes and we in the project's own. Both start from the same
folder of weights, ask the same questions and have the same function as reward; the weights are random, so that answers
run to their limit and both sample equally many tokens.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial, wraps
from pathlib import Path
from typing import Any

from sft_worker import memory_mib

Spec = dict[str, Any]
Result = dict[str, Any]
PHASES = ("generate", "reward", "score", "update")


def digits(completions: list[str], **_: Any) -> list[float]:
    """The reward: the share of characters that are digits."""
    return [sum(c.isdigit() for c in text) / max(len(text), 1) for text in completions]


class Meter:
    """Seconds of each optimiser step, generation to update, and of its phases."""

    def __init__(self) -> None:
        self.ready_mib = memory_mib("VmRSS")
        self.marks = [time.perf_counter()]
        self.cpu = [time.process_time()]
        self.phases: list[dict[str, float]] = []
        self.tokens: list[int] = []

    def step(self, phases: dict[str, float], tokens: int) -> None:
        """An optimiser step is done."""
        self.marks.append(time.perf_counter())
        self.cpu.append(time.process_time())
        self.phases.append(dict(phases))
        self.tokens.append(tokens)

    def result(self, warmup: int) -> Result:
        """Means over the steps after the first `warmup` ones."""
        count = len(self.phases) - warmup
        if count < 1:
            raise RuntimeError(f"{len(self.phases)} steps ran, none after the {warmup} of warm-up")
        peak = memory_mib("VmHWM")
        return {
            "step_s": (self.marks[-1] - self.marks[warmup]) / count,
            "cpu_s": (self.cpu[-1] - self.cpu[warmup]) / count,
            **{name: sum(step.get(name, 0.0) for step in self.phases[warmup:]) / count for name in PHASES},
            "sampled_tokens": sum(self.tokens[warmup:]) / count,
            "peak_rss_mb": peak,
            "training_mb": peak - self.ready_mib,
        }


# ---------------------------------------------------------------- ours


def dsm_run(spec: Spec, precision: str | None = None, **settings: Any) -> Result:
    """`dsm stage=rl algorithm=grpo` as a user runs it."""
    from dsm.cli import main as dsm
    from dsm.training.rl.module import PolicyModule

    precision = precision or spec["precision"]
    meters: list[Meter] = []
    update = PolicyModule.training_step

    def begin(module: Any) -> None:
        meters.append(Meter())

    def metered(module: Any, *batch: Any) -> None:
        update(module, *batch)
        told = module.report.extra
        phases = {name: told.get(f"speed/{name}_s", 0.0) for name in PHASES}
        meters[0].step(phases, round(told["rollout/length"] * spec["prompts"] * spec["group"]))

    PolicyModule.on_train_start = begin  # type: ignore[method-assign]
    PolicyModule.training_step = metered  # type: ignore[method-assign]
    own = {
        "stage": "rl",
        "algorithm": "grpo",
        "algorithm.kl.coef": spec["beta"],
        "seed": 0,
        "resume": "never",
        "paths.runs": spec["scratch"],
        "paths.cache": f"{spec['scratch']}/cache",
        "model.path": spec["model"],
        "prompts.sources.bench.path": spec["questions"],
        "prompts.sources.bench.suffix": "false",
        "prompts.template": "plain",
        "reward": "custom",
        "reward.parts.custom.function": f"{__file__}:digits",
        "rollout.group_size": spec["group"],
        "rollout.max_new_tokens": spec["new_tokens"],
        "rollout.gap_limit": "null",
        "parallel.tokens_per_microbatch": spec["packed_microbatch"],
        "optim.lr": spec["lr"],
        "optim.betas": "[0.9,0.999]",
        "optim.weight_decay": 0.0,
        "trainer.epochs": "null",
        "trainer.steps": spec["steps"] + spec["warmup"],
        "trainer.prompts_per_step": spec["prompts"],
        "trainer.precision": precision,
        "engine.dtype": {"fp32": "float32", "bf16": "bfloat16"}[precision],
        "checkpoint.every": 1_000_000,
        "callbacks.progress": "false",
    }
    status = dsm([f"{key}={value}" for key, value in (own | settings).items()])
    if status:
        raise RuntimeError(f"dsm ended with status {status}")
    return {**meters[0].result(spec["warmup"]), "notes": f"{precision}, {spec['packed_microbatch']} tokens at a time"}


# ---------------------------------------------------------------- TRL


def trl_run(spec: Spec, precision: str | None = None, **settings: Any) -> Result:
    """TRL's `GRPOTrainer` with `generate` of transformers; its phases are timed around its own methods."""
    import torch
    import trl
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

    precision = precision or spec["precision"]
    seconds: defaultdict[str, float] = defaultdict(float)
    sampled = [0]

    @contextlib.contextmanager
    def phase(name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        seconds[name] += time.perf_counter() - began

    def timed(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def run(*args: Any, **kwargs: Any) -> Any:
            with phase(name):
                return method(*args, **kwargs)

        return run

    class Timed(trl.GRPOTrainer):  # type: ignore[misc]
        _calculate_rewards = timed("reward", trl.GRPOTrainer._calculate_rewards)
        _generate_and_score_completions = timed("explore", trl.GRPOTrainer._generate_and_score_completions)

        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            with phase("generate"):
                found = super()._generate(*args, **kwargs)
            sampled[0] += sum(map(len, found[1]))
            return found

    class Marker(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            now = time.perf_counter()
            explore = seconds.pop("explore", 0.0)
            phases = {name: seconds[name] for name in ("generate", "reward")}
            phases["score"] = explore - sum(phases.values())
            phases["update"] = now - meter.marks[-1] - explore
            meter.step(phases, sampled[0])
            seconds.clear()
            sampled[0] = 0

    rows = [json.loads(line) for line in Path(spec["questions"]).read_text(encoding="utf-8").splitlines()]
    micro, samples = spec["padded_microbatch"], spec["prompts"] * spec["group"]
    arguments = trl.GRPOConfig(
        output_dir=spec["scratch"],
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=samples // micro,
        num_generations=spec["group"],
        max_completion_length=spec["new_tokens"],
        max_steps=spec["steps"] + spec["warmup"],
        loss_type="grpo",
        beta=spec["beta"],
        temperature=1.0,
        top_k=0,
        learning_rate=spec["lr"],
        lr_scheduler_type="constant",
        gradient_checkpointing=False,
        bf16=precision == "bf16",
        use_cpu=True,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=0,
        **settings,
    )
    model = AutoModelForCausalLM.from_pretrained(spec["model"], dtype=torch.float32)
    trainer = Timed(
        model=model,
        args=arguments,
        reward_funcs=digits,
        train_dataset=Dataset.from_list([{"prompt": row["question"]} for row in rows]),
        processing_class=AutoTokenizer.from_pretrained(spec["model"]),
        callbacks=[Marker()],
    )
    meter = Meter()
    trainer.train()
    return {**meter.result(spec["warmup"]), "notes": f"trl {trl.__version__}, {precision}, {micro} answers at a time"}


OURS: dict[str, Callable[[Spec], Result]] = {
    "dsm": dsm_run,
    "dsm_bf16": partial(dsm_run, precision="bf16"),
    "dsm_compiled": partial(dsm_run, **{"model.compile": "true"}),
}
PEERS: dict[str, Callable[[Spec], Result]] = {
    "trl": trl_run,
    "trl_bf16": partial(trl_run, precision="bf16"),
    "trl_static": partial(trl_run, cache_implementation="static"),
    "trl_compiled": partial(trl_run, cache_implementation="static", torch_compile=True),
    "trl_batching": partial(trl_run, use_transformers_continuous_batching=True),
}


def main(method: str, spec_path: str) -> None:
    """Run one method. Standard output gets its result alone; what the libraries print goes to standard error."""
    import torch

    spec = json.loads(Path(spec_path).read_text(encoding="utf-8"))
    torch.set_num_threads(spec["threads"])
    if spec["clock"] == "cpu":
        time.perf_counter = time.process_time
    with contextlib.redirect_stdout(sys.stderr):
        result = (OURS | PEERS)[method](spec)
    print(json.dumps({"method": method, **result}))


if __name__ == "__main__":
    main(*sys.argv[1:])
