"""SFT throughput and peak memory: ours beside `transformers.Trainer` and TRL's `SFTTrainer`, in one run.

    python scripts/bench/sft.py --precision fp32 bf16

All methods train the same model from the same weights on the same tokens (GSM8K where the shared data is, else made
problems), with the same threads, learning rate and examples per optimiser step, on a CPU. Each run is a process of its
own; the methods take turns, so that a noisy minute hits all of them. Tokens are real ones, padding is not counted, and
the clock starts after the warm-up steps. The peers are installed into a throwaway environment that sees this one's
packages, so that torch and transformers are the same files. The methods themselves are in `sft_worker.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from sft_worker import IGNORE, OURS, PEERS

from dsm.config.data import SourceConfig
from dsm.data.formats import Example, load_source, tokenise
from dsm.data.problems import generate_problems, write_jsonl
from dsm.data.records import Rejected
from dsm.data.tokenizer import save_tokenizer, train_tokenizer

REPO = Path(__file__).resolve().parents[2]
PEER_PACKAGES = ("trl==1.16.0", "accelerate==1.15.0", "datasets")
HELDOUT = 64
CONTEXT = 1024
VOCAB_SIZE = 4096


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    methods = [*OURS, *PEERS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = ", ".join(methods)
    parser.add_argument("--methods", nargs="+", choices=methods, default=methods, metavar="NAME", help=names)
    parser.add_argument("--precision", nargs="+", choices=("fp32", "bf16"), default=["fp32"])
    parser.add_argument("--model", default="mini", help="a preset of conf/model")
    parser.add_argument("--steps", type=int, default=4, help="timed optimiser steps")
    parser.add_argument("--warmup", type=int, default=1, help="optimiser steps before them, at least 1")
    parser.add_argument("--examples-per-step", type=int, default=64)
    parser.add_argument("--padded-microbatch", type=int, default=16, help="examples at a time, padded methods")
    parser.add_argument("--packed-microbatch", type=int, default=4, help=f"rows of {CONTEXT} at a time, packed methods")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--peers-env", type=Path, help="keep the peers' environment here, or use the one that is here")
    parser.add_argument("--json", type=Path, help="write every run's numbers to this file")
    arguments = parser.parse_args()
    if arguments.examples_per_step % arguments.padded_microbatch:
        parser.error("--examples-per-step must be a multiple of --padded-microbatch")
    if min(arguments.warmup, arguments.steps, arguments.repeats) < 1:
        parser.error("--warmup, --steps and --repeats must be at least 1")
    return arguments


def read_problems(folder: Path) -> tuple[list[Example], SourceConfig, str]:
    """Questions with worked solutions, how they are read, and the name of where they come from."""
    shared = Path(os.environ.get("DSM_SHARED_DATA", REPO.parent / "shared" / "data"))
    gsm8k = shared / "math" / "gsm8k" / "train.jsonl"
    if gsm8k.is_file():
        source, name = SourceConfig(path=str(gsm8k), transform="gsm8k", style="cot", suffix=True), "GSM8K"
    else:
        file = folder / "problems.jsonl"
        write_jsonl(generate_problems(4000, seed=0), file)
        source, name = SourceConfig(path=str(file)), "generated problems"
    return [row for row in load_source(source) if not isinstance(row, Rejected)], source, name


def make_spec(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Write tokenizer and tokenised examples to `folder`; returns what every worker has to know but the precision."""
    count = (arguments.steps + arguments.warmup) * arguments.examples_per_step
    examples, source, name = read_problems(folder)
    if len(examples) < count + HELDOUT:
        raise SystemExit(f"{name}: has {len(examples)} examples; this run needs {count + HELDOUT}")
    tokenizer = train_tokenizer((turn.content for example in examples for turn in example.turns), VOCAB_SIZE)
    save_tokenizer(tokenizer, folder / "tokenizer")
    rows = []
    for ids, trained in tokenise(examples[: count + HELDOUT], tokenizer):
        labels = [token if train else IGNORE for token, train in zip(ids, trained, strict=True)]
        rows.append({"input_ids": ids[:CONTEXT], "labels": labels[:CONTEXT]})
    for file, part in (("train", rows[:count]), ("heldout", rows[count:])):
        (folder / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
    tokens = sum(len(row["input_ids"]) for row in rows[:count])
    micro = arguments.packed_microbatch
    rows_per_step = micro * max(1, round(arguments.examples_per_step * tokens / count / CONTEXT / micro))
    print(
        f"{arguments.model} with a vocabulary of {VOCAB_SIZE}; {count} examples of {name}, {tokens / count:.0f} tokens"
        f" each; {arguments.examples_per_step} examples or {rows_per_step} packed rows of {CONTEXT} a step;"
        f" {arguments.warmup} + {arguments.steps} steps; {arguments.threads} threads"
    )
    preset = OmegaConf.load(REPO / "conf" / "model" / f"{arguments.model}.yaml")
    return {
        "preset": arguments.model,
        "source": source.model_copy(update={"limit": count}).model_dump(exclude_defaults=True),
        "architecture": preset.architecture,
        "model": {**OmegaConf.to_container(preset.config), "vocab_size": VOCAB_SIZE},
        "tokenizer": str(folder / "tokenizer"),
        "train": str(folder / "train.jsonl"),
        "heldout": str(folder / "heldout.jsonl"),
        "scratch": str(folder / "scratch"),
        "context": CONTEXT,
        "warmup": arguments.warmup,
        "examples_per_step": arguments.examples_per_step,
        "rows_per_step": rows_per_step,
        "padded_microbatch": arguments.padded_microbatch,
        "packed_microbatch": micro,
        "threads": arguments.threads,
        "lr": 1e-3,
        "seed": 0,
    }


def peers_python(folder: Path) -> Path:
    """The interpreter of the peers' environment, which is made in `folder` unless it is there."""
    python = folder / "bin" / "python"
    if python.exists():
        return python
    print(f"installing {', '.join(PEER_PACKAGES)} into {folder}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    site = subprocess.check_output([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True)
    # A path file behind the environment's own packages: what is installed here already is seen and not installed again.
    (Path(site.strip()) / "_ours.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    install = [str(python), "-m", "pip", "install", "--quiet", "-c", str(REPO / "constraints.txt"), *PEER_PACKAGES]
    subprocess.run(install, check=True)
    return python


def run_worker(python: Path, method: str, spec: dict[str, Any], folder: Path) -> dict[str, Any]:
    """One run in a process of its own; a run that fails ends the benchmark with the last of what it printed."""
    file = folder / "spec.json"
    file.write_text(json.dumps(spec), encoding="utf-8")
    quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": str(spec["threads"])}
    worker = [str(python), str(Path(__file__).with_name("sft_worker.py")), method, str(file)]
    done = subprocess.run(worker, env=os.environ | quiet, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{method} failed:\n{done.stderr[-4000:]}")
    result = json.loads(done.stdout) | {"precision": spec["precision"]}
    shutil.rmtree(spec["scratch"], ignore_errors=True)
    print(f"  {method}: {result['tokens_per_s']:.0f} tokens/s, {result['peak_rss_mb']:.0f} MiB", flush=True)
    return result


def table(results: list[dict[str, Any]], methods: list[str]) -> str:
    """One line a method: the best run and the median one, and how many times the first method's best is its best."""
    heads = zip(
        ("tokens/s", "median", "first is", "peak MiB", "training", "held-out"), (10, 9, 10, 10, 10, 10), strict=True
    )
    lines = [f"{'method':16}" + "".join(f"{head:>{width}}" for head, width in heads)]
    best_of_first = max(r["tokens_per_s"] for r in results if r["method"] == methods[0])
    for method in methods:
        runs = [r for r in results if r["method"] == method]
        best = max(r["tokens_per_s"] for r in runs)
        median = statistics.median(r["tokens_per_s"] for r in runs)
        peak, training = (min(r[key] for r in runs) for key in ("peak_rss_mb", "training_mb"))
        lines.append(
            f"{method:16}{best:10.0f}{median:9.0f}{best_of_first / best:9.2f}x{peak:10.0f}{training:10.0f}"
            f"{runs[0]['heldout_loss']:10.4f}  {runs[0]['notes']}"
        )
    return "\n".join(lines)


def main() -> None:
    """Prepare, run every method in turn, print one table a precision."""
    arguments = parse_arguments()
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="dsm-bench-") as temporary:
        folder = Path(temporary)
        spec = make_spec(arguments, folder)
        theirs = any(method in PEERS for method in arguments.methods)
        peers = peers_python(arguments.peers_env or folder / "peers") if theirs else Path(sys.executable)
        for repeat in range(arguments.repeats):
            for precision in arguments.precision:
                print(f"{precision}, run {repeat + 1} of {arguments.repeats}", flush=True)
                for method in arguments.methods:
                    python = Path(sys.executable) if method in OURS else peers
                    results.append(run_worker(python, method, spec | {"precision": precision}, folder))
    if arguments.json:
        arguments.json.write_text(json.dumps({"spec": spec, "runs": results}, indent=1) + "\n", encoding="utf-8")
    for precision in arguments.precision:
        print(f"\n{precision}\n" + table([r for r in results if r["precision"] == precision], arguments.methods))


if __name__ == "__main__":
    main()
