"""The process in which one reward function of the user's lives: `main`. Standard library only, to start at once.

It loads the function, then answers calls, one at a time, until its parent's end of the socket closes. Whatever the
function does comes back as numbers and as reasons why there is no number; what cannot come back (a hang, a crash) is
for the parent to see. Requests are pickled columns of the data, replies JSON: what a function returns is never run.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import importlib
import importlib.util
import inspect
import itertools
import json
import math
import numbers
import os
import pickle
import resource
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

LENGTH = struct.Struct("!Q")
_LONGEST = 200  # characters of a reason
_PR_SET_PDEATHSIG = 1


class Refused(Exception):
    """What the function returned as a whole is no list of rewards."""


# ---------------------------------------------------------------- the function


def load(path: str, arguments: Mapping[str, Any] | None) -> Callable[..., Any]:
    """What `path/file.py:name` or `package.module:name` names, called with `arguments` if there are any."""
    place, _, name = path.rpartition(":")
    if place.endswith(".py"):
        file = Path(place).expanduser().resolve()
        sys.path.insert(0, str(file.parent))  # so that it can import its neighbours
        module_name = file.stem if file.stem not in sys.modules else f"reward_{file.stem}"
        spec = importlib.util.spec_from_file_location(module_name, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(place)
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part)
    if arguments is not None:
        found = found(**arguments)
    if not callable(found):
        raise TypeError(f"{name} is a {type(found).__name__}, not a function")
    function: Callable[..., Any] = found
    return function


def call(function: Callable[..., Any], samples: int, given: Mapping[str, Any], steps: bool) -> dict[str, Any]:
    """One call: {values, faults, metrics, notes}, or {error} if the call as a whole came to nothing.

    `values[i]` is a number, a list of numbers (`steps`) or None; `faults[i]` says why there is none. An exception is
    an error with {again: true}: one sample alone may have caused it.
    """
    metrics: dict[str, list[float]] = {}
    notes: dict[str, list[str]] = {}

    def log_metric(name: str, value: Any) -> None:
        metrics.setdefault(str(name), []).append(float(value))

    def log_extra(column: str, values: Iterable[Any]) -> None:
        notes[str(column)] = [str(value) for value in values]

    offered = {**given, "log_metric": log_metric, "log_extra": log_extra}
    offered["trainer_state"] = SimpleNamespace(global_step=given["trainer_state"])
    try:
        returned = function(**_accepted(function, offered))
        if inspect.isawaitable(returned):
            returned = asyncio.run(_awaited(returned))
        values, faults = _read(returned, samples, steps)
    except Refused as error:
        return {"error": str(error), "again": False}
    except MemoryError:
        return {"error": "needs more memory than memory_mb", "again": True}
    except BaseException as error:  # SystemExit and KeyboardInterrupt too: the process goes on
        return {"error": described(error), "again": True}
    averages = {name: sum(found) / len(found) for name, found in metrics.items() if all(map(math.isfinite, found))}
    return {"values": values, "faults": faults, "metrics": averages, "notes": notes}


async def _awaited(thing: Any) -> Any:
    return await thing


def _accepted(function: Callable[..., Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments that the function takes: all of them, if it has **kwargs."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):  # of C code
        return dict(offered)
    named = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    if missing := [name for name, p in named.items() if p.default is p.empty and name not in offered]:
        columns = ", ".join(name for name in offered if name not in _OURS) or "none"
        raise Refused(f"asks for column {missing[0]!r}; the rows have {columns}")
    if any(p.kind == p.VAR_KEYWORD for p in parameters):
        return dict(offered)
    return {name: value for name, value in offered.items() if name in named}


_OURS = frozenset(
    ("prompts", "completions", "completion_ids", "steps", "step_ends", "trainer_state", "log_metric", "log_extra")
)


def _read(returned: Any, samples: int, steps: bool) -> tuple[list[Any], dict[int, str]]:
    """The rewards in what was returned, and the samples that have none.

    Raises:
        Refused: if it cannot be told which sample a reward belongs to.
    """
    rows = _listed(returned, samples, f"{samples} samples")
    if rows is None:
        raise Refused(f"returned {_shown(returned)}, not a list of numbers")
    values: list[Any] = []
    faults: dict[int, str] = {}
    for index, row in enumerate(rows):
        value, reason = _steps(row) if steps and row is not None else _number(row)
        values.append(value)
        if reason:
            faults[index] = reason
    return values, faults


def _listed(returned: Any, wanted: int, what: str) -> list[Any] | None:
    """A list, tuple, array, tensor or generator as a list of `wanted`; None if it is something else."""
    if hasattr(returned, "tolist"):
        returned = returned.tolist()
    if isinstance(returned, str | bytes | Mapping | set | frozenset) or not isinstance(returned, Iterable):
        return None
    rows = list(itertools.islice(returned, wanted + 1))  # a generator may have no end
    if len(rows) != wanted:
        raise Refused(f"returned {'more' if len(rows) > wanted else len(rows)} rewards for {what}")
    return rows


def _number(value: Any) -> tuple[float | None, str]:
    """A finite number, or None and the reason; None is for "does not apply", which needs no reason."""
    if value is None:
        return None, ""
    if hasattr(value, "item") and not isinstance(value, str) and getattr(value, "ndim", 0) == 0:
        value = value.item()  # of numpy or torch
    if not isinstance(value, numbers.Real):
        return None, f"returned {_shown(value)}, not a number"
    try:
        number = float(value)
    except OverflowError:
        return None, "returned a number that is too large"
    return (number, "") if math.isfinite(number) else (None, f"returned {number}")


def _steps(row: Any) -> tuple[list[float] | None, str]:
    """The rewards of one sample's steps."""
    if hasattr(row, "tolist"):
        row = row.tolist()
    if not isinstance(row, list | tuple):
        return None, f"returned {_shown(row)}, not a list with a number for each step"
    found = [_number(value) for value in row]
    if reason := next((reason or "returned None for a step" for value, reason in found if value is None), ""):
        return None, reason
    return [value for value, _ in found if value is not None], ""


def _shown(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, str | bool | int | float):
        return f"{type(value).__name__} {repr(value)[:40]}"
    return f"a {type(value).__name__}"


def described(error: BaseException) -> str:
    """`ValueError: text (file.py:12)`, the place being the last in the user's own code."""
    text = " ".join(str(error).split())
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    own = [frame for frame in frames if "site-packages" not in frame.filename and "<frozen" not in frame.filename]
    place = f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""
    return f"{type(error).__name__}{': ' if text else ''}{text[:_LONGEST]}{place}"


# ---------------------------------------------------------------- the process


def main() -> None:
    """`worker.py FD SETTINGS`: load, say how that went, serve."""
    fd, settings = int(sys.argv[1]), json.loads(sys.argv[2])
    os.dup2(2, 1)  # what it prints is for the eyes of the user
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.platform == "linux":  # busy or not, it dies with the thread of the trainer's that has started it
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != settings["parent"]:
            return
    limit = settings["memory_mb"] << 20
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    link = socket.socket(fileno=fd)
    home = os.getcwd()
    try:
        function = load(settings["function"], settings["arguments"])
    except BaseException as error:
        _send(link, {"error": described(error)})
        return
    _send(link, {})
    while (request := _receive(link)) is not None:
        os.chdir(home)
        _send(link, call(function, **pickle.loads(request)))


def _send(link: socket.socket, reply: dict[str, Any]) -> None:
    data = json.dumps(reply).encode()
    link.sendall(LENGTH.pack(len(data)) + data)


def _receive(link: socket.socket) -> bytes | None:
    head = link.recv(LENGTH.size, socket.MSG_WAITALL)
    if len(head) < LENGTH.size:
        return None
    size, parts = LENGTH.unpack(head)[0], []
    while size:
        part = link.recv(min(size, 1 << 20))
        if not part:
            return None
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
