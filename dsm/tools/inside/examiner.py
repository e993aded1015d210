"""In the sandbox: load a program that was handed in, run tests on it, say whether they passed.

The program shares the process with its tests, so it must not be able to talk them into passing. What it could do, and
what is done about it:

- end early (`sys.exit`, `os._exit`), print anything, leave variables about: passing is said by a secret word, told only
  after the last test. It is not in the program's namespace, nor in any module's or the line cache;
- replace builtins, or functions of modules that the tests use: the tests have builtins of their own, and both are put
  back before them and after every call of the program's; a name of a builtin reaches the tests only if it is what they
  test;
- define `check` or another of the tests' names: the tests define theirs later, in another namespace;
- return things that are equal to everything: what the program returns becomes plain data, rebuilt with the methods of
  the built-in types; instances of other classes are wrapped, and equal to nothing but each other;
- hook into the interpreter with `sys.settrace`, `sys.setprofile`: switched off on the same occasions.

What is left to a program that sets its mind to it: to walk the interpreter's frames or the collector's objects for the
expected values, to reach memory with `ctypes`, to work from threads of its own. A language model that has learnt such a
thing writes `_getframe`, `gc` or `ctypes`, which a reader of the records finds.
"""

from __future__ import annotations

import ast
import builtins
import importlib
import linecache
import sys
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

_IMMUTABLE, _HEAP = 1 << 8, 1 << 9  # type flags of CPython
_CONTAINERS: tuple[type, ...] = (list, tuple, set, frozenset, deque)
_SCALARS: tuple[type, ...] = (int, float, complex, str, bytes)
_PLAIN_MODULES = ("decimal", "datetime", "re", "array")  # C classes without parts that could be anything


def examine(_: dict[str, Any], program: str, tests: str, entry_point: str | None, word: str) -> str:
    """`word` if the tests pass; else why not, as "error: NameError: ..." or "failed: ..."."""
    linecache.cache.pop("<program>", None)  # this call, with the word and the tests in it
    tree = ast.parse(tests)
    guard = Guard(_imported(tree))
    try:
        module = types.ModuleType("solution")
        sys.modules["solution"] = module
        exec(compile(program, "<solution>", "exec", dont_inherit=True), module.__dict__)
    except BaseException as error:
        guard.restore()
        return f"error: {_described(error)}"
    guard.restore()
    try:
        exec(compile(tree, "<tests>", "exec", dont_inherit=True), _namespace(module, tree, entry_point, guard))
    except AssertionError as error:
        return f"failed: {_described(error)}" if str(error) else "failed"
    except BaseException as error:
        return f"error: {_described(error)}"
    return word


def _described(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {str(error)[:200]}".rstrip(": ")
    except BaseException:
        return type(error).__name__


def _imported(tree: ast.AST) -> list[str]:
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
    return names


def _namespace(module: types.ModuleType, tree: ast.AST, entry_point: str | None, guard: Guard) -> dict[str, Any]:
    """What the tests see: builtins as they were, and the program's names, wrapped."""
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    if entry_point is None and not any(name in vars(module) and name not in guard.builtins for name in used):
        tested = used  # the program's one tested function bears the name of a builtin, as MBPP's `sum` does
    else:
        tested = {entry_point} if entry_point else set()
    names = {
        name: wrap(value, guard)
        for name, value in list(vars(module).items())
        if name in used and (name not in guard.builtins or name in tested)
    }
    return {**names, "__builtins__": guard.builtins, "__name__": "tests"}


class Guard:
    """Remembers builtins and modules as they are now, and puts them back."""

    def __init__(self, modules: list[str]) -> None:
        self.builtins = dict(vars(builtins))
        self._known: dict[str, types.ModuleType] = {"builtins": builtins}
        for name in modules:
            with suppress(ImportError):  # the tests will meet it again
                self._known[name] = importlib.import_module(name)
        self._content = {name: dict(vars(module)) for name, module in self._known.items()}
        self._settrace, self._setprofile, self._modules = sys.settrace, sys.setprofile, sys.modules

    def restore(self) -> None:
        """Undo what was replaced since; what was added stays, since imports add to modules as well."""
        self._settrace(None)
        self._setprofile(None)
        for name, module in self._known.items():
            if self._modules.get(name) is not module:
                self._modules[name] = module
            now, before = module.__dict__, self._content[name]
            if any(now.get(key, now) is not value for key, value in before.items()):
                now.update(before)


def wrap(value: Any, guard: Guard) -> Any:
    """`value`, made by the program, as the tests may see it: plain data made anew, anything else `Wrapped`."""
    kind = type(value)
    if _among(kind, (*_SCALARS, type(None), bool, range, types.ModuleType)):
        return value
    mro = type.__dict__["__mro__"].__get__(kind)
    for base in _CONTAINERS:
        if _among(base, mro):  # past what a subclass redefines
            return base(wrap(part, guard) for part in base.__iter__(value))  # type: ignore[attr-defined]
    if _among(dict, mro):
        return {wrap(key, guard): wrap(part, guard) for key, part in dict.items(value)}
    for scalar in _SCALARS:
        if _among(scalar, mro):
            return _exact(scalar, value)
    if _among(type, mro):
        return Wrapped(value, guard) if _changeable(value) else value
    if _changeable(kind):
        return Wrapped(value, guard)
    if kind.__module__ == "numpy" and hasattr(kind, "tolist"):
        return wrap(kind.tolist(value), guard)
    if hasattr(kind, "__next__"):
        return _iterate(value, guard)
    if kind.__module__ in _PLAIN_MODULES or _among(kind, (bytearray, type(...), type(NotImplemented))):
        return value
    return Wrapped(value, guard)


def _among(kind: type, kinds: Iterable[type]) -> bool:
    """`kind in kinds` by identity: classes, too, can claim to be equal to everything."""
    return any(kind is other for other in kinds)


def _exact(base: Any, value: Any) -> Any:
    """The value of an instance of a subclass of `base`, as `base` itself."""
    if base is str:
        return str.__str__(value)
    return bytes.__add__(b"", value) if base is bytes else base.__add__(value, base(0))


def _changeable(kind: type) -> bool:
    """Whether a class can be changed from Python: the program's own can, and so can many of the library's."""
    flags = type.__dict__["__flags__"].__get__(kind)
    return bool(flags & _HEAP and not flags & _IMMUTABLE)


def _iterate(value: Iterator[Any], guard: Guard) -> Iterator[Any]:
    for part in value:
        guard.restore()
        yield wrap(part, guard)


def _unwrap(value: Any) -> Any:
    """What the program gets: its own objects without wrapping, also inside lists, tuples and dictionaries."""
    if type(value) is Wrapped:
        return object.__getattribute__(value, "_value")
    if type(value) in (list, tuple) and any(type(part) in (Wrapped, list, tuple) for part in value):
        return type(value)(map(_unwrap, value))
    if type(value) is dict and any(type(part) is Wrapped for part in value.values()):
        return {key: _unwrap(part) for key, part in value.items()}
    return value


class Wrapped:
    """A function, class or object of the program's: whatever is got out of it is wrapped in turn."""

    __slots__ = ("_guard", "_value")

    def __init__(self, value: Any, guard: Guard) -> None:
        object.__setattr__(self, "_value", value)
        object.__setattr__(self, "_guard", guard)

    def _do(self, action: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        guard: Guard = object.__getattribute__(self, "_guard")
        arguments = tuple(map(_unwrap, arguments))
        named = {key: _unwrap(part) for key, part in named.items()}
        try:
            result = action(object.__getattribute__(self, "_value"), *arguments, **named)
        finally:
            guard.restore()
        return wrap(result, guard)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return Wrapped._do(self, lambda value, *a, **k: value(*a, **k), *arguments, **named)

    def __getattr__(self, name: str) -> Any:
        return Wrapped._do(self, getattr, name)

    def __setattr__(self, name: str, value: Any) -> None:
        Wrapped._do(self, setattr, name, value)

    def __getitem__(self, key: Any) -> Any:
        return Wrapped._do(self, lambda value, key: value[key], key)

    def __setitem__(self, key: Any, part: Any) -> None:
        Wrapped._do(self, lambda value, key, part: value.__setitem__(key, part), key, part)

    def __iter__(self) -> Any:
        return Wrapped._do(self, iter)

    def __len__(self) -> int:
        return int(Wrapped._do(self, len))

    def __bool__(self) -> bool:
        return bool(Wrapped._do(self, bool))

    def __contains__(self, part: Any) -> bool:
        return bool(Wrapped._do(self, lambda value, part: part in value, part))

    def __str__(self) -> str:
        return str(Wrapped._do(self, str))

    def __repr__(self) -> str:
        return str(Wrapped._do(self, repr))

    def __eq__(self, other: object) -> bool:
        return type(other) is Wrapped and Wrapped._do(self, lambda a, b: a == b, other) is True

    def __lt__(self, other: object) -> bool:
        return type(other) is Wrapped and Wrapped._do(self, lambda a, b: a < b, other) is True

    def __hash__(self) -> int:
        return int(Wrapped._do(self, hash))

    def __instancecheck__(self, other: Any) -> bool:
        return bool(isinstance(_unwrap(other), object.__getattribute__(self, "_value")))
