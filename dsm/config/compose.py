"""From a command line to a checked configuration, or to one line that says what is wrong.

Hydra composes, pydantic checks. Every `key=value` that names no group is handed to Hydra as "add or override", so that a
misspelt key reaches the schema, which knows the right ones, and so that new sources need no `+`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, get_args

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import BaseModel, ValidationError

from dsm.config.listing import closest, conf_dir, groups
from dsm.config.run import STAGES, RunConfig
from dsm.errors import UserError


def parse(arguments: Sequence[str]) -> list[Override]:
    """The command line as Hydra overrides; what cannot be read is a `UserError`."""
    parsed = []
    for argument in arguments:
        try:
            parsed += OverridesParser.create().parse_overrides([argument])
        except (OverrideParseException, HydraException) as error:
            hint = f"{argument.lstrip('-')}=VALUE" if "=" not in argument else str(error).splitlines()[0]
            raise UserError(f"{argument}: cannot be read; settings are written key=value ({hint})") from None
    return parsed


def open_overrides(overrides: Sequence[Override]) -> list[str]:
    """Overrides as text for Hydra, each plain `key=value` that names no group turned into `++key=value`."""
    known = set(groups())
    opened = []
    for override in overrides:
        line, key = str(override.input_line), override.key_or_group
        plain = override.type == OverrideType.CHANGE and not key.startswith("hydra") and key not in known
        opened.append(f"++{line}" if plain else line)
    return opened


def compose_config(arguments: Sequence[str]) -> RunConfig:
    """Compose and check one run.

    Args:
        arguments: Hydra overrides, as typed (`stage=sft`, `optim.lr=1e-5`, ...).

    Raises:
        UserError: the one line that names key, value and what is allowed.
    """
    return check(compose_raw(arguments))


def compose_raw(arguments: Sequence[str]) -> DictConfig:
    """Compose without checking against the schemas."""
    overrides = parse(arguments)
    for override in overrides:
        if override.is_sweep_override():
            raise UserError(f"{override.input_line}: several values make a sweep, which needs -m")
    _refuse_unknown_options(overrides)
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            return compose("config", open_overrides(overrides))
    except MissingConfigException as error:
        raise UserError(_first_line(error)) from None
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_first_line(error)) from None


def check(composed: DictConfig) -> RunConfig:
    """A composed configuration as its stage's schema."""
    try:
        values = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise UserError(f"{error.full_key}: must be given ({error.full_key}=VALUE)") from None
    except OmegaConfBaseException as error:
        raise UserError(f"{error.full_key}: {_first_line(error)}") from None
    assert isinstance(values, dict)
    stage = values.get("stage")
    if stage not in STAGES:
        raise UserError(f"stage={stage}: must be one of {', '.join(STAGES)}{closest(str(stage), STAGES)}")
    schema = STAGES[stage][0]
    plain = {str(key): value for key, value in values.items()}
    try:
        return schema.model_validate(plain)
    except ValidationError as error:
        raise UserError(_describe(error, schema, plain)) from None


def _refuse_unknown_options(overrides: Sequence[Override]) -> None:
    """A group's option that does not exist, named with those that do, and a stage left out."""
    known = groups()
    chosen = {override.key_or_group: override for override in overrides}
    if "stage" not in chosen and "experiment" not in chosen:
        raise UserError(f"stage: must be given (stage=NAME); one of {', '.join(known['stage'])}")
    for key, override in chosen.items():
        if key not in known:
            continue
        value = override.value()
        if value is None and key in ("experiment", "debug"):
            continue
        if str(value) not in known[key]:
            options = ", ".join(known[key]) or "none yet"
            raise UserError(f"{key}={_shown(value)}: must be one of {options}{closest(str(value), known[key])}")


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _describe(error: ValidationError, schema: type[BaseModel], values: dict[str, Any]) -> str:
    """The first thing wrong, as one line; unknown keys first, for a typo usually causes the rest."""
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    problem = problems[0]
    location = _real_path(problem["loc"], values)
    key = ".".join(map(str, location))
    kind, message, value = problem["type"], problem["msg"], problem["input"]
    if kind == "extra_forbidden":
        allowed = _keys_at(schema, location[:-1], values)
        where = ".".join(map(str, location[:-1])) or f"stage={values['stage']}"
        text = f"{key}={_shown(value)}: unknown key{closest(str(location[-1]), allowed)}; {where} takes {', '.join(allowed)}"
    elif kind == "missing":
        text = f"{key}: must be given"
    elif kind == "value_error":
        message = message.removeprefix("Value error, ").replace("=None", "=null")
        names_a_key = re.match(r"[\w.]+[=:]", message) is not None
        text = (f"{key}.{message}" if names_a_key else f"{key}: {message}") if key else message
    elif kind in ("union_tag_invalid", "union_tag_not_found"):
        context = problem.get("ctx", {})
        tag = str(context.get("discriminator", "'name'")).strip("'")
        text = f"{key}.{tag}={context.get('tag')}: must be one of {context.get('expected_tags', '')}"
    else:
        message = message.replace("Input should be", "must be").replace("String should", "must")
        near = closest(str(value), str(problem.get("ctx", {}).get("expected", "")).replace("'", "").replace(" or ", ", ").split(", "))
        text = f"{key}={_shown(value)}: {message[0].lower()}{message[1:]}{near}"
    rest = len(problems) - 1
    return text + (f" (and {rest} more)" if rest else "")


def _shown(value: Any) -> str:
    if value is None:
        return "null"
    text = str(value) if not isinstance(value, str) or value else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _real_path(location: tuple[int | str, ...], values: Any) -> tuple[int | str, ...]:
    """The error's path without the union tags that pydantic inserts."""
    path: list[int | str] = []
    node = values
    for i, part in enumerate(location):
        last = i == len(location) - 1
        if isinstance(node, dict) and part not in node and not last:
            continue  # a union's tag, not a key
        path.append(part)
        if isinstance(node, dict):
            node = node.get(part)  # type: ignore[call-overload]
        elif isinstance(node, list) and isinstance(part, int):
            node = node[part]
    return tuple(path)


def _keys_at(schema: Any, path: Sequence[int | str], values: Any) -> list[str]:
    """The keys a schema takes at a path; in a union, those of the member whose tag is chosen."""
    options = [schema]
    node = values
    for part in path:
        node = node.get(part, {}) if isinstance(node, dict) else {}
        fields: list[Any] = []
        for option in options:
            if isinstance(option, type) and issubclass(option, BaseModel) and part in option.model_fields:
                fields += _models_in(option.model_fields[str(part)].annotation)
            elif option is dict:
                fields.append(option)
        if isinstance(node, dict) and "name" in node:
            tagged = [m for m in fields if "name" in m.model_fields and node["name"] in get_args(m.model_fields["name"].annotation)]
            fields = tagged or fields
        options = fields or options
    return [key for option in options if hasattr(option, "model_fields") for key in option.model_fields]


def _models_in(annotation: Any) -> list[Any]:
    """The schemas an annotation can hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]
