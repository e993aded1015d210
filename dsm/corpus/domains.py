"""Which domains hold what is looked for: those of whose pages the classifier collects an unusual share.

Counted over all deduplicated pages, as in the paper: shard by shard, then added up, so no page is looked at twice.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

DOMAINS = "domains.parquet"
COUNTS = ("pages", "tokens", "collected", "collected_tokens")
_MERGE_ROWS = 1 << 22


def domain_counts(domains: pa.ChunkedArray, tokens: np.ndarray, kept: np.ndarray, collected: np.ndarray) -> pa.Table:
    """(domain, pages, tokens, collected, collected_tokens) of the pages of a shard that are no duplicates.

    Args:
        domains: (n,) of all pages of the shard.
        tokens: (n,) their lengths.
        kept: (n,) bool: no duplicates.
        collected: (n,) bool.
    """
    columns = {
        "domain": domains,
        "pages": kept.astype(np.int64),
        "tokens": np.where(kept, tokens, 0).astype(np.int64),
        "collected": (kept & collected).astype(np.int64),
        "collected_tokens": np.where(kept & collected, tokens, 0).astype(np.int64),
    }
    return _added(pa.table(columns).filter(pa.array(kept)))


def merge_counts(tables: Iterable[pa.Table]) -> pa.Table:
    """The counts of several shards together, by domain; what is in memory grows with the domains, not the shards."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if len(waiting) > 1 and sum(map(len, waiting)) > max(_MERGE_ROWS, 2 * len(waiting[0])):
            waiting = [_added(pa.concat_tables(waiting))]
    return _added(pa.concat_tables(waiting))


def _added(table: pa.Table) -> pa.Table:
    grouped = table.group_by("domain", use_threads=False).aggregate([(name, "sum") for name in COUNTS])
    grouped = grouped.rename_columns({f"{name}_sum": name for name in COUNTS})
    return grouped.select(["domain", *COUNTS]).sort_by("domain")


def with_candidates(counts: pa.Table, share: float, min_pages: int) -> pa.Table:
    """The counts with `share` (collected of pages) and `candidate`: more than `share`, of at least `min_pages`."""
    collected, pages = (counts.column(name).to_numpy() for name in ("collected", "pages"))
    shares = collected / np.maximum(pages, 1)
    named = pc.not_equal(counts.column("domain"), "").to_numpy(zero_copy_only=False)
    candidate = (shares > share) & (pages >= min_pages) & named
    return counts.append_column("share", pa.array(shares)).append_column("candidate", pa.array(candidate))
