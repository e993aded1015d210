"""datatrove's default chain over a folder of WARC files: what `mine.py` runs with another Python.

    PEER_PYTHON scripts/bench/mine_peer.py CRAWL OUT MODEL TEXTS

The chain is that of datatrove's examples (fineweb.py): WarcReader, Trafilatura, fastText filter (which keeps all
pages, so that both sides deduplicate the same), JSONL; then its four MinHash stages, with their defaults but for the
extractor's limit of a second a page, within which its sandbox may not even start on a busy machine.
Decontamination is its filter with an index of 10-grams made by its own functions (its indexer needs lighteval). One
process.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path


def main(crawl: str, out: str, model: str, texts: str) -> None:
    """Run everything; print a line of JSON: seconds of CPU by stage, pages, extracted characters."""
    import numpy as np
    from datatrove.data import Document
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.decont.n_grams import NGramsDecontConfig, NGramsDecontFilter
    from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
    from datatrove.pipeline.extractors import Trafilatura
    from datatrove.pipeline.filters import FastTextClassifierFilter
    from datatrove.pipeline.readers import JsonlReader, WarcReader
    from datatrove.pipeline.writers import JsonlWriter
    from datatrove.utils.hashing import create_hash_func
    from datatrove.utils.text import ngrams, simplify_text
    from datatrove.utils.word_tokenizers import load_word_tokenizer

    seconds: dict[str, float] = {}

    def run(name: str, *steps: object, tasks: int = 1) -> None:
        before = _cpu()
        LocalPipelineExecutor(list(steps), tasks=tasks, workers=1, logging_dir=f"{out}/logs/{name}").run()
        seconds[name] = _cpu() - before

    config = MinhashConfig()
    fasttext = FastTextClassifierFilter(model, keep_labels=("math", 0.0), newline_replacement=" ")
    run("read, extract, classify", WarcReader(crawl), Trafilatura(timeout=60), fasttext, JsonlWriter(f"{out}/pages"))
    run("signatures", JsonlReader(f"{out}/pages"), MinhashDedupSignature(f"{out}/signatures", config=config))
    run("buckets", MinhashDedupBuckets(f"{out}/signatures", f"{out}/buckets", config=config), tasks=config.num_buckets)
    run("clusters", MinhashDedupCluster(f"{out}/buckets", f"{out}/removed", config=config))
    run("filter", JsonlReader(f"{out}/pages"), MinhashDedupFilter(f"{out}/removed"), JsonlWriter(f"{out}/left"))
    pages = [document.text for document in JsonlReader(f"{out}/pages").run()]
    left = sum(1 for _ in JsonlReader(f"{out}/left").run())

    wanted = NGramsDecontConfig(n_grams=10)
    tokenizer, hash_of = load_word_tokenizer("eng"), create_hash_func(wanted.hash_config)
    rows = [json.loads(line)["text"] for line in Path(texts).read_text(encoding="utf-8").splitlines()]
    words = [tokenizer.word_tokenize(simplify_text(row, wanted.norm_config)) for row in rows]
    hashes = {hash_of(" ".join(gram)) for row in words for gram in ngrams(row, 10)}
    Path(out, "index").mkdir()
    np.array(sorted(hashes), wanted.hash_config.np_descr).tofile(Path(out, "index", "all.index.hashes"))
    finder = NGramsDecontFilter(f"{out}/index", wanted)
    sample = pages[:1000]
    finder.filter(Document(text=sample[0], id="0"))
    before = time.process_time()
    for number, text in enumerate(sample):
        finder.filter(Document(text=text, id=str(number)))
    result = {
        "seconds": seconds,
        "pages": len(pages),
        "left": left,
        "chars": sum(map(len, pages)),
        "peak_mb": peak_mb(),
        "decontaminated": len(sample) / (time.process_time() - before),
    }
    print("RESULT " + json.dumps(result))


def _cpu() -> float:
    """Of this process and those it has waited for: the extractor has a sandbox process of its own."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def peak_mb() -> float:
    """The largest memory of this process since it began; `ru_maxrss` would count that of whoever forked it."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 1024


if __name__ == "__main__":
    main(*sys.argv[1:])
