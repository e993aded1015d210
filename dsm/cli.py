"""The `dsm` command: compose, check, then run one stage, a sweep of them, or only the plan.

Nothing heavy is imported before the check has passed: a wrong setting is answered within a second.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from dsm.config.listing import OWN_CONF
from dsm.errors import LOST_RANK, LostRankError, StoppedError, UserError
from dsm.runtime.slurm import adopt_launcher

USAGE_ERROR = 2
_SHORT = {"-h": "--help", "-m": "--multirun", "-c": "--cfg", "-i": "--info", "-p": "--package", "-cd": "--config-dir"}
_FLAGS = ("--help", "--version", "--multirun", "--cfg", "--info", "--package", "--resolve", "--config-dir")
_VALUES = {
    "--cfg": ("job", "hydra", "all"),
    "--info": ("defaults", "all", "config", "defaults-tree", "plugins", "searchpath"),
    "--package": None,
    "--config-dir": None,
}
"""Flags that take a value: those allowed, the first of them where none is given; None = any."""
_WANTED = {"--package": "a group's name", "--config-dir": "a folder"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        the exit status: 0 done, 2 a mistake in the command, 75 a rank was lost, 128 + n stopped by signal n.
    """
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # whose warnings come before our message on a lost rank
    adopt_launcher()
    try:
        _run(sys.argv[1:] if arguments is None else arguments)
    except UserError as error:
        _say(error)
        return USAGE_ERROR
    except StoppedError as stop:
        _say(stop)
        return 128 + stop.signal
    except LostRankError as error:  # each knows another part of it
        print(f"dsm: {error}", file=sys.stderr)
        return LOST_RANK
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except BrokenPipeError:  # as in `dsm ... mode=plan | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


def _say(message: object) -> None:
    """One line, by one rank: the others have the same to say."""
    if _first_rank():
        print(f"dsm: {' '.join(str(message).splitlines())}", file=sys.stderr)


def _first_rank() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _run(arguments: Sequence[str]) -> None:
    flags, settings = _split(arguments)
    if "--config-dir" in flags:
        os.environ[OWN_CONF] = flags["--config-dir"]
    if not arguments or "--help" in flags:
        from dsm.config.help import help_text

        print(help_text(settings))
    elif "--version" in flags:
        import dsm

        print(f"dsm {dsm.__version__}")
    elif flags.keys() & {"--cfg", "--info"}:
        from dsm.config.compose import show

        if "--multirun" in flags:
            raise UserError("-m: --cfg and --info show one configuration; leave out -m and give one value a key")
        show(settings, flags.get("--cfg"), flags.get("--info"), flags.get("--package"), resolve="--resolve" in flags)
    elif flags.keys() & {"--package", "--resolve"}:
        raise UserError(f"{next(iter(flags))}: goes with --cfg")
    elif "--multirun" in flags:
        from dsm.config.sweep import run_sweep

        run_sweep(settings, _stage, _sweep_page)
    else:
        from dsm.config.compose import compose_config, refuse_hydra_settings

        refuse_hydra_settings(settings)
        _stage(compose_config(settings))


def _split(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Flags with their values, and settings."""
    flags: dict[str, str] = {}
    settings: list[str] = []
    waiting = list(arguments)
    while waiting:
        argument = waiting.pop(0)
        if not argument.startswith("-"):
            settings.append(argument)
            continue
        name, given, value = argument.partition("=")
        flag = _SHORT.get(name, name)
        if flag not in _FLAGS or (given and flag not in _VALUES):
            allowed = ", ".join(("-m", *_FLAGS))
            raise UserError(f"{argument}: not a flag; allowed are {allowed}; settings are written key=value")
        if flag in _VALUES:
            if not given and waiting and "=" not in waiting[0] and not waiting[0].startswith("-"):
                value = waiting.pop(0)
            allowed_values = _VALUES[flag]
            value = value or (allowed_values[0] if allowed_values else "")
            if not value or (allowed_values and value not in allowed_values):
                wanted = f"one of {', '.join(allowed_values)}" if allowed_values else _WANTED[flag]
                raise UserError(f"{name} {value}: must be {wanted}")
        flags[flag] = value
    return flags, settings


def _stage(config: Any) -> dict[str, Any]:
    """Plan, or check what lies on the disk and run; the metrics of a run."""
    adopt_launcher()  # a job of a sweep starts here
    if config.mode == "plan":
        from dsm.config.plan import plan_text

        if _first_rank():
            print(plan_text(config))
        return {}
    from dsm.config.checks import check_paths
    from dsm.config.stages import STAGES

    check_paths(config)
    module, function = STAGES[config.stage][1].split(":")
    if module not in sys.modules:
        gc.disable()  # imports make a million objects that stay: not to be looked through again and again, now or later
        try:
            importlib.import_module(module)
            gc.freeze()
        finally:
            gc.enable()
    metrics: dict[str, Any] = getattr(sys.modules[module], function)(config)
    return metrics


def _sweep_page(*of: Any) -> Any:
    from dsm.report.sweep import write_page  # brings matplotlib

    return write_page(*of)


if __name__ == "__main__":
    sys.exit(main())
