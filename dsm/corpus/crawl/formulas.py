r"""Formulas as small trees, so that one formula can be written as LaTeX, MathML and AsciiMath.

A leaf is a string: a letter, a number, an operator or a LaTeX command. A node is a tuple of a kind and its parts:
`("frac", a, b)`, `("sqrt", a)`, `("sup", a, b)`, `("sub", a, b)`, `("big", sign, low, high)`, `("low", name, below)`,
`("matrix", row, row)`, `("row", part, ...)`. Functions that draw one take a `random.Random`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

Node = str | tuple[Any, ...]

_SIGNS = {  # LaTeX: what MathML shows, what AsciiMath writes
    **{
        rf"\{name}": (char, name)
        for name, char in zip(["alpha", "beta", "lambda", "theta", "pi"], "αβλθπ", strict=True)
    },
    r"\epsilon": ("ϵ", "epsilon"),
    r"\infty": ("∞", "oo"),
    r"\mathbb{R}": ("ℝ", "RR"),
    r"\mathbb{Z}": ("ℤ", "ZZ"),
    r"\sum": ("∑", "sum"),
    r"\int": ("∫", "int"),
    r"\prod": ("∏", "prod"),
    r"\to": ("→", "->"),
    r"\in": ("∈", "in"),
    r"\le": ("≤", "<="),
    r"\ge": ("≥", ">="),
    r"\neq": ("≠", "!="),
    r"\equiv": ("≡", "-="),
    r"\cdot": ("⋅", "*"),
    r"\cap": ("∩", "nn"),
    r"\cup": ("∪", "uu"),
    r"\subseteq": ("⊆", "sube"),
    r"\times": ("×", "xx"),
    **{rf"\{name}": (name, name) for name in ("sin", "cos", "tan", "ln", "log", "det", "gcd", "lim")},
}
_SPACED = {"=", "+", "-", "<", ">", r"\le", r"\ge", r"\neq", r"\equiv", r"\to", r"\in", r"\cap", r"\cup", r"\subseteq"}
_SPACED |= {r"\cdot", r"\times", ":"}


def latex(node: Node) -> str:
    """As LaTeX, with no more braces than usual."""
    if isinstance(node, str):
        return f" {node} " if node in _SPACED else node
    kind, *parts = node
    match kind:
        case "row":
            text = ""
            for part in parts:
                new = latex(part)
                glued = text and text[-1].isalpha() and "\\" in text.rpartition(" ")[2] and new[:1].isalpha()
                bare = glued and text[text.rindex("\\") + 1 :].isalpha()
                text += f" {new}" if bare else new
            return text.strip()
        case "frac":
            return rf"\frac{{{latex(parts[0])}}}{{{latex(parts[1])}}}"
        case "sqrt":
            return rf"\sqrt{{{latex(parts[0])}}}"
        case "sup":
            return f"{latex(parts[0])}^{_script(parts[1])}"
        case "sub":
            return f"{latex(parts[0])}_{_script(parts[1])}"
        case "big":
            return f"{parts[0]}_{{{latex(parts[1]).strip()}}}^{{{latex(parts[2]).strip()}}} "
        case "low":
            return f"{parts[0]}_{{{latex(parts[1]).strip()}}} "
        case _:
            rows = r" \\ ".join(" & ".join(map(latex, row)) for row in parts)
            return rf"\begin{{pmatrix}} {rows} \end{{pmatrix}}"


def _script(node: Node) -> str:
    text = latex(node).strip()
    return text if len(text) == 1 else f"{{{text}}}"


def mathml(node: Node) -> str:
    """As presentation MathML, without the `math` element around it."""
    if isinstance(node, str):
        shown = _SIGNS.get(node, (node, ""))[0]
        shown = {"<": "&lt;", ">": "&gt;", "-": "−"}.get(shown, shown)
        tag = "mn" if shown[0].isdigit() else "mi" if shown.isalpha() and node not in _SPACED else "mo"
        return f"<{tag}>{shown}</{tag}>"
    kind, *parts = node
    match kind:
        case "row":
            return f"<mrow>{''.join(map(mathml, parts))}</mrow>"
        case "frac":
            return f"<mfrac>{mathml(parts[0])}{mathml(parts[1])}</mfrac>"
        case "sqrt":
            return f"<msqrt>{mathml(parts[0])}</msqrt>"
        case "sup" | "sub":
            return f"<m{kind}>{mathml(parts[0])}{mathml(parts[1])}</m{kind}>"
        case "big":
            tag = "msubsup" if parts[0] == r"\int" else "munderover"
            return f"<{tag}>{''.join(map(mathml, parts))}</{tag}>"
        case "low":
            return f"<munder>{mathml(parts[0])}{mathml(parts[1])}</munder>"
        case _:
            rows = ("".join(f"<mtd>{mathml(cell)}</mtd>" for cell in row) for row in parts)
            table = "".join(f"<mtr>{row}</mtr>" for row in rows)
            return f"<mrow><mo>(</mo><mtable>{table}</mtable><mo>)</mo></mrow>"


def asciimath(node: Node) -> str:
    """As AsciiMath."""
    if isinstance(node, str):
        text = _SIGNS.get(node, ("", node))[1]
        return f" {text} " if node in _SPACED or node in _SIGNS else text
    kind, *parts = node
    match kind:
        case "row":
            return "".join(map(asciimath, parts)).replace("  ", " ").strip()
        case "frac":
            return f"({asciimath(parts[0])})/({asciimath(parts[1])})"
        case "sqrt":
            return f"sqrt({asciimath(parts[0])})"
        case "sup" | "sub":
            base, script = (asciimath(part).strip() for part in parts)
            return base + ("^" if kind == "sup" else "_") + (script if len(script) == 1 else f"({script})")
        case "big":
            return f"{asciimath(parts[0]).strip()}_({asciimath(parts[1])})^({asciimath(parts[2]).strip()}) "
        case "low":
            return f"{asciimath(parts[0]).strip()}_({asciimath(parts[1])}) "
        case _:
            return "[" + ",".join(f"[{','.join(map(asciimath, row))}]" for row in parts) + "]"


# -- drawing ----------------------------------------------------------------------------------------------------------


def row(*parts: Node) -> Node:
    """Side by side; a string is split at spaces into leaves."""
    leaves: list[Node] = []
    for part in parts:
        leaves.extend(part.split() if isinstance(part, str) else [part])
    return ("row", *leaves)


def _power(base: Node, exponent: int) -> Node:
    return base if exponent == 1 else ("sup", base, str(exponent))


def polynomial(rng: random.Random, degree: int, name: str = "x") -> Node:
    """Of this degree, with a constant."""
    terms: list[Node] = [row(str(rng.randint(2, 9)) if rng.random() < 0.7 else "", _power(name, degree))]
    for power in range(degree - 1, -1, -1):
        if rng.random() < 0.75 or power == 0:
            factor = str(rng.randint(2, 19))
            terms.append(row(rng.choice("+-"), factor, *([_power(name, power)] if power else [])))
    return ("row", *(leaf for term in terms for leaf in term[1:]))


def _sum(rng: random.Random) -> Node:
    k, power = rng.choice("kij"), rng.randint(2, 6)
    body: Node = rng.choice([("frac", "1", _power(k, power)), _power(k, power), row(("sub", "a", k), ("sub", "b", k))])
    sign = rng.choice([r"\sum", r"\sum", r"\prod"])
    return row(("big", sign, row(k, "=", rng.choice("01")), rng.choice(["n", r"\infty", "N"])), body)


def _integral(rng: random.Random) -> Node:
    x, power = rng.choice("xtu"), rng.randint(2, 9)
    body = rng.choice([_power(x, power), row(_power(x, power), ("sup", "e", row("-", x))), row(r"\sin", x)])
    if rng.random() < 0.4:
        body = ("frac", body, polynomial(rng, 2, x))
    high = rng.choice([r"\infty", r"\pi", str(rng.randint(1, 9))])
    return row(("big", r"\int", "0", high), body, "d", x)


def _limit(rng: random.Random) -> Node:
    if rng.random() < 0.5:
        factor = str(rng.randint(2, 9))
        return row(("low", r"\lim", row(r"x \to 0")), ("frac", row(r"\sin", factor, "x"), "x"), "=", factor)
    fraction = ("frac", polynomial(rng, 2, "n"), polynomial(rng, 2, "n"))
    return row(("low", r"\lim", row(r"n \to \infty")), fraction)


def _matrix(rng: random.Random) -> Node:
    cells = tuple((str(rng.randint(0, 9)), str(rng.randint(0, 9))) for _ in range(2))
    return row(rng.choice("ABM"), "=", ("matrix", *cells))


def _derivative(rng: random.Random) -> Node:
    power = rng.randint(3, 12)
    return row(("frac", "d", row("d", "x")), ("sup", "x", str(power)), "=", str(power), ("sup", "x", str(power - 1)))


def _roots(rng: random.Random) -> Node:
    b, c = rng.randint(2, 15), rng.randint(2, 30)
    inside = row(str(b * b), "+", str(4 * c))
    return row("x", "=", ("frac", row("-", str(b), "+", ("sqrt", inside)), "2"))


def _recurrence(rng: random.Random) -> Node:
    a = rng.choice("abcu")
    return row(
        ("sub", a, row("n + 1")), "=", str(rng.randint(2, 9)), ("sub", a, "n"), rng.choice("+-"), str(rng.randint(2, 9))
    )


def _quotient_of_powers(rng: random.Random) -> Node:
    a, b = rng.sample("abxyz", 2)
    return row(
        ("frac", row(_power(a, rng.randint(2, 5)), "+", _power(b, 2)), row(a, "-", b)),
        rng.choice([r"\ge", r"\le", "<", "="]),
        ("sqrt", row(a, b)),
    )


def _trigonometry(rng: random.Random) -> Node:
    angle = rng.choice([r"\theta", r"\alpha", "x"])
    return row(("sup", r"\sin", "2"), angle, "+", ("sup", r"\cos", "2"), angle, "=", "1")


def _normal(rng: random.Random) -> Node:
    exponent = row("-", ("frac", ("sup", "x", "2"), str(2 * rng.randint(1, 9))))
    return row("f ( x ) =", ("frac", "1", ("sqrt", row(str(rng.randint(2, 9)), r"\pi"))), ("sup", "e", exponent))


def _equation(rng: random.Random) -> Node:
    return row(polynomial(rng, rng.choice([1, 2, 2, 3]), rng.choice("xyt")), "=", str(rng.randint(0, 30)))


def _function(rng: random.Random) -> Node:
    return row(rng.choice("fgh"), "( x ) =", polynomial(rng, rng.choice([2, 3, 4])))


DISPLAYED: list[Callable[[random.Random], Node]] = [
    *(_sum, _integral, _limit, _matrix, _derivative, _roots, _recurrence, _quotient_of_powers),
    *(_trigonometry, _normal, _equation, _function),
]
SCHOOL: list[Callable[[random.Random], Node]] = [_equation, _function, _roots, _trigonometry, _quotient_of_powers]


def science_formula(rng: random.Random) -> Node:
    """One that is no mathematics: a chemical formula, a law, a measured value."""
    n, m = str(rng.randint(2, 12)), str(rng.randint(2, 24))
    return rng.choice(
        [
            row(("sub", "C", n), ("sub", "H", m), "O"),
            row(("sub", "H", "2"), "S", ("sub", "O", n)),
            row("E = m", ("sup", "c", "2")),
            row("F = m a"),
            row("v =", m, "m", ("sup", "s", row("-", "1"))),
            row("T =", m, "K"),
            row("p =", ("frac", row("n R T"), "V")),
            row(n, r"\times", ("sup", "10", m), "kg"),
        ]
    )


_SMALL = [
    *("x", "n", "f ( x )", r"f : X \to Y", r"\epsilon > 0", r"n \ge 3", r"x \in A", r"A \subseteq B", r"A \cap B"),
    *("a < b", r"x \in \mathbb{R}", r"\lambda \neq 0", r"P ( A \cup B )", "G", "a + b", "m = n", r"k \in \mathbb{Z}"),
    *("x y", "p > 2", r"g \cdot h", r"\alpha + \beta", "p ( x )", r"\det A", r"\gcd ( a , b ) = 1", r"0 \le t \le 1"),
]


def inline_formula(rng: random.Random) -> Node:
    """One that stands in a sentence."""
    if rng.random() < 0.6:
        return row(rng.choice(_SMALL))
    kind = rng.random()
    if kind < 0.4:
        return row(rng.choice("abxyn"), rng.choice(["=", r"\neq", ">", r"\le"]), str(rng.randint(1, 60)))
    if kind < 0.7:
        return row(("sub", rng.choice("axyu"), rng.choice("nk")), rng.choice([r"\to 0", r"\ge 1", "> 0"]))
    return row(_power(rng.choice("xyab"), rng.randint(2, 9)), rng.choice("+-"), str(rng.randint(1, 40)))
