"""From a command line to a checked configuration, or to one line that says what is wrong.

Hydra composes, pydantic checks. Every `key=value` that names no group is handed to Hydra as "add or override", so that
a misspelt key reaches the schema, which knows the right ones, and so that new sources need no `+`.

What Hydra makes of groups alone takes it tenths of a second, and a pipeline composes many runs whose groups are the
same. So that is kept for as long as the process lives and no file of conf/ changes; settings are put into a copy.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import ValidationError

from dsm.config.comments import comments, with_comments
from dsm.config.explain import hydra_problem, shown, validation_problem
from dsm.config.listing import closest, conf_dir, conf_dirs, elsewhere, groups, own_conf_dir
from dsm.config.run import RunConfig
from dsm.config.sources import ConfSource, versions
from dsm.config.stages import STAGES
from dsm.errors import UserError


def parse(arguments: Sequence[str]) -> list[Override]:
    """The command line as Hydra overrides.

    Raises:
        UserError: what cannot be read, or sets a key that another argument has set.
    """
    overrides: dict[str, Override] = {}
    for argument in arguments:
        override = _parse_one(argument)
        key = override.key_or_group
        if key in overrides:
            raise UserError(f"{argument}: {key} is given twice (also {overrides[key].input_line}); give it once")
        overrides[key] = override
    return list(overrides.values())


@lru_cache(maxsize=4096)  # each argument is read two or three times, and steps of a pipeline share most of theirs
def _parse_one(argument: str) -> Override:
    parser = OverridesParser.create()
    key, equals, value = argument.partition("=")
    attempts = [argument]
    if value and not set(value) & set("'\"[]{}\\\n") and "${" not in value:
        attempts.append(f"{key}='{value}'")  # blanks, brackets, Chinese: paths have what Hydra's grammar wants quoted
    for attempt in attempts:
        try:
            override = parser.parse_override(attempt)
        except HydraException:
            continue
        if not override.key_or_group:
            break
        if override.package is not None:
            raise UserError(f"{argument}: a group has its own place; write {override.key_or_group}={value}")
        return override
    if equals:
        raise UserError(f"{argument}: cannot be read (quotes, brackets?); settings are written key=value")
    hint = f"stage={argument}" if argument in STAGES else f"{argument.lstrip('-+~') or 'key'}=VALUE"
    raise UserError(f"{argument}: cannot be read; settings are written key=value (did you mean {hint}?)")


def open_overrides(overrides: Sequence[Override], base: DictConfig | None = None) -> list[str]:
    """Overrides as text for Hydra: groups as they are, other keys as `++key=value`.

    Args:
        base: a composition of the groups alone; the keys that it has need no `++`.
    """
    known = groups()
    opened = []
    for override in overrides:
        line, key = str(override.input_line), override.key_or_group
        if key in known and override.value() is None:
            continue  # experiment=null: none, as if it were not there
        if override.is_hydra_override() or override.is_delete():
            opened.append(line)
        elif key in known or (base is not None and OmegaConf.select(base, key) is not None):
            opened.append(line.lstrip("+"))
        else:
            opened.append(f"++{line.lstrip('+')}")
    return opened


def compose_config(arguments: Sequence[str]) -> RunConfig:
    """Compose and check one run.

    Args:
        arguments: Hydra overrides, as typed (`stage=sft`, `optim.lr=1e-5`, ...).

    Raises:
        UserError: the one line that names key, value and what is allowed.
    """
    return check(compose_raw(arguments), parse(arguments))


def compose_raw(arguments: Sequence[str]) -> DictConfig:
    """Compose without checking against the schemas."""
    overrides = parse(arguments)
    for override in overrides:
        if override.is_sweep_override():
            raise UserError(f"{override.input_line}: several values make a sweep, which needs -m")
    refuse_unknown_groups(overrides)
    known = groups()
    chosen = [override for override in overrides if override.key_or_group in known or override.is_hydra_override()]
    settings = [
        override if override.is_delete() else replace(override, type=OverrideType.FORCE_ADD)
        for override in overrides
        if override not in chosen
    ]
    files = tuple(file for folder in conf_dirs() for file in versions(folder))
    with _told(overrides):
        composed = pickle.loads(_composed(tuple(open_overrides(chosen)), files))
        ConfigLoaderImpl._apply_overrides_to_config(settings, composed)
    assert isinstance(composed, DictConfig)
    return composed


@lru_cache(maxsize=256)
def _composed(chosen: tuple[str, ...], files: tuple[tuple[str, int], ...]) -> bytes:
    """What Hydra composes from groups and its own settings alone, pickled, for that is copied soonest.

    Args:
        files: all that lie in conf/ and the user's own folder, and when they were written.
    """
    with _hydra() as hydra:
        whole = hydra.compose_config("config", list(chosen), RunMode.RUN, from_shell=False)
    with open_dict(whole):
        del whole["hydra"]
    return pickle.dumps(whole)


def check(composed: DictConfig, overrides: Sequence[Override] = ()) -> RunConfig:
    """A composed configuration as its stage's schema.

    Args:
        overrides: the command line that it comes from, for messages that show values as typed.
    """
    stage = composed.get("stage")
    if not isinstance(stage, str) or stage not in STAGES:
        raise UserError(f"stage={shown(stage)}: must be one of {', '.join(STAGES)}{closest(str(stage), STAGES)}")
    try:
        values = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise UserError(f"{error.full_key}: must be given ({error.full_key}=VALUE)") from None
    except OmegaConfBaseException as error:
        raw = OmegaConf.to_container(composed, resolve=False)
        for part in str(error.full_key).split("."):
            raw = raw.get(part) if isinstance(raw, dict) else None
        why = str(error).splitlines()[0].removeprefix("UserError raised while resolving interpolation: ")
        raise UserError(f"{error.full_key}={shown(raw)}: {why}") from None
    assert isinstance(values, dict)
    plain = {str(key): value for key, value in values.items()}
    try:
        return STAGES[stage][0].model_validate(plain)
    except ValidationError as error:
        raise UserError(validation_problem(error, plain, overrides)) from None


@contextmanager
def hydra_app(overrides: Sequence[Override]) -> Iterator[Hydra]:
    """Hydra itself, for what its compose function lacks; unlike `hydra.main` it leaves sys.argv and errors alone.

    What it cannot compose is a `UserError`.
    """
    with _told(overrides), _hydra() as hydra:
        yield hydra


@contextmanager
def _told(overrides: Sequence[Override]) -> Iterator[None]:
    """What Hydra cannot compose is a `UserError`."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(hydra_problem(error, overrides)) from None


@contextmanager
def _hydra() -> Iterator[Hydra]:
    version.setbase("1.3")
    GlobalHydra.instance().clear()
    try:
        path = create_config_search_path(f"{ConfSource.scheme()}://{conf_dir()}")
        if (own := own_conf_dir()) is not None:
            path.prepend("own", f"{ConfSource.scheme()}://{own}", anchor="schema")
        yield Hydra.create_main_hydra2("dsm", path)
    finally:
        GlobalHydra.instance().clear()


def show(settings: Sequence[str], cfg: str | None, info: str | None, package: str | None, *, resolve: bool) -> None:
    """`--cfg` and `--info`: print what would be composed, with the comments of conf/; or how, as Hydra tells it."""
    composed = compose_raw(settings)
    if package is not None and cfg == "job" and OmegaConf.select(composed, package, throw_on_missing=False) is None:
        raise UserError(f"--package {package}: nothing of that name; there are {', '.join(map(str, composed))}")
    overrides = parse(settings)
    with hydra_app(overrides) as hydra:
        if cfg == "job":
            print(_commented(hydra, overrides, composed, package, resolve), end="")
        elif cfg is not None:
            hydra.show_cfg("config", open_overrides(overrides), cfg, package, resolve)
        if info is not None:
            hydra.show_info(info, "config", open_overrides(overrides))


def _commented(
    hydra: Hydra, overrides: Sequence[Override], composed: DictConfig, package: str | None, resolve: bool
) -> str:
    """The composed settings, or one group of them, as YAML with the comments of the files they come from."""
    opened = open_overrides(overrides)
    whole = hydra.compose_config("config", opened, RunMode.RUN, with_log_configuration=False)
    chosen = [
        (str(group), str(option))
        for group, options in whole.hydra.runtime.choices.items()
        for option in (options if isinstance(options, list | ListConfig) else [options])
    ]
    said = comments(str(composed.get("stage")), chosen)
    part = OmegaConf.select(composed, package) if package is not None else composed
    if not OmegaConf.is_config(part):
        return f"{part}\n"
    if resolve:
        OmegaConf.resolve(part)
    text = with_comments(OmegaConf.to_yaml(part), said, package or "")
    return text if package is None else f"# @package {package}\n{text}"


def refuse_hydra_settings(settings: Sequence[str]) -> None:
    """Hydra's own settings would do nothing in a single run."""
    for override in parse(settings):
        if override.is_hydra_override():
            raise UserError(f"{override.input_line}: Hydra's settings have an effect with -m only")


def refuse_unknown_groups(overrides: Sequence[Override]) -> None:
    """A stage left out, a group that does not exist, an option that a group does not have."""
    known = groups()
    given = {override.key_or_group for override in overrides if override.value() is not None}
    if not given & {"stage", "experiment"}:
        raise UserError(f"stage: must be given (stage=NAME); one of {', '.join(known['stage'])}")
    for override in overrides:
        key = override.key_or_group
        if "/" in key and not override.is_hydra_override():
            raise UserError(f"{override.input_line}: {key} is no group; groups are {', '.join(known)}")
        if key not in known:
            continue
        if override.is_delete():
            raise UserError(f"{override.input_line}: a group cannot be left out; {key} takes {', '.join(known[key])}")
        value = override.value()
        if value is None and key in ("experiment", "debug"):
            continue
        for option in value if isinstance(value, list) else [value]:
            if str(option) not in known[key]:
                near = closest(str(option), known[key]) or elsewhere(key, str(option))
                raise UserError(f"{override.input_line}: must be one of {', '.join(known[key])}{near}")
