"""Tokens per second of the embedded engine beside `transformers.generate`, and vLLM where it is installed.

    OMP_NUM_THREADS=1 python scripts/bench/generate.py                 # everything: about half an hour on one core
    OMP_NUM_THREADS=1 python scripts/bench/generate.py --models tiny --loads std ragged

All methods have the same weights (presets of conf/model, random), continue the same prompts at temperature 1, and take
turns in one process, so that a noisy minute hits all of them. A load is 32 prompts, 8 samples each, at most 64 new
tokens:

    std      prompts of 32 tokens, nobody stops early
    ragged   prompts of 8 to 56 tokens, and a share of 2.5 % of the vocabulary ends a sequence: 2 of 3 stop early
    long     prompts of 256 tokens, nobody stops early

Tokens are those up to the end of each sample. CPU seconds are the ones to compare where others use the machine too.
Ours and vLLM return the log-probability of every token, `generate` does not.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from omegaconf import OmegaConf
from transformers import GenerationConfig

from dsm.config.listing import conf_dir
from dsm.config.model import ModelConfig
from dsm.data.tokenizer import MIN_VOCAB_SIZE, train_tokenizer
from dsm.models.build import build_model
from dsm.models.wrapper import CausalLM
from dsm.rollout.embedded import EmbeddedEngine
from dsm.rollout.engine import Request, Sampling

PROMPTS, SAMPLES, NEW = 32, 8, 64
VOCAB = {"tiny": 2048, "mini": 4096, "small": 4096}
GOALS = {("tiny", "std"): 1.9, ("small", "std"): 2.5, ("tiny", "ragged"): 3.0, ("tiny", "long"): 6.0}
Method = Callable[[], int]
"""Generates a load once; returns the number of tokens."""


@dataclass(frozen=True)
class Load:
    """What is to be continued, and the ids that end a sequence."""

    prompts: list[list[int]]
    ends: list[int]


def make_load(name: str, vocab: int) -> Load:
    """The prompts of a load; the same on every call."""
    generator = torch.Generator().manual_seed(0)
    lengths = [256 if name == "long" else 32] * PROMPTS
    if name == "ragged":
        lengths = torch.randint(8, 57, (PROMPTS,), generator=generator).tolist()
    ends = torch.randperm(vocab, generator=generator)[: vocab // 40].tolist() if name == "ragged" else []
    return Load([torch.randint(vocab, (length,), generator=generator).tolist() for length in lengths], ends)


def build(preset: str) -> CausalLM:
    """A preset of conf/model with random weights."""
    folder = conf_dir() / "model"
    settings = OmegaConf.merge(OmegaConf.load(folder / "base.yaml"), OmegaConf.load(folder / f"{preset}.yaml"))
    del settings["defaults"]
    return build_model(ModelConfig(**OmegaConf.to_container(settings)), VOCAB[preset], seed=0).eval()


def with_transformers(model: CausalLM, load: Load) -> Method:
    """One left-padded batch of all rows, as people call `generate`: dynamic cache, SDPA."""
    peer = copy.deepcopy(model.model)
    peer.set_attn_implementation("sdpa")
    longest = max(map(len, load.prompts))
    rows = [prompt for prompt in load.prompts for _ in range(SAMPLES)]
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
    real = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])
    settings = GenerationConfig(
        max_new_tokens=NEW, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, pad_token_id=0,
        eos_token_id=load.ends or None,
    )  # fmt: skip

    def run() -> int:
        new = peer.generate(ids, attention_mask=real, generation_config=settings)[:, longest:].tolist()
        return sum(_length(row, load.ends) for row in new)

    return run


def with_engine(model: CausalLM, load: Load) -> Method:
    """The embedded engine as it comes."""
    engine = EmbeddedEngine(model, train_tokenizer(["no text is read here"], MIN_VOCAB_SIZE))
    engine.eos_ids = frozenset(load.ends)
    requests = [Request(tuple(prompt), Sampling(NEW, temperature=1.0, n=SAMPLES)) for prompt in load.prompts]
    return lambda: sum(len(completion.token_ids) for group in engine.generate(requests) for completion in group)


def with_vllm(model: CausalLM, load: Load) -> Method:
    """vLLM in this process, with log-probabilities; one engine a load, for it keeps what it knows of prompts."""
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    from vllm import LLM, SamplingParams

    with tempfile.TemporaryDirectory() as folder:
        model.model.save_pretrained(folder)
        llm = LLM(folder, skip_tokenizer_init=True, dtype="float32", max_model_len=512, enable_prefix_caching=True)
    sampling = SamplingParams(
        n=SAMPLES, temperature=1.0, max_tokens=NEW, logprobs=0, detokenize=False, stop_token_ids=load.ends,
        ignore_eos=True,
    )  # fmt: skip

    def run() -> int:
        llm.reset_prefix_cache()
        outputs = llm.generate([{"prompt_token_ids": prompt} for prompt in load.prompts], sampling, use_tqdm=False)
        return sum(len(sample.token_ids) for output in outputs for sample in output.outputs)

    return run


METHODS: dict[str, Callable[[CausalLM, Load], Method]] = {
    "transformers generate": with_transformers,
    "dsm embedded": with_engine,
    "vllm": with_vllm,
}


def _length(row: list[int], ends: list[int]) -> int:
    """Tokens up to and with the first end."""
    return next((i + 1 for i, token in enumerate(row) if token in ends), len(row))


def measure(preset: str, name: str, repeats: int) -> dict[str, dict[str, list[float]]]:
    """Tokens per CPU second and per second of each repeat of each method."""
    model = build(preset)
    load = make_load(name, VOCAB[preset])
    with torch.inference_mode():
        methods = {label: make(model, load) for label, make in METHODS.items() if label != "vllm" or find_spec("vllm")}
        rates: dict[str, dict[str, list[float]]] = {label: {"cpu": [], "wall": []} for label in methods}
        for _ in range(repeats):
            for label, run in methods.items():
                cpu, wall = time.process_time(), time.perf_counter()
                tokens = run()
                rates[label]["cpu"].append(tokens / (time.process_time() - cpu))
                rates[label]["wall"].append(tokens / (time.perf_counter() - wall))
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=VOCAB, default=["tiny", "small"])
    parser.add_argument("--loads", nargs="+", choices=["std", "ragged", "long"], default=["std", "ragged", "long"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS", 1)))
    parser.add_argument("--json", type=Path, help="write every repeat's rates to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)

    results = {}
    print(f"{PROMPTS} prompts x {SAMPLES} samples, {NEW} new tokens, fp32, {arguments.threads} thread(s)")
    print(f"{'':38} tokens per CPU s         tokens per s      ratio (CPU; wall)")
    print(f"{'':38}  median     best     median     best    of medians   of bests")
    for preset in arguments.models:
        for name in arguments.loads:
            rates = results[f"{preset}/{name}"] = measure(preset, name, arguments.repeats)
            base = rates["transformers generate"]
            for label in METHODS:
                title = f"{preset:6} {name:8}{label:23}"
                if label not in rates:
                    print(f"{title} not installed")
                    continue
                mine, clocks, summaries = rates[label], ("cpu", "wall"), (statistics.median, max)
                ratios = [[summary(mine[clock]) / summary(base[clock]) for clock in clocks] for summary in summaries]
                figures = "".join(f" {statistics.median(mine[c]):8.0f} {max(mine[c]):8.0f}  " for c in clocks)
                goal = GOALS.get((preset, name)) if label == "dsm embedded" else None
                verdict = "" if goal is None else f"  goal {goal}: {'met' if ratios[0][0] >= goal else 'MISSED'}"
                both = "  ".join(f"{cpu:.2f}; {wall:.2f}" for cpu, wall in ratios)
                print(f"{title}{figures} {both}{verdict}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
