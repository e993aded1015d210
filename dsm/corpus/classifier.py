"""The classifier of the loop: fastText, with one way of reading texts in training and in scoring.

Differences from fastText's own tools, each for a reason:

- texts are split so that mathematics stays visible: numbers, operators and LaTeX commands are tokens, CJK characters
  stand alone (fastText would take a Chinese sentence for one word);
- the score is the sigmoid of the margin, computed from the model's matrices. fastText adds 1e-5 to every probability,
  so that its best pages come out above 1 and its worst ones alike;
- fastText fills a tenth of its input matrix for each thread and takes the rest as malloc gave it: pages of the kernel,
  which are zero, or, where the matrix is small, whatever lay there before: NaN, and another model every time. It gets
  zeros here. So one thread gives the same model, byte for byte; its hash is recorded either way;
- a training that diverges all the same (`Encountered NaN`) is tried again with half the learning rate, which is told.
"""

from __future__ import annotations

import ctypes
import logging
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from dsm.config.mine import ClassifierConfig
from dsm.errors import UserError

log = logging.getLogger("dsm")

VERSION = "1"
"""Raised when `normalise` or the score changes."""
POSITIVE, NEGATIVE = "__label__math", "__label__other"
_HALVINGS = 4
_CHARS_A_WORD = 32
_M_PERTURB = -6
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_TOKEN = re.compile(
    rf"\\[A-Za-z]+|[{_CJK}]|\d+(?:\.\d+)?|[^\W\d_{_CJK}]+|[^\s\0\ud800-\udfff]"  # the last: an operator, a sign
)


def normalise(text: str, *, lowercase: bool = True, max_words: int | None = None) -> str:
    r"""A text as fastText reads it: one line, tokens parted by blanks.

    >>> normalise("Solve $3x^2+5.5=0$ 解方程")
    'solve $ 3 x ^ 2 + 5.5 = 0 $ 解 方 程'

    Args:
        max_words: tokens that are looked at (and 32 characters for each).
    """
    if max_words is not None:
        text = text[: _CHARS_A_WORD * max_words]
    text = unicodedata.normalize("NFKC", text)
    return " ".join(_TOKEN.findall(text.lower() if lowercase else text)[:max_words])


@dataclass(frozen=True)
class Trained:
    """What a training left: the learning rate that went through, the model's hash."""

    lr: float
    digest: str


def train(file: Path, model: Path, config: ClassifierConfig) -> Trained:
    """Learn from lines of '__label__math TOKENS' and '__label__other TOKENS', in their order; write the model.

    Raises:
        UserError: the training diverges at every learning rate tried, or has no word that is frequent enough.
    """
    import fasttext

    lr = config.lr
    for _ in range(_HALVINGS + 1):
        try:
            with _zeroed_memory():
                learnt = fasttext.train_supervised(
                    str(file),
                    lr=lr,
                    dim=config.dim,
                    epoch=config.epochs,
                    wordNgrams=config.word_ngrams,
                    minCount=config.min_count,
                    bucket=config.bucket,
                    loss=config.loss,
                    thread=config.threads,
                    minn=0,
                    maxn=0,
                    verbose=0,
                )
        except RuntimeError as error:
            if "NaN" not in str(error):
                raise
            log.warning("classifier.lr=%g: the training diverged; again with %g", lr, lr / 2)
            lr /= 2
        else:
            if not any(word != "</s>" for word in learnt.get_words()):
                raise UserError(
                    f"classifier.min_count={config.min_count}: no word is so frequent in the examples; give more texts"
                    " in seed_corpus.path, or a smaller min_count"
                )
            learnt.save_model(str(model))
            return Trained(lr, file_digest(model))
    raise UserError(
        f"classifier.lr={config.lr}: fastText diverged (NaN) at it and at {_HALVINGS} halvings; give a smaller lr, or"
        " more texts in seed_corpus.path"
    )


@contextmanager
def _zeroed_memory() -> Iterator[None]:
    """For this long malloc gives zeros, where the C library is glibc; large blocks are zeros with any."""
    perturb = getattr(ctypes.CDLL(None), "mallopt", lambda option, value: 0)
    perturb(_M_PERTURB, 0xFF)  # memory is filled with the complement
    try:
        yield
    finally:
        perturb(_M_PERTURB, 0)


def file_digest(file: Path) -> str:
    """xxh3_128 of a file, hex."""
    digest = xxhash.xxh3_128()
    with file.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


class Classifier:
    """A trained model that scores texts; it is as large as its file."""

    def __init__(self, model: Path, *, lowercase: bool, max_words: int | None) -> None:
        import fasttext

        self.lowercase, self.max_words = lowercase, max_words
        self._model = fasttext.load_model(str(model))
        output = dict(zip(self._model.get_labels(), self._model.get_output_matrix(), strict=True))
        self._weights = output[POSITIVE].astype(np.float64)
        if self._loss() == "softmax":  # of two labels: the sigmoid of the difference
            self._weights = self._weights - output[NEGATIVE].astype(np.float64)

    def _loss(self) -> str:
        return str(self._model.f.getArgs().loss).rpartition(".")[2]

    def score(self, texts: Sequence[str]) -> np.ndarray:
        """P(positive) of raw texts, (n,) float32; each row depends on its own text alone."""
        return self.score_lines([normalise(t, lowercase=self.lowercase, max_words=self.max_words) for t in texts])

    def score_lines(self, lines: Iterable[str]) -> np.ndarray:
        """`score` of texts that are normalised already."""
        vectors = [self._model.get_sentence_vector(line) for line in lines]
        if not vectors:
            return np.empty(0, np.float32)
        # Not a matrix product, whose rounding may change with the number of rows.
        margins = (np.asarray(vectors, np.float64) * self._weights).sum(axis=1)
        return (1.0 / (1.0 + np.exp(-np.clip(margins, -700, 700)))).astype(np.float32)


@lru_cache(maxsize=1)
def load(model: str, digest: str, lowercase: bool, max_words: int | None) -> Classifier:
    """The classifier of a file, kept by a worker from task to task; `digest` tells a new file of the same name."""
    return Classifier(Path(model), lowercase=lowercase, max_words=max_words)


def reading(config: ClassifierConfig) -> dict[str, Any]:
    """How texts are read, the same in training and scoring."""
    return {"lowercase": config.lowercase, "max_words": config.max_words}
