"""Pages to look at: the best of the last round, those on either side of the cut, and some of what was left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from dsm.corpus.annotate.render import excerpt
from dsm.corpus.pages import PageTable
from dsm.corpus.rounds_examples import keys_of, texts_at
from dsm.report.text import visible

_SHARDS = 32
KINDS = {
    "collected": "Collected, at random",
    "last": "Collected, the last before the cut",
    "missed": "Not collected, the first behind the cut",
    "left": "Not collected, at random",
}


def samples(root: Path, number: int, count: int, chars: int, seed: int) -> list[tuple[str, list[dict[str, Any]]]]:
    """(heading, pages) of some shards, the same in every report of the same run; `count` pages in all."""
    if not count:
        return []
    table = PageTable(root)
    shards = sorted(table.shards, key=lambda name: xxhash.xxh3_64_intdigest(name.encode(), seed))[:_SHARDS]
    each = max(1, count // len(KINDS))
    found: dict[str, list[tuple[float, int, str, int]]] = {kind: [] for kind in KINDS}
    for shard in shards:
        rows = table.read(shard, ["url_hash", "score", "collected"], number)
        scores, collected = rows.column("score").to_numpy().astype(float), rows.column("collected").to_numpy()
        keys = keys_of(rows.column("url_hash").to_numpy(), seed, "samples")
        ranked = ~np.isnan(scores)
        orders = {
            "collected": (collected, keys.astype(float)),
            "last": (collected, scores),
            "missed": (ranked & ~collected, -scores),
            "left": (ranked & ~collected, keys.astype(float)),
        }
        for kind, (among, order) in orders.items():
            places = np.flatnonzero(among)
            best = places[np.lexsort((keys[places], order[places]))[:each]]
            found[kind] += [(float(order[row]), int(keys[row]), shard, int(row)) for row in best]
    return [
        (heading, [_page(table, shard, row, number, chars) for *_, shard, row in sorted(found[kind])[:each]])
        for kind, heading in KINDS.items()
        if found[kind]
    ]


def _page(table: PageTable, shard: str, row: int, number: int, chars: int) -> dict[str, Any]:
    columns = ["url", "domain", "language", "tokens", "formulas", "score"]
    page: dict[str, Any] = table.read(shard, columns, number).take(pa.array([row])).to_pylist()[0]
    text = next(texts_at(table.pages_file(shard), np.array([row])))
    return page | {"shown": excerpt(visible(text), chars)}
