"""Functions of the user's own, by name: `module:function` or `path/file.py:function`."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any

from dsm.errors import UserError


@cache
def load_function(name: str, key: str) -> Callable[..., Any]:
    """The function of that name; its module is run once a process.

    Args:
        key: the setting that gives it, for messages.

    Raises:
        UserError: no such module or function, or one that cannot be imported.
    """
    place, _, function = name.rpartition(":")
    try:
        if place.endswith(".py"):
            path = Path(place).expanduser()
            spec = importlib.util.spec_from_file_location(f"dsm_custom_{path.stem}", path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(place)
    except Exception as error:
        raise UserError(f"{key}={name}: cannot be imported ({type(error).__name__}: {error})") from error
    try:
        found = attrgetter(function)(module)
    except AttributeError:
        found = None
    if not callable(found):
        raise UserError(f"{key}={name}: has no function {function}; give module:function or path/file.py:function")
    return found
