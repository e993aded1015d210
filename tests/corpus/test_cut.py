"""The cut against a plain sort, and its edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsm.corpus.cut import BINS, Cut, Ranking, bins_of, histogram, merge_histograms, score_of

SCORES = st.one_of(
    st.floats(0, 1, width=32),
    st.sampled_from([0.0, 0.25, 0.5, 1.0, float("nan")]),  # many ties, both ends, duplicates
    st.integers(1, 7).map(lambda power: 1 - 10.0**-power),
)


def ranking(scores: np.ndarray, hashes: np.ndarray, tokens: np.ndarray, languages: np.ndarray) -> Ranking:
    """Over two shards, whose histograms are merged; only the pages of one bin are ever fetched."""
    half = len(scores) // 2
    parts = [histogram(scores[part], tokens[part], languages[part]) for part in (slice(0, half), slice(half, None))]
    bins = bins_of(scores)
    return Ranking(
        merge_histograms(parts), lambda k: tuple(of[bins == k] for of in (scores, hashes, tokens, languages))
    )


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(st.tuples(SCORES, st.integers(0, 30), st.sampled_from(["en", "zh"])), min_size=1, max_size=40),
    share=st.none() | st.floats(0, 1.1),
    threshold=st.none() | st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]),
)
def test_takes_the_longest_prefix_of_the_ranking_that_fits(
    rows: list[tuple[float, int, str]], share: float | None, threshold: float | None
) -> None:
    scores = np.array([row[0] for row in rows], np.float32)
    tokens = np.array([row[1] for row in rows], np.int64)
    languages = np.array([row[2] for row in rows], str)
    hashes = np.random.default_rng(len(rows)).permutation(len(rows)).astype(np.uint64)
    budget = None if share is None else int(share * tokens.sum())
    cut = ranking(scores, hashes, tokens, languages).at(budget, threshold)

    order = [i for i in np.lexsort((hashes, -scores.astype(float))) if not np.isnan(scores[i])]
    order = [i for i in order if threshold is None or scores[i] >= np.float32(threshold)]
    wanted, spent = set(), 0
    for i in order:
        if budget is not None and spent + tokens[i] > budget:
            break
        wanted.add(i)
        spent += tokens[i]
    assert set(np.flatnonzero(cut.collects(scores, hashes))) == wanted
    assert (cut.pages, cut.tokens) == (len(wanted), spent)
    for language in ("en", "zh"):
        mine = [i for i in wanted if languages[i] == language]
        assert cut.languages.get(language, [0, 0]) == [len(mine), tokens[mine].sum() if mine else 0]


def test_the_order_of_pages_and_shards_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    scores, hashes = np.round(rng.random(500), 2).astype(np.float32), rng.permutation(500).astype(np.uint64)
    tokens, languages = rng.integers(1, 50, 500), np.full(500, "en")
    cuts = set()
    for _ in range(5):
        order = rng.permutation(500)
        cut = ranking(scores[order], hashes[order], tokens[order], languages[order]).at(4000)
        cuts.add((cut.score, cut.url_hash, cut.pages, cut.tokens))
    assert len(cuts) == 1


def test_bins_follow_the_scores() -> None:
    scores = np.sort(np.concatenate([np.random.default_rng(0).random(2000), [0, 1], 1 - 10.0 ** -np.arange(1, 8)]))
    bins = bins_of(scores.astype(np.float32))
    assert (np.diff(bins) >= 0).all()
    assert (bins[0], bins[-1]) == (0, BINS - 1)
    assert bins_of(np.array([np.nan], np.float32)) == -1
    assert bins_of(np.array([score_of(1000.5)], np.float32)) == 1000
    near_one = bins_of(np.array([1 - 1e-3, 1 - 1e-4, 1 - 1e-5, 1 - 1e-6], np.float32))
    assert (np.diff(near_one) > 100).all()  # where a linear scale would have them all in one bin


def test_nothing_fits() -> None:
    scores, hashes = np.array([0.9, 0.8], np.float32), np.array([1, 2], np.uint64)
    cut = ranking(scores, hashes, np.array([10, 10]), np.array(["en", "en"])).at(9)
    assert (cut.pages, cut.tokens, cut.languages) == (0, 0, {})
    assert not cut.collects(scores, hashes).any()


def test_a_cut_survives_json() -> None:
    cut = Cut(float(np.float32(0.1)), 2**64 - 1, 3, 30, {"en": [3, 30]})
    assert Cut(**cut.as_json()) == cut
    with pytest.raises(TypeError):
        Cut(**cut.as_json(), more=1)  # type: ignore[call-arg]
