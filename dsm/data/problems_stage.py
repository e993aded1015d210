"""`stage=problems`: made-up word problems to learn from, and others to measure on."""

from __future__ import annotations

import json
import logging
from typing import Any

from dsm.config.problems import ProblemsStageConfig
from dsm.data.problems import Problem, split_problems, write_jsonl
from dsm.files import atomic_directory, atomic_write_text
from dsm.runtime.light import announce, light_session

log = logging.getLogger("dsm")


def make_problems(config: ProblemsStageConfig) -> dict[str, Any]:
    """Write `<run>/export/train.jsonl` and `test.jsonl`; returns how many there are and how long.

    Raises:
        UserError: there are not so many distinct problems.
    """
    with light_session(config) as run:
        announce(run)
        if run.finished is not None:
            return run.finished
        asked = config.problems
        train, test = split_problems(
            asked.n_train,
            asked.n_test,
            config.seed,
            language=asked.language,
            steps=(asked.steps[0], asked.steps[1]),
            style=asked.style,
            difficulty=asked.difficulty,
            lines=asked.lines,
        )
        final: dict[str, Any] = {}
        with atomic_directory(run.export) as folder:
            for name, problems in (("train", train), ("test", test)):
                write_jsonl(problems, folder / f"{name}.jsonl")
                final |= {f"{name}/rows": len(problems), f"{name}/solution_chars": _mean_chars(problems)}
        log.info("%s problems to learn from, %s held out, in %s", f"{len(train):,}", f"{len(test):,}", run.export)
        log.info("one of them: %s\n  solution: %s", train[0].question, train[0].solution)
        final["export"] = str(run.export)
        atomic_write_text(run.path / "metrics.json", json.dumps(final, indent=2) + "\n")
        return final


def _mean_chars(problems: list[Problem]) -> float:
    return sum(len(problem.solution) for problem in problems) / len(problems)
