"""What scripts/bench/decontaminate.py measures of others, in their interpreter; knows nothing of dsm."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # numpy is not imported yet

PERMUTATIONS, NGRAM, SHINGLE = 112, 10, 5


def rate(count: int, work: Callable[[], Any]) -> float:
    """Documents a second of this process's CPU time."""
    began = time.process_time()
    work()
    return count / (time.process_time() - began)


def datatrove(texts: list[str], searched: list[str]) -> dict[str, float]:
    """Its decontamination filter and its MinHash signatures."""
    from datatrove.data import Document
    from datatrove.pipeline.decont.n_grams import NGramsDecontConfig, NGramsDecontFilter
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
    from datatrove.utils.text import ngrams, simplify_text

    decont = NGramsDecontFilter("/tmp", NGramsDecontConfig(n_grams=NGRAM))
    index = {}
    for text in searched:
        words = decont.tokenizer.word_tokenize(simplify_text(text, decont.config.norm_config))
        index |= {decont.hash_func(" ".join(words)): "benchmark" for words in ngrams(words, NGRAM)}
    decont._index_hashes = index
    documents = [Document(text=text, id=str(number)) for number, text in enumerate(texts)]
    signer = MinhashDedupSignature("/tmp", MinhashConfig(n_grams=SHINGLE))
    return {
        "decontaminate/datatrove": rate(len(texts), lambda: [decont.filter(document) for document in documents]),
        "minhash/datatrove": rate(
            len(texts), lambda: [signer.get_signature(signer.get_shingles(text)) for text in texts]
        ),
    }


def shingles(text: str) -> list[str]:
    """Runs of five words."""
    words = text.split()
    return [" ".join(words[first : first + SHINGLE]) for first in range(len(words) - SHINGLE + 1)]


def rensa(texts: list[str], searched: list[str]) -> dict[str, float]:
    """Its MinHash in Rust."""
    from rensa import RMinHash

    def sign(text: str) -> None:
        made = RMinHash(num_perm=PERMUTATIONS, seed=1)
        made.update(shingles(text))
        made.digest()

    return {"minhash/rensa": rate(len(texts), lambda: [sign(text) for text in texts])}


def datasketch(texts: list[str], searched: list[str]) -> dict[str, float]:
    """Its MinHash in numpy."""
    from datasketch import MinHash

    def sign(text: str) -> None:
        MinHash(num_perm=PERMUTATIONS).update_batch([shingle.encode() for shingle in shingles(text)])

    return {"minhash/datasketch": rate(len(texts), lambda: [sign(text) for text in texts])}


def main() -> None:
    """Print the rates of whatever is installed, as JSON."""
    given = json.loads(Path(sys.argv[1]).read_text())
    found: dict[str, float] = {}
    for peer in (datatrove, rensa, datasketch):
        try:
            found |= peer(given["texts"], given["searched"])
        except ImportError as error:
            print(f"{peer.__name__}: {error}", file=sys.stderr)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
