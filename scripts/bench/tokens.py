"""Reading a mix of token stores: ours beside a plain read of one memory map and litdata's combined dataset, in one run.

    python scripts/bench/tokens.py                           # ours and the plain read
    python scripts/bench/tokens.py --litdata FOLDER          # and litdata, installed into FOLDER (kept) if it is empty

Five stores of generated documents are mixed at the paper's 56/4/10/20/10. Each method delivers the same number of
sequences of `context` tokens, as int64 tensors, in a shuffled order:

- plain: one `np.memmap` of the largest store, sliced at random blocks; no mix, no documents, no epochs. What a
  hand-written loop does, and what reading costs at least.
- ours: the mix of five stores, without and with the borders of documents, cut and best fit.
- litdata: `CombinedStreamingDataset` of the five with these weights, `TokensLoader`, shuffled, no workers.

Figures are CPU seconds of this process, all its threads, so that others on the machine count little; methods take turns
and the best step of all rounds stands. `counts` are sequences of each source after `--exact` of them, beside what the weights
demand. The last lines are whole training steps through `StepStream`: packing, targets and borders, as a trainer gets.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from dsm.config.mix import MixConfig
from dsm.data.batch import Document
from dsm.data.mixture import Mixture
from dsm.data.store.manifest import StoreTokenizer
from dsm.data.store.writer import StoreWriter
from dsm.data.stream import StepStream

WEIGHTS = {"corpus": 56, "algebraic_stack": 4, "arxiv": 10, "github": 20, "common_crawl": 10}
VOCABULARY = 60_000
PEER = (
    "litdata==0.2.76",
    "boto3",
    "botocore",
    "s3transfer",
    "jmespath",
    "tifffile",
    "obstore",
    "python-dateutil",
    "six",
)
GOALS = {"plain": 0.8, "litdata": 5.0}

Method = Callable[[], Iterator[torch.Tensor]]


def make_stores(root: Path, tokens: int) -> None:
    """Five stores with documents of a web page's lengths, of 900 tokens on average."""
    rng = np.random.default_rng(0)
    tokenizer = StoreTokenizer(fingerprint="0" * 64, vocab_size=VOCABULARY, eos_id=0, bos_id=None)
    for name, weight in WEIGHTS.items():
        size = tokens * weight // 100
        lengths = np.maximum(16, rng.lognormal(6.3, 1.0, size // 900)).astype(np.int64)
        ids = rng.integers(1, VOCABULARY, int(lengths.sum()), dtype=np.uint16)
        ids[np.cumsum(lengths) - 1] = 0
        writer = StoreWriter(root / name, "uint16")
        writer.append(ids, lengths)
        writer.finish(tokenizer)


def mixture(root: Path, context: int, packing: str, mask_documents: bool) -> Mixture:
    """Ours."""
    config = MixConfig.model_validate(
        {
            "context": context,
            "root": str(root),
            "sources": {name: {"weight": weight} for name, weight in WEIGHTS.items()},
            "schedule": [],
            "exhausted": "refuse",
            "packing": packing,
            "mask_documents": mask_documents,
            "validation": {"sequences": 0, "sources": {}},
        }
    )
    return Mixture.open(config, seed=0, cache=root / "cache")


def as_tensor(row: list[Document]) -> torch.Tensor:
    """The tokens of a row."""
    ids = row[0].ids if len(row) == 1 else np.concatenate([document.ids for document in row])
    return torch.from_numpy(ids.astype(np.int64))


def ours(mix: Mixture, sequences: int, step: int) -> Iterator[torch.Tensor]:
    """As a trainer reads: the sequences of a step together."""
    for first in range(0, sequences, step):
        yield from map(as_tensor, mix.__getitems__(range(first, min(first + step, sequences))))


def plain(file: Path, sequences: int, context: int) -> Iterator[torch.Tensor]:
    """Random blocks of one file."""
    tokens = np.memmap(file, np.uint16, mode="r")
    blocks = len(tokens) // context
    order = np.random.default_rng(0).permutation(blocks)
    for number in range(sequences):
        start = int(order[number % blocks]) * context
        yield torch.from_numpy(tokens[start : start + context].astype(np.int64))


def install_litdata(folder: Path) -> None:
    """Into a folder of its own, without what it asks for: its torchvision does not go with this torch."""
    if not (folder / "litdata").is_dir():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), "--no-deps", *PEER]
        subprocess.run(pip, check=True)
    sys.path.append(str(folder))


def litdata_sets(root: Path, context: int) -> dict[str, str]:
    """The stores' documents in litdata's chunks."""
    from litdata.streaming import TokensLoader
    from litdata.streaming.cache import Cache

    folders = {}
    for name in WEIGHTS:
        folder = root / "litdata" / name
        if not folder.is_dir():
            folder.mkdir(parents=True)
            tokens = torch.from_numpy(np.fromfile(root / name / "00000.ds", np.uint16))
            ends = np.fromfile(root / name / "00000.ds.index", np.uint64).astype(np.int64)
            cache = Cache(str(folder), chunk_size=1 << 22, item_loader=TokensLoader(context))
            for index, (start, end) in enumerate(zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)):
                cache[index] = tokens[start:end]
            cache.done()
            cache.merge()
        folders[name] = str(folder)
    return folders


def litdata(folders: dict[str, str], sequences: int, context: int) -> Iterator[tuple[int, torch.Tensor]]:
    """Number of the source and tokens."""
    from litdata import CombinedStreamingDataset, StreamingDataset, TokensLoader

    class Numbered(StreamingDataset):
        number = 0

        def __getitem__(self, index: object) -> tuple[int, torch.Tensor]:
            return self.number, super().__getitem__(index)

    sets = []
    for number, folder in enumerate(folders.values()):
        sets.append(Numbered(folder, item_loader=TokensLoader(context), shuffle=True, seed=0))
        sets[-1].number = number
    combined = CombinedStreamingDataset(
        sets, seed=0, weights=[weight / 100 for weight in WEIGHTS.values()], iterate_over_all=False
    )
    for number, tokens in islice(combined, sequences):
        yield number, tokens.to(torch.int64)


def race(methods: dict[str, Method], rounds: int, context: int, step: int) -> dict[str, float]:
    """Best CPU seconds of each method for a step's sequences, over all steps of all rounds; prints them."""
    best = dict.fromkeys(methods, float("inf"))
    for _ in range(rounds):
        for name, method in methods.items():
            tensors = method()
            while True:
                before = time.process_time()
                read = sum(map(len, islice(tensors, step)))
                if read < 0.95 * step * context:
                    break
                best[name] = min(best[name], time.process_time() - before)
    print(f"{'':<34}{'rows/s':>12}{'Mtokens/s':>12}{'of plain':>12}")
    for name, seconds in best.items():
        rows = step / seconds
        print(f"{name:<34}{rows:>12,.0f}{rows * context / 1e6:>12,.0f}{best['plain'] / seconds:>12.2f}")
    return best


def main() -> None:
    """Print what each method reads in a CPU second, and how exact its shares are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=60_000_000, help="of all stores together")
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--sequences", type=int, default=4000, help="read in each round")
    parser.add_argument("--step", type=int, default=976, help="sequences of a step, read together (4M tokens)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--exact", type=int, default=4000, help="sequences after which shares are counted")
    parser.add_argument("--litdata", type=Path, help="folder of its installation")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    context, sequences = arguments.context, arguments.sequences
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_stores(root, arguments.tokens)
        mixes = {
            "ours": mixture(root, context, "cut", False),
            "ours, documents masked": mixture(root, context, "cut", True),
            "ours, documents masked, best fit": mixture(root, context, "best_fit", True),
        }
        methods: dict[str, Method] = {"plain": lambda: plain(root / "corpus" / "00000.ds", sequences, context)}
        for name, mix in mixes.items():
            methods[name] = lambda mix=mix: ours(mix, sequences, arguments.step)
        if arguments.litdata is not None:
            install_litdata(arguments.litdata)
            folders = litdata_sets(root, context)
            methods["litdata"] = lambda: (tokens for _, tokens in litdata(folders, sequences, context))
        best = race(methods, arguments.rounds, context, arguments.step)

        print(f"\nsequences of each source after {arguments.exact:,}")
        print(f"  wanted   {[arguments.exact * weight / 100 for weight in WEIGHTS.values()]}")
        print(f"  ours     {mixes['ours'].counts(arguments.exact).tolist()}")
        if arguments.litdata is not None:
            drawn = [number for number, _ in litdata(folders, arguments.exact, context)]
            print(f"  litdata  {np.bincount(drawn, minlength=len(WEIGHTS)).tolist()}")

        print(f"\nwhole steps of {arguments.step} sequences, CPU seconds each")
        for name, mix in mixes.items():
            stream = StepStream(mix, arguments.step, sequences, 16 * context)
            took = []
            for step in range(sequences // arguments.step):
                before = time.process_time()
                assert stream[step].positions > 0.95 * arguments.step * context
                took.append(time.process_time() - before)
            rate = arguments.step * context / min(took) / 1e6
            print(f"{name:<34}{min(took):>12.4f}  ({rate:,.0f} Mtokens/s)")

    print()
    for peer, goal in GOALS.items():
        if peer in best:
            print(f"ours / {peer}: {best[peer] / best['ours']:.2f} (goal {goal})")


if __name__ == "__main__":
    main()
