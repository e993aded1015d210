"""Tokens a second: a run of `stage=tokenize` beside the tokenizers library's own batch encode on all cores, in one run.

    python scripts/bench/tokenise.py --tokenizer runs/tokenizer/NAME-HASH/export --data texts.jsonl
    python scripts/bench/tokenise.py --tokenizer FOLDER --data a.jsonl b.jsonl --fields problem solution --megabytes 20

Both make ids of the same texts with as many processes or threads as the machine has cores for us. The library gets its
texts as Python strings, batch after batch, and keeps nothing. Ours begins at the file: it reads and checks JSON lines,
encodes, puts an end token behind every document, and leaves a whole store with checksums on the disk. Its rate counts
from the first part to the last; `with start-up` adds the start of the processes, some seconds that a long run does not
notice. Repeats alternate, the best of each counts. Tokens for each second of CPU time, start-up included, stand beside:
they are what to look at where others use the machine too.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path

from tokenizers import Tokenizer

from dsm.config.store import DocumentDataConfig, DocumentSourceConfig, HeldOutConfig, StoreConfig
from dsm.data.records import Record, read_records
from dsm.data.store.manifest import StoreTokenizer, token_type
from dsm.data.store.run import TokeniseRun, Waiting, usable_cores
from dsm.data.store.slices import Source
from dsm.data.store.worker import Encoding, Part

GOAL = 0.9
BATCH = 1000


def texts_of(files: Sequence[str], fields: Sequence[str], megabytes: float) -> list[str]:
    """So many megabytes of text, from the beginning again where the files hold less."""
    found = [
        "\n".join(row.row[name] for name in fields)
        for file in files
        for row in read_records(file)
        if isinstance(row, Record) and all(isinstance(row.row.get(name), str) for name in fields)
    ]
    texts: list[str] = []
    room = megabytes * 1e6
    for text in cycle(found):
        room -= len(text.encode())
        if room < 0:
            return texts
        texts.append(text)
    raise SystemExit(f"no row of these files has {fields}")


def batches(texts: list[str]) -> Iterator[list[str]]:
    """The texts in lists of 1,000."""
    waiting = iter(texts)
    return iter(lambda: list(islice(waiting, BATCH)), [])


def cpu_seconds() -> float:
    """Of this process and those it has waited for."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def library(tokenizer: Tokenizer, texts: list[str]) -> tuple[int, float]:
    """Tokens and seconds of `encode_batch`, which spreads each batch over all cores."""
    tokens, start = 0, time.perf_counter()
    for batch in batches(texts):
        tokens += sum(len(encoding.ids) for encoding in tokenizer.encode_batch(batch, add_special_tokens=False))
    return tokens, time.perf_counter() - start


class TimedRun(TokeniseRun):
    """A run that notes when its first part came, and the tokens of all that came later."""

    first: float | None = None
    later = 0

    def _oldest(self, waiting: deque[Waiting]) -> Part:
        part = super()._oldest(waiting)
        if self.first is None:
            self.first = time.perf_counter()
        else:
            self.later += len(part.tokens)
        return part


def ours(source: Source, encoding: Encoding, noted: StoreTokenizer, config: StoreConfig) -> tuple[int, float, float]:
    """Tokens after the first part and their seconds; seconds of everything."""
    run = TimedRun({"bench": source}, encoding, noted, config)
    folder, start = Path(tempfile.mkdtemp(prefix="dsm-bench-")), time.perf_counter()
    try:
        run.run(folder / "work", folder / "export")
        end = time.perf_counter()
    finally:
        shutil.rmtree(folder)
    assert run.first is not None
    return run.later, end - run.first, end - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", required=True, help="a folder with tokenizer.json")
    parser.add_argument("--data", nargs="+", required=True, help="files of rows")
    parser.add_argument("--fields", nargs="+", default=["text"], help="columns that make a text")
    parser.add_argument("--megabytes", type=float, default=20, help="of text, for each of the two")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, help="of ours; default: one for each usable core, as the library")
    args = parser.parse_args()

    texts = texts_of(args.data, args.fields, args.megabytes)
    tokenizer = Tokenizer.from_file(str(Path(args.tokenizer) / "tokenizer.json"))
    vocab_size = max(tokenizer.get_vocab().values()) + 1
    noted = StoreTokenizer(fingerprint="bench", vocab_size=vocab_size, eos_id=0, bos_id=None)
    encoding = Encoding(tokenizer.to_str(), vocab_size, token_type(vocab_size), 0, None, (), 0.0, 0)
    held_out = HeldOutConfig(fraction=0.0, max_documents=1)
    config = StoreConfig(eos=True, bos=False, held_out=held_out, shard_tokens=1 << 30, workers=args.workers)

    with tempfile.TemporaryDirectory(prefix="dsm-bench-") as folder:
        path = Path(folder) / "texts.jsonl"
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        one = DocumentSourceConfig(path=str(path))
        data = DocumentDataConfig(
            sources={"bench": one}, fields=["text"], separator="", text_suffixes=[], text_unit="file"
        )
        source = Source.of("bench", one, data)
        rates: dict[str, list[float]] = {"tokenizers": [], "dsm": [], "dsm with start-up": []}
        cpu_rates: dict[str, list[float]] = {"tokenizers": [], "dsm with start-up": []}
        for _ in range(args.repeats):
            before = cpu_seconds()
            tokens, seconds = library(tokenizer, texts)
            between = cpu_seconds()
            later, steady, whole = ours(source, encoding, noted, config)
            after = cpu_seconds()
            rates["tokenizers"].append(tokens / seconds)
            rates["dsm"].append(later / steady)
            rates["dsm with start-up"].append((tokens + len(texts)) / whole)
            cpu_rates["tokenizers"].append(tokens / (between - before))
            cpu_rates["dsm with start-up"].append(tokens / (after - between))
    size, cores = sum(len(text.encode()) for text in texts), args.workers or usable_cores()
    print(f"{len(texts):,} texts, {size / 1e6:.1f} MB, {tokens:,} tokens; {usable_cores()} cores, {cores} processes")
    print(f"{'':24}{'tokens/s':>12}{'MB/s':>8}{'ratio':>8}{'tokens/CPU s':>16}{'ratio':>8}")
    base, cpu_base = max(rates["tokenizers"]), max(cpu_rates["tokenizers"])
    for name, found in rates.items():
        line = f"{name:24}{max(found):12,.0f}{max(found) * size / tokens / 1e6:8.2f}{max(found) / base:8.2f}"
        cpu = cpu_rates.get(name)
        print(line + (f"{max(cpu):16,.0f}{max(cpu) / cpu_base:8.2f}" if cpu else ""))
    print(f"goal for dsm: >= {GOAL}: {'met' if max(rates['dsm']) >= GOAL * base else 'MISSED'}")


if __name__ == "__main__":
    main()
