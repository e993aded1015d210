"""Short inputs of computer algebra systems with their replies, and formal proofs, as in AlgebraicStack; all are right.

Replies are computed here, with integers and polynomials as lists of coefficients (constant first), so that nothing has
to be installed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import zip_longest

from dsm.corpus.crawl.pen import words

_Poly = list[int]
_NAMES = words("step|size|bound|sum_of|shift|even|least|chain|unit|swap|trade|level|split|join|half|twice|order|count")


def algebra(rng: random.Random) -> tuple[str, str, str]:
    """A text, its language and its kind."""
    kind = rng.choice(list(_KINDS))
    return _KINDS[kind](rng), "en", kind


def _times(one: _Poly, two: _Poly) -> _Poly:
    result = [0] * (len(one) + len(two) - 1)
    for i, a in enumerate(one):
        for j, b in enumerate(two):
            result[i + j] += a * b
    return result


def _plus(one: _Poly, two: _Poly) -> _Poly:
    return [a + b for a, b in zip_longest(one, two, fillvalue=0)]


def _derivative(poly: _Poly) -> _Poly:
    return [power * factor for power, factor in enumerate(poly)][1:]


def _at(poly: _Poly, x: int) -> int:
    return sum(int(factor) * x**power for power, factor in enumerate(poly))


def _shown(poly: _Poly, power: str) -> str:
    """As systems print it, with their sign of a power: 3*x**2 - x + 4."""
    text = ""
    for degree in range(len(poly) - 1, -1, -1):
        factor = poly[degree]
        if factor == 0:
            continue
        letter = "" if degree == 0 else "x" if degree == 1 else f"x{power}{degree}"
        number = str(abs(factor)) if abs(factor) != 1 or not letter else ""
        sign = (" - " if factor < 0 else " + ") if text else "-" if factor < 0 else ""
        text += sign + number + ("*" if number and letter else "") + letter
    return text or "0"


def _factors(number: int) -> list[int]:
    found, prime = [], 2
    while number > 1:
        while number % prime == 0:
            found.append(prime)
            number //= prime
        prime += 1
    return found


def _poly(rng: random.Random, degree: int) -> _Poly:
    return [*(rng.randint(-9, 9) for _ in range(degree)), rng.randint(1, 5)]


def _exchange(rng: random.Random, power: str) -> tuple[str, str, str]:
    """A question to a system: what is done, to what, the reply."""
    one, two, x = _poly(rng, rng.randint(1, 2)), _poly(rng, 1), rng.randint(2, 6)
    a, b, root = rng.randint(2, 60), rng.randint(2, 60), rng.randint(-9, 12)
    p, q = _shown(one, power), _shown(two, power)
    line = [-root * one[-1], one[-1]]
    return rng.choice(
        [
            ("expand", f"({p})*({q})", _shown(_times(one, two), power)),
            ("add", f"({p}) + ({q})", _shown(_plus(one, two), power)),
            ("diff", p, _shown(_derivative(one), power)),
            ("subs", f"{p}, x, {x}", str(_at(one, x))),
            ("solve", _shown(line, power), str(root)),
            ("gcd", f"{a}, {b}", str(math.gcd(a, b))),
            ("lcm", f"{a}, {b}", str(math.lcm(a, b))),
            ("factor", str(a), ", ".join(map(str, _factors(a)))),
            ("mod", f"{a * b + x}, {b}", str((a * b + x) % b)),
            ("eval", f"{a} * {b} + {x}", str(a * b + x)),
        ]
    )


def _sympy(rng: random.Random) -> str:
    calls = {"add": "expand({})", "eval": "Integer({})", "mod": "Mod({})", "subs": "({}).subs({}, {})"}
    lines = [">>> from sympy import *", ">>> x = symbols('x')"]
    for _ in range(rng.randint(3, 7)):
        what, of, reply = _exchange(rng, "**")
        if what == "factor":
            lines += [f">>> [p for p, e in factorint({of}).items() for _ in range(e)]", f"[{reply}]"]
            continue
        arguments = of.split(", ") if what == "subs" else [of]
        lines += [
            f">>> {calls.get(what, what + '({})').format(*arguments)}",
            f"[{reply}]" if what == "solve" else reply,
        ]
    return "\n".join(lines)


def _gap(rng: random.Random) -> str:
    calls = {"gcd": "Gcd({});", "lcm": "Lcm({});", "factor": "Factors({});", "mod": "RemInt({});", "eval": "{};"}
    calls |= {"expand": "{};", "add": "{};", "diff": "Derivative({});", "solve": "RootsOfPolynomial({});"}
    lines = ['gap> x := Indeterminate(Rationals, "x");;']
    for _ in range(rng.randint(3, 7)):
        what, of, reply = _exchange(rng, "^")
        call = f"Value({of.split(', ')[0]}, {of.split(', ')[2]});" if what == "subs" else calls[what].format(of)
        shown = f"[ {reply} ]" if what in ("factor", "solve") else reply.replace(" + ", "+").replace(" - ", "-")
        lines += [f"gap> {call}", shown]
    return "\n".join(lines)


def _lean(rng: random.Random) -> str:
    """Statements that `norm_num`, `omega`, `linarith` and `ring` decide."""
    theorems = []
    for _ in range(rng.randint(2, 5)):
        name = f"{rng.choice(_NAMES)}_{rng.choice(_NAMES)}_{rng.randint(1, 99)}"
        a, b, c = rng.randint(2, 60), rng.randint(2, 20), rng.randint(2, 9)
        theorems.append(
            rng.choice(
                [
                    f"theorem {name} : {a} + {b} = {a + b} := by norm_num",
                    f"theorem {name} : {b} * {c} = {b * c} := by norm_num",
                    f"theorem {name} : ({a + b} - {b} : ℤ) = {a} := by norm_num",
                    f"theorem {name} (n : ℕ) (h : n + {b} = {a + b}) : n = {a} := by omega",
                    f"theorem {name} (n m : ℕ) (h : n = {c} * m) (k : m = {b}) : n = {b * c} := by omega",
                    f"theorem {name} (x : ℝ) (h : {c} * x = {b * c}) : x = {b} := by linarith",
                    f"theorem {name} (x y : ℤ) : (x + {c}) * (y + {b}) = x * y + {b} * x + {c} * y + {b * c} := by"
                    " ring",
                    f"example (n : ℕ) (h : {a} < n) : {a} < n + {b} := by\n  omega",
                    f"example : {b * c} % {c} = 0 := by\n  decide",
                ]
            )
        )
    return "\n\n".join(theorems)


_KINDS: dict[str, Callable[[random.Random], str]] = {"sympy": _sympy, "gap": _gap, "lean": _lean}
