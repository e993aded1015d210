"""The steps of a pipeline, from what a user wrote to checked runs: repeated, fed by earlier ones, composed.

A step's folder follows from its settings, and these name the folders of the steps that feed it. So all of them are
known before the first one runs, and a step whose settings are those of a run that is there already is that run.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dsm.config.checks import check_paths, coming
from dsm.config.compose import compose_config
from dsm.config.evaluation import EvalConfig
from dsm.config.explain import shown
from dsm.config.listing import groups
from dsm.config.mine import MineConfig
from dsm.config.parallel import ParallelConfig
from dsm.config.pipeline import EndingConfig, PipelineConfig, StepConfig
from dsm.config.references import Known, References, Step, names_any
from dsm.config.report import ReportStageConfig
from dsm.config.report_checks import check_questions
from dsm.config.run import RunConfig
from dsm.config.runs import run_path
from dsm.config.settings import overrides
from dsm.errors import UserError
from dsm.files import digest


def pipeline_steps(config: PipelineConfig, runs: str | None = None) -> list[Step]:
    """All runs of a pipeline in their order, each composed and checked.

    Args:
        runs: the folder for the runs, if not paths.runs.

    Raises:
        UserError: a reference that points nowhere, a setting that is wrong or a file that is missing, in any step.
    """
    known = Known()
    for origin, step in config.steps.items():
        if step is None:
            known.left_out.add(origin)
            continue
        known.repetitions[origin] = list(_repetitions(origin, step, known))
        made = [_step(config, origin, step, chosen, known, runs) for chosen in known.repetitions[origin]]
        for one in made:
            if twice := next((other.name for other in known.steps if other.name == one.name), None):
                raise UserError(f"steps.{origin}: makes a second run named {twice}; call the step something else")
            known.steps.append(one)
    return known.steps


def pipeline_ending(config: PipelineConfig, steps: Sequence[Step]) -> EndingConfig:
    """What the pipeline says at its end, with the runs' folders; what speaks of a step that is left out is not said.

    Raises:
        UserError: a reference that points nowhere.
    """
    left_out = {origin for origin, step in config.steps.items() if step is None}
    references = References(Known(list(steps), left_out=left_out), {})
    places = {name: path for name, path in config.ending.places.items() if not names_any(path, left_out)}
    commands = [command for command in config.ending.next if not names_any(command, left_out)]
    return EndingConfig(places=references.fill(places, "ending.places"), next=references.fill(commands, "ending.next"))


def _repetitions(origin: str, step: StepConfig, known: Known) -> Iterator[dict[str, Any]]:
    """Every combination: variable -> (name, the settings that it brings)."""
    if isinstance(step.foreach, str):
        known.of(step.foreach, f"steps.{origin}.foreach={step.foreach}", {})
        for chosen in known.repetitions.get(step.foreach, []):
            yield {variable: (value, {}) for variable, (value, _) in chosen.items()}
        return
    choices = []
    for variable, options in step.foreach.items():
        named: Mapping[Any, dict[str, Any]] = options if isinstance(options, dict) else {name: {} for name in options}
        choices.append([(variable, (value, extra)) for value, extra in named.items()])
    yield from map(dict, itertools.product(*choices))


def _step(
    config: PipelineConfig, origin: str, step: StepConfig, chosen: Mapping[str, Any], known: Known, runs: str | None
) -> Step:
    values = {variable: value for variable, (value, _) in chosen.items()}
    name = "-".join([origin, *(re.sub(r"[^A-Za-z0-9_.]+", "_", str(value)) for value in values.values())])
    settings: dict[str, Any] = {"use": dict(step.use), "seconds": step.seconds, "ranks": step.ranks, **step.settings}
    for _, extra in chosen.values():
        settings = _merged(settings, extra)
    references = References(known, values)
    settings = references.fill(settings, f"steps.{origin}")
    use, seconds, ranks = (settings.pop(key) for key in ("use", "seconds", "ranks"))
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds <= 0):
        raise UserError(f"steps.{origin}.seconds={shown(seconds)}: must be a number greater than 0")
    if isinstance(ranks, bool) or not isinstance(ranks, int) or ranks < 1:
        raise UserError(f"steps.{origin}.ranks={shown(ranks)}: must be a whole number, 1 or more")
    for key, value in settings.items():
        if key in groups() and isinstance(value, str):
            raise UserError(f"steps.{origin}.{key}={value}: groups are chosen as steps.{origin}.use.{key}={value}")
    lines = {key: f"{key}={_group_option(value)}" for key, value in use.items()}
    common = {"name": name, "seed": config.seed, "paths.runs": runs or config.paths.runs}
    lines |= overrides(common) | overrides(settings)
    try:
        composed = compose_config(list(lines.values()))
        if isinstance(composed, PipelineConfig):
            raise UserError("stage=pipeline: a pipeline has no pipelines among its steps; allowed: any other stage")
        if ranks > 1:
            _check_ranks(composed, ranks)
        with coming(one.folder for one in known.steps):
            check_paths(composed)
        if isinstance(composed, ReportStageConfig):
            asked = {one.folder: one.config for one in known.steps if isinstance(one.config, EvalConfig)}
            check_questions(composed, asked)
    except UserError as error:
        raise UserError(f"steps.{name}: {error}") from None
    if isinstance(composed, MineConfig) and "name" not in settings:
        # Its folder's hash is that of the crawl alone; here one that is finished must be known by all its settings.
        making = composed.model_dump(exclude={"mode", "resume", "sweep_metric", "paths", "executor"})
        composed = composed.model_copy(update={"name": f"{name}-{digest(making)[:8]}"})
        lines |= overrides({"name": composed.name})
    command, feeding = list(lines.values()), tuple(references.named)
    return Step(name, origin, values, command, composed, run_path(composed), feeding, seconds, ranks)


def _check_ranks(config: RunConfig, ranks: int) -> None:
    parallel = getattr(config, "parallel", None)
    if not isinstance(parallel, ParallelConfig):
        raise UserError(f"ranks={ranks}: stage={config.stage} runs in one process; allowed: 1")
    parallel.layout(ranks)


def _merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings, `more` having the last word."""
    merged = dict(base)
    for key, value in more.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _group_option(value: Any) -> str:
    return f"[{','.join(map(str, value))}]" if isinstance(value, list) else shown(value)
