"""The steps of one round after its classifier: score, cut, count domains, take down decisions, enlarge the seed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dsm.config.mine import ClassifierConfig, CutConfig
from dsm.corpus.annotations import Decisions
from dsm.corpus.classifier import VERSION, file_digest, load, reading
from dsm.corpus.cut import Cut, Ranking, Rows, bins_of, histogram, merge_histograms, no_rows
from dsm.corpus.domains import DOMAINS, domain_counts, merge_counts, with_candidates
from dsm.corpus.pages import COLUMNS, open_parquet, read_parquet, write_columns, write_table
from dsm.corpus.rounds_examples import SEED, kept_rows, write_examples
from dsm.corpus.steps import Task

HISTOGRAM, CUT, DECISIONS = "histogram.parquet", "cut.json", "decisions.jsonl"
_BATCH = 256


@dataclass(frozen=True)
class ScoreStep:
    """P(positive) of every page that is no duplicate. Inputs: pages, the model, duplicates."""

    round: int
    config: ClassifierConfig
    version: str = f"1.{VERSION}"

    @property
    def name(self) -> str:
        """Its folder."""
        return f"round-{self.round}/score"

    def settings(self) -> dict[str, Any]:
        """How texts are read; the model is an input."""
        return reading(self.config)

    def run(self, task: Task, out: Path) -> dict[str, int]:
        """Write `score` and the shard's histogram."""
        pages, model, *columns = task.inputs
        classifier = load(str(model), file_digest(model), **reading(self.config))
        table = read_parquet(pages, ["tokens", "language"])
        kept = kept_rows(columns, len(table))
        scores = np.full(len(table), np.nan, np.float32)
        first = 0
        with open_parquet(pages) as file:
            for batch in file.iter_batches(_BATCH, columns=["text"], use_threads=False):
                mine = np.flatnonzero(kept[first : first + len(batch)])
                scores[first + mine] = classifier.score(batch.column("text").take(pa.array(mine)).to_pylist())
                first += len(batch)
        write_columns({"score": pa.array(scores, pa.float32(), from_pandas=False)}, out)
        languages = np.array(table.column("language").to_pylist(), str)
        write_table(histogram(scores, table.column("tokens").to_numpy(), languages), out / HISTOGRAM)
        scored = int(kept.sum())
        return {"in": len(table), "out": scored, "duplicate": len(table) - scored}


@dataclass(frozen=True)
class ThresholdStep:
    """Where the ranking is cut. Inputs: of every shard its pages, scores and histogram, in turn."""

    round: int
    config: CutConfig
    version: str = "1"

    @property
    def name(self) -> str:
        """Its folder."""
        return f"round-{self.round}/threshold"

    def settings(self) -> dict[str, Any]:
        """The budgets."""
        budgets = {"tokens": self.config.budget(self.round), "curve": self.config.curve}
        return budgets | {"threshold": self.config.threshold}

    def run(self, task: Task, out: Path) -> dict[str, int]:
        """Write `cut.json` and the histogram of all shards."""
        shards = [task.inputs[place : place + 3] for place in range(0, len(task.inputs), 3)]
        tables = [read_parquet(shard[2], ["bin", "language", "pages", "tokens"]) for shard in shards]
        counts = merge_histograms(tables)
        bins = [set(table.column("bin").to_pylist()) for table in tables]

        def rows_of(bin_: int) -> Rows:
            return _rows_of(bin_, [shard for shard, there in zip(shards, bins, strict=True) if bin_ in there])

        ranking = Ranking(counts, rows_of)
        cut = ranking.at(self.config.budget(self.round), self.config.threshold)
        curve = [{"budget": budget} | ranking.at(budget).as_json() for budget in sorted(set(self.config.curve))]
        (out / CUT).write_text(json.dumps(cut.as_json() | {"curve": curve}, indent=1) + "\n")
        write_table(counts, out / HISTOGRAM)
        ranked = int(pc.sum(counts.column("pages")).as_py() or 0)
        return {"in": ranked, "out": cut.pages, "below_cut": ranked - cut.pages, "_tokens": cut.tokens}


def read_cut(file: Path) -> Cut:
    """What `ThresholdStep` wrote."""
    told = json.loads(file.read_text())
    return Cut(told["score"], told["url_hash"], told["pages"], told["tokens"], told["languages"])


def _rows_of(bin_: int, shards: Sequence[Sequence[Path]]) -> Rows:
    """The pages of one bin, of the shards that have some."""
    found = [no_rows()]
    for pages, scored, _ in shards:
        scores = read_parquet(scored, ["score"]).column("score").to_numpy()
        rows = np.flatnonzero(bins_of(scores) == bin_)
        table = read_parquet(pages, ["url_hash", "tokens", "language"]).take(pa.array(rows))
        languages = np.array(table.column("language").to_pylist(), str)
        tokens = table.column("tokens").to_numpy().astype(np.int64)
        found.append((scores[rows], table.column("url_hash").to_numpy(), tokens, languages))
    scores, hashes, tokens, languages = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return scores, hashes, tokens, languages


@dataclass(frozen=True)
class CutStep:
    """Who is in. Inputs: pages, scores, `cut.json`, and from round 2 on the `collected` of the round before."""

    round: int
    version: str = "1"

    @property
    def name(self) -> str:
        """Its folder."""
        return f"round-{self.round}/cut"

    def settings(self) -> dict[str, Any]:
        """None: the cut is an input."""
        return {}

    def run(self, task: Task, out: Path) -> dict[str, int]:
        """Write `collected` and the counts of the shard's domains."""
        pages, scored, cut, *before = task.inputs
        table = read_parquet(pages, ["url_hash", "domain", "tokens", "language"])
        scores = read_parquet(scored, ["score"]).column("score").to_numpy()
        tokens = table.column("tokens").to_numpy().astype(np.int64)
        collected, kept = read_cut(cut).collects(scores, table.column("url_hash").to_numpy()), ~np.isnan(scores)
        write_columns({"collected": pa.array(collected)}, out)
        write_table(domain_counts(table.column("domain"), tokens, kept, collected), out / DOMAINS)
        again = collected & (collected_in(before[0]) if before else False)
        facts = {"_tokens": int(tokens[collected].sum()), "_again": int(again.sum())}
        facts["_again_tokens"] = int(tokens[again].sum())
        for language in ("en", "zh", "other"):
            mine = collected & pc.equal(table.column("language"), language).to_numpy()
            facts |= {f"_{language}": int(mine.sum()), f"_{language}_tokens": int(tokens[mine].sum())}
        counts = {"in": len(table), "out": int(collected.sum()), "duplicate": int((~kept).sum())}
        return counts | {"below_cut": int((kept & ~collected).sum())} | facts


def collected_in(columns: Path) -> np.ndarray:
    """(n,) bool of one shard and round."""
    collected: np.ndarray = read_parquet(columns, ["collected"]).column("collected").to_numpy()
    return collected


@dataclass(frozen=True)
class DomainsStep:
    """All domains and the candidates among them. Inputs: every shard's counts."""

    round: int
    share: float
    min_pages: int
    version: str = "1"

    @property
    def name(self) -> str:
        """Its folder."""
        return f"round-{self.round}/domains"

    def settings(self) -> dict[str, Any]:
        """What makes a candidate."""
        return {"share": self.share, "min_pages": self.min_pages}

    def run(self, task: Task, out: Path) -> dict[str, int]:
        """Write `domains.parquet`."""
        counts = merge_counts(pq.read_table(path) for path in task.inputs)
        table = with_candidates(counts, self.share, self.min_pages)
        write_table(table, out / DOMAINS)
        chosen = table.filter(table.column("candidate"))
        pages, collected = (int(pc.sum(chosen.column(name)).as_py() or 0) for name in ("pages", "collected"))
        counted = {"in": len(table), "out": len(chosen), "no_candidate": len(table) - len(chosen)}
        return counted | {"_pages": pages, "_uncollected": pages - collected}


@dataclass(frozen=True)
class DecisionsStep:
    """What had been decided on this round's candidates, and on those of earlier rounds, when it was over.

    Inputs: domains, the decisions of the round before, and of a file of rules that file. What people decide is read
    from their files as they are when the round ends and then stays: they are no inputs, so that later decisions do not
    change earlier rounds.
    """

    round: int
    kind: str
    sources: tuple[str, ...]
    version: str = "1"

    @property
    def name(self) -> str:
        """Its folder."""
        return f"round-{self.round}/decisions"

    def settings(self) -> dict[str, Any]:
        """Who decides."""
        return {"annotator": self.kind}

    def run(self, task: Task, out: Path) -> dict[str, int]:
        """Write `decisions.jsonl`."""
        candidates = candidates_of(task.inputs[0])
        before = Decisions.load([path for path in task.inputs[1:] if path.name == DECISIONS])
        known = candidates | {decision.domain for decision in before.decisions()}
        found = read_decisions(self.kind, self.sources).decisions()
        mine = [decision for decision in found if decision.domain in known]
        lines = [json.dumps(decision.as_row(), ensure_ascii=False) + "\n" for decision in mine]
        (out / DECISIONS).write_text("".join(lines), encoding="utf-8")
        return {"in": len(found), "out": len(mine), "no_candidate": len(found) - len(mine)}


def read_decisions(kind: str, sources: Sequence[str]) -> Decisions:
    """Those of a file of rules, or of people's files."""
    if kind == "rules":
        return Decisions.from_rules(Path(sources[0]))
    return Decisions.load(map(Path, sources))


def candidates_of(domains: Path) -> set[str]:
    """The candidate domains of a round."""
    table = read_parquet(domains, ["domain", "candidate"])
    return set(table.column("domain").filter(table.column("candidate")).to_pylist())


@dataclass(frozen=True)
class SeedStep:
    """Pages that become positives. Inputs: pages, `collected`, scores, decisions, the `in_seed` of the round before.

    In is who lies under an accepted path and was not collected when it was accepted, as long as the path stays so.
    """

    round: int
    version: str = "1"

    @property
    def name(self) -> str:
        """Its folder."""
        return f"round-{self.round}/seed"

    def settings(self) -> dict[str, Any]:
        """None: all is input."""
        return {}

    def run(self, task: Task, out: Path) -> dict[str, int]:
        """Write `in_seed` and the examples."""
        pages, cut, scored, decided, *before = task.inputs
        table = read_parquet(pages, ["domain", "path"])
        kept = ~np.isnan(read_parquet(scored, ["score"]).column("score").to_numpy())
        accepted = kept & Decisions.load([decided]).accepts(table.column("domain"), table.column("path"))
        earlier = read_parquet(before[0], ["in_seed"]).column("in_seed").to_numpy() if before else np.zeros(1, bool)
        collected = collected_in(cut)
        joined = accepted & (~collected | earlier)
        write_table(pa.table({"in_seed": joined}), out / COLUMNS)
        write_examples(pages, np.flatnonzero(joined), out / SEED)
        counts = {"in": len(table), "out": int(joined.sum()), "duplicate": int((~kept).sum())}
        counts["not_accepted"] = int((kept & ~accepted).sum())
        new = int((joined & ~earlier).sum())
        return counts | {"collected": int((accepted & ~joined).sum()), "_accepted": int(accepted.sum()), "_new": new}
