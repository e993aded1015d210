"""The README of a crawl: what lies in its folder, with the numbers of this very one."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from dsm.config.crawl import CrawlConfig


def readme(asked: CrawlConfig, counts: dict[str, Any], table: pa.Table) -> str:
    """Markdown."""
    numbers = "\n".join(f"| {name} | {value:,} |" for name, value in counts.items())
    return f"""# A made-up web crawl with its truth

Made by `dsm stage=crawl`: {counts["pages"]:,} HTML pages of {asked.domains} sites, fetched on {", ".join(asked.dates)}.
Nothing in it was ever on the web.

- `crawl/*.warc.gz`: what a crawler would have kept: requests, responses, and some records that are damaged on purpose.
- `seed.jsonl`: positives to start from, `text`, `url`, `language`. English questions, forums, notes and encyclopaedia
  articles only: word problems, worksheets, blogs and everything Chinese must be found by the rounds.
- `rules.txt`: what an annotator who knows the truth would decide, `domain/prefix`, `!` before what is rejected.
- `benchmark/planted_*.jsonl`: `question`, `answer` (worked out), `gold`; some of these texts stand in pages
  (`truth.parquet`, column `planted`) and must be removed. Pages with a text of the same kind and other numbers
  (column `decoys`) must be kept.
- `benchmark/held_out_*.jsonl`: problems like those of the pages, but in none of them, to measure models on. Their
  wording is everywhere, so nothing should be decontaminated against them.
- `benchmark/held_out_code.jsonl`: Python functions to be written from their docstring, in HumanEval's columns, or
  chosen among the `choices`, of which number `right` is right. No text holds a function of the same description.
- `texts/*.jsonl.gz` (with `crawl.texts`): `text`, `language`, `kind`; {asked.texts:,} documents of each source: `maths`
  (what mining a far larger crawl would leave), `code` (Python with the results of running it), `academic` (LaTeX
  papers, nothing calculated), `algebra` (computer algebra and formal proofs), `general` (English and Chinese without
  mathematics). None holds a held-out problem.
- `truth.parquet`: one row a response. `source` and `offset` say which record it is; `kind` is `page`, or why there is
  no page to be read; `canonical` names the address in its plain spelling (other rows with the same one are exact
  duplicates); `article` names the content (other rows with the same one are near-duplicates: one is to be kept);
  `family` names the words of word problems that differ in numbers (all are to be kept); `is_math` and `register` say
  what it is about; `formulas` are those that must survive, as LaTeX, and `encoding` how the page carries them.

| what | how many |
|---|---|
{numbers}
"""
