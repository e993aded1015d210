"""litgpt's pre-training for `pretrain_worker.py`: its `main` and `fit`, the model given as its configuration.

litgpt has no document masking. What a user has to add for it is `masked_gpt`: a model that finds the borders by the end
token, and a loss that leaves out the first token of each document.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import litgpt.pretrain
import torch
import torch.nn.functional as F
from litgpt.args import EvalArgs, TrainArgs
from litgpt.config import Config
from litgpt.data import DataModule
from litgpt.model import GPT
from litgpt.scripts.convert_hf_checkpoint import copy_weights_hf_llama
from litgpt.scripts.convert_lit_checkpoint import copy_weights_llama
from litgpt.utils import choose_logger, chunked_cross_entropy
from pretrain_worker import IGNORE, Meter, Result, Spec, flat, heldout_loss, load_model, read_rows
from torch import Tensor
from torch.utils.data import DataLoader, Dataset


class Rows(Dataset[Tensor]):
    """Blocks of context + 1 tokens, as litgpt's data modules give them; the fetch that begins a step ends the last."""

    def __init__(self, spec: Spec, eos: int, meter: Meter | None = None) -> None:
        # A document that ends with its row is followed by anything: the end token once more.
        rows = read_rows(spec["train"])
        self.blocks = [torch.tensor([*flat(r), eos if r["following"] is None else r["following"]]) for r in rows]
        self.spec, self.meter, self.begun = spec, meter, False

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, number: int) -> Tensor:
        per_step = self.spec["rows_per_step"]
        if self.meter is not None and number % per_step == 0:
            if self.begun:
                self.meter.step(per_step * self.spec["context"])
            else:
                self.begun = True
                self.meter.begin()
        return self.blocks[number]


class Documents(DataModule):
    """The same rows for training and, because litgpt checks its settings on them, for validation."""

    def __init__(self, spec: Spec, eos: int, meter: Meter) -> None:
        super().__init__()
        self.spec, self.eos, self.meter = spec, eos, meter

    def connect(self, *args: Any, **kwargs: Any) -> None:
        """Nothing to be told."""

    def train_dataloader(self) -> DataLoader[Tensor]:
        """In order."""
        return DataLoader(Rows(self.spec, self.eos, self.meter), batch_size=self.spec["rows_per_microbatch"])

    def val_dataloader(self) -> DataLoader[Tensor]:
        """In order, off the clock."""
        return DataLoader(Rows(self.spec, self.eos), batch_size=self.spec["rows_per_microbatch"])


def masked_gpt(eos: int) -> type[GPT]:
    """litgpt's model with attention and positions that start anew after each end token."""

    class MaskedGPT(GPT):
        def forward(self, idx: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            place = torch.arange(idx.shape[1], device=idx.device)
            starts = F.pad(idx[:, :-1] == eos, (1, 0), value=True)
            first = torch.where(starts, place, 0).cummax(1).values
            mask = (first[:, None, :, None] == first[:, None, None, :]) & (place[:, None] >= place)
            positions = place - first
            x = self.transformer.wte(idx)
            for block in self.transformer.h:
                x = block(x, self.cos[positions], self.sin[positions], mask)
            return self.lm_head(self.transformer.ln_f(x))

    return MaskedGPT


def masked_loss(eos: int) -> Callable[..., Tensor]:
    """litgpt's loss without the targets that follow an end token; the first of a row is not looked at."""

    def loss(logits: Tensor, targets: Tensor, **kwargs: Any) -> Tensor:
        first = F.pad(targets[:, :-1] == eos, (1, 0))
        return chunked_cross_entropy(logits, targets.masked_fill(first, IGNORE), **kwargs)

    return loss


def lit_config(hf: Any, context: int) -> Config:
    """A Llama model of transformers in litgpt's words."""
    return Config(
        name="benchmark",
        block_size=context,
        vocab_size=hf.vocab_size,
        padded_vocab_size=hf.vocab_size,
        n_layer=hf.num_hidden_layers,
        n_embd=hf.hidden_size,
        n_head=hf.num_attention_heads,
        n_query_groups=hf.num_key_value_heads,
        intermediate_size=hf.intermediate_size,
        norm_class_name="RMSNorm",
        norm_eps=hf.rms_norm_eps,
        mlp_class_name="LLaMAMLP",
        rope_base=int(hf.rope_parameters["rope_theta"]),
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
    )


def pretrain(spec: Spec, turn: Callable[[], None], *, masked: bool) -> Result:
    """litgpt's own `main`: compiled model, AdamW, constant learning rate (its cosine down to itself), one device."""
    model = load_model(spec)
    hf, scratch = model.config, Path(spec["scratch"])
    config = lit_config(hf, spec["context"])
    weights: dict[str, Any] = {}
    copy_weights_hf_llama(config, {}, weights, model.state_dict())
    scratch.mkdir(parents=True, exist_ok=True)
    torch.save(weights, scratch / "lit_model.pth")
    del model

    eos = spec["eos"]
    if masked:
        litgpt.pretrain.GPT = masked_gpt(eos)
        litgpt.pretrain.chunked_cross_entropy = masked_loss(eos)
    kept: dict[str, Any] = {}
    litgpt.pretrain.save_checkpoint = lambda fabric, state, *args: kept.update(state["model"].state_dict())
    train = TrainArgs(
        save_interval=None,
        log_interval=1,
        global_batch_size=spec["rows_per_step"],
        micro_batch_size=spec["rows_per_microbatch"],
        max_tokens=spec["steps"] * spec["rows_per_step"] * spec["context"],
        max_norm=1.0,
        min_lr=spec["lr"],
        lr_warmup_steps=0,
        tie_embeddings=hf.tie_word_embeddings,
    )
    settings = {"lr": spec["lr"], "betas": tuple(spec["betas"]), "weight_decay": spec["weight_decay"]}
    fabric = lightning.Fabric(
        accelerator=spec["device"],
        devices=1,
        precision="bf16-mixed" if spec["precision"] == "bf16" else "32-true",
        loggers=[choose_logger("csv", scratch, name="benchmark", log_interval=1, log_args={})],
    )
    fabric.launch()
    meter = Meter(spec, turn)
    litgpt.pretrain.main(
        fabric=fabric,
        devices=1,
        seed=spec["seed"],
        initial_checkpoint_dir=scratch,
        resume=False,
        config=config,
        data=Documents(spec, eos, meter),
        out_dir=scratch / "out",
        tokenizer_dir=None,
        tokenizer=None,
        train=train,
        eval=EvalArgs(interval=1_000_000, initial_validation=False, final_validation=False),
        optimizer={"class_path": "torch.optim.AdamW", "init_args": settings},
    )
    (log,) = scratch.glob("logs/**/metrics.csv")
    with log.open(newline="") as lines:
        losses = [float(line["loss"]) for line in csv.DictReader(lines) if line.get("loss")]
    for step, loss in zip(meter.steps, losses, strict=True):
        step["loss"] = loss
    back: dict[str, Any] = {}
    copy_weights_llama(config, back, kept, untie_weights=hf.tie_word_embeddings)
    if hf.tie_word_embeddings:
        back["lm_head.weight"] = back["model.embed_tokens.weight"]
    return {"steps": meter.steps, "heldout_loss": heldout_loss(spec, back)}
