"""Functions of the user's own, looked at without being run: a mistake is told before anything heavy is imported."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dsm.config.listing import closest

_NAME = re.compile(r"(?:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*|.+\.py):[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")

Definition = ast.FunctionDef | ast.AsyncFunctionDef


def find_function(name: str) -> Definition | None:
    """What `path/file.py:function` names; None if it is not a plain `def`, or in a package, which is not looked into.

    Raises:
        ValueError: not such a name, no such file, one that Python cannot read, or without the function.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"function={name}: must be package.module:name or path/file.py:name")
    place, _, inner = name.rpartition(":")
    if not place.endswith(".py"):
        return None
    file = Path(place).expanduser()
    if not file.is_file():
        raise ValueError(f"function={name}: no such file {place}")
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"function={name}: cannot be read as Python: {error}") from None
    known: dict[str, ast.stmt] = {key: node for node in _statements(tree.body) for key in _names(node)}
    first = inner.partition(".")[0]
    if first not in known and not {"*", "__getattr__"} & known.keys():
        have = [key for key, node in known.items() if isinstance(node, Definition)]
        listed = f"; it has {', '.join(have)}" if have else ""
        raise ValueError(f"function={name}: {place} has no {first}{closest(first, have)}{listed}")
    found = known.get(inner)
    return found if isinstance(found, Definition) and not found.decorator_list else None


def check_call(function: Definition, given: Mapping[str, Any], key: str, before: int = 0) -> None:
    """See that a function takes what it will be called with.

    Args:
        given: its keyword arguments.
        key: the setting that has them, for messages.
        before: how many positional arguments come first.

    Raises:
        ValueError: it has no such parameter, or needs one that is not given.
    """
    positional = [*function.args.posonlyargs, *function.args.args]
    own = [argument.arg for argument in [*positional, *function.args.kwonlyargs]]
    takes = own[before:]
    if function.args.kwarg is None and (extra := [name for name in given if name not in takes]):
        allowed = f"{closest(extra[0], takes)}; it takes {', '.join(takes) or 'none'}"
        raise ValueError(f"{key}.{extra[0]}: {function.name} has no such parameter{allowed}")
    if missing := [name for name in _required(function, before) if name not in given]:
        raise ValueError(f"{key}: {function.name} needs {', '.join(missing)} too")


def _required(function: Definition, before: int) -> list[str]:
    positional = [argument.arg for argument in [*function.args.posonlyargs, *function.args.args]]
    needed = positional[: len(positional) - len(function.args.defaults)][before:]
    named = zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    return [*needed, *(argument.arg for argument, default in named if default is None)]


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Those that run when the module is imported."""
    for node in body:
        yield node
        for part in ("body", "orelse", "finalbody"):
            if not isinstance(node, Definition | ast.ClassDef):
                yield from _statements(getattr(node, part, ()))
        for handler in getattr(node, "handlers", ()):
            yield from _statements(handler.body)


def _names(node: ast.stmt) -> list[str]:
    """What a statement of a module defines."""
    if isinstance(node, Definition | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [alias.asname or alias.name.partition(".")[0] for alias in node.names]
    return [name.id for name in ast.walk(node) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)]
