"""GRPO's step: ours beside TRL's `GRPOTrainer`, in one run, phase by phase.

    python scripts/bench/grpo.py --methods dsm trl

Same initial weights, questions, group size, lengths, reward function, KL penalty and learning rate, no vLLM, on a CPU.
A step is an exploration and its one update: generate, reward, score (the reference's log-probabilities), update. Each
run is a process of its own, and the methods take turns; the first steps are not timed. The peer is installed into a
throwaway environment that sees this one's packages (`--peers-env` keeps it). The methods are in `grpo_worker.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from grpo_worker import OURS, PEERS, PHASES
from omegaconf import OmegaConf
from sft import REPO, peers_python, read_problems
from transformers import AutoConfig, AutoModelForCausalLM

from dsm.data.tokenizer import save_tokenizer, train_tokenizer

VOCAB_SIZE = 4096


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    methods = [*OURS, *PEERS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--methods", nargs="+", choices=methods, default=["dsm", "trl"], metavar="NAME", help=", ".join(methods)
    )
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--model", default="mini", help="a preset of conf/model")
    parser.add_argument("--prompts", type=int, default=8, help="a step")
    parser.add_argument("--group", type=int, default=16)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--beta", type=float, default=0.04, help="of the KL penalty; 0 = no reference model")
    parser.add_argument("--padded-microbatch", type=int, default=32, help="answers at a time in the peer's update")
    parser.add_argument("--packed-microbatch", type=int, default=1152, help="tokens at a time in ours")
    parser.add_argument("--steps", type=int, default=3, help="timed steps")
    parser.add_argument("--warmup", type=int, default=1, help="steps before them, at least 1")
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="what seconds are; cpu on a busy machine"
    )
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--peers-env", type=Path, help="keep the peer's environment here, or use the one that is here")
    parser.add_argument("--json", type=Path, help="write every run's numbers to this file")
    arguments = parser.parse_args()
    if arguments.prompts * arguments.group % arguments.padded_microbatch:
        parser.error("--prompts times --group must be a multiple of --padded-microbatch")
    if min(arguments.warmup, arguments.steps, arguments.repeats) < 1:
        parser.error("--warmup, --steps and --repeats must be at least 1")
    return arguments


def make_spec(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Write questions, tokenizer and weights to `folder`; returns what every worker has to know."""
    examples, _, name = read_problems(folder)
    tokenizer = train_tokenizer((turn.content for example in examples for turn in example.turns), VOCAB_SIZE)
    rows = [{"question": example.turns[0].content, "answer": example.turns[-1].content} for example in examples[:2000]]
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    preset = OmegaConf.load(REPO / "conf" / "model" / f"{arguments.model}.yaml")
    torch.manual_seed(0)
    settings = {**OmegaConf.to_container(preset.config), "vocab_size": len(tokenizer)}
    special = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(preset.architecture, **settings, **special))
    model.save_pretrained(folder / "model")
    save_tokenizer(tokenizer, folder / "model")
    size = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"{arguments.model}, {size / 1e6:.1f}M parameters; {arguments.prompts} prompts x {arguments.group} answers of"
        f" {arguments.new_tokens} tokens a step; {name}; beta {arguments.beta};"
        f" {arguments.warmup} + {arguments.steps} steps; {arguments.threads} threads; {arguments.precision}"
    )
    keys = ("prompts", "group", "new_tokens", "beta", "padded_microbatch", "packed_microbatch", "steps", "warmup")
    return {key: getattr(arguments, key) for key in (*keys, "threads", "precision", "clock")} | {
        "questions": str(folder / "questions.jsonl"),
        "model": str(folder / "model"),
        "scratch": str(folder / "scratch"),
        "lr": 1e-5,
    }


def run_worker(python: Path, method: str, spec: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One run in a process of its own; a run that fails ends the benchmark with the last of what it printed."""
    file = folder / "spec.json"
    file.write_text(json.dumps(spec), encoding="utf-8")
    quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": str(spec["threads"])}
    worker = [str(python), str(Path(__file__).with_name("grpo_worker.py")), method, str(file)]
    done = subprocess.run(worker, env=os.environ | quiet, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{method} failed:\n{done.stderr[-4000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    shutil.rmtree(spec["scratch"], ignore_errors=True)
    phases = ", ".join(f"{phase} {result[phase]:.2f}" for phase in PHASES)
    print(f"  {method}: {result['step_s']:.2f} s a step ({phases}), {result['peak_rss_mb']:.0f} MiB", flush=True)
    return result


def table(results: list[dict[str, Any]], methods: list[str]) -> str:
    """One line a method, its fastest run: seconds by phase, memory, and the first method's advantage."""
    best = {m: min((r for r in results if r["method"] == m), key=lambda r: r["step_s"]) for m in methods}
    first = best[methods[0]]
    heads = ("step s", "CPU s", *PHASES, "tokens", "first is", "peak MiB", "of it", "training")
    lines = [f"{'method':14}" + "".join(f"{head:>10}" for head in heads)]
    for method, run in best.items():
        lines.append(
            f"{method:14}{run['step_s']:10.2f}{run['cpu_s']:10.2f}"
            + "".join(f"{run[phase]:10.2f}" for phase in PHASES)
            + f"{run['sampled_tokens']:10.0f}{run['step_s'] / first['step_s']:9.2f}x{run['peak_rss_mb']:10.0f}"
            f"{first['peak_rss_mb'] / run['peak_rss_mb']:9.2f}x{run['training_mb']:10.0f}  {run['notes']}"
        )
    lines.append("first is: times as fast; of it: the first method's peak as a share of this one's; training: growth")
    lines.append("CPU s: of one step, all threads; on a busy machine compare these")
    return "\n".join(lines)


def main() -> None:
    """Prepare, run every method in turn, print one table."""
    arguments = parse_arguments()
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="dsm-bench-") as temporary:
        folder = Path(temporary)
        spec = make_spec(arguments, folder)
        theirs = any(method in PEERS for method in arguments.methods)
        peers = peers_python(arguments.peers_env or folder / "peers") if theirs else Path(sys.executable)
        for repeat in range(arguments.repeats):
            print(f"run {repeat + 1} of {arguments.repeats}", flush=True)
            for method in arguments.methods:
                python = Path(sys.executable) if method in OURS else peers
                results.append(run_worker(python, method, spec, folder))
    if arguments.json:
        arguments.json.write_text(json.dumps({"spec": spec, "runs": results}, indent=1) + "\n", encoding="utf-8")
    print("\n" + table(results, arguments.methods))


if __name__ == "__main__":
    main()
