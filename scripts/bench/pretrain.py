"""Pre-training steps: `dsm stage=pretrain` beside a hand-written loop, litgpt and `transformers.Trainer`, in one run.

    python -m venv PEERS                                     # the peers: an environment that sees this one's packages
    python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > ours.pth
    mv ours.pth PEERS/lib/python3.*/site-packages/
    PEERS/bin/pip install --no-deps litgpt==0.5.13           # it asks for an old huggingface-hub, to download with
    PEERS/bin/pip install -c constraints.txt 'jsonargparse[signatures]==4.41.0' psutil accelerate==1.15.0
    python scripts/bench/pretrain.py --peers PEERS/bin/python

All train the same model from the same weights on the same rows of documents, with the same optimiser settings and
threads. Each method is a process, and each is measured in a pair with `dsm`: the two make their steps in turn, one at a
time, so that a noisy second hits both and the ratio of two neighbouring steps means something on a shared machine. What
counts is the median of those ratios, of CPU time where others use the machine. Tokens are real ones, not padding. The
losses beside show that the same was learnt; the held-out one is taken on whole documents.

  loop                the same wrapper and batches in a plain loop; batches are made before the clock starts
  litgpt              as it is: no document masking, model compiled as a whole, AdamW not fused on a CPU
  litgpt_masked       with what a user would write for it: a mask, positions and a loss from the end tokens
  hf                  Trainer on rows of a context, as run_clm.py makes them: no document masking
  hf_masked           the same rows with position_ids that restart: transformers makes a mask of context x context
  hf_padded[_8]       a document a row, grouped by length, as many or 8 at a time, padded to the longest
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import torch
from omegaconf import OmegaConf
from pretrain_worker import OURS, PEERS

from dsm.cli import main as dsm
from dsm.config.compose import compose_config
from dsm.config.pretrain import PretrainConfig
from dsm.data.batch import Document
from dsm.data.mixture import Mixture
from dsm.data.problems import generate_problems
from dsm.data.tokenizer import save_tokenizer, train_tokenizer

REPO = Path(__file__).resolve().parents[2]
REFERENCE = "dsm"
METHODS = ("loop", "litgpt", "litgpt_masked", "hf", "hf_masked", "hf_padded", "hf_padded_8")
GOALS = {"loop": 1 / 1.03} | dict.fromkeys(PEERS, 1.2)
VOCAB_SIZE = 4096
HELDOUT_ROWS = 2  # of each source
PAGES, PROBLEMS = 12, 2_000  # of each source


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [method for method in (*OURS, *PEERS) if method != REFERENCE]
    names = f"each beside {REFERENCE}: {', '.join(known)}"
    parser.add_argument("--methods", nargs="+", choices=known, default=list(METHODS), metavar="NAME", help=names)
    parser.add_argument("--peers", type=Path, help="python of the peers' environment; without it, ours alone")
    parser.add_argument("--model", default="mini", help="a preset of conf/model")
    parser.add_argument("--context", type=int, default=4096, help="tokens of a row")
    parser.add_argument("--rows-per-step", type=int, default=2)
    parser.add_argument("--rows-per-microbatch", type=int, default=1)
    parser.add_argument("--steps", type=int, default=8, help="timed optimiser steps of a run")
    parser.add_argument("--warmup", type=int, default=2, help="optimiser steps before them, at least 1")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each pair")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write every step's numbers to this file")
    arguments = parser.parse_args()
    if min(arguments.warmup, arguments.steps, arguments.repeats) < 1:
        parser.error("--warmup, --steps and --repeats must be at least 1")
    if arguments.rows_per_step % arguments.rows_per_microbatch:
        parser.error("--rows-per-step must be a multiple of --rows-per-microbatch")
    if arguments.peers is None:
        arguments.methods = [method for method in arguments.methods if method in OURS]
    return arguments


def read_texts() -> dict[str, list[str]]:
    """Documents by source, short and long ones: solved problems, and web pages as they came."""
    shared = Path(os.environ.get("DSM_SHARED_DATA", REPO.parent / "shared" / "data"))
    fields = {"gsm8k": ("question", "answer"), "math": ("problem", "solution")}
    files = {name: shared / "math" / name / "train.jsonl" for name in fields}
    pages = sorted((shared / "web" / "trafilatura").glob("*.html"))[:PAGES]
    if not pages or not all(file.is_file() for file in files.values()):
        problems = generate_problems(10 * PROBLEMS, seed=0)
        return {"problems": [f"{problem.question}\n{problem.solution}" for problem in problems]}
    texts = {}
    for name, file in files.items():
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()[:PROBLEMS]]
        texts[name] = ["\n".join(row[field] for field in fields[name]) for row in rows]
    return texts | {"web": [page.read_text(encoding="utf-8", errors="replace") for page in pages]}


def run_dsm(settings: dict[str, Any]) -> None:
    """One stage; a stage that fails ends the benchmark."""
    if status := dsm([f"{key}={value}" for key, value in settings.items()]):
        raise SystemExit(status)


def make_stores(folder: Path) -> tuple[dict[str, str], int]:
    """A tokenizer, a model's folder with it, token stores; returns how they are mixed and the end token's id."""
    texts = read_texts()
    tokenizer = train_tokenizer((text for source in texts.values() for text in source), VOCAB_SIZE)
    save_tokenizer(tokenizer, folder / "model")
    settings: dict[str, Any] = {
        "stage": "tokenize",
        "tokenizer.path": folder / "model",
        "store.workers": 1,
        "store.held_out.fraction": 0.2,
        "paths.runs": folder / "stores",
    }
    for name, source in texts.items():
        file = folder / f"{name}.jsonl"
        file.write_text("".join(json.dumps({"text": text}) + "\n" for text in source), encoding="utf-8")
        settings[f"data.sources.{name}.path"] = file
    run_dsm(settings)
    (stores,) = folder.glob("stores/*/*/export")
    weights = {name: 2 if name == "web" else 1 for name in texts}  # as many long documents' tokens as short ones'
    return {
        "mix.root": str(stores),
        **{f"mix.sources.{name}.weight": str(weight) for name, weight in weights.items()},
    }, tokenizer.eos_token_id


def make_model(preset: str, folder: Path) -> None:
    """The weights that all methods start from."""
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = OmegaConf.load(REPO / "conf" / "model" / f"{preset}.yaml")
    config = OmegaConf.to_container(settings.config)
    assert isinstance(config, dict)
    torch.manual_seed(0)
    architecture = AutoConfig.for_model(settings.architecture, **config, vocab_size=VOCAB_SIZE)
    AutoModelForCausalLM.from_config(architecture, dtype=torch.float32).save_pretrained(folder)


def write_rows(rows: Sequence[Sequence[Document]], file: Path) -> None:
    """Rows as the workers read them."""
    lines = [{"documents": [document.ids.tolist() for document in row], "following": row[-1].following} for row in rows]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def make_spec(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything on disk; returns what the workers have to know."""
    mix, eos = make_stores(folder)
    make_model(arguments.model, folder / "model")
    mix["mix.context"] = str(arguments.context)
    steps = arguments.warmup + arguments.steps
    settings = mix | {
        "stage": "pretrain",
        "model": "pretrained",
        "model.path": str(folder / "model"),
        "scheduler": "constant",
        "mix.validation.sequences": str(HELDOUT_ROWS),
        "trainer.tokens": str(steps * arguments.rows_per_step * arguments.context),
        "trainer.tokens_per_step": str(arguments.rows_per_step * arguments.context),
    }
    config = compose_config([f"{key}={value}" for key, value in settings.items()])
    assert isinstance(config, PretrainConfig)
    mixture = Mixture.open(config.mix, seed=config.seed, cache=folder, sequences=config.sequences)
    rows = mixture.__getitems__(range(config.sequences))
    write_rows(rows, folder / "train.jsonl")
    write_rows([row for source in mixture.validation().values() for row in source], folder / "heldout.jsonl")
    lengths, context = [len(document.ids) for row in rows for document in row], arguments.context
    attended = sum(n * (n + 1) for n in lengths) / 2 / sum(lengths)
    print(
        f"{arguments.model}, {VOCAB_SIZE} words, {arguments.precision}, {arguments.threads} thread(s);"
        f" {arguments.warmup} + {arguments.steps} steps of {arguments.rows_per_step} rows of {context} tokens,"
        f" {arguments.rows_per_microbatch} at a time\n{len(lengths)} documents of {statistics.mean(lengths):.0f} tokens"
        f" (median {statistics.median(lengths):.0f}); the mean token attends to {attended:.0f} tokens, without masks to"
        f" {(context + 1) / 2:.0f}",
        flush=True,
    )
    return {
        "mix": mix | {"mix.validation.sequences": "0"},
        "eos": eos,
        "model": str(folder / "model"),
        "train": str(folder / "train.jsonl"),
        "heldout": str(folder / "heldout.jsonl"),
        "context": arguments.context,
        "steps": steps,
        "rows_per_step": arguments.rows_per_step,
        "rows_per_microbatch": arguments.rows_per_microbatch,
        "precision": arguments.precision,
        "device": arguments.device,
        "threads": arguments.threads,
        "lr": 1e-3,
        "betas": [0.9, 0.95],
        "weight_decay": 0.1,
        "seed": config.seed,
    }


class Run:
    """A worker that makes a step each time it is told to."""

    def __init__(self, method: str, python: Path, spec: dict[str, Any], folder: Path) -> None:
        self.method, self.errors = method, folder / f"{method}.log"
        self.scratch = folder / f"scratch-{method}"
        file = folder / f"{method}.json"
        file.write_text(json.dumps(spec | {"scratch": str(self.scratch)}), encoding="utf-8")
        quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": str(spec["threads"])}
        command = [str(python), str(Path(__file__).with_name("pretrain_worker.py")), method, str(file)]
        with self.errors.open("w") as errors:
            self._process = subprocess.Popen(
                command, env=os.environ | quiet, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )

    def wait(self) -> str:
        """Until its turn is over; returns what it says."""
        line = self._pipe("stdout").readline()
        if not line:
            raise SystemExit(f"{self.method} failed:\n{self.errors.read_text(errors='replace')[-4000:]}")
        return line

    def go(self) -> None:
        """Its turn has come."""
        print("go", file=self._pipe("stdin"), flush=True)

    def result(self) -> dict[str, Any]:
        """The last turn, after the last step: what it measured."""
        self.go()
        found: dict[str, Any] = json.loads(self.wait())
        self.close()
        return found

    def close(self) -> None:
        """End the process, and forget its files."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _pipe(self, name: str) -> IO[str]:
        pipe: IO[str] = getattr(self._process, name)
        return pipe


def run_pair(pythons: dict[str, Path], spec: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Two methods from start to end, a step each in turn, now one first and now the other."""
    runs: list[Run] = []
    try:
        for method, python in pythons.items():
            runs.append(Run(method, python, spec, folder))
            runs[-1].wait()  # one after the other: start-up is not what is measured
        for number in range(spec["steps"]):
            for run in runs[:: 1 if number % 2 else -1]:
                run.go()
                run.wait()
        return {run.method: run.result() for run in runs}
    finally:
        for run in runs:
            run.close()


def rates(steps: Sequence[dict[str, float]], clock: str) -> list[float]:
    """Tokens a second of each step."""
    return [step["tokens"] / step[clock] for step in steps]


def line_of(method: str, pairs: Sequence[dict[str, Any]], warmup: int) -> str:
    """What the timed steps of all runs of a pair come to."""
    ours, theirs = ([s for p in pairs for s in p[name]["steps"][warmup:]] for name in (REFERENCE, method))
    wall, cpu = (
        [ours / theirs for ours, theirs in zip(rates(ours, clock), rates(theirs, clock), strict=True)]
        for clock in ("wall", "cpu")
    )
    goal = GOALS.get(method)
    counted = statistics.median(cpu)
    verdict = "" if goal is None else f"  goal {goal:.2f}x {'met' if counted >= goal else 'MISSED'}"
    low, high = (sorted(cpu)[int(share * (len(cpu) - 1) + 0.5)] for share in (0.1, 0.9))
    last = pairs[-1]
    return (
        f"{method:20}{statistics.median(rates(theirs, 'wall')):9.0f}{statistics.median(rates(theirs, 'cpu')):9.0f}"
        f"{statistics.median(wall):8.3f}x{counted:8.3f}x{low:7.2f}-{high:.2f}"
        f"{last[method]['steps'][-1]['loss']:9.4f} /{last[REFERENCE]['steps'][-1]['loss']:7.4f}"
        f"{last[method]['heldout_loss']:9.4f} /{last[REFERENCE]['heldout_loss']:7.4f}{verdict}"
    )


HEADINGS = (
    f"{'':20}{'tokens/s':>9}{'/CPU s':>9}{'dsm is':>9}{'in CPU':>9}{'80% in':>11}"
    f"{'last loss / dsm':>18}{'held out / dsm':>18}"
)


def main() -> None:
    """Prepare, run each pair, print the table."""
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="dsm-bench-") as temporary:
        folder = Path(temporary)
        spec = make_spec(arguments, folder)
        found: dict[str, list[dict[str, Any]]] = {method: [] for method in arguments.methods}
        print(HEADINGS)
        for repeat in range(arguments.repeats):
            for method, pairs in found.items():
                theirs = Path(sys.executable) if method in OURS else arguments.peers
                pairs.append(run_pair({REFERENCE: Path(sys.executable), method: theirs}, spec, folder))
                if repeat == arguments.repeats - 1:
                    print(line_of(method, pairs, arguments.warmup), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"spec": spec, "pairs": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
