"""What runs in the sandbox around a model's program: standard library only, sent along as text.

Each module here is executed in a namespace of its own, builtins included: a program that calls a variable `list` does
no harm, nor one that replaces `builtins.list`, and no name of ours is left among the program's.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def source(module: str) -> str:
    """The text of one of this package's modules."""
    return files(__name__).joinpath(f"{module}.py").read_text(encoding="utf-8")


def calling(module: str, function: str, *arguments: object) -> str:
    """A Python expression that calls a function of such a module with the program's globals and these literals."""
    literals = "".join(f", {argument!r}" for argument in arguments)
    scope = f"{{'__name__': 'dsm_{module}', '__builtins__': {{**builtins.__dict__}}}}"
    load = f"(lambda scope: (builtins.exec({source(module)!r}, scope), scope[{function!r}])[1])({scope})"
    return f"(lambda builtins: {load}(builtins.globals(){literals}))(__import__('builtins'))"
