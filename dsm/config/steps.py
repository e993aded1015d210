"""The steps of a pipeline, from what a user wrote to checked runs: repeated, fed by earlier ones, composed.

A step's folder follows from its settings, and these name the folders of the steps that feed it. So all of them are
known before the first one runs, and a step whose settings are those of a run that is there already is that run.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dsm.config.checks import check_paths, coming
from dsm.config.compose import compose_config
from dsm.config.explain import shown
from dsm.config.listing import closest, groups
from dsm.config.pipeline import PipelineConfig, StepConfig
from dsm.config.run import RunConfig
from dsm.config.runs import run_path
from dsm.errors import UserError

_REFERENCE = re.compile(r"\$\{(out|all|each):([^{}]*)\}")
_PLAIN = re.compile(r"(?!(?i:true|false|null|nan|inf)$)[A-Za-z_/][\w./-]*")  # text that Hydra reads as such


@dataclass(frozen=True)
class Step:
    """One run of a pipeline.

    Attributes:
        name: of this run among the steps: the step's own, and the values that it is repeated for.
        origin: the step's name in the configuration.
        values: variable of `foreach`: its value here.
        overrides: the command line that makes this run.
        config: what it composes to.
        folder: where the run lies.
    """

    name: str
    origin: str
    values: Mapping[str, Any]
    overrides: list[str]
    config: RunConfig
    folder: Path


@dataclass
class _Known:
    """The steps before, and what one that is being made may refer to."""

    steps: list[Step] = field(default_factory=list)
    repetitions: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)

    def of(self, origin: str, where: str, values: Mapping[str, Any]) -> list[Step]:
        """The runs of a step, or the one run of that full name, that do not contradict the values."""
        exact = [step for step in self.steps if step.name == origin]
        if exact:
            return exact
        found = [step for step in self.steps if step.origin == origin]
        if not found:
            names = list(dict.fromkeys(name for step in self.steps for name in (step.origin, step.name)))
            what = "is left out" if origin in self.left_out else "is no step before this one"
            allowed = f"allowed: {', '.join(names)}" if names else "there is none before it"
            raise UserError(f"{where}: {origin} {what}; {allowed}{closest(origin, names)}")
        return [step for step in found if all(values.get(key, value) == value for key, value in step.values.items())]


def pipeline_steps(config: PipelineConfig, runs: str | None = None) -> list[Step]:
    """All runs of a pipeline in their order, each composed and checked.

    Args:
        runs: the folder for the runs, if not paths.runs.

    Raises:
        UserError: a reference that points nowhere, a setting that is wrong or a file that is missing, in any step.
    """
    known = _Known()
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


def _repetitions(origin: str, step: StepConfig, known: _Known) -> Iterator[dict[str, Any]]:
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
    config: PipelineConfig, origin: str, step: StepConfig, chosen: Mapping[str, Any], known: _Known, runs: str | None
) -> Step:
    values = {variable: value for variable, (value, _) in chosen.items()}
    name = "-".join([origin, *(re.sub(r"[^A-Za-z0-9_.]+", "_", str(value)) for value in values.values())])
    settings: dict[str, Any] = {"use": dict(step.use), **step.settings}
    for _, extra in chosen.values():
        settings = _merged(settings, extra)
    settings = _filled(settings, f"steps.{origin}", values, known)
    use = settings.pop("use")
    for key, value in settings.items():
        if key in groups() and isinstance(value, str):
            raise UserError(f"steps.{origin}.{key}={value}: groups are chosen as steps.{origin}.use.{key}={value}")
    lines = {key: f"{key}={_group_option(value)}" for key, value in use.items()}
    common = {"name": name, "seed": config.seed, "paths.runs": runs or config.paths.runs}
    lines |= {key: f"{key}={_typed(value)}" for key, value in (common | dict(_flat(settings))).items()}
    overrides = list(lines.values())
    try:
        composed = compose_config(overrides)
        if isinstance(composed, PipelineConfig):
            raise UserError("stage=pipeline: a pipeline has no pipelines among its steps; allowed: any other stage")
        with coming(one.folder for one in known.steps):
            check_paths(composed)
    except UserError as error:
        raise UserError(f"steps.{name}: {error}") from None
    return Step(name, origin, values, overrides, composed, run_path(composed))


def _merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings, `more` having the last word."""
    merged = dict(base)
    for key, value in more.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], value) if both else value
    return merged


def _filled(value: Any, where: str, values: Mapping[str, Any], known: _Known) -> Any:
    """Settings with what their references stand for."""
    if isinstance(value, Mapping):
        return {key: _filled(inner, f"{where}.{key}", values, known) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, where, values, known) for inner in value]
    if not isinstance(value, str):
        return value
    if found := _REFERENCE.match(value):
        kind, names = found[1], found[2]
        rest = value[found.end() :]
        if kind == "all":
            return _all([name.strip() for name in names.split(",")], rest, f"{where}={value}", values, known)
        if kind == "each" and not rest:
            return _each(names, f"{where}={value}", values)  # as what it is, not as text

    def text(found: re.Match[str]) -> str:
        kind, names = found[1], found[2]
        if kind == "each":
            return str(_each(names, f"{where}={value}", values))
        if kind == "all":
            raise UserError(f"{where}={value}: ${{all:...}} stands for several runs; nothing may stand before it")
        runs = known.of(names, f"{where}={value}", values)
        if len(runs) != 1:
            allowed = ", ".join(f"${{out:{run.name}}}" for run in runs)
            raise UserError(f"{where}={value}: {names} is {len(runs)} runs; allowed: foreach={names}, {allowed}")
        return str(runs[0].folder)

    return _REFERENCE.sub(text, value)


def _each(variable: str, where: str, values: Mapping[str, Any]) -> Any:
    if variable not in values:
        raise UserError(f"{where}: foreach has no {variable}; it has {', '.join(values) or 'nothing'}")
    return values[variable]


def _all(origins: Sequence[str], rest: str, where: str, values: Mapping[str, Any], known: _Known) -> dict[str, str]:
    """Name -> folder of all runs of some steps; the name says what tells a run from the others of its step."""
    found: dict[str, str] = {}
    for origin in origins:
        runs = known.of(origin, where, values)
        varied = [key for key in runs[0].values if len({str(run.values[key]) for run in runs}) > 1] if runs else []
        for run in runs:
            name = "-".join(str(run.values[key]) for key in varied)
            readable = re.fullmatch(r"[A-Za-z_][\w-]*", name) and name not in found  # as a key on a command line
            alone = origin if len(runs) == 1 and origin not in found else run.name
            found[name if readable and run.name != origin else alone] = f"{run.folder}{rest}"
    return found


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _group_option(value: Any) -> str:
    return f"[{','.join(map(str, value))}]" if isinstance(value, list) else shown(value)


def _typed(value: Any) -> str:
    """A value in Hydra's words; text is quoted where it would not stay text."""
    if isinstance(value, str):
        if _PLAIN.fullmatch(value):
            return value
        escaped = re.sub(r"(\\*)'", r"\1\1\\'", value)  # backslashes count only before a quote
        escaped = re.sub(r"(\\+)$", r"\1\1", escaped)
        return f"'{escaped}'"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_typed(key)}:{_typed(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return f"[{','.join(map(_typed, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return repr(value)
