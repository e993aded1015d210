"""The `dsm` command: compose, check, then run one stage, a sweep of them, or only the plan.

Nothing heavy is imported before the check has passed: a wrong setting is answered within a second.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Sequence
from itertools import islice
from typing import Any

from dsm.errors import UserError

USAGE_ERROR = 2
_HYDRA_FLAGS = ("--cfg", "-c", "--info", "-i", "--resolve", "--package", "-p", "--shell-completion", "-sc", "--hydra-help")
_MULTIRUN = ("-m", "--multirun")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status (0 done, 2 a mistake in the command, 128 + n stopped by signal n)."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(arguments)
    except UserError as error:
        if os.environ.get("RANK", "0") == "0":
            print(f"dsm: {error}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print("dsm: interrupted", file=sys.stderr)
        return 130


def _run(arguments: list[str]) -> int:
    if not arguments or any(flag in arguments for flag in ("-h", "--help")):
        from dsm.config.help import help_text

        print(help_text())
        return 0
    if "--version" in arguments:
        import dsm

        print(f"dsm {dsm.__version__}")
        return 0
    if any(argument.split("=")[0] in _HYDRA_FLAGS for argument in arguments):
        return _hydra(arguments)
    if any(flag in arguments for flag in _MULTIRUN):
        return _sweep(arguments)
    from dsm.config.compose import compose_config

    _refuse_flags(arguments)
    return _stage(compose_config(arguments))[0]


def _refuse_flags(arguments: list[str]) -> None:
    for argument in arguments:
        if argument.startswith("-"):
            flags = (*_MULTIRUN, "--cfg job", "--info", "--help", "--version")
            raise UserError(f"{argument}: not a flag; allowed are {', '.join(flags)}; settings are written key=value")


def _stage(config: Any) -> tuple[int, dict[str, Any]]:
    """Check what lies on disk, then plan or run."""
    from dsm.config.checks import check_paths
    from dsm.config.run import STAGES

    if config.mode == "plan":
        from dsm.config.plan import plan_text

        print(plan_text(config))
        return 0, {}
    check_paths(config)
    module, function = STAGES[config.stage][1].split(":")
    run = getattr(importlib.import_module(module), function)
    from dsm.training.fit import StoppedError

    try:
        return 0, run(config)
    except StoppedError as stop:
        print(f"dsm: {stop}", file=sys.stderr)
        return 128 + stop.signal, {}


def _sweep(arguments: list[str]) -> int:
    """`-m`: Hydra's sweepers and launchers around the same check and run; every combination is checked before the first."""
    from dsm.config.compose import check, compose_config, conf_dir, open_overrides, parse
    from dsm.config.sweep import Outcome, outcome_table

    settings = [argument for argument in arguments if argument not in _MULTIRUN]
    _refuse_flags(settings)
    overrides = parse(settings)
    for combination in _one_at_a_time(overrides):
        compose_config(combination)

    import hydra
    from hydra.core.hydra_config import HydraConfig

    outcomes: list[Outcome] = []

    def job(composed: Any) -> float | None:
        config = check(composed)
        status, metrics = _stage(config)
        if status:
            sys.exit(status)
        outcomes.append(Outcome(list(HydraConfig.get().overrides.task), metrics, config.sweep_metric))
        return outcomes[-1].value

    extra = [] if os.environ.get("RANK", "0") == "0" else [f"hydra.sweep.dir={tempfile.mkdtemp()}"]
    sys.argv = [sys.argv[0], "--multirun", *open_overrides(overrides), *extra]
    hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(job)()
    if outcomes and os.environ.get("RANK", "0") == "0":
        print(outcome_table(outcomes))
    return 0


def _one_at_a_time(overrides: Sequence[Any]) -> list[list[str]]:
    """The combinations to check before a sweep: the first values, then every other value of each sweep with them."""
    choices: list[list[str]] = []
    for override in overrides:
        if override.is_discrete_sweep():
            values = islice(override.sweep_string_iterator(), 1000)
            choices.append([f"{override.get_key_element()}={value}" for value in values])
        elif override.is_sweep_override():
            choices.append([])  # an interval: only the sweeper knows its values
        else:
            choices.append([str(override.input_line)])
    first = [options[0] for options in choices if options]
    combinations = [first]
    for options in choices:
        for option in options[1:]:
            combinations.append([option if line == options[0] else line for line in first])
    return combinations


def _hydra(arguments: list[str]) -> int:
    """`--cfg`, `--info` and the like are Hydra's own; the configuration is composed as for a run."""
    import hydra

    from dsm.config.compose import compose_raw, conf_dir, open_overrides, parse

    settings = [argument for argument in arguments if "=" in argument and not argument.startswith("-")]
    flags = [argument for argument in arguments if argument not in settings]
    overrides = parse(settings)
    compose_raw(settings)
    sys.argv = [sys.argv[0], *flags, *open_overrides(overrides)]
    hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(lambda composed: None)()
    return 0


if __name__ == "__main__":
    sys.exit(main())
