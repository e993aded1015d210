"""Reading a mix of token stores: ours beside a plain read of one memory map and litdata's combined dataset, in one run.

    python scripts/bench/tokens.py                           # ours and the plain read
    python scripts/bench/tokens.py --litdata FOLDER          # and litdata, installed into FOLDER (kept) if it is empty

Five stores of generated documents are mixed at the paper's 56/4/10/20/10. Each method reads the same number of
sequences of `context` tokens in a shuffled order, once into int64 tensors, which costs all of them the same, and once
as it hands them out, where a view of the file costs nothing but to be found:

- plain: one `np.memmap` of the same tokens in one file, sliced at random blocks; no mix, no documents, no epochs. What
  a hand-written loop does, and what reading costs at least.
- ours: the mix of five stores, without and with the borders of documents, cut and best fit.
- litdata: `CombinedStreamingDataset` of the five with these weights, `TokensLoader`, shuffled, no workers.

Figures are CPU seconds of this process, all its threads. The methods take turns, a step each, so that what else the
machine does hits all of them; what counts is the median of a step's ratio to its neighbour's, after a step of each that
opens its files. Then sequences of each source after `--exact` of them are counted, beside
what the weights demand. The last lines are whole training steps through `StepStream`: micro-batches with targets and
borders, as a trainer gets them.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray

from dsm.config.mix import MixConfig
from dsm.data.batch import Document
from dsm.data.mixture import Mixture
from dsm.data.store.manifest import StoreTokenizer
from dsm.data.store.writer import StoreWriter
from dsm.data.stream import StepStream

WEIGHTS = {"corpus": 56, "algebraic_stack": 4, "arxiv": 10, "github": 20, "common_crawl": 10}
VOCABULARY = 60_000
PLAIN = "all.bin"
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
GOALS = {"plain": (True, 0.8), "litdata": (False, 5.0)}  # whether converted, and ours over theirs

Row = list[Document] | NDArray[np.integer] | torch.Tensor
Method = Callable[[], Iterator[Row]]


def make_stores(root: Path, tokens: int) -> None:
    """Five stores with documents of a web page's lengths, 900 tokens on average, and all their tokens in one file."""
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
        with (root / PLAIN).open("ab") as file:
            ids.tofile(file)


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


def ours(mix: Mixture, sequences: int, step: int) -> Iterator[Row]:
    """As a trainer reads: the sequences of a step together."""
    for first in range(0, sequences, step):
        yield from mix.__getitems__(range(first, min(first + step, sequences)))


def plain(file: Path, sequences: int, context: int) -> Iterator[Row]:
    """Random blocks of one file."""
    tokens = np.memmap(file, np.uint16, mode="r")
    blocks = len(tokens) // context
    order = np.random.default_rng(0).permutation(blocks)
    for number in range(sequences):
        start = int(order[number % blocks]) * context
        yield tokens[start : start + context]


def as_int64(row: Row) -> torch.Tensor:
    """Ids as a model takes them, in memory of their own."""
    if isinstance(row, torch.Tensor):
        return row.to(torch.int64)
    if isinstance(row, list):
        row = row[0].ids if len(row) == 1 else np.concatenate([document.ids for document in row])
    return torch.from_numpy(row.astype(np.int64))


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
        yield number, tokens


def race(
    methods: dict[str, Method], rounds: int, steps: int, context: int, step: int, *, convert: bool
) -> dict[str, list[float]]:
    """CPU seconds of each method for every step of all rounds, the methods taking turns; prints what they come to."""
    took: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(rounds):
        rows = {name: map(as_int64, method()) if convert else method() for name, method in methods.items()}
        for number in range(steps):
            for name, source in rows.items():
                before = time.process_time()
                assert sum(1 for _ in islice(source, step)) == step
                if number:  # the first one opens files
                    took[name].append(time.process_time() - before)
    print(f"{'int64 tensors' if convert else 'as handed out':<34}{'rows/s':>12}{'Mtokens/s':>12}{'of plain':>12}")
    for name, seconds in took.items():
        rate = step / median(seconds)
        print(f"{name:<34}{rate:>12,.0f}{rate * context / 1e6:>12,.0f}{times(took, name, 'plain'):>12.2f}")
    print()
    return took


def times(took: dict[str, list[float]], ours: str, theirs: str) -> float:
    """How often one method makes a step in the time of another's, the median over steps made one after the other."""
    return median(other / mine for mine, other in zip(took[ours], took[theirs], strict=True))


def main() -> None:
    """Print what each method reads in a CPU second, and how exact its shares are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=60_000_000, help="of all stores together")
    parser.add_argument("--context", type=int, default=4096)
    parser.add_argument("--sequences", type=int, default=4000, help="read in each round")
    parser.add_argument("--step", type=int, default=976, help="sequences of a step, read together (4M tokens)")
    parser.add_argument("--rounds", type=int, default=7)
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
        methods: dict[str, Method] = {"plain": lambda: plain(root / PLAIN, sequences, context)}
        for name, mix in mixes.items():
            methods[name] = lambda mix=mix: ours(mix, sequences, arguments.step)
        if arguments.litdata is not None:
            install_litdata(arguments.litdata)
            folders = litdata_sets(root, context)
            methods["litdata"] = lambda: (tokens for _, tokens in litdata(folders, sequences, context))
        race_of = partial(race, methods, arguments.rounds, sequences // arguments.step, context, arguments.step)
        took = {convert: race_of(convert=convert) for convert in (True, False)}

        print(f"sequences of each source after {arguments.exact:,}")
        print(f"  wanted   {[arguments.exact * weight / 100 for weight in WEIGHTS.values()]}")
        print(f"  ours     {mixes['ours'].counts(arguments.exact).tolist()}")
        if arguments.litdata is not None:
            drawn = [number for number, _ in litdata(folders, arguments.exact, context)]
            print(f"  litdata  {np.bincount(drawn, minlength=len(WEIGHTS)).tolist()}")

        print(f"\nwhole steps of {arguments.step} sequences, CPU seconds each")
        for name, mix in mixes.items():
            stream = StepStream(mix, arguments.step, sequences, 16 * context)
            seconds = []
            for step in range(sequences // arguments.step):
                before = time.process_time()
                assert stream[step].positions > 0.95 * arguments.step * context
                seconds.append(time.process_time() - before)
            rate = arguments.step * context / median(seconds) / 1e6
            print(f"{name:<34}{median(seconds):>12.4f}  ({rate:,.0f} Mtokens/s)")

    print()
    for peer, (convert, goal) in GOALS.items():
        if peer in methods:
            form = "int64 tensors" if convert else "as handed out"
            print(f"ours / {peer}, {form}: {times(took[convert], 'ours', peer):.2f} (goal {goal})")


if __name__ == "__main__":
    main()
