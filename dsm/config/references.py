"""What a pipeline's settings say of its steps (`${out:..}`, `${all:..}`, `${each:..}`), and what that stands for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dsm.config.listing import closest
from dsm.config.run import RunConfig
from dsm.errors import UserError

_REFERENCE = re.compile(r"\$\{(out|all|each):([^{}]*)\}")


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
        fed_by: names of the runs that its settings refer to; it waits for them.
        seconds: what it took where the pipeline was written; None where nobody said.
        ranks: how many processes it is, as under torchrun; it takes as many of the pipeline's places.
    """

    name: str
    origin: str
    values: Mapping[str, Any]
    overrides: list[str]
    config: RunConfig
    folder: Path
    fed_by: tuple[str, ...] = ()
    seconds: float | None = None
    ranks: int = 1


@dataclass
class Known:
    """The steps before the one that is being made."""

    steps: list[Step] = field(default_factory=list)
    repetitions: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)

    def of(self, origin: str, where: str, values: Mapping[str, Any]) -> list[Step]:
        """The runs of a step, or the one run of that full name, that do not contradict the values.

        Raises:
            UserError: there is no such step.
        """
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


class References:
    """Puts folders and values in the place of references, and keeps which runs were named.

    Args:
        known: the runs that may be named.
        values: what `${each:..}` stands for.
    """

    def __init__(self, known: Known, values: Mapping[str, Any]) -> None:
        self.known = known
        self.values = values
        self.named: dict[str, None] = {}

    def fill(self, value: Any, where: str) -> Any:
        """Settings with what their references stand for.

        Raises:
            UserError: a reference that points nowhere, or to several runs where one is meant.
        """
        if isinstance(value, Mapping):
            return {key: self.fill(inner, f"{where}.{key}") for key, inner in value.items()}
        if isinstance(value, list):
            return [self.fill(inner, where) for inner in value]
        if not isinstance(value, str):
            return value
        if found := _REFERENCE.match(value):
            kind, names = found[1], found[2]
            rest = value[found.end() :]
            if kind == "all":
                return self._all([name.strip() for name in names.split(",")], rest, f"{where}={value}")
            if kind == "each" and not rest:
                return self._each(names, f"{where}={value}")  # as what it is, not as text
        return _REFERENCE.sub(lambda found: self._text(found[1], found[2], f"{where}={value}"), value)

    def _text(self, kind: str, names: str, where: str) -> str:
        if kind == "each":
            return str(self._each(names, where))
        if kind == "all":
            raise UserError(f"{where}: ${{all:...}} stands for several runs; nothing may stand before it")
        runs = self._runs(names, where)
        if len(runs) != 1:
            allowed = ", ".join(f"${{out:{run.name}}}" for run in runs)
            raise UserError(f"{where}: {names} is {len(runs)} runs; allowed: foreach={names}, {allowed}")
        return str(runs[0].folder)

    def _each(self, variable: str, where: str) -> Any:
        if variable not in self.values:
            raise UserError(f"{where}: foreach has no {variable}; it has {', '.join(self.values) or 'nothing'}")
        return self.values[variable]

    def _all(self, origins: Sequence[str], rest: str, where: str) -> dict[str, str]:
        """Name -> folder of all runs of some steps; the name says what tells a run from the others of its step."""
        found: dict[str, str] = {}
        for origin in origins:
            runs = self._runs(origin, where)
            varied = [key for key in runs[0].values if len({str(run.values[key]) for run in runs}) > 1] if runs else []
            for run in runs:
                name = "-".join(str(run.values[key]) for key in varied)
                readable = re.fullmatch(r"[A-Za-z_][\w-]*", name) and name not in found  # as a key on a command line
                alone = origin if len(runs) == 1 and origin not in found else run.name
                found[name if readable and run.name != origin else alone] = f"{run.folder}{rest}"
        return found

    def _runs(self, origin: str, where: str) -> list[Step]:
        runs = self.known.of(origin, where, self.values)
        self.named |= dict.fromkeys(run.name for run in runs)
        return runs


def names_any(text: str, origins: set[str]) -> bool:
    """Does a text refer to one of these steps?"""
    named = (name.strip() for kind, names in _REFERENCE.findall(text) if kind != "each" for name in names.split(","))
    return any(name in origins for name in named)
