"""`-m`: Hydra's sweepers and launchers around the check and the run of one stage.

Runs follow one another in this process, or (`hydra/launcher=submitit_slurm`) each is a job of its own. Every run has
the folder that its settings give it, as if it had been started alone, so a sweep that is started again passes over what
is finished: a grid by its values, a search because it draws by the seed and hears the same results. The sweep's own
folder holds Hydra's record of it, one result a run, and a page of them all.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from dsm.config.checks import check_paths
from dsm.config.compose import (
    check,
    compose_config,
    compose_raw,
    hydra_app,
    open_overrides,
    parse,
    refuse_unknown_groups,
)
from dsm.config.listing import groups
from dsm.config.outcomes import Goal, Outcome, clear_outcomes, outcome_table, read_outcomes, write_outcome
from dsm.config.run import DIRECTIONS, RunConfig
from dsm.errors import NonFiniteError, SpikeError, StoppedError, UserError

_CHECKED_VALUES = 100  # of one key before the first run; each takes a composition
_PLANNED_DRAWS = 3  # of a search: more of them would tell nothing new
_LOCAL_REQUEUE = 144  # the status by which submitit's local launcher starts a job again
_OF_RUNS_ALONE = ("hydra/launcher", "hydra.launcher", "hydra.sweeper.n_trials")
_NOT_THE_RESULT = (*_OF_RUNS_ALONE, "paths.", "mode", "logger")


class _EndedError(BaseException):
    """Carries an error past Hydra, which would start the next run after any other exception."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def run_sweep(
    settings: Sequence[str],
    stage: Callable[[RunConfig], dict[str, Any]],
    picture: Callable[[Path, Sequence[Goal], set[str]], Path],
) -> None:
    """Run every combination (or what the sweeper asks for); print a table of results, the best first, and draw them.

    Args:
        settings: the command line without flags.
        stage: plans or runs one configuration; returns its metrics, none for a plan.
        picture: makes a page of a sweep's folder, the metrics that count and the keys that are searched by magnitude.

    Raises:
        UserError: a combination is wrong, found before the first run where that is possible; or a run failed, which
            ends the sweep. A run whose numbers are not finite does not: it counts as the worst.
    """
    typed = parse(settings)
    for override in typed:
        if override.key_or_group == "hydra.sweep.dir":
            raise UserError(f"{override.input_line}: sweeps lie under paths.runs/sweeps; set paths.runs")
    _prepare_launcher(typed)
    sweeper = _sweeper(typed)
    overrides = [*_params(sweeper, typed), *typed]
    first = _check_combinations(overrides, searched="n_trials" in sweeper)
    goals = _goals(first, sweeper, typed)
    if first.mode == "plan":  # needs no jobs
        overrides = [one for one in overrides if not one.key_or_group.startswith(_OF_RUNS_ALONE)]
    rank_0 = os.environ.get("RANK", "0") == "0"
    keep = rank_0 and first.mode == "run"
    folder = sweep_folder(first, overrides)
    opened = open_overrides(overrides, _groups_alone(overrides))
    with ExitStack() as stack:
        hydra = stack.enter_context(hydra_app(overrides))
        if not keep:  # Hydra must write somewhere
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if not rank_0:
            opened.append("hydra/hydra_logging=none")
        opened += ["hydra.sweeper.params=null"] if sweeper.get("params") else []  # they are among the overrides by now
        opened += [f"hydra.sweep.dir='{folder}'"]
        opened += _sweeper_settings(sweeper, typed, goals, first)
        clear_outcomes(folder)
        try:
            hydra.multirun("config", _job(stage, goals), opened)
        except _EndedError as ended:
            raise ended.error from None
        except Exception as error:
            if type(error).__module__.partition(".")[0] != "submitit":
                raise
            raise UserError(
                f"hydra/launcher: a job ended without a result ({str(error).splitlines()[0]}); its output is in"
                f" {folder}/.submitit; the same command goes on where it stopped"
            ) from None
        finally:
            if keep and (outcomes := read_outcomes(folder)):
                print(outcome_table(outcomes, goals))
                page = picture(folder, goals, _by_magnitude(overrides))
                print(f"sweep: table and plots: {page}", file=sys.stderr)


def sweep_folder(first: RunConfig, overrides: Sequence[Override]) -> Path:
    """Where a sweep lies: the same command finds the same folder, and so does one with more trials."""
    lines = sorted(str(one.input_line) for one in overrides if not one.key_or_group.startswith(_NOT_THE_RESULT))
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:8]
    return Path(first.paths.runs) / "sweeps" / f"{first.name}-{digest}"


def _prepare_launcher(overrides: Sequence[Override]) -> None:
    """What submitit needs, where a sweep runs by it: the plugin, our settings of it and our signal."""
    for override in overrides:
        name = str(override.value())
        if override.key_or_group == "hydra/launcher" and name.startswith("submitit"):
            if importlib.util.find_spec("submitit") is None:
                raise UserError(f"{override.input_line}: is not installed; pip install 'dsm[slurm]'")
            # The plugin's settings bear the same name as those of conf/, and would be taken for their schema.
            Plugins.instance()  # puts them there
            ConfigStore.instance().repo["hydra"]["launcher"].pop(f"{name}.yaml", None)
            os.environ.setdefault("SUBMITIT_PREEMPT_SIGNAL", "USR1")  # which has a run saved and requeued


def _sweeper(typed: Sequence[Override]) -> DictConfig:
    """The settings of the sweeper, as an experiment and the command line have them."""
    refuse_unknown_groups(parse([_values(override, searched=True)[0] for override in typed]))
    with hydra_app(typed) as hydra:
        opened = open_overrides(typed, _groups_alone(typed))
        return hydra.compose_config("config", opened, RunMode.MULTIRUN, with_log_configuration=False).hydra.sweeper


def _params(sweeper: DictConfig, typed: Sequence[Override]) -> list[Override]:
    """What an experiment sweeps (hydra.sweeper.params), but for keys that the command line has, which win."""
    given = {override.key_or_group for override in typed}
    params = OmegaConf.to_container(sweeper.get("params") or OmegaConf.create({}), resolve=True)
    assert isinstance(params, dict)
    return parse([f"{key}={value}" for key, value in params.items() if str(key) not in given])


def _groups_alone(overrides: Sequence[Override]) -> DictConfig | None:
    """The composition of the chosen groups; None where groups are swept and each run has another."""
    chosen = [override for override in overrides if override.key_or_group in groups()]
    if any(override.is_sweep_override() for override in chosen):
        return None
    return compose_raw([str(override.input_line) for override in chosen])


def _job(
    stage: Callable[[RunConfig], dict[str, Any]], goals: Sequence[Goal]
) -> Callable[[DictConfig], float | list[float]]:
    worst = {goal.metric: goal.worst for goal in goals}

    def job(composed: DictConfig) -> float | list[float]:
        hydra = HydraConfig.get()
        settings = [line.lstrip("+") for line in hydra.overrides.task]
        found = worst
        try:
            config = check(composed)
            if config.mode == "plan":
                print(f"# {' '.join(settings)}")
            export = ""
            try:
                metrics = stage(config)
                if config.mode == "run":
                    found, export = _found(metrics, config.sweep_metrics, goals), str(metrics.get("export", ""))
            except (NonFiniteError, SpikeError):
                pass
        except (UserError, StoppedError, BrokenPipeError) as error:
            launcher = os.environ.get("SUBMITIT_EXECUTOR")
            if launcher is None:
                raise _EndedError(error) from error
            if isinstance(error, StoppedError) and error.requeued:  # leaves no result: there is one to come
                raise SystemExit(_LOCAL_REQUEUE if launcher == "local" else 128 + error.signal) from error
            raise  # Hydra sends it home
        if config.mode == "run" and os.environ.get("RANK", "0") == "0":
            write_outcome(Outcome(settings, found, export), Path(hydra.sweep.dir) / f"{hydra.job.num}.json")
        values = list(found.values())
        return values if len(values) > 1 else values[0]

    return job


def _found(metrics: dict[str, Any], names: Sequence[str], goals: Sequence[Goal]) -> dict[str, float]:
    """A run's metrics that count, under the names that they have in the first run; NaN is the worst."""
    found = {}
    for name, goal in zip(names, goals, strict=True):
        value = metrics.get(name)
        if not isinstance(value, int | float):
            numbers = [key for key, number in metrics.items() if isinstance(number, int | float)]
            raise UserError(f"sweep_metric={name}: the run has no such metric; it has {', '.join(numbers)}")
        found[goal.metric] = goal.worst if math.isnan(value) else float(value)
    return found


def _check_combinations(overrides: Sequence[Override], *, searched: bool) -> RunConfig:
    """Check the first values of all sweeps together, then every other value of each with them; returns the first."""
    choices = {str(override.input_line): _values(override, searched=searched) for override in overrides}
    first = {line: values[0] for line, values in choices.items()}
    checked = compose_config(list(first.values()))
    combinations = [first | {line: value} for line, values in choices.items() for value in values[1:]]
    for config in [checked, *(compose_config(list(combination.values())) for combination in combinations)]:
        if config.mode == "run":
            check_paths(config)
    return checked


def _values(override: Override, *, searched: bool) -> list[str]:
    """The values of one override as overrides; of an interval or a range, its ends."""
    line, key = str(override.input_line), override.get_key_element()
    if not override.is_sweep_override():
        return [line]
    swept = override.value()
    if isinstance(swept, IntervalSweep):
        if not searched:
            raise UserError(f"{line}: an interval is searched by hydra/sweeper=optuna; a grid takes values: {key}=A,B")
        return [f"{key}={swept.start}", f"{key}={swept.end}"]
    try:
        values = [f"{key}={value}" for value in override.sweep_string_iterator()]
    except HydraException:
        raise UserError(f"{line}: cannot be listed; give the values themselves: {key}=A,B") from None
    if not values:
        raise UserError(f"{line}: no values; range(start,stop,step) has those from start to below stop")
    return [values[0], values[-1]] if isinstance(swept, RangeSweep) else values[:_CHECKED_VALUES]


def _by_magnitude(overrides: Sequence[Override]) -> set[str]:
    """Keys that are tagged `log`."""
    return {one.key_or_group for one in overrides if one.is_sweep_override() and "log" in one.value().tags}


def _goals(first: RunConfig, sweeper: DictConfig, typed: Sequence[Override]) -> list[Goal]:
    """The metrics that count; their directions are the run's, unless the sweeper has been given some."""
    names, directions = first.sweep_metrics, first.sweep_directions
    if any(override.key_or_group == "hydra.sweeper.direction" for override in typed):
        given = sweeper.direction
        several = list(given) if OmegaConf.is_list(given) else [given]
        directions = [str(getattr(direction, "name", direction)) for direction in several]
        for direction in directions:
            if direction not in DIRECTIONS:
                raise UserError(f"hydra.sweeper.direction={direction}: must be {' or '.join(DIRECTIONS)}")
        if len(directions) != len(names):
            raise UserError(
                f"hydra.sweeper.direction={','.join(directions)}: must be as many as sweep_metric has ({len(names)})"
            )
    return [Goal(name, direction == "maximize") for name, direction in zip(names, directions, strict=True)]


def _sweeper_settings(
    sweeper: DictConfig, typed: Sequence[Override], goals: Sequence[Goal], first: RunConfig
) -> list[str]:
    """Optuna draws by the run's seed, so all ranks draw alike, and again; each draw knows all results before it."""
    if "sampler" not in sweeper:
        return []
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    directions = [DIRECTIONS[goal.maximise] for goal in goals]
    wanted = {
        "hydra.sweeper.n_jobs": "1",
        "hydra.sweeper.direction": directions[0] if len(goals) == 1 else f"[{','.join(directions)}]",
    }
    if "seed" in sweeper.sampler:
        wanted["hydra.sweeper.sampler.seed"] = str(first.seed)
    elif int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("hydra/sweeper/sampler: this one takes no seed, so ranks would disagree; leave it out for tpe")
    given = {override.key_or_group for override in typed}
    if first.mode == "plan":
        wanted["hydra.sweeper.n_trials"] = str(min(sweeper.n_trials, _PLANNED_DRAWS))
        given -= {"hydra.sweeper.n_trials"}
    return [f"{key}={value}" for key, value in wanted.items() if key not in given]
