"""`stage=problems`: made-up word problems to learn from, and others to measure on."""

from __future__ import annotations

import json
import logging
from typing import Any, get_args

from dsm.config.problems import ProblemsConfig, ProblemsStageConfig
from dsm.data.problem_story import Style
from dsm.data.problems import Problem, generate_problems, split_problems, write_jsonl
from dsm.errors import UserError
from dsm.files import atomic_directory, atomic_write_text
from dsm.runtime.light import announce, light_session

log = logging.getLogger("dsm")


def make_problems(config: ProblemsStageConfig) -> dict[str, Any]:
    """Write `<run>/export/train.jsonl` (style=mixed: train_cot.jsonl, ...), `test.jsonl` and one file for each of
    `tests`; returns how many there are and how long.

    Raises:
        UserError: there are not so many distinct problems.
    """
    with light_session(config) as run:
        announce(run)
        if run.finished is not None:
            return run.finished
        files = _draw(config.problems, config.seed)
        final: dict[str, Any] = {}
        with atomic_directory(run.export) as folder:
            for name, problems in files.items():
                write_jsonl(problems, folder / f"{name}.jsonl")
                final |= {f"{name}/rows": len(problems), f"{name}/solution_chars": _mean_chars(problems)}
                log.info("%s: %s problems", run.export / f"{name}.jsonl", f"{len(problems):,}")
        shown = next(iter(files.values()))[0]
        log.info("one of them: %s\n  solution: %s", shown.question, shown.solution)
        final["export"] = str(run.export)
        atomic_write_text(run.path / "metrics.json", json.dumps(final, indent=2) + "\n")
        return final


def _draw(asked: ProblemsConfig, seed: int) -> dict[str, list[Problem]]:
    """The problems of each file; no question is in two of them."""
    held_out: dict[str, list[Problem]] = {}
    taken: set[str] = set()
    common: dict[str, Any] = asked.model_dump(include={"language", "steps", "difficulty", "kinds"})
    for name, differing in asked.tests.items():
        try:
            held_out[name] = generate_problems(
                asked.n_test,
                f"{name} {seed}",
                **(common | differing.model_dump(exclude_none=True)),
                lines=asked.lines,
                taken=taken,
            )
        except UserError as error:
            raise UserError(f"problems.tests.{name}.{error}") from None
        taken.update(problem.question for problem in held_out[name])
    try:
        train, test = split_problems(
            asked.n_train, asked.n_test, seed, **common, style=asked.style, lines=asked.lines, taken=taken
        )
    except UserError as error:
        raise UserError(f"problems.{error}") from None
    files = {"train": train}
    if asked.style == "mixed":
        files = {f"train_{style}": [one for one in train if one.style == style] for style in get_args(Style)}
    return files | {"test": test} | held_out


def _mean_chars(problems: list[Problem]) -> float:
    return sum(len(problem.solution) for problem in problems) / len(problems)
