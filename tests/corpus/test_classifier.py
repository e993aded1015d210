"""The classifier: one reading of texts, the exact margin, the same model twice, figures by hand."""

from __future__ import annotations

import logging
import random
from pathlib import Path

import numpy as np
import pytest

from dsm.config.mine import ClassifierConfig
from dsm.corpus import classifier
from dsm.corpus.classifier import NEGATIVE, POSITIVE, Classifier, normalise, train
from dsm.corpus.classifier_metrics import auc, measure
from dsm.errors import UserError

CONFIG = ClassifierConfig(
    dim=16,
    lr=0.5,
    word_ngrams=3,
    min_count=3,
    epochs=5,
    bucket=2000,
    loss="softmax",
    threads=1,
    positives=100,
    negatives=100,
    ratio=1.0,
    held_out=0.05,
    lowercase=True,
    max_words=5000,
)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Solve $3x^2 + 5.5 = 0$!", "solve $ 3 x ^ 2 + 5.5 = 0 $ !"),
        (r"\frac{a}{b}\leq\Delta", r"\frac { a } { b } \leq \delta"),
        ("解方程x²＝4，得x＝±2。", "解 方 程 x 2 = 4 , 得 x = ± 2 。"),
        ("one\ntwo\u2028three\x00four\ud800", "one two three four"),
        ("__label__math </s>", "_ _ label _ _ math < / s >"),
        (" \n ", ""),
    ],
)
def test_normalise(text: str, tokens: str) -> None:
    assert normalise(text) == tokens
    assert normalise(normalise(text)) == normalise(text)


def test_normalise_keeps_numbers_apart_and_stops_in_time() -> None:
    assert normalise("x = 48") != normalise("x = 64")
    assert normalise("A b C d", max_words=2) == "a b"
    assert normalise("A b", lowercase=False) == "A b"


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng, file = random.Random(0), tmp_path_factory.mktemp("classifier") / "train.txt"
    words = {POSITIVE: ["sum", "prime", "group", "ring", "of", "the"], NEGATIVE: ["goal", "match", "vote", "of", "the"]}
    made = [f"{label} {' '.join(rng.choices(of, k=20))}" for _ in range(150) for label, of in words.items()]
    file.write_text("\n".join(made) + "\n")
    return file


@pytest.mark.parametrize(
    ("loss", "error"),
    [("softmax", 2e-5), ("ova", 8e-3)],  # fastText adds 1e-5 to every probability; its sigmoid is a table of 512 steps
)
def test_the_score_is_fasttexts_own_made_exact(lines: Path, tmp_path: Path, loss: str, error: float) -> None:
    config = CONFIG.model_copy(update={"loss": loss, "epochs": 50})
    train(lines, tmp_path / "model.bin", config)
    model = Classifier(tmp_path / "model.bin", lowercase=True, max_words=None)
    texts = [line.partition(" ")[2] for line in lines.read_text().splitlines()]
    labels, shares = model._model.predict(texts, k=2)
    theirs = [dict(zip(of, values, strict=True))[POSITIVE] for of, values in zip(labels, shares, strict=True)]
    ours = model.score(texts)
    assert np.abs(ours - theirs).max() < error
    assert ours.max() <= 1 < max(theirs)
    assert ours.dtype == np.float32
    assert model.score(texts[7:8])[0] == ours[7]  # a page's score is its own affair
    assert model.score([]).shape == (0,)


def test_one_thread_gives_the_same_model_whatever_lay_in_memory(lines: Path, tmp_path: Path) -> None:
    models = set()
    for number in range(6):
        for size in (1 << 10, 1 << 14, 1 << 17):
            junk = [np.full(size + 16 * number, np.nan, np.float32) for _ in range(20)]  # as a busy worker leaves it
            del junk
        trained = train(lines, tmp_path / "model.bin", CONFIG)
        assert trained.lr == CONFIG.lr  # no NaN, so no second attempt
        models.add((trained.digest, (tmp_path / "model.bin").read_bytes()))
    assert len(models) == 1


def test_a_training_that_diverges_is_tried_again_more_slowly(
    lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import fasttext

    real, rates = fasttext.train_supervised, []

    def train_supervised(file: str, lr: float, **others: object) -> object:
        rates.append(lr)
        if lr > 0.2:
            raise RuntimeError("Encountered NaN.")
        return real(file, lr=lr, **others)

    monkeypatch.setattr(fasttext, "train_supervised", train_supervised)
    monkeypatch.setattr(classifier.log, "propagate", True)
    with caplog.at_level(logging.WARNING, logger="dsm"):
        assert train(lines, tmp_path / "model.bin", CONFIG).lr == 0.125
    assert rates == [0.5, 0.25, 0.125]
    assert "classifier.lr=0.5: the training diverged; again with 0.25" in caplog.text
    with pytest.raises(UserError, match=r"classifier.lr=8.0: fastText diverged"):
        train(lines, tmp_path / "model.bin", CONFIG.model_copy(update={"lr": 8.0}))


def test_too_few_texts_is_the_users_to_know(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text(f"{POSITIVE} a b\n{NEGATIVE} c d\n")
    with pytest.raises(UserError, match=r"classifier.min_count=3: .*seed_corpus.path"):
        train(tmp_path / "train.txt", tmp_path / "model.bin", CONFIG)


def test_auc_is_the_share_of_pairs_in_order() -> None:
    rng = np.random.default_rng(0)
    scores, labels = np.round(rng.random(60), 1), rng.random(60) < 0.4
    good, bad = scores[labels][:, None], scores[~labels][None, :]
    assert auc(scores, labels) == pytest.approx(((good > bad) + 0.5 * (good == bad)).mean())
    assert auc(scores, np.zeros(60, bool)) is None


def test_figures_by_hand() -> None:
    scores, labels = np.array([0.9, 0.6, 0.4, 0.8, 0.1]), np.array([True, True, True, False, False])
    found = measure(scores, labels, ["random"] * 4 + ["domains"], ["a.org", "a.org", "", "b.org", "b.org"])
    assert found["random"] == {"positives": 3, "negatives": 1, "precision": 2 / 3, "recall": 2 / 3, "auc": 1 / 3}
    assert found["domains"] == {"positives": 0, "negatives": 1, "precision": None, "recall": None, "auc": None}
    assert [row["domain"] for row in found["by_domain"]] == ["a.org", "b.org"]
    assert found["by_domain"][0]["recall"] == 1.0
