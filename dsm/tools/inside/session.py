"""In the sandbox: run a program's latest block after the earlier ones, as cells of a notebook follow each other.

Nothing stays alive between two turns of the model, so the earlier blocks run anew: in silence, their `print` statements
outside functions left out (the output they gave is in the transcript), up to the error that ended them, if one did.
"""

from __future__ import annotations

import ast
import io
import linecache
import sys
import traceback
from typing import Any

_EARLIER, _LAST = "<earlier>", "<program>"


class _WithoutPrints(ast.NodeTransformer):
    """Drops `print(...)` statements; functions and classes keep theirs."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        call = node.value
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "print":
            return ast.copy_location(ast.Pass(), node)
        return node

    def _keep(self, node: ast.AST) -> ast.AST:
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = visit_Lambda = _keep


class _Silence(io.TextIOBase):
    def write(self, text: str) -> int:
        return len(text)


def replay(namespace: dict[str, Any], earlier: list[str], last: str) -> None:
    """Run the blocks in `namespace`. An error of the last one leaves as `SystemExit` with its traceback for text."""
    out, err = sys.stdout, sys.stderr
    for block in earlier:
        sys.stdout = sys.stderr = _Silence()
        try:
            tree = ast.fix_missing_locations(_WithoutPrints().visit(ast.parse(block)))
            exec(compile(tree, _EARLIER, "exec", dont_inherit=True), namespace)
        except MemoryError:
            raise
        except BaseException:  # the model has seen this error; what was done before it stays done
            pass
        finally:
            sys.stdout, sys.stderr = out, err
    linecache.cache[_LAST] = (len(last), None, last.splitlines(keepends=True), _LAST)
    try:
        exec(compile(last, _LAST, "exec", dont_inherit=True), namespace)
    except (MemoryError, SystemExit):
        raise
    except BaseException as error:
        frames = error.__traceback__.tb_next if error.__traceback__ is not None else None
        raise SystemExit("".join(traceback.format_exception(type(error), error, frames)).strip()) from None
