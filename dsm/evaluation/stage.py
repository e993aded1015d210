"""`stage=eval`, from a checked configuration to what they leave in their run folder."""

from __future__ import annotations

import json
import logging
from contextlib import ExitStack
from typing import Any

from dsm.config.evaluation import EvalConfig
from dsm.data.tokenizer import load_tokenizer
from dsm.errors import UserError
from dsm.evaluation.metrics import flat_metrics, summarise
from dsm.evaluation.runner import Runner
from dsm.evaluation.scoring import Scoring
from dsm.evaluation.table import table
from dsm.evaluation.tasks import Bench
from dsm.files import atomic_write_text
from dsm.models.build import build_model, transformers_config
from dsm.models.fingerprint import model_fingerprint
from dsm.rewards.reward_model import reward_model_fingerprint
from dsm.rollout.engines import make_engine
from dsm.runtime.launch import accelerator
from dsm.runtime.metrics import log_once
from dsm.runtime.session import Session, session

log = logging.getLogger("dsm")
_LOGGED_ITEMS = 200  # of each benchmark, in the loggers' tables


def evaluate(config: EvalConfig) -> dict[str, Any]:
    """`stage=eval`: answer every benchmark, judge, summarise; returns the final metrics."""
    with session(config, config.parallel) as here, ExitStack() as stack:
        if here.run.finished is not None:
            here.world.on_first(lambda: _refuse_another_model(config, here))
            return here.run.finished
        tokenizer = load_tokenizer(config.tokenizer_path)
        architecture = transformers_config(config.model, len(tokenizer))
        bench = Bench(config, tokenizer, getattr(architecture, "max_position_embeddings", None), stack)
        tasks = [bench.task(name, here) for name in config.benchmarks]
        judges = [bench.judge(task) for task in tasks]  # a sandbox that is not possible here is found out now
        log.info("prompts: %s", bench.prompting)
        device = accelerator(config.parallel)
        if config.reward_model is not None:
            scoring = Scoring(config.reward_model, tokenizer, device)
            tasks = [scoring.task(task) for task in tasks]
            judges = [judge and scoring.judge(task, judge) for task, judge in zip(tasks, judges, strict=True)]
            about = "text, tokenised anew" if scoring.scorer.retokenises else "the tokens that are written"
            log.info(
                "reward model: %s, %s supervision, reads %s",
                config.reward_model.path,
                scoring.scorer.supervision,
                about,
            )
        model = build_model(config.model, len(tokenizer), seed=config.seed).eval()
        engine = make_engine(config.engine, model.to(device), tokenizer)
        log.info("model: %s parameters on %s", f"{model.num_parameters():,}", device)
        runner = Runner(config, engine, here.run.path / "items", here.world)
        results: dict[str, Any] = {"model": config.model.path or config.name, "benchmarks": {}}
        samples: dict[str, list[dict[str, Any]]] = {}
        for task, judge in zip(tasks, judges, strict=True):
            records = runner.run(task, judge, bench.tool_use(task, engine))
            if here.world.first:
                samples[task.name] = records[:_LOGGED_ITEMS]
                results["benchmarks"][task.name] = summarise(
                    records,
                    config.sampling_of(task.config).ks,
                    title=task.title,
                    protocol=task.protocol,
                    reference=task.config.reference,
                    seed=config.seed,
                )
        final = _finish(config, here, results, samples) if here.world.first else None
        metrics: dict[str, Any] = here.world.broadcast(final)
        return metrics


def _finish(
    config: EvalConfig, here: Session, results: dict[str, Any], samples: dict[str, list[dict[str, Any]]]
) -> dict[str, Any]:
    """results.json, the loggers, the table on the terminal; last, metrics.json, which says that the run has ended."""
    final: dict[str, Any] = {**flat_metrics(results), "results": str(here.run.path / "results.json")}
    atomic_write_text(here.run.path / "results.json", json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    log_once(
        config.logger,
        here.run.path,
        config.name,
        config.model_dump(),
        {key: value for key, value in final.items() if isinstance(value, float)},
        {f"{name}/items": _rows(records) for name, records in samples.items()},
    )
    atomic_write_text(here.run.path / "metrics.json", json.dumps(final, indent=2) + "\n")
    for line in table(results).splitlines():
        log.info("%s", line)
    log.info("results: %s", final["results"])
    return final


def _rows(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first sample of each item, as a table shows it."""
    return [
        {
            "id": record["id"],
            "question": record["question"],
            "gold": record["gold"],
            **{key: record["samples"][0][key] for key in ("answer", "verdict", "reason", "output")},
        }
        for record in records
    ]


def _refuse_another_model(config: EvalConfig, here: Session) -> None:
    """A model's folder may have been written anew since: its old results must not pass for new ones."""
    now = None if config.model.path is None else model_fingerprint(config.model.path)
    scores = None if config.reward_model is None else reward_model_fingerprint(config.reward_model.path)
    for name, entry in json.loads((here.run.path / "results.json").read_text())["benchmarks"].items():
        told = entry["protocol"]
        for key, path, before, weights in (
            ("model", config.model.path, told["model"], now),
            ("reward_model", config.reward_model and config.reward_model.path, told.get("reward_model"), scores),
        ):
            if weights is not None and weights != (before["weights"] if isinstance(before, dict) else before):
                raise UserError(
                    f"{key}.path={path}: other weights than when {here.run.path} measured {name};"
                    " resume=never measures these"
                )
