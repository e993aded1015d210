"""One pre-training run of one method, for `pretrain.py`: `python pretrain_worker.py METHOD SPEC.json`.

It trains one step at a time: after each it says so on standard output and waits for a line on standard input, while the
other run of the pair makes its step. The last line is the result, as JSON. We run in the project's environment and the
peers in theirs (litgpt in `pretrain_litgpt.py`); both read this file, so all but the standard library is imported where
it is used. Every method starts from the same weights and trains on the same rows of documents in the same order.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

IGNORE = -100
Spec = dict[str, Any]
Result = dict[str, Any]


class Meter:
    """Wall and CPU time of each step; between two steps it is the other process's turn, and the clocks stand still."""

    def __init__(self, spec: Spec, turn: Callable[[], None]) -> None:
        self.steps: list[dict[str, float]] = []
        self.cuda = spec["device"] == "cuda"
        self._turn = turn
        self._wall = self._cpu = 0.0

    def begin(self) -> None:
        """Model and data stand ready."""
        self._turn()
        self._wall, self._cpu = self._clocks()

    def step(self, tokens: int, loss: float = math.nan) -> None:
        """A step over so many tokens (padding not counted) is done, and whatever its trainer does after it."""
        wall, cpu = self._clocks()
        self.steps.append({"wall": wall - self._wall, "cpu": cpu - self._cpu, "tokens": tokens, "loss": loss})
        self.begin()

    def _clocks(self) -> tuple[float, float]:
        if self.cuda:
            import torch

            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()


def read_rows(path: str) -> list[dict[str, Any]]:
    """Rows of a whole context: `documents`, lists of token ids, and `following`, the token after the row or None."""
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def flat(row: dict[str, Any]) -> list[int]:
    """A row's tokens, end to end."""
    return [token for document in row["documents"] for token in document]


def load_model(spec: Spec) -> Any:
    """The Hugging Face model in fp32 and training mode, with the weights that all methods start from."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(spec["model"], dtype=torch.float32).train()


def heldout_loss(spec: Spec, weights: dict[str, Any]) -> float:
    """Mean loss a token of documents not trained on, one at a time: did all methods learn the same?"""
    import torch
    import torch.nn.functional as F

    model = load_model(spec).eval()
    model.load_state_dict({name: weight.cpu() for name, weight in weights.items()})
    total, count = 0.0, 0
    with torch.no_grad():
        for row in read_rows(spec["heldout"]):
            for document in row["documents"]:
                if len(document) > 1:
                    ids = torch.tensor([document])
                    total += F.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:], reduction="sum").item()
                    count += len(document) - 1
    return total / count


# ---------------------------------------------------------------- ours


def dsm_stage(spec: Spec, turn: Callable[[], None], *, compiled: bool = False) -> Result:
    """`dsm stage=pretrain` as a user runs it, with the settings that the other methods have."""
    from transformers import AutoModelForCausalLM

    from dsm.cli import main as dsm
    from dsm.training.likelihood import LikelihoodModule

    meter = Meter(spec, turn)
    train = LikelihoodModule.training_step

    def metered_step(module: Any, *batch: Any) -> None:
        train(module, *batch)
        # Callbacks and the next step's data fall between two marks; the checkpoint after the last step does not.
        meter.step(module.report.positions, module.report.loss)

    LikelihoodModule.on_train_start = lambda module: meter.begin()  # type: ignore[method-assign]
    LikelihoodModule.training_step = metered_step  # type: ignore[method-assign]
    tokens_per_step = spec["rows_per_step"] * spec["context"]
    settings = {
        **spec["mix"],
        "stage": "pretrain",
        "seed": spec["seed"],
        "resume": "never",
        "paths.runs": spec["scratch"],
        "model": "pretrained",
        "model.path": spec["model"],
        "model.compile": compiled,
        "optim.lr": spec["lr"],
        "optim.betas": json.dumps(spec["betas"]),
        "optim.weight_decay": spec["weight_decay"],
        "scheduler": "constant",
        "parallel.accelerator": spec["device"],
        "parallel.tokens_per_microbatch": spec["rows_per_microbatch"] * spec["context"],
        "trainer.tokens": spec["steps"] * tokens_per_step,
        "trainer.tokens_per_step": tokens_per_step,
        "trainer.precision": spec["precision"],
        "checkpoint.every": 1_000_000,
    }
    status = dsm([f"{key}={value}" for key, value in settings.items()])
    if status:
        raise RuntimeError(f"dsm ended with status {status}")
    (export,) = Path(spec["scratch"]).glob("pretrain/*/export")
    weights = AutoModelForCausalLM.from_pretrained(export).state_dict()
    return {"steps": meter.steps, "heldout_loss": heldout_loss(spec, weights)}


def hand_written_loop(spec: Spec, turn: Callable[[], None]) -> Result:
    """A plain loop over `CausalLM`, its batches made beforehand: what a trainer adds to this is overhead."""
    import numpy as np
    import torch

    from dsm.data.batch import Document, step_batch
    from dsm.models.wrapper import CausalLM

    def documents(row: dict[str, Any]) -> list[Document]:
        ids = [np.array(document) for document in row["documents"]]
        after = [None] * (len(ids) - 1) + [row["following"]]
        return [Document(i, np.ones(len(i), dtype=bool), following=f) for i, f in zip(ids, after, strict=True)]

    device = spec["device"]
    rows, per_step = [documents(row) for row in read_rows(spec["train"])], spec["rows_per_step"]
    limit = spec["rows_per_microbatch"] * spec["context"]
    batches = [step_batch(rows[i : i + per_step], limit).to(device) for i in range(0, len(rows), per_step)]
    model = CausalLM(load_model(spec)).to(device)
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": spec["weight_decay"]}, {"params": vectors, "weight_decay": 0.0}],
        lr=spec["lr"],
        betas=spec["betas"],
        fused=True,
    )
    meter = Meter(spec, turn)
    meter.begin()
    for step in batches:
        total = torch.zeros((), device=device)
        for batch in step.microbatches:
            with torch.autocast(device, torch.bfloat16, enabled=spec["precision"] == "bf16"):
                logprobs, _ = model.logprobs(batch.input_ids, batch.varlen, batch.targets)
            loss = -logprobs.sum() / step.tokens
            loss.backward()
            total += loss.detach()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        meter.step(step.positions, total.item())
    return {"steps": meter.steps, "heldout_loss": heldout_loss(spec, model.model.state_dict())}


# ---------------------------------------------------------------- transformers.Trainer


def packed_rows(spec: Spec, masked: bool) -> list[dict[str, list[int]]]:
    """Whole contexts; `position_ids` that restart tell transformers the documents, labels leave out their first tokens.

    Labels are moved inside the model, so a row's last token predicts nothing: one of a context.
    """
    examples = []
    for row in read_rows(spec["train"]):
        ids = flat(row)
        example = {"input_ids": ids, "labels": list(ids)}
        if masked:
            example["position_ids"] = [i for document in row["documents"] for i in range(len(document))]
            example["labels"] = [t for document in row["documents"] for t in (IGNORE, *document[1:])]
        examples.append(example)
    return examples


def hf_trainer(
    spec: Spec, turn: Callable[[], None], *, layout: str, microbatch: int | None = None, compiled: bool = False
) -> Result:
    """`transformers.Trainer`: packed rows ('masked', 'unmasked') or documents padded to each other ('padded')."""
    import transformers

    rows_per_step = spec["rows_per_step"]
    if layout == "padded":
        documents = [d for row in read_rows(spec["train"]) for d in row["documents"]]
        examples = [{"input_ids": d, "labels": d, "attention_mask": [1] * len(d)} for d in documents]
        microbatch = microbatch or spec["rows_per_microbatch"]
        accumulate = max(1, round(len(documents) / spec["steps"] / microbatch))
        collator = transformers.DataCollatorForSeq2Seq(transformers.AutoTokenizer.from_pretrained(spec["model"]))
    else:
        examples = packed_rows(spec, layout == "masked")
        microbatch = spec["rows_per_microbatch"]
        accumulate = rows_per_step // microbatch
        collator = transformers.default_data_collator

    meter, counted = Meter(spec, turn), [0]

    class Marker(transformers.TrainerCallback):
        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            meter.begin()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            meter.step(counted[0])
            counted[0] = 0

    class Metered(transformers.Trainer):
        def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
            mask = inputs.get("attention_mask")
            counted[0] += inputs["input_ids"].numel() if mask is None else int(mask.sum())
            return super().training_step(model, inputs, *args, **kwargs)

    trainer = Metered(
        model=load_model(spec),
        args=transformers.TrainingArguments(
            output_dir=spec["scratch"],
            max_steps=spec["steps"],
            per_device_train_batch_size=microbatch,
            gradient_accumulation_steps=accumulate,
            train_sampling_strategy="group_by_length" if layout == "padded" else "sequential",
            learning_rate=spec["lr"],
            lr_scheduler_type="constant",
            adam_beta1=spec["betas"][0],
            adam_beta2=spec["betas"][1],
            weight_decay=spec["weight_decay"],
            max_grad_norm=1.0,
            bf16=spec["precision"] == "bf16",
            torch_compile=compiled,
            use_cpu=spec["device"] == "cpu",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=spec["seed"],
        ),
        train_dataset=examples,
        data_collator=collator,
        callbacks=[Marker()],
    )
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    for step, loss in zip(meter.steps, losses, strict=True):
        step["loss"] = loss
    return {"steps": meter.steps, "heldout_loss": heldout_loss(spec, trainer.model.state_dict())}


def litgpt_run(spec: Spec, turn: Callable[[], None], *, masked: bool) -> Result:
    """`litgpt.pretrain.main`."""
    from pretrain_litgpt import pretrain

    return pretrain(spec, turn, masked=masked)


# Every method is a function of the spec and of the end of a turn. Ours run in the project's environment.
OURS: dict[str, Callable[..., Result]] = {
    "dsm": dsm_stage,
    "dsm_compiled": partial(dsm_stage, compiled=True),
    "loop": hand_written_loop,
}
PEERS: dict[str, Callable[..., Result]] = {
    "litgpt": partial(litgpt_run, masked=False),
    "litgpt_masked": partial(litgpt_run, masked=True),
    "hf": partial(hf_trainer, layout="unmasked"),
    "hf_masked": partial(hf_trainer, layout="masked"),
    "hf_masked_compiled": partial(hf_trainer, layout="masked", compiled=True),
    "hf_padded": partial(hf_trainer, layout="padded"),
    "hf_padded_8": partial(hf_trainer, layout="padded", microbatch=8),
}


def main(method: str, spec_path: str) -> None:
    """Run one method. Standard output is for turns and the result; what the libraries print goes to standard error."""
    import torch

    spec = json.loads(Path(spec_path).read_text(encoding="utf-8"))
    torch.set_num_threads(spec["threads"])
    parent = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def turn() -> None:
        print("done", file=parent, flush=True)
        if not sys.stdin.readline():
            raise SystemExit("the benchmark has gone")

    with contextlib.redirect_stdout(sys.stderr):
        result = (OURS | PEERS)[method](spec, turn)
    print(json.dumps(result), file=parent, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
