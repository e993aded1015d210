"""`stage=mine`: a corpus out of a crawl, step by step (paper 2.1).

    pages    read the crawl's records, extract their text
    urls     mark all but one page of each address
    near     mark all but one of near-duplicates
    rounds   classifier, cut, domains, annotation, again
    clean    take out what benchmarks hold
    export   JSONL as `stage=tokenize` reads it

The run's folder depends on its name and the crawl alone. What else is set decides, step by step, whether what lies
there is what these settings make; only what is not is made anew. At the end every record is accounted for.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from dsm.config.base import HUB_PREFIX
from dsm.config.mine import STEPS, MineConfig
from dsm.corpus.executors import Executor, make_executor
from dsm.corpus.mine_clean import CLEAN, CleanStep
from dsm.corpus.mine_export import ExportStep, link_export, reconcile, reconciliation
from dsm.corpus.pages import COLUMNS, PAGES
from dsm.corpus.rounds import Loop, Round, Waiting, load_rounds, seed_files
from dsm.corpus.rounds_steps import read_decisions
from dsm.corpus.steps import Manifest, Task, run_step
from dsm.errors import UserError
from dsm.evaluation.benchmarks import data_source
from dsm.files import atomic_write_text
from dsm.runtime.light import light_session

log = logging.getLogger("dsm")


def mine(config: MineConfig) -> dict[str, Any]:
    """Run the steps asked for; returns the final metrics.

    Raises:
        UserError: a step that is needed is neither asked for nor there, or an input cannot be used.
    """
    _check(config)
    with light_session(config) as run:
        log.info("run folder: %s", run.path)
        (run.path / "metrics.json").unlink(missing_ok=True)
        began = time.monotonic()
        mining = _Mining(config, run.path)
        waiting = mining.run()
        from dsm.corpus.report import write_report

        truth: dict[str, float] = {}
        if config.truth is not None and mining.rounds:
            from dsm.corpus.truth import compare

            truth = compare(run.path, Path(config.truth).expanduser())
            for one in mining.rounds:
                found = [truth[f"round-{one.number}/{name}"] for name in ("recall", "precision")]
                log.info("round %d against the truth: recall %.4f, precision %.4f", one.number, *found)
        final = mining.metrics() | {f"truth/{name}": value for name, value in truth.items()}
        write_report(config, run.path, mining.rounds, mining.balance, truth)
        log.info("report: %s", run.path / "report.html")
        if waiting is not None:
            log.warning(
                "round %d waits for people: %s candidate domains with %s uncollected pages have no verdict yet (%.0f %%"
                " of such pages have one, annotation.coverage=%g). Run 'dsm stage=annotate run=%s', then this command"
                " again",
                waiting.number,
                f"{waiting.domains:,}",
                f"{waiting.uncollected:,}",
                100 * waiting.coverage,
                config.annotation.coverage,
                run.path,
            )
            return final | {"mine/waiting": waiting.number}
        final["seconds"] = round(time.monotonic() - began, 1)
        atomic_write_text(run.path / "metrics.json", json.dumps(final, indent=2) + "\n")
        return final


def _check(config: MineConfig) -> None:
    """What later steps will read must be readable now: hours may lie between.

    Raises:
        UserError: it is not.
    """
    if "rounds" in config.steps:
        seed_files(config.seed_corpus.path)
        if config.annotation.annotator == "rules":
            read_decisions("rules", [str(Path(config.annotation.rules or "").expanduser())])
    if config.truth is not None and not Path(config.truth).expanduser().is_file():
        raise UserError(f"truth={config.truth}: no such file; give the truth.parquet of a stage=crawl run, or null")
    if "clean" in config.steps:
        for name, benchmark in config.benchmarks.items():
            path, key = data_source(name, benchmark.data, config.data_root)
            if not path.startswith(HUB_PREFIX) and not Path(path).expanduser().exists():
                raise UserError(f"{key}={path}: no such file or folder; give the benchmark's data")


class _Mining:
    """The steps of a run and what they have left so far."""

    def __init__(self, config: MineConfig, root: Path) -> None:
        self.config, self.root = config, root
        self.executor: Executor = make_executor(config.executor, root / "executor")
        self.done: dict[str, Manifest] = {}
        self.rounds: list[Round] = []
        self.balance: dict[str, Any] | None = None

    def run(self) -> Waiting | None:
        """All steps asked for, in their order; those before the last of them must be there."""
        last = max(STEPS.index(step) for step in self.config.steps)
        for step in STEPS[: last + 1]:
            if step not in self.config.steps:
                self._load(step)
                continue
            waiting: Waiting | None = getattr(self, f"_{step}")()
            if waiting is not None:
                self._reconcile()
                return waiting
        self._reconcile()
        return None

    def metrics(self) -> dict[str, Any]:
        """What there is in the end, for a sweeper and for people."""
        final: dict[str, Any] = {}
        if self.balance is not None:
            final |= {"mine/records": self.balance["in"], "mine/pages": self.balance["fates"]["out"]}
        if self.rounds:
            final["mine/rounds"] = len(self.rounds)
            facts = self.rounds[-1].facts
            final |= {f"mine/{name}": facts[name] for name in ("tokens", "overlap") if name in facts}
        if "export" in self.done:
            final["export"] = str(self.root / "export")
        return final

    # ------------------------------------------------------------ steps

    def _pages(self) -> None:
        from dsm.corpus.read import PagesStep, read_tasks

        step = PagesStep(tokenizer=self.config.crawl.tokenizer)
        tasks = read_tasks(Path(self.config.crawl.path).expanduser())
        self.done["pages"] = self._step(step, tasks)

    def _urls(self) -> None:
        from dsm.corpus.url_duplicates import run_urls

        self.done["urls"] = run_urls(self.done["pages"], self.root / "steps" / "urls", self.executor)

    def _near(self) -> None:
        if self.config.near.enabled:
            from dsm.corpus.near import MinHash
            from dsm.corpus.near_steps import run_near

            near = self.config.near
            self.done["near"] = run_near(
                self.done["pages"],
                self.done["urls"],
                self.root / "steps",
                self.executor,
                minhash=MinHash(ngram=near.ngram, bands=near.bands, rows=near.rows),
                threshold=near.threshold,
            )

    def _rounds(self) -> Waiting | None:
        loop = Loop(self.config, self.root, self.done["pages"], self._marks(), self.executor)
        self.rounds, waiting = loop.run(self._on_round)
        return waiting

    def _on_round(self, rounds: Sequence[Round]) -> None:
        lines = [json.dumps(one.facts) + "\n" for one in rounds]
        atomic_write_text(self.root / "metrics.jsonl", "".join(lines))

    def _clean(self) -> None:
        if not self.config.benchmarks:
            log.warning("benchmarks={}: the corpus is not decontaminated; name them, as benchmark=[gsm8k,math]")
            return
        from dsm.corpus.contamination_index import write_texts
        from dsm.corpus.contamination_texts import benchmark_texts

        texts, rejected = benchmark_texts(self.config.benchmarks, self.config.data_root)
        for name, rows in rejected.items():
            if rows:
                log.warning("benchmarks.%s: %d rows could not be read, the first: %s", name, len(rows), rows[0].reason)
        file = self.root / "steps" / "benchmark-texts.jsonl"
        write_texts(texts, file)
        step, cut = CleanStep(self.config.decontamination), self.rounds[-1].steps["cut"]
        tasks = [
            Task(name, (shard.path(PAGES), cut.shards[name].path(COLUMNS), file))
            for name, shard in self.done["pages"].shards.items()
        ]
        self.done["clean"] = self._step(step, tasks)

    def _export(self) -> None:
        scored, clean = self.rounds[-1].steps["score"], self.done.get("clean")
        tasks = []
        for name, shard in self.done["pages"].shards.items():
            cuts = [one.steps["cut"].shards[name].path(COLUMNS) for one in self.rounds]
            cleaned = [clean.shards[name].path(CLEAN)] if clean is not None else []
            tasks.append(Task(name, (shard.path(PAGES), scored.shards[name].path(COLUMNS), *cuts, *cleaned)))
        self.done["export"] = self._step(ExportStep(len(self.rounds)), tasks)
        link_export(self.done["export"], self.root / "export")
        rows = self.done["export"].total()["out"]
        log.info("%s pages in %s", f"{rows:,}", self.root / "export")

    # ------------------------------------------------------------ around them

    def _step(self, step: Any, tasks: Sequence[Task]) -> Manifest:
        return run_step(step, tasks, self.root / "steps" / step.name, self.executor)

    def _marks(self) -> list[Manifest]:
        """The steps that tell which pages are duplicates."""
        return [self.done[name] for name in ("urls", "near") if name in self.done]

    def _load(self, step: str) -> None:
        """What an earlier command has left."""
        if step == "rounds":
            self.rounds = load_rounds(self.root)
            there = bool(self.rounds)
        else:
            there = (step == "near" and not self.config.near.enabled) or (
                step == "clean" and not self.config.benchmarks
            )
            if not there:
                with suppress(UserError):
                    self.done[step] = Manifest.load(self.root / "steps" / step)
                    there = True
        if not there:
            asked = ",".join(self.config.steps)
            raise UserError(f"steps=[{asked}]: needs {step}, which is not finished in {self.root}; add {step} to steps")
        if step in self.done:
            self.done[step].check()

    def _reconcile(self) -> None:
        """Every record that came in, and where it went; written, told, and an error where it does not add up."""
        repeated = {"near": "duplicate_url", "cut": "duplicate"}
        steps = dict(self.done)
        if self.rounds:
            order = ("pages", "urls", "near", "cut", "clean", "export")
            steps["cut"] = self.rounds[-1].steps["cut"]
            steps = {name: steps[name] for name in order if name in steps}
        accounts, wrong = reconcile([(name, made, repeated.get(name, "")) for name, made in steps.items()])
        self.balance = reconciliation(accounts, wrong)
        text = json.dumps(self.balance, indent=1)
        atomic_write_text(self.root / "reconciliation.json", text + "\n")
        for one in accounts:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in one.reasons.items() if count)
            log.info(
                "%-7s %13s in, %13s on%s",
                one.step,
                f"{one.came:,}",
                f"{one.went_on:,}",
                f"; {reasons}" if reasons else "",
            )
        if wrong:
            raise RuntimeError(f"the records of {self.root} do not balance: {'; '.join(wrong)}")
        log.info("all %s records are accounted for", f"{self.balance['in']:,}")
