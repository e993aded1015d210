"""What the last round collected, without what benchmarks hold."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dsm.config.mine import CleaningConfig
from dsm.corpus import contamination, grams
from dsm.corpus.pages import PAGE_SCHEMA, PARQUET, read_parquet
from dsm.corpus.rounds_examples import texts_at
from dsm.corpus.rounds_steps import collected_in
from dsm.corpus.steps import Task

CLEAN, HITS = "clean.parquet", "hits.jsonl"
FIELDS = ["url_hash", "url", "domain", "language", "source", "offset"]
SCHEMA = pa.schema([*(PAGE_SCHEMA.field(name) for name in FIELDS), PAGE_SCHEMA.field("text")])
_BATCH = 512


@dataclass(frozen=True)
class CleanStep:
    """Decontamination of the collected pages. Inputs: pages, `collected`, the texts of the benchmarks."""

    config: CleaningConfig
    name: str = "clean"
    version: str = f"1.{contamination.VERSION}.{grams.VERSION}"

    def settings(self) -> dict[str, Any]:
        """What counts as a match, and what it removes."""
        return self.config.model_dump()

    def run(self, task: Task, out: Path) -> dict[str, int]:
        """Write the pages that are left with their texts as they are now, and every match."""
        from dsm.corpus.contamination_index import load_decontaminator

        pages, cut, benchmarks = task.inputs
        finder = load_decontaminator(benchmarks, self.config.ngram, self.config.min_ngram, self.config.unit)
        rows = np.flatnonzero(collected_in(cut))
        table = read_parquet(pages, FIELDS).take(pa.array(rows))
        texts = texts_at(pages, rows)
        counts = {"in": len(rows), "out": 0, "contaminated": 0, "_hits": 0, "_pages_hit": 0, "_segments_removed": 0}
        with (
            pq.ParquetWriter(out / CLEAN, SCHEMA, **PARQUET) as kept,
            (out / HITS).open("w", encoding="utf-8") as hits,
        ):
            for first in range(0, len(rows), _BATCH):
                part = table.slice(first, _BATCH)
                batch = [next(texts) for _ in range(len(part))]
                found: list[str | None] = list(batch)
                for place in np.flatnonzero(finder.suspects(batch)).tolist():
                    cleaned = finder.clean(batch[place])
                    found[place] = cleaned.text
                    counts["_hits"] += len(cleaned.hits)
                    counts["_pages_hit"] += bool(cleaned.hits)
                    counts["_segments_removed"] += cleaned.segments_removed
                    url = part.column("url")[place].as_py()
                    hits.writelines(
                        json.dumps({"url": url} | asdict(hit), ensure_ascii=False) + "\n" for hit in cleaned.hits
                    )
                left = np.array([text is not None for text in found], bool)
                counts["out"] += int(left.sum())
                counts["contaminated"] += int((~left).sum())
                texts_left = pa.array([text for text in found if text is not None], pa.string())
                here = part.filter(pa.array(left))
                kept.write_table(pa.table([*here.columns, texts_left], schema=SCHEMA))
        return counts
