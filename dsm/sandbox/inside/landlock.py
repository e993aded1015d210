"""Landlock: where there is no jail, a kernel from 5.13 on can still hide files. Source: linux/landlock.h."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # on every architecture
_VERSION, _PATH_BENEATH = 1, 1
_EXECUTE, _READ_FILE, _READ_DIR = 1, 4, 8
_RIGHTS = (13, 14, 15, 15, 16)  # how many rights to files each version of the interface knows, from version 1 on

_libc = ctypes.CDLL(None, use_errno=True)


def available() -> bool:
    """Whether this kernel has Landlock switched on."""
    return _libc.syscall(_CREATE_RULESET, None, 0, _VERSION) > 0


def restrict_to_reading(paths: Sequence[str]) -> None:
    """From now on this process and its children open nothing but these files and folders, for reading.

    Does nothing where the kernel has no Landlock.

    Raises:
        OSError: if the kernel has it and refuses.
    """
    version = _libc.syscall(_CREATE_RULESET, None, 0, _VERSION)
    if version <= 0:
        return
    handled = (1 << _RIGHTS[min(version, len(_RIGHTS)) - 1]) - 1
    ruleset = _call(_CREATE_RULESET, struct.pack("=Q", handled), 8, 0)
    for path in paths:
        rights = _READ_FILE | _EXECUTE | (_READ_DIR if os.path.isdir(path) else 0)
        beneath = os.open(path, os.O_PATH)
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, beneath), 0)
        os.close(beneath)
    _call(_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _call(number: int, *arguments: object) -> int:
    wide = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result: int = _libc.syscall(number, *wide)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"landlock: {os.strerror(ctypes.get_errno())}")
    return result
