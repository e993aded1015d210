"""Domains: counted over deduplicated pages only, however they lie in shards."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from dsm.corpus import domains
from dsm.corpus.domains import domain_counts, merge_counts, with_candidates


def test_shares_by_hand() -> None:
    names = pa.chunked_array([["a.org"] * 10 + ["b.org"] * 11 + ["c.org"] * 2 + [""] * 3])
    tokens = np.arange(26)
    kept, collected = np.ones(26, bool), np.zeros(26, bool)
    collected[[0, 1, 10, 21, 22, 23, 24, 25]] = True
    kept[[5, 6]] = False  # two duplicates of a.org: its share is 2 of 8
    table = with_candidates(domain_counts(names, tokens, kept, collected), share=1 / 11, min_pages=3)
    rows = {row["domain"]: row for row in table.to_pylist()}
    assert rows["a.org"] == {
        "domain": "a.org",
        "pages": 8,
        "tokens": 45 - 11,
        "collected": 2,
        "collected_tokens": 1,
        "share": 0.25,
        "candidate": True,
    }
    assert not rows["b.org"]["candidate"]  # 1 of 11 is not more than 1 of 11
    assert not rows["c.org"]["candidate"]  # all of it, but too small
    assert not rows[""]["candidate"]  # no address, no domain


def test_a_duplicate_counts_nowhere() -> None:
    counts = domain_counts(pa.chunked_array([["a.org"]]), np.array([5]), np.array([False]), np.array([True]))
    assert len(counts) == 0


def test_shards_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    names, tokens = [f"s{n}.org" for n in rng.integers(0, 20, 300)], rng.integers(1, 99, 300)
    kept, collected = rng.random(300) < 0.9, rng.random(300) < 0.3
    whole = domain_counts(pa.chunked_array([names]), tokens, kept, collected)
    parts = [
        domain_counts(pa.chunked_array([names[cut]]), tokens[cut], kept[cut], collected[cut])
        for cut in (slice(200, 300), slice(0, 3), slice(3, 200))
    ]
    assert merge_counts(parts).equals(whole.combine_chunks())
    monkeypatch.setattr(domains, "_MERGE_ROWS", 0)  # merged after every shard
    assert merge_counts(parts).equals(whole.combine_chunks())
