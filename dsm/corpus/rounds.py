"""The paper's loop (section 2.1): learn, score, cut, find domains, ask for their paths, learn again from more.

Pages of accepted paths that a round did not collect become positives of the next; they do not enter the corpus by
themselves. The loop ends when nearly all of a round had been collected in the round before, or after so many rounds.
Nothing is kept in mind: all of it lies in RUN/steps/round-K, step by step, so the loop goes on wherever it stopped.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsm.config.mine import MineConfig
from dsm.corpus.domains import DOMAINS
from dsm.corpus.executors import Executor
from dsm.corpus.pages import COLUMNS, PAGES, read_parquet
from dsm.corpus.rounds_examples import MEASURED, MODEL, NEGATIVES, SEED, NegativesStep, TrainStep, key_limit
from dsm.corpus.rounds_steps import (
    CUT,
    DECISIONS,
    HISTOGRAM,
    CutStep,
    DecisionsStep,
    DomainsStep,
    ScoreStep,
    SeedStep,
    ThresholdStep,
    read_decisions,
)
from dsm.corpus.steps import MANIFEST, Manifest, Step, Task, run_step

log = logging.getLogger("dsm")

ALL = "all"
"""The one task of a step that looks at all shards."""


@dataclass(frozen=True)
class Round:
    """A round that is over: its number, its steps by name, its line of metrics.jsonl."""

    number: int
    steps: dict[str, Manifest]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Waiting:
    """The loop stands still until people have decided on the candidates of a round."""

    number: int
    domains: int
    uncollected: int
    coverage: float


class Loop:
    """All rounds over the pages of a run."""

    def __init__(
        self, config: MineConfig, root: Path, pages: Manifest, marks: Sequence[Manifest], executor: Executor
    ) -> None:
        """`marks`: the steps that tell which pages are duplicates; `root`: the run's folder."""
        self.config, self.root, self.executor = config, root, executor
        self.pages, self.marks = pages, marks
        self.corpus = seed_files(config.seed_corpus.path)

    def run(self, on_round: Callable[[list[Round]], None] = lambda rounds: None) -> tuple[list[Round], Waiting | None]:
        """Go round until it is enough; `on_round` is told of all rounds so far, whenever there is news of one."""
        rounds: list[Round] = []
        waiting: Waiting | None = None
        while True:
            number = len(rounds) + 1
            rounds.append(self._round(number, rounds))
            _tell(rounds[-1])
            on_round(rounds)
            if reason := self._over(rounds[-1]):
                log.info("the loop ends after round %d: %s", number, reason)
                break
            waiting = self._waiting(rounds[-1])
            if waiting is not None:
                break
            rounds[-1] = self._annotated(rounds[-1], rounds[-2] if len(rounds) > 1 else None)
            on_round(rounds)
        self._remove_after(len(rounds))
        return rounds, waiting

    # ------------------------------------------------------------ one round

    def _round(self, number: int, before: Sequence[Round]) -> Round:
        config, last = self.config, before[-1] if before else None
        done: dict[str, Manifest] = {}
        done["negatives"] = self._negatives(number, last)
        inputs = [*self.corpus, *(last.steps["seed"].files(SEED) if last else []), *done["negatives"].files(NEGATIVES)]
        train = TrainStep(number, config.seed, config.classifier, tuple(config.seed_corpus.fields), len(self.corpus))
        done["train"] = self._once(train, inputs)
        model = done["train"].shards[ALL].path(MODEL)
        done["score"] = self._map(ScoreStep(number, config.classifier), lambda s: [model, *self._marks(s)])
        scored = done["score"]
        trios = [
            path
            for shard in self.pages.shards
            for path in (self._page_file(shard), *(scored.shards[shard].path(name) for name in (COLUMNS, HISTOGRAM)))
        ]
        done["threshold"] = self._once(ThresholdStep(number, config.cut), trios)
        cut = done["threshold"].shards[ALL].path(CUT)
        collected = last.steps["cut"] if last else None
        done["cut"] = self._map(
            CutStep(number),
            lambda s: [
                scored.shards[s].path(COLUMNS),
                cut,
                *([collected.shards[s].path(COLUMNS)] if collected else []),
            ],
        )
        domains = DomainsStep(number, config.domains.share, config.domains.min_pages)
        done["domains"] = self._once(domains, done["cut"].files(DOMAINS))
        return Round(number, done, self._facts(number, done, last))

    def _negatives(self, number: int, last: Round | None) -> Manifest:
        """Random pages; after the first round none of a candidate domain."""
        set_aside = [manifest.total()["in"] - manifest.total()["out"] for manifest in self.marks]
        there = self.pages.total()["out"] - max(set_aside, default=0)  # each mark counts those before it too
        extra: list[Path] = []
        if last is not None:
            extra = last.steps["domains"].files(DOMAINS)
            there -= last.steps["domains"].total()["_pages"]
        # More than enough: the training takes those of the lowest keys.
        step = NegativesStep(number, self.config.seed, key_limit(self.config.classifier.negatives, max(there, 1)))
        return self._map(step, lambda shard: [*self._marks(shard), *extra])

    def _annotated(self, done: Round, last: Round | None) -> Round:
        """Take down the decisions and enlarge the seed."""
        kind, number = self.config.annotation.annotator, done.number
        sources = decision_files(self.config, self.root)
        inputs = [*done.steps["domains"].files(DOMAINS), *(last.steps["decisions"].files(DECISIONS) if last else [])]
        step = DecisionsStep(number, kind, tuple(map(str, sources)))
        decided = self._once(step, [*inputs, *(sources if kind == "rules" else [])])
        cut, scored, decisions = done.steps["cut"], done.steps["score"], decided.files(DECISIONS)
        earlier = last.steps["seed"] if last else None
        seed = self._map(
            SeedStep(number),
            lambda s: [
                cut.shards[s].path(COLUMNS),
                scored.shards[s].path(COLUMNS),
                *decisions,
                *([earlier.shards[s].path(COLUMNS)] if earlier else []),
            ],
        )
        total, paths = seed.total(), decided.total()["out"]
        facts = {"annotation/decisions": paths, "annotation/accepted_pages": total["_accepted"]}
        facts |= {"seed/pages": total["out"], "seed/new_pages": total["_new"]}
        log.info(
            "round %d: %s decisions accept %s pages, of which %s join the seed anew",
            number,
            *(f"{count:,}" for count in (paths, total["_accepted"], total["_new"])),
        )
        return Round(number, done.steps | {"decisions": decided, "seed": seed}, done.facts | facts)

    def _waiting(self, done: Round) -> Waiting | None:
        """Do people still have to decide?"""
        if self.config.annotation.annotator != "human":
            return None
        table = read_parquet(done.steps["domains"].files(DOMAINS)[0], ["domain", "pages", "collected", "candidate"])
        rows = table.filter(table.column("candidate")).to_pylist()
        open_pages = {row["domain"]: row["pages"] - row["collected"] for row in rows if row["pages"] > row["collected"]}
        frozen = self.root / "steps" / f"round-{done.number}" / "decisions" / ALL / DECISIONS
        files = [*decision_files(self.config, self.root), *([frozen] if frozen.is_file() else [])]
        found = read_decisions("human", [str(file) for file in files])
        for row in found.broken:
            log.warning("%s, line %d: no decision (%s); it is passed over", row.file, row.line, row.reason)
        decided = {decision.domain for decision in found.decisions()}
        total = sum(open_pages.values())
        covered = sum(pages for domain, pages in open_pages.items() if domain in decided)
        if covered >= self.config.annotation.coverage * total:
            return None
        left = len(open_pages.keys() - decided)
        return Waiting(done.number, left, total - covered, covered / total)

    def _over(self, done: Round) -> str | None:
        """Why this round is the last one; None if it is not."""
        limit, overlap = self.config.rounds, done.facts.get("overlap")
        if overlap is not None and overlap >= limit.stop_overlap:
            return f"{overlap:.1%} of it had been collected before (rounds.stop_overlap={limit.stop_overlap:g})"
        if done.number >= limit.max:
            return f"rounds.max={limit.max}"
        if self.config.annotation.annotator == "none":
            return "annotation.annotator=none"
        return None

    # ------------------------------------------------------------ tasks

    def _map(self, step: Step, inputs_of: Any) -> Manifest:
        """A step over all shards; its tasks read the pages and what `inputs_of(shard)` gives."""
        tasks = [Task(shard, (self._page_file(shard), *inputs_of(shard))) for shard in self.pages.shards]
        return run_step(step, tasks, self.root / "steps" / step.name, self.executor)

    def _once(self, step: Step, inputs: Sequence[Path]) -> Manifest:
        """A step that is one task."""
        return run_step(step, [Task(ALL, tuple(inputs))], self.root / "steps" / step.name, self.executor)

    def _page_file(self, shard: str) -> Path:
        return self.pages.shards[shard].path(PAGES)

    def _marks(self, shard: str) -> list[Path]:
        return [manifest.shards[shard].path(COLUMNS) for manifest in self.marks]

    def _remove_after(self, number: int) -> None:
        """Rounds of other settings, of which there were more."""
        for folder in (self.root / "steps").glob("round-*"):
            if folder.name.removeprefix("round-").isdigit() and int(folder.name.removeprefix("round-")) > number:
                shutil.rmtree(folder)

    # ------------------------------------------------------------ figures

    def _facts(self, number: int, done: dict[str, Manifest], last: Round | None) -> dict[str, Any]:
        cut, domains, train = done["cut"].total(), done["domains"].total(), done["train"].total()
        measured = json.loads(done["train"].shards[ALL].path(MEASURED).read_text())
        threshold = json.loads(done["threshold"].shards[ALL].path(CUT).read_text())
        facts: dict[str, Any] = {"round": number, "pages": cut["out"], "tokens": cut["_tokens"]}
        facts["share"] = cut["out"] / max(1, done["score"].total()["out"])
        if last is not None:
            facts["overlap"] = cut["_again"] / max(1, cut["out"])
            facts["overlap_tokens"] = cut["_again_tokens"] / max(1, cut["_tokens"])
        for language in ("en", "zh", "other"):
            facts |= {f"{language}/pages": cut[f"_{language}"], f"{language}/tokens": cut[f"_{language}_tokens"]}
        facts |= {
            "cut/score": threshold["score"],
            "classifier/model": measured["model"],
            "classifier/lr": measured["lr"],
        }
        facts |= {f"classifier/{name}": train[f"_{name}"] for name in ("positives", "negatives", "held_out")}
        for split in ("random", "domains"):
            for name in ("precision", "recall", "auc"):
                if measured[split][name] is not None:
                    facts[f"classifier/{split}/{name}"] = measured[split][name]
        facts |= {"domains/all": domains["in"], "domains/candidates": domains["out"]}
        return facts | {"domains/uncollected_pages": domains["_uncollected"]}


def load_rounds(root: Path) -> list[Round]:
    """The rounds that lie in a run's folder, as far as they are finished; without their figures."""
    rounds: list[Round] = []
    while (folder := root / "steps" / f"round-{len(rounds) + 1}" / "cut").is_dir():
        names = sorted(step.name for step in folder.parent.iterdir() if (step / MANIFEST).is_file())
        if "domains" not in names:
            break
        rounds.append(Round(len(rounds) + 1, {name: Manifest.load(folder.parent / name) for name in names}, {}))
    return rounds


def seed_files(path: str) -> list[Path]:
    """The files of the seed corpus, in order.

    Raises:
        UserError: there are none.
    """
    from dsm.data.records import SUFFIXES, data_files

    return data_files(Path(path).expanduser(), None, f"seed_corpus.path={path}", (*SUFFIXES, ".txt"))


def decision_files(config: MineConfig, root: Path) -> list[Path]:
    """Where decisions stand: the file of rules, or the annotators' own."""
    if config.annotation.annotator == "rules":
        assert config.annotation.rules is not None  # the schema has seen to it
        return [Path(config.annotation.rules).expanduser()]
    return sorted((root / "annotations").glob("*.jsonl"))


def _tell(done: Round) -> None:
    facts = done.facts
    again = f", {facts['overlap']:.1%} of them collected in the round before" if "overlap" in facts else ""
    log.info(
        "round %d: %s pages, %s tokens (%.1f %% of all pages)%s; %s candidate domains of %s with %s uncollected pages",
        done.number,
        f"{facts['pages']:,}",
        f"{facts['tokens']:,}",
        100 * facts["share"],
        again,
        *(f"{facts[f'domains/{name}']:,}" for name in ("candidates", "all", "uncollected_pages")),
    )
