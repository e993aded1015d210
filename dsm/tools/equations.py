"""Equations as text, read into trees by our own parser; and trees solved by SymPy, in the solver's process.

No text reaches SymPy: objects are built node by node from what `dsm.answers.parse` has read.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from dsm.answers.nodes import Call, Node, Quantity, Relation, Seq, Sym, Words, substitute, symbols, walk
from dsm.answers.parse import ParseError, parse, to_sympy

MAX_CHARS, MAX_EQUATIONS, MAX_UNKNOWNS = 2000, 20, 20

# fmt: off
_FUNCTIONS = frozenset((
    "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "asin", "acos", "atan", "acot", "sinh",
    "cosh", "tanh", "asinh", "acosh", "atanh", "sqrt", "cbrt", "root", "exp", "log", "ln", "lg", "abs", "Abs", "min",
    "max", "factorial", "binomial", "floor", "ceil", "ceiling", "pi", "gcd", "lcm", "sign", "Eq", "mod",
))
_GREEK = frozenset((
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi",
    "rho", "sigma", "tau", "phi", "chi", "psi", "omega",
))
# fmt: on
_FORBIDDEN = re.compile(r"[^\w\s.,;=+*/^(){}\[\]\\|!-]|__")
_OPERATORS = str.maketrans({"−": "-", "–": "-", "×": "*", "·": "*", "⋅": "*", "÷": "/", "²": "^2", "³": "^3", "$": " "})
_LEXEME = re.compile(
    r"(?P<number>\d+\.?\d*(?:[eE][+-]?\d+(?![A-Za-z\d]))?|\.\d+)|(?P<command>\\[A-Za-z]+)"
    r"|(?P<name>[^\W\d_]+\d*(?:_\w+|_\{\w+\})?)|(?P<space>\s+)|(?P<other>.)",
    re.DOTALL,
)


class SolveError(ValueError):
    """Equations that cannot be read or solved; the text, one line, says why."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is to be solved: pairs of sides that are to be equal, and the unknowns' names, sorted if not given."""

    equations: tuple[tuple[Node, Node], ...]
    unknowns: tuple[str, ...]


# ---------------------------------------------------------------- text -> trees


def read_problem(equations: str | Sequence[str], unknowns: str | Sequence[str] | None) -> Problem:
    """Equations, separated by `;`, line ends or commas where they are one text, as trees.

    Letters that stand together are one name, `speed`, unless each of them is an unknown or stands alone elsewhere: then
    they are a product, `xy`. `e`, `i` and `pi` are constants unless they are named as unknowns.

    Raises:
        SolveError: not mathematics, no equation, unknowns that do not occur, or too much of it.
    """
    texts = [equations] if isinstance(equations, str) else equations
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        raise SolveError("equations: must be a text or a list of texts")
    if sum(map(len, texts)) > MAX_CHARS:
        raise SolveError(f"equations: more than {MAX_CHARS} characters")
    parts = [part.strip() for text in texts for part in re.split(r"[;\n]", text.translate(_OPERATORS)) if part.strip()]
    if not parts:
        raise SolveError("equations: nothing to solve")
    named = _named(unknowns)
    lexemes = [_lexemes(part) for part in parts]
    words = _words(lexemes, named)
    sides: list[tuple[Node, Node]] = []
    for part, row in zip(parts, lexemes, strict=True):
        sides += _read(part, _spelled(part, row, words))
    if len(sides) > MAX_EQUATIONS:
        raise SolveError(f"equations: {len(sides)}, more than {MAX_EQUATIONS}")
    names = {placeholder: Sym(word) for word, placeholder in words.items()}
    sides = [(substitute(left, names), substitute(right, names)) for left, right in sides]
    found = frozenset[str]().union(*(symbols(side) for pair in sides for side in pair))
    for name in named:
        if name not in found:
            raise SolveError(f"unknowns: {name} is in none of the equations")
    if not found:
        raise SolveError(f"{parts[0]!r}: has no unknown")
    wanted = named or tuple(sorted(found))
    if len(wanted) > MAX_UNKNOWNS:
        raise SolveError(f"unknowns: {len(wanted)}, more than {MAX_UNKNOWNS}")
    return Problem(tuple(sides), wanted)


def _named(unknowns: str | Sequence[str] | None) -> tuple[str, ...]:
    names = re.split(r"[,;\s]+", unknowns.strip(" ,;")) if isinstance(unknowns, str) else list(unknowns or ())
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"[^\W\d_]+\d*(?:_\w+)?", name) or len(name) > 50:
            raise SolveError(f"unknowns: {name!r} is no name of a variable")
        if name in _FUNCTIONS - {"pi"}:
            raise SolveError(f"unknowns: {name} is the name of a function")
    return tuple(dict.fromkeys(names))


def _lexemes(part: str) -> list[tuple[str, str]]:
    if found := _FORBIDDEN.search(part):
        what = "only = is solved" if found[0] in "<>≤≥≠~≈" else "no mathematics of ours"
        raise SolveError(f"{_short(part)}: holds {found[0]!r}: {what}")
    return [(match.lastgroup or "", match[0]) for match in _LEXEME.finditer(part)]


def _words(lexemes: Sequence[Sequence[tuple[str, str]]], named: Sequence[str]) -> dict[str, str]:
    """Names that the parser would take apart or for a constant, and a subscripted letter to stand for each."""
    used = {text for row in lexemes for kind, text in row if kind == "name"}
    letters = set(named) | {name for name in used if len(name) == 1}
    words = []
    for name in sorted(used):
        if keyword.iskeyword(name):
            raise SolveError(f"{name!r}: no name of a variable")
        product = name.isalpha() and set(name) <= letters
        plain = len(name) == 1 or re.fullmatch(r"[^\W\d_](?:_\d+|_\{\d+\})", name)
        if name in named or not (plain or product or name in _FUNCTIONS or name in _GREEK):
            words.append(name)
    return {word: f"z_{number}" for number, word in enumerate(words, start=70_001)}


def _spelled(part: str, lexemes: Sequence[tuple[str, str]], words: dict[str, str]) -> str:
    """The part with placeholders for words; words that only stand beside something are prose, not factors."""
    if ("other", "=") not in lexemes:
        raise SolveError(f"{_short(part)}: no equation; an = is missing")
    for (kind, text), (space, _), (kind_after, after) in zip(lexemes, lexemes[1:], lexemes[2:], strict=False):
        long = [word for word in (text, after) if len(word) > 1 and word in words]
        if kind in ("name", "number") and space == "space" and kind_after == "name" and long and text not in _FUNCTIONS:
            raise SolveError(f"{_short(part)}: {text!r} and {after!r} side by side; a product needs *")
    for (_, text), (_, after) in pairwise(lexemes):
        if text in words and after == "(":
            raise SolveError(f"{_short(part)}: {text!r} is no function that we know; a product needs *")
    return "".join(f"{{{words[text]}}}" if text in words else text for _, text in lexemes)


def _read(part: str, spelled: str) -> list[tuple[Node, Node]]:
    """The equations in one part: `a = b`, `a = b = c`, or several with commas between them."""
    try:
        tree = parse(spelled)
    except (ParseError, RecursionError) as error:
        raise SolveError(f"{_short(part)}: cannot be read ({error})") from error
    sides: list[tuple[Node, Node]] = []
    for item in tree.items if isinstance(tree, Seq) and tree.kind == "list" else (tree,):
        if not isinstance(item, Relation) or set(item.ops) != {"="}:
            raise SolveError(f"{_short(part)}: no equation; only = is solved")
        if strange := next((name for node in walk(item) if (name := _no_mathematics(node))), None):
            raise SolveError(f"{_short(part)}: {strange!r} is no function or variable that we know")
        sides += pairwise(item.sides)
    return sides


def _no_mathematics(node: Node) -> str | None:
    match node:
        case Quantity(_, text) | Words(text):
            return text
        case Call(name, _) if name.startswith("@"):
            return name[1:]
    return None


def _short(part: str) -> str:
    return repr(part if len(part) <= 60 else f"{part[:57]}...")


# ---------------------------------------------------------------- trees -> solutions


def solve_problem(problem: Problem) -> list[Any]:
    """All solutions (see `dsm.tools.solver.solve`). Imports SymPy, may take for ever: call it where it can be killed.

    Raises:
        SolveError: what SymPy has no exact solution for.
    """
    import sympy

    unknowns = [sympy.Symbol(name) for name in problem.unknowns]
    infinities = (sympy.nan, sympy.zoo, sympy.oo, -sympy.oo)
    equations = []
    try:
        for left, right in problem.equations:
            sides = [to_sympy(left), to_sympy(right)]
            if not all(isinstance(side, sympy.Expr) for side in sides) or any(side.has(*infinities) for side in sides):
                raise SolveError("equations: a side is no number")
            equations.append(sides[0] - sides[1])
    except (ParseError, TypeError, AttributeError) as error:
        raise SolveError(f"equations: cannot be solved ({error})") from error
    equations = [part for part in equations if part != 0 and sympy.simplify(part) != 0]
    if not equations:
        rows = [{unknown: unknown for unknown in unknowns}]
    elif any(not part.free_symbols for part in equations):
        rows = []
    else:
        rows = _one(equations, unknowns[0]) if len(unknowns) == 1 else _several(equations, unknowns)
    rows = sorted(rows, key=lambda row: [_place(row[unknown]) for unknown in unknowns])
    if len(unknowns) == 1:
        return [row[unknowns[0]] for row in rows]
    return [{unknown.name: row[unknown] for unknown in unknowns} for row in rows]


def _one(equations: list[Any], unknown: Any) -> list[dict[Any, Any]]:
    import sympy

    if all(part.is_algebraic_expr(unknown) for part in equations):
        return _several(equations, [unknown])
    if len(equations) == 1:
        taken = {symbol.name for symbol in equations[0].free_symbols}
        counter = sympy.Symbol(next(name for name in ("n", "k", "m", "n_") if name not in taken), integer=True)
        try:
            solutions = sympy.solveset(equations[0], unknown, sympy.Reals)
            return [{unknown: value} for value in _members(solutions, counter)]
        except (NotImplementedError, ValueError, TypeError):
            pass
    rows = [row for row in _several(equations, [unknown]) if _may_be_real(row[unknown])]
    if not rows:  # there may be others than those that were found
        raise SolveError("equations: no exact solution found")
    return rows


def _several(equations: list[Any], unknowns: list[Any]) -> list[dict[Any, Any]]:
    import sympy

    try:
        rows = sympy.solve(equations[0] if len(equations) == 1 else equations, unknowns, dict=True)
    except (NotImplementedError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise SolveError("equations: no exact solution found") from error
    # `solve` also says so where radicals do not suffice. By Hilbert's theorem of zeros one exists unless 1 is in
    # the ideal.
    polynomial = all(part.is_polynomial(*unknowns) for part in equations)
    if not rows and polynomial and sympy.groebner(equations, *unknowns).exprs != [1]:
        raise SolveError("equations: no exact solution found")
    return [{unknown: row.get(unknown, unknown) for unknown in unknowns} for row in rows]


def _members(solutions: Any, counter: Any) -> list[Any]:
    """The elements of a set; a family with an integer parameter is one element that holds `counter`."""
    import sympy

    if isinstance(solutions, sympy.FiniteSet):
        return list(solutions)
    if isinstance(solutions, sympy.Union):
        return [member for part in solutions.args for member in _members(part, counter)]
    if isinstance(solutions, sympy.ImageSet) and solutions.base_sets == (sympy.S.Integers,):
        (parameter,) = solutions.lamda.variables
        return [solutions.lamda.expr.subs(parameter, counter).expand()]
    if solutions is sympy.S.EmptySet:
        return []
    raise NotImplementedError


def _may_be_real(value: Any) -> bool:
    if value.free_symbols:
        return value.is_real is not False
    return bool(abs(complex(value.evalf()).imag) < 1e-12)


def _place(value: Any) -> tuple[Any, ...]:
    """Numbers first, by real and imaginary part; a family by its first; then expressions, by their text."""
    import sympy

    first = value.subs({symbol: 0 for symbol in value.free_symbols if symbol.is_integer})
    if not first.free_symbols:
        try:
            number = complex(
                first.evalf(6 if first.has(sympy.CRootOf) else 15)
            )  # such roots take seconds for 15 digits
            return (first is not value, round(number.real, 12), round(number.imag, 12), str(value))
        except (TypeError, ValueError):
            pass
    return (2, 0.0, 0.0, str(value))
