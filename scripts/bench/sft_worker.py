"""One training run of one method, for `sft.py`: `python sft_worker.py METHOD SPEC.json` prints one JSON line.

The peers run in the throwaway environment that `sft.py` makes and we in the project's own. Both read this file, so all
but the standard library is imported where it is used. Every method trains one epoch over the same tokens from the same
initial weights, with the same optimiser settings, and is timed by the same `Meter`.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

IGNORE = -100
Spec = dict[str, Any]
Result = dict[str, Any]


def memory_mib(field: str) -> float:
    """`VmHWM` (peak) or `VmRSS` (now) of this process. Unlike `getrusage`, it owes nothing to the parent process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


class Meter:
    """Real (non-padding) tokens against wall time and CPU time, marked at the end of each optimiser step.

    Made when model and data stand ready, so that what memory grows by from then on is the training's.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self.marks: list[tuple[float, float, int]] = []
        self.ready_mib = memory_mib("VmRSS")

    def step(self) -> None:
        """An optimiser step is done."""
        self.marks.append((time.perf_counter(), time.process_time(), self.tokens))

    def result(self, warmup: int) -> Result:
        """Rates over the steps after the first `warmup` ones."""
        if len(self.marks) <= warmup:
            raise RuntimeError(f"{len(self.marks)} steps ran, none after the {warmup} of warm-up")
        (wall, cpu, before), (wall_end, cpu_end, after) = self.marks[warmup - 1], self.marks[-1]
        peak = memory_mib("VmHWM")
        return {
            "tokens_per_s": (after - before) / (wall_end - wall),
            "tokens_per_cpu_s": (after - before) / (cpu_end - cpu),
            "real_tokens": after - before,
            "seconds": wall_end - wall,
            "steps": len(self.marks) - warmup,
            "peak_rss_mb": peak,
            "training_mb": peak - self.ready_mib,
        }


def read_examples(path: str) -> list[dict[str, list[int]]]:
    """Rows of `input_ids` and `labels`, which ignore the prompt."""
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def build_model(spec: Spec) -> Any:
    """The Hugging Face model of the spec in fp32 and training mode; the same weights for every method."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(spec["seed"])
    config = AutoConfig.for_model(spec["architecture"], **spec["model"])
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).train()


def heldout_loss(spec: Spec, weights: dict[str, Any]) -> float:
    """Mean loss a completion token of held-out examples, one example at a time: did all methods train the same?"""
    import torch
    import torch.nn.functional as F

    model = build_model(spec).eval()
    model.load_state_dict(weights)
    total, count = 0.0, 0
    with torch.no_grad():
        for example in read_examples(spec["heldout"]):
            logits = model(torch.tensor([example["input_ids"]])).logits[0, :-1]
            labels = torch.tensor(example["labels"][1:])
            total += F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum").item()
            count += int((labels != IGNORE).sum())
    return total / count


# ---------------------------------------------------------------- ours


def dsm_trainer(spec: Spec) -> Result:
    """`dsm stage=sft` as a user runs it, with the settings that the other methods have."""
    from transformers import AutoModelForCausalLM

    from dsm.cli import main as dsm
    from dsm.training.likelihood import LikelihoodModule

    meters: list[Meter] = []
    train = LikelihoodModule.training_step

    def begin(module: Any) -> None:
        meters.append(Meter())

    def metered_step(module: Any, *batch: Any) -> None:
        train(module, *batch)
        meters[0].tokens = module.progress.positions
        meters[0].step()  # callbacks fall between two marks; the checkpoint after the last step does not

    LikelihoodModule.on_train_start = begin  # type: ignore[method-assign]
    LikelihoodModule.training_step = metered_step  # type: ignore[method-assign]
    settings = {
        "stage": "sft",
        "seed": spec["seed"],
        "resume": "never",
        "paths.runs": spec["scratch"],
        "model": spec["preset"],
        "model.vocab_size": spec["model"]["vocab_size"],
        "tokenizer.path": spec["tokenizer"],
        **{f"data.sources.bench.{key}": value for key, value in spec["source"].items()},
        "data.context": spec["context"],
        "data.packing": "best_fit",
        "data.validation.fraction": 0.0,
        "optim.lr": spec["lr"],
        "optim.betas": "[0.9,0.999]",
        "optim.weight_decay": 0.0,
        "loss": "token",
        "parallel.tokens_per_microbatch": spec["packed_microbatch"] * spec["context"],
        "trainer.steps": "null",
        "trainer.epochs": 1,
        "trainer.sequences_per_step": spec["rows_per_step"],
        "trainer.precision": spec["precision"],
        "checkpoint.every": 1_000_000,
    }
    status = dsm([f"{key}={value}" for key, value in settings.items()])
    if status:
        raise RuntimeError(f"dsm ended with status {status}")
    (export,) = Path(spec["scratch"]).glob("sft/*/export")
    weights = AutoModelForCausalLM.from_pretrained(export).state_dict()
    result = meters[0].result(spec["warmup"])
    note = f"best-fit packing, {spec['packed_microbatch']} row(s) at a time"
    return {**result, "heldout_loss": heldout_loss(spec, weights), "notes": note}


def hand_written_loop(spec: Spec) -> Result:
    """A plain loop over `CausalLM`: packed micro-batches, AdamW, clipping; what a trainer adds to this is overhead."""
    import numpy as np
    import torch

    from dsm.data.batch import Document, step_batch
    from dsm.data.order import PackedOrder
    from dsm.models.wrapper import CausalLM

    examples = read_examples(spec["train"])
    documents = [Document(np.array(e["input_ids"]), np.array(e["labels"]) != IGNORE) for e in examples]
    lengths = np.array([len(document.ids) for document in documents])
    order = PackedOrder(lengths, np.zeros_like(lengths), [1.0], spec["context"], "best_fit", spec["seed"])
    rows = [[documents[i] for i in order[row]] for row in range(order.sequences_in(1))]
    model = CausalLM(build_model(spec))
    optimizer = torch.optim.AdamW(model.parameters(), lr=spec["lr"], weight_decay=0.0, fused=True)

    meter = Meter()
    for first in range(0, len(rows), spec["rows_per_step"]):
        step = step_batch(rows[first : first + spec["rows_per_step"]], spec["packed_microbatch"] * spec["context"])
        for batch in step.microbatches:
            with torch.autocast("cpu", torch.bfloat16, enabled=spec["precision"] == "bf16"):
                logprobs, _ = model.logprobs(batch.input_ids, batch.varlen, batch.targets)
            (-logprobs.sum() / step.tokens).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        meter.tokens += step.positions
        meter.step()
    note = f"best-fit packing, {spec['packed_microbatch']} row(s) at a time"
    return {**meter.result(spec["warmup"]), "heldout_loss": heldout_loss(spec, model.model.state_dict()), "notes": note}


# ---------------------------------------------------------------- peers


def trainer_arguments(spec: Spec, microbatch: int, accumulate: int) -> dict[str, Any]:
    """What has to be equal in all trainers; the rest stays as the peer's authors set it."""
    return {
        "output_dir": spec["scratch"],
        "num_train_epochs": 1,
        "per_device_train_batch_size": microbatch,
        "gradient_accumulation_steps": accumulate,
        "learning_rate": spec["lr"],
        "lr_scheduler_type": "constant",
        "bf16": spec["precision"] == "bf16",
        "use_cpu": True,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": spec["seed"],
    }


def metered(trainer: type) -> Any:
    """The trainer class, made to count the real tokens it trains on and to mark each optimiser step."""
    from transformers import TrainerCallback

    class Marker(TrainerCallback):
        def __init__(self, meter: Meter) -> None:
            self.meter = meter

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            self.meter.step()

    class Metered(trainer):  # type: ignore[misc]
        def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            mask = inputs.get("attention_mask")
            self.meter.tokens += inputs["input_ids"].numel() if mask is None else int(mask.sum())
            return super().training_step(model, inputs, *args, **kwargs)

        def measure(self, spec: Spec) -> Result:
            self.meter = Meter()
            self.add_callback(Marker(self.meter))
            self.train()
            result = self.meter.result(spec["warmup"])
            return {**result, "heldout_loss": heldout_loss(spec, self.model.state_dict())}

    return Metered


def hf_trainer(spec: Spec) -> Result:
    """`transformers.Trainer` with `DataCollatorForSeq2Seq`: each micro-batch padded to its longest example."""
    import transformers
    from datasets import Dataset

    microbatch = spec["padded_microbatch"]
    arguments = trainer_arguments(spec, microbatch, spec["examples_per_step"] // microbatch)
    trainer = metered(transformers.Trainer)(
        model=build_model(spec),
        args=transformers.TrainingArguments(**arguments),
        train_dataset=Dataset.from_list(read_examples(spec["train"])),
        data_collator=transformers.DataCollatorForSeq2Seq(
            transformers.AutoTokenizer.from_pretrained(spec["tokenizer"])
        ),
    )
    note = f"transformers {transformers.__version__}, padded, {microbatch} examples at a time"
    return {**trainer.measure(spec), "notes": note}


def trl_trainer(
    spec: Spec, packing: str | None = None, *, one_row: bool = False, checkpointing: bool = False
) -> Result:
    """TRL's `SFTTrainer`, padded or with one of its packing strategies.

    TRL switches activation checkpointing on; nothing else here does, so it is off unless asked for. It needs no flash
    attention to keep packed documents apart where it knows them ('bfd'): on a CPU transformers makes a mask of the
    square of the micro-batch's tokens, so that one row at a time is much faster than several.
    """
    import trl
    from datasets import Dataset
    from transformers import AutoTokenizer

    if packing is None:
        microbatch, per_step = spec["padded_microbatch"], spec["examples_per_step"]
        strategy, note = {}, "padded"
    else:
        microbatch, per_step = 1 if one_row else spec["packed_microbatch"], spec["rows_per_step"]
        strategy, note = {"packing_strategy": packing}, f"{packing} packing"
    arguments = trl.SFTConfig(
        **trainer_arguments(spec, microbatch, per_step // microbatch),
        max_length=spec["context"],
        gradient_checkpointing=checkpointing,
        packing=packing is not None,
        **strategy,
    )
    trainer = metered(trl.SFTTrainer)(
        model=build_model(spec),
        args=arguments,
        train_dataset=Dataset.from_list(read_examples(spec["train"])),
        processing_class=AutoTokenizer.from_pretrained(spec["tokenizer"]),
    )
    batch = next(iter(trainer.get_train_dataloader()))
    result = trainer.measure(spec)
    note = f"trl {trl.__version__}, {note}, {microbatch} {'examples' if packing is None else 'row(s)'} at a time"
    if checkpointing:
        note += ", activation checkpointing (its default)"
    if packing is not None and leaks(trainer.model, batch):
        note += ", EXAMPLES SEE EACH OTHER"
    return {**result, "notes": note}


def leaks(model: Any, batch: dict[str, Any]) -> bool:
    """Whether the first token of a packed batch moves the logits of the last one in its row, another example's."""
    import torch

    inputs = {key: value for key, value in batch.items() if key != "labels"}
    changed = inputs | {"input_ids": inputs["input_ids"].clone()}
    changed["input_ids"][0, 0] += 1
    with torch.no_grad():
        before, after = (model.eval()(**tokens).logits[0, -1] for tokens in (inputs, changed))
    return not torch.equal(before, after)


# Every method is a function of the spec. Ours run in the project's environment, the others in the peers'.
OURS: dict[str, Callable[[Spec], Result]] = {
    "dsm": dsm_trainer,
    "loop": hand_written_loop,
}
PEERS: dict[str, Callable[[Spec], Result]] = {
    "hf_padded": hf_trainer,
    "trl_padded": trl_trainer,
    "trl_bfd": partial(trl_trainer, packing="bfd"),
    "trl_bfd_1row": partial(trl_trainer, packing="bfd", one_row=True),
    "trl_wrapped": partial(trl_trainer, packing="wrapped"),
    "trl_padded_ckpt": partial(trl_trainer, checkpointing=True),
    "trl_bfd_ckpt": partial(trl_trainer, packing="bfd", checkpointing=True),
}


def main(method: str, spec_path: str) -> None:
    """Run one method. Standard output gets its result alone; what the libraries print goes to standard error."""
    import torch

    spec = json.loads(Path(spec_path).read_text(encoding="utf-8"))
    torch.set_num_threads(spec["threads"])
    with contextlib.redirect_stdout(sys.stderr):
        result = (OURS | PEERS)[method](spec)
    print(json.dumps({"method": method, **result}))


if __name__ == "__main__":
    main(*sys.argv[1:])
