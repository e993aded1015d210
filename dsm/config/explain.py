"""What pydantic and Hydra object to, as one line that names the key, the value and what is allowed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, get_args

from hydra.core.override_parser.types import Override
from pydantic import BaseModel, ValidationError

from dsm.config.listing import closest, groups, is_own, stage_groups
from dsm.config.stages import STAGES

_SHORTER = (
    (r"Input should be a valid dictionary( or instance of \w+)?", "must be a group of settings"),
    (r"Input should be a valid (\w+).*", r"must be a \1"),
    (r"Input should be", "must be"),
    (r"String should", "must"),
    (r"List should have (.*) items? after validation, not", r"must have \1 items, not"),
    (r"must be a integer", "must be an integer"),
    (r"greater than or equal to", "at least"),
    (r"less than or equal to", "at most"),
    (r"'(\w+)'", r"\1"),
)


def validation_problem(error: ValidationError, values: dict[str, Any], overrides: Sequence[Override] = ()) -> str:
    """The first thing wrong; unknown keys first, for a typo usually causes the rest.

    Args:
        values: what was validated, a whole run.
        overrides: the command line; a value given there is shown as it was typed.
    """
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    problem = problems[0]
    kind, message, value = problem["type"], problem["msg"], problem["input"]
    path = _real_path(problem["loc"], values, kind)
    key = ".".join(map(str, path))
    if kind == "extra_forbidden":
        return _unknown_key(path, value, values, overrides)
    if kind == "missing":
        text = f"{key}: must be given"
    elif kind == "value_error":
        message = message.removeprefix("Value error, ").replace("=None", "=null")
        names_a_key = re.match(r"[\w.]+[=:]", message) is not None
        text = (f"{key}.{message}" if names_a_key else f"{key}: {message}") if key else message
    elif kind in ("union_tag_invalid", "union_tag_not_found"):
        context = problem["ctx"]
        tag = context["discriminator"].strip("'")
        allowed = context.get("expected_tags", "").replace("'", "")
        given = value.get(tag) if isinstance(value, Mapping) else None
        text = f"{key}.{tag}={shown(given)}: must be one of {allowed}{closest(str(given or ''), allowed.split(', '))}"
    elif kind in ("model_type", "model_attributes_type"):
        text = f"{_given(key, value, overrides)}: must be a group of settings"
        if allowed_keys := _keys_at(STAGES[values["stage"]][0], path, values):
            text += f": {', '.join(allowed_keys)}"
    else:
        for pattern, short in _SHORTER:
            message = re.sub(pattern, short, message)
        allowed = str(problem.get("ctx", {}).get("expected", "")).replace("'", "").replace(" or ", ", ")
        near = closest(str(value), allowed.split(", ")) if allowed else ""
        text = f"{_given(key, value, overrides)}: {message[0].lower()}{message[1:]}{near}"
    return text


def _unknown_key(path: tuple[int | str, ...], value: Any, values: dict[str, Any], overrides: Sequence[Override]) -> str:
    stage, last, parent = values["stage"], str(path[-1]), ".".join(map(str, path[:-1]))
    keys = _keys_at(STAGES[stage][0], path[:-1], values)
    allowed, key = ", ".join(keys), ".".join(map(str, path))
    typed = [override.key_or_group for override in overrides]
    chosen = next((override for override in overrides if override.key_or_group == path[0] and parent), None)
    if chosen is not None and not any(f"{one}.".startswith(f"{key}.") for one in typed):
        if is_own(chosen.key_or_group, str(chosen.value())):
            return f"{chosen.input_line}: {key}: unknown key{closest(last, keys)}; {parent} takes {allowed}"
        return f"{chosen.input_line}: not for stage={stage}, whose {path[0]} has no {last}; it takes {allowed}"
    while isinstance(value, Mapping) and len(value) == 1:  # the key that was typed, not the group it would have made
        inner, value = next(iter(value.items()))
        key = f"{key}.{inner}"
    given = _given(key, value, overrides)
    where = parent or f"stage={stage}"
    others = [] if parent else [f"stage={name}" for name, (other, _) in STAGES.items() if last in other.model_fields]
    if others:
        have = "has" if len(others) == 1 else "have"
        return f"{given}: {where} has no {last} ({', '.join(others)} {have}); it takes {allowed}"
    # A misspelt group is known by its option: 'modle=tiny' means model, not mode.
    fitting = [name for name in keys if not parent and str(value) in groups().get(name, [])]
    near = closest(last, fitting) or closest(last, keys)
    return f"{given}: unknown key{near}; {where} takes {allowed}"


def hydra_problem(error: Exception, overrides: Sequence[Override]) -> str:
    """What Hydra could not compose; the override that it names, and the options there are."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    for override in overrides:
        line, key = str(override.input_line), override.key_or_group
        option = f"'{key}/{override.value()}'" if not override.is_sweep_override() else None
        if f"Could not override '{key}'" in lines[0]:
            if override.is_hydra_override():
                return f"{line}: Hydra has no such setting ('dsm --cfg hydra stage=NAME' shows those it has)"
            return f"{line}: {_foreign_group(key, overrides)}"
        if option and f"In {option}: Could not override" in lines[0]:
            group = lines[0].split("Could not override '")[1].split("'")[0]
            return f"{line}: brings {group}=...; {_foreign_group(group, overrides)}"
        if option and f"Could not find {option}" in lines[0]:
            options = lines[2 : lines.index("Config search path:")] if "Config search path:" in lines else lines[2:]
            return f"{line}: must be one of {', '.join(options)}{closest(str(override.value()), options)}"
        if f"'{key}'" in lines[0] and override.is_delete():
            return f"{line}: there is no such key to leave out"
        if line in lines[0].split() and error.__cause__ is not None:
            return f"{line}: {str(error.__cause__).splitlines()[0]}"
    if found := re.search(r"Could not find '([\w@./]+)/([^/']+)'", lines[0]):  # in the defaults of some file
        group, option = found[1].partition("@")[0], found[2]
        if known := groups().get(group):
            return f"{group}={option}, in a list of defaults: must be one of {', '.join(known)}{closest(option, known)}"
    return lines[0]


def _foreign_group(group: str, overrides: Sequence[Override]) -> str:
    chosen = {override.key_or_group: override for override in overrides}
    for key in ("stage", "experiment"):
        if key in chosen and chosen[key].is_sweep_override():
            return f"no group can be chosen while {key} is swept ({chosen[key].input_line})"
    if "stage" not in chosen:
        return f"this experiment's stage has no group {group}"
    stage = str(chosen["stage"].value())
    return f"stage={stage} has no group {group}; it takes {', '.join(stage_groups(stage))}"


def shown(value: Any) -> str:
    """A value as one would type it; long ones are cut."""
    text = _typed(value) if value != "" else "''"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _typed(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_typed(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ",".join(map(_typed, value)) + "]"
    return str(value)


def _given(key: str, value: Any, overrides: Iterable[Override]) -> str:
    """'key=value', the value as typed where it was typed."""
    for override in overrides:
        if override.key_or_group == key and not override.is_delete():
            value = override.get_value_string()
    return f"{key}={shown(value)}"


def _real_path(location: tuple[int | str, ...], values: Any, kind: str) -> tuple[int | str, ...]:
    """The error's path without the union tags that pydantic inserts."""
    path: list[int | str] = []
    node = values
    for i, part in enumerate(location):
        expected = kind == "missing" and i == len(location) - 1
        if isinstance(node, dict) and part not in node and not expected:
            continue  # a union's tag, not a key
        path.append(part)
        if isinstance(node, dict):
            node = node.get(part)
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
            if part in option.model_fields:
                fields += _models_in(option.model_fields[str(part)].annotation)
        if isinstance(node, dict) and "name" in node:
            fields = [field for field in fields or options if node["name"] in _tags(field)] or fields
        options = fields or options  # a name of the user's own, as of a source: the schema stays
    return [key for option in options for key in option.model_fields]


def _tags(schema: type[BaseModel]) -> tuple[Any, ...]:
    """The values of `name` that tell a union's member apart."""
    return get_args(schema.model_fields["name"].annotation) if "name" in schema.model_fields else ()


def _models_in(annotation: Any) -> list[Any]:
    """The schemas an annotation can hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models_in(argument)]
