"""What runs in the sandbox around a model's program: standard library only, sent along with the program.

Each module here is executed in a namespace of its own, builtins included: a program that calls a variable `list` does
no harm, nor one that replaces `builtins.list`, and no name of ours is left among the program's.
"""

from __future__ import annotations

import base64
import marshal
from functools import cache
from importlib.resources import files


@cache
def source(module: str) -> str:
    """The text of one of this package's modules."""
    return files(__name__).joinpath(f"{module}.py").read_text(encoding="utf-8")


@cache
def _compiled(module: str) -> str:
    """Its code object: the sandbox has the same interpreter as we, and compiling takes longer than most programs."""
    return base64.b64encode(marshal.dumps(compile(source(module), f"<{module}>", "exec"))).decode()


def calling(module: str, function: str, *arguments: object) -> str:
    """A Python expression that calls a function of such a module with the program's globals and these literals."""
    literals = "".join(f", {argument!r}" for argument in arguments)
    scope = f"{{'__name__': 'dsm_{module}', '__builtins__': {{**builtins.__dict__}}}}"
    code = f"marshal.loads(binascii.a2b_base64({_compiled(module)!r}))"
    load = f"(lambda scope: (builtins.exec({code}, scope), scope[{function!r}])[1])({scope})"
    return (
        f"(lambda builtins, binascii, marshal: {load}(builtins.globals(){literals}))"
        "(__import__('builtins'), __import__('binascii'), __import__('marshal'))"
    )
