"""Training throughput with each attention back end that runs here: tokens/s, MFU, peak memory.

    python scripts/bench/attention.py                                   # a GPU: ~1B Llama, 4,096 tokens, bf16
    python scripts/bench/attention.py --model tiny --context 256 --documents 4   # a CPU, to see that it runs

One packed micro-batch a step through the wrapper, AdamW, gradients clipped; compiled blocks beside eager ones.
"""

from __future__ import annotations

import argparse
import time

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from dsm.config.listing import conf_dir
from dsm.config.model import ModelConfig
from dsm.models.attention import available_backends
from dsm.models.build import build_model
from dsm.ops.logprobs import IGNORE
from dsm.ops.varlen import Varlen
from dsm.training.throughput import memory_gb, peak_flops


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="deepseek_1_3b", help="a preset of conf/model")
    parser.add_argument("--context", type=int, default=4096, help="tokens of a document")
    parser.add_argument("--documents", type=int, default=4, help="documents in the micro-batch of a step")
    parser.add_argument("--vocab", type=int, default=32_256, help="rows of the embedding")
    parser.add_argument("--steps", type=int, default=8, help="timed steps, after three of warm-up")
    parser.add_argument("--compile", action="store_true", help="also with compiled blocks")
    parser.add_argument("--checkpointing", action="store_true", help="recompute activations")
    return parser.parse_args()


def measure(config: ModelConfig, arguments: argparse.Namespace, device: torch.device, precision: str) -> str:
    """One line of the table."""
    model = build_model(config, arguments.vocab, seed=0).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    varlen = Varlen.from_lengths([arguments.context] * arguments.documents, device)
    input_ids = torch.randint(arguments.vocab, (varlen.total,), device=device)
    targets = input_ids.roll(-1)
    targets[varlen.cu_seqlens[1:].long() - 1] = IGNORE

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            logprobs, _ = model.logprobs(input_ids, varlen, targets)
        (-logprobs.sum() / varlen.total).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def synchronised() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    for _ in range(3):
        step()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    start = synchronised()
    for _ in range(arguments.steps):
        step()
    speed = arguments.steps * varlen.total / (synchronised() - start)
    peak = peak_flops(device, precision)
    mfu = f"{speed * model.flops_per_token(varlen.mean_attended_length) / peak:8.1%}" if peak else f"{'-':>8}"
    return f"{speed:12,.0f}{mfu}{memory_gb(device):10.1f}"


def main() -> None:
    """The table."""
    arguments = parse_arguments()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = "bf16" if device.type == "cuda" else "fp32"
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        preset = OmegaConf.to_container(compose(f"model/{arguments.model}").model)
    assert isinstance(preset, dict)
    settings = {str(key): value for key, value in preset.items()}
    settings |= {
        "vocab_size": arguments.vocab,
        "activation_checkpointing": "full" if arguments.checkpointing else "none",
    }
    config = ModelConfig(**settings)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{arguments.model}, {arguments.documents} x {arguments.context} tokens a step, {precision}, {name}")
    print(f"{'attention':16}{'blocks':>10}{'tokens/s':>12}{'MFU':>8}{'peak GB':>10}")
    for backend, reason in available_backends().items():
        if reason is not None:
            print(f"{backend:16}  not here: {reason}")
            continue
        for compiled in (False, True)[: 1 + arguments.compile]:
            chosen = config.model_copy(update={"attention": backend, "compile": compiled})
            line = measure(chosen, arguments, device, precision)
            print(f"{backend:16}{'compiled' if compiled else 'eager':>10}{line}", flush=True)


if __name__ == "__main__":
    main()
