"""`-m`: Hydra's sweepers and launchers around the check and the run of one stage.

Runs follow one another in this process, or (`hydra/launcher=submitit_slurm`) each is a job of its own. Every run has
the folder that its settings give it, as if it had been started alone, so a sweep that is started again passes over what
is finished. The sweep's own folder holds Hydra's record of it and one result a run.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from dsm.config.checks import check_paths
from dsm.config.compose import check, compose_config, compose_raw, hydra_app, open_overrides, parse
from dsm.config.listing import groups
from dsm.config.run import RunConfig
from dsm.errors import NonFiniteError, SpikeError, StoppedError, UserError
from dsm.files import atomic_write_text

_CHECKED_VALUES = 100  # of one key before the first run; each takes a composition
_DIRECTIONS = ("minimize", "maximize")
_LOCAL_REQUEUE = 144  # the status by which submitit's local launcher starts a job again


@dataclass(frozen=True)
class Outcome:
    """One run of a sweep: its own settings, the metric that counts, and what it left."""

    settings: list[str]
    metric: str
    value: float
    export: str


class _EndedError(BaseException):
    """Carries an error past Hydra, which would start the next run after any other exception."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def run_sweep(settings: Sequence[str], stage: Callable[[RunConfig], dict[str, Any]]) -> None:
    """Run every combination (or what the sweeper asks for) and print a table of results, the best first.

    Args:
        settings: the command line without flags.
        stage: plans or runs one configuration; returns its metrics, none for a plan.

    Raises:
        UserError: a combination is wrong, found before the first run where that is possible; or a run failed, which
            ends the sweep. A run whose numbers are not finite does not: it counts as the worst.
    """
    overrides = parse(settings)
    for override in overrides:
        if override.key_or_group == "hydra.sweep.dir":
            raise UserError(f"{override.input_line}: sweeps lie under paths.runs/sweeps; set paths.runs")
    _prepare_launcher(overrides)
    first = _check_combinations(overrides)
    if first.mode == "plan":  # needs no jobs
        overrides = [one for one in overrides if not one.key_or_group.startswith(("hydra/launcher", "hydra.launcher"))]
    rank_0 = os.environ.get("RANK", "0") == "0"
    keep = rank_0 and first.mode == "run"
    folder = f"{first.paths.runs}/sweeps/{time.strftime('%Y-%m-%d_%H-%M-%S')}"
    opened = open_overrides(overrides, _groups_alone(overrides))
    with ExitStack() as stack:
        hydra = stack.enter_context(hydra_app(overrides))
        sweeper = hydra.compose_config("config", opened, RunMode.MULTIRUN, with_log_configuration=False).hydra.sweeper
        maximise = _direction(sweeper) == "maximize"
        if not keep:  # Hydra must write somewhere
            folder = stack.enter_context(tempfile.TemporaryDirectory())
        if not rank_0:
            opened.append("hydra/hydra_logging=none")
        opened += [f"hydra.sweep.dir='{folder}'", *_sweeper_settings(sweeper, overrides, first.seed)]
        try:
            hydra.multirun("config", _job(stage, maximise), opened)
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
            if keep and (outcomes := _outcomes(Path(folder))):
                print(outcome_table(outcomes, maximise))


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


def _groups_alone(overrides: Sequence[Override]) -> DictConfig | None:
    """The composition of the chosen groups; None where groups are swept and each run has another."""
    chosen = [override for override in overrides if override.key_or_group in groups()]
    if any(override.is_sweep_override() for override in chosen):
        return None
    return compose_raw([str(override.input_line) for override in chosen])


def _job(stage: Callable[[RunConfig], dict[str, Any]], maximise: bool) -> Callable[[DictConfig], float]:
    worst = -math.inf if maximise else math.inf

    def job(composed: DictConfig) -> float:
        hydra = HydraConfig.get()
        settings = [line.lstrip("+") for line in hydra.overrides.task]
        try:
            config = check(composed)
            if config.mode == "plan":
                print(f"# {' '.join(settings)}")
            try:
                metrics = stage(config)
            except (NonFiniteError, SpikeError):
                metrics = {config.sweep_metric: worst}
            if config.mode == "plan":
                return 0.0
            value = _metric(metrics, config.sweep_metric)
        except (UserError, StoppedError, BrokenPipeError) as error:
            launcher = os.environ.get("SUBMITIT_EXECUTOR")
            if launcher is None:
                raise _EndedError(error) from error
            if isinstance(error, StoppedError) and error.requeued:  # leaves no result: there is one to come
                raise SystemExit(_LOCAL_REQUEUE if launcher == "local" else 128 + error.signal) from error
            raise  # Hydra sends it home
        value = worst if math.isnan(value) else value
        if os.environ.get("RANK", "0") != "0":
            return value
        outcome = Outcome(settings, config.sweep_metric, value, str(metrics.get("export", "")))
        atomic_write_text(Path(hydra.sweep.dir) / f"{hydra.job.num}.json", json.dumps(asdict(outcome), indent=2) + "\n")
        return value

    return job


def _metric(metrics: dict[str, Any], name: str) -> float:
    value = metrics.get(name)
    if isinstance(value, int | float):
        return float(value)
    numbers = [key for key, number in metrics.items() if isinstance(number, int | float)]
    raise UserError(f"sweep_metric={name}: the run has no such metric; it has {', '.join(numbers)}")


def _check_combinations(overrides: Sequence[Override]) -> RunConfig:
    """Check the first values of all sweeps together, then every other value of each with them; returns the first."""
    searched = any(override.key_or_group == "hydra/sweeper" and override.value() != "basic" for override in overrides)
    choices = {str(override.input_line): _values(override, searched) for override in overrides}
    first = {line: values[0] for line, values in choices.items()}
    checked = compose_config(list(first.values()))
    combinations = [first | {line: value} for line, values in choices.items() for value in values[1:]]
    for config in [checked, *(compose_config(list(combination.values())) for combination in combinations)]:
        if config.mode == "run":
            check_paths(config)
    return checked


def _values(override: Override, searched: bool) -> list[str]:
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


def _direction(sweeper: DictConfig) -> str:
    direction = sweeper.get("direction", "minimize")
    name = str(getattr(direction, "name", direction))
    if name not in _DIRECTIONS:
        raise UserError(f"hydra.sweeper.direction={name}: must be {' or '.join(_DIRECTIONS)}")
    return name


def _sweeper_settings(sweeper: DictConfig, overrides: Sequence[Override], seed: int) -> list[str]:
    """Optuna draws by the run's seed, so all ranks draw alike, and again; each draw knows all results before it."""
    if "sampler" not in sweeper:
        return []
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    typed = {override.key_or_group for override in overrides}
    wanted = {"hydra.sweeper.n_jobs": 1}
    if "seed" in sweeper.sampler:
        wanted["hydra.sweeper.sampler.seed"] = seed
    elif int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("hydra/sweeper/sampler: this one takes no seed, so ranks would disagree; leave it out for tpe")
    return [f"{key}={value}" for key, value in wanted.items() if key not in typed]


def _outcomes(folder: Path) -> list[Outcome]:
    return [Outcome(**json.loads(file.read_text())) for file in folder.glob("*.json")]


def outcome_table(outcomes: Sequence[Outcome], maximise: bool = False) -> str:
    """Runs with the settings that tell them apart, the best value of the metric first."""
    shared = set.intersection(*(set(outcome.settings) for outcome in outcomes)) if len(outcomes) > 1 else set()
    ranked = sorted(outcomes, key=lambda outcome: (-outcome.value if maximise else outcome.value, outcome.settings))
    rows = [(outcomes[0].metric, "settings", "export")]
    for outcome in ranked:
        own = " ".join(line for line in outcome.settings if line not in shared)
        rows.append((f"{outcome.value:.5g}", own, outcome.export))
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    return "\n".join(f"{value:>{first}}  {own:<{second}}  {export}".rstrip() for value, own, export in rows)
