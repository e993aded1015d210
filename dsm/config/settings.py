"""Nested settings as the overrides that Hydra's command line takes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_PLAIN = re.compile(r"(?!(?i:true|false|null|nan|inf)$)[A-Za-z_/][\w./-]*")  # text that Hydra reads as such


def overrides(settings: Mapping[str, Any]) -> dict[str, str]:
    """{"optim": {"lr": 0.1}} -> {"optim.lr": "optim.lr=0.1"}; an empty mapping is a value."""
    return {key: f"{key}={_typed(value)}" for key, value in _flat(settings, "")}


def _flat(settings: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


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
